"""Language model on the text files of a folder, here memzoo's documentation.

memzoo train docs/examples/my_text.py --steps 20
memzoo train docs/examples/my_text.py --task.path ~/notes --task.pattern "**/*.txt"
"""

import dataclasses

from memzoo.configs.presets import PRESETS
from memzoo.data import FolderConfig

config = dataclasses.replace(
    PRESETS["text-gated-delta-net"](),
    name="my-text",
    task=FolderConfig(path="docs", pattern="**/*.md", length=256),
)
