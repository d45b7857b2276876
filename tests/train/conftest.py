"""The smallest complete experiment, and how to run it in a new process."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import pytest

from memzoo.configs.experiment import ExperimentConfig, MeshConfig, OptimizerConfig
from memzoo.data.mqar import MqarConfig
from memzoo.evals.evaluate import Evaluation
from memzoo.models.block import Group
from memzoo.models.language_model import LanguageModelConfig
from memzoo.models.linear_attention import LinearAttentionConfig
from memzoo.train import loop
from memzoo.train.checkpoint import read_manifest
from memzoo.train.metrics import read_lines
from memzoo.train.program import make_program
from memzoo.train.sharding import make_mesh


def small_config(**changes) -> ExperimentConfig:
    """Return 20 steps of recall by a stacked model that compiles quickly."""
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
    """Run a script in a new process; return its CompletedProcess."""

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


def known_evaluation(model, task, *, split, examples, batch_size) -> Evaluation:
    """Return a fixed evaluation, which costs nothing."""
    return Evaluation(accuracy=0.25, loss=1.5, rows=[])


@pytest.fixture(scope="session")
def quick_train():
    """Call `train` quietly, with a free evaluation, and compile once per config."""
    kept = functools.cache(make_program)

    def quick_train(config, run_dir, **options):
        options = {"progress": False, "evaluator": known_evaluation} | options
        with mock.patch.object(loop, "make_program", kept):
            return loop.train(config, run_dir, **options)

    return quick_train


@pytest.fixture(scope="session")
def content():
    """Return everything in a run that must not depend on interruptions."""

    def content(run_dir, step=20):
        manifest, data = read_manifest(Path(run_dir) / "checkpoints", step)
        lines = read_lines(Path(run_dir) / "metrics.jsonl")
        for line in lines:
            del line["tokens_per_second"]
        return manifest["leaves"], data, lines

    return content


@pytest.fixture(scope="session")
def record():
    """Return the content of config.json."""
    return lambda run_dir: json.loads((run_dir / "config.json").read_text())


@pytest.fixture(scope="session")
def send():
    """Return a callback that sends a signal to this process at some step."""

    def send(number, at_step):
        def on_log(line):
            if line["step"] == at_step:
                signal.raise_signal(number)

        return on_log

    return send


@pytest.fixture(scope="session")
def unbroken(quick_train, tmp_path_factory):
    """Return the directory of an uninterrupted run of 20 steps."""
    run_dir = tmp_path_factory.mktemp("runs") / "unbroken"
    quick_train(small_config(), run_dir)
    return run_dir
