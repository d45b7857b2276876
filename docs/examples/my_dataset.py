"""Language model on a text data set that TensorFlow Datasets has prepared.

memzoo train docs/examples/my_dataset.py --steps 20
"""

import dataclasses

from memzoo.configs.presets import PRESETS
from memzoo.data import TfdsConfig

config = dataclasses.replace(
    PRESETS["text-gated-delta-net"](),
    name="my-dataset",
    task=TfdsConfig(name="text_folder/pages", data_dir="datasets", length=256),
)
