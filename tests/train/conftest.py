"""The smallest experiment that has everything, and how to run it in a new process."""

import dataclasses
import os
import subprocess
import sys

import jax
import pytest

from memzoo.configs.experiment import ExperimentConfig, MeshConfig, OptimizerConfig
from memzoo.data.mqar import MqarConfig
from memzoo.models.block import Group
from memzoo.models.language_model import LanguageModelConfig
from memzoo.models.linear_attention import LinearAttentionConfig
from memzoo.train.program import make_program
from memzoo.train.sharding import make_mesh


def small_config(**changes) -> ExperimentConfig:
    """20 steps of recall by a stacked model that compiles quickly."""
    layer = LinearAttentionConfig(num_heads=2, convolution_size=0)
    config = ExperimentConfig(
        name="small",
        model=LanguageModelConfig(
            vocab_size=32,
            width=8,
            mlp_width=8,
            pattern=(Group(layers=(layer,), repeats=2),),
        ),
        task=MqarConfig(vocab_size=32, length=16, num_pairs=(1, 2)),
        optimizer=OptimizerConfig(warmup_steps=5),
        mesh=MeshConfig(data=1),
        steps=20,
        batch_size=8,
        log_every=5,
        checkpoint_every=10,
        evaluation_examples=8,
    )
    return dataclasses.replace(config, **changes)


@pytest.fixture(scope="session")
def small():
    """`small_config`, as a fixture."""
    return small_config


@pytest.fixture(scope="session")
def program():
    """The compiled program of the small experiment, on one device."""
    config = small_config()
    return make_program(config, make_mesh(config.mesh))


@pytest.fixture
def mesh():
    """One device."""
    mesh = make_mesh(MeshConfig(data=1))
    with jax.set_mesh(mesh):
        yield mesh


@pytest.fixture
def run_python(tmp_path):
    """Run a script in a new process; gives its CompletedProcess."""

    def run(source: str, *arguments: str, timeout: float = 240):
        script = tmp_path / "script.py"
        script.write_text(source, encoding="utf-8")
        here = os.path.dirname(__file__)
        return subprocess.run(
            [sys.executable, str(script), *map(str, arguments)],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": here},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
