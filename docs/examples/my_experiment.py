"""Example of your own experiment: your layer and a memzoo layer, trained on recall.

memzoo describe docs/examples/my_experiment.py
memzoo train docs/examples/my_experiment.py --steps 5
"""

from my_layer import MyLayerConfig

from memzoo.configs.experiment import ExperimentConfig, OptimizerConfig
from memzoo.data.mqar import MqarConfig
from memzoo.models.attention import AttentionConfig
from memzoo.models.block import Group
from memzoo.models.language_model import LanguageModelConfig

task = MqarConfig(vocab_size=256, length=32, num_pairs=4)

config = ExperimentConfig(
    name="my-experiment",
    model=LanguageModelConfig(
        vocab_size=task.vocab_size,
        width=32,
        # Two blocks, repeated twice: your layer, then a layer of memzoo.
        pattern=(
            Group(layers=(MyLayerConfig(), AttentionConfig(num_heads=2)), repeats=2),
        ),
    ),
    task=task,
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=20),
    steps=400,
    batch_size=32,
    evaluation_examples=128,
)
