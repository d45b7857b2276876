"""The Python of the front page runs word for word, and has types."""

import dataclasses
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import memzoo
from memzoo import compare
from memzoo.configs.experiment import ExperimentConfig, MeshConfig, OptimizerConfig
from memzoo.data.text import FolderConfig

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.search(
    r"## From Python\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S
).group(1)

MY_LAYER = """
from dataclasses import dataclass
from memzoo.models.linear_attention import LinearAttentionConfig

@dataclass(frozen=True, kw_only=True)
class MyConfig(LinearAttentionConfig):
    '''A layer of a user's.'''
"""

GIVEN = """
from jax import Array

def given() -> Array:
    raise NotImplementedError

x = more = q = k = v = beta = g = tokens = given()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a run, a layer of a user's, and small comparisons."""
    (tmp_path / "texts").mkdir()
    for number in range(4):
        (tmp_path / "texts" / f"{number}.txt").write_text("def f(): pass\n" * 99)
    (tmp_path / "my_layer.py").write_text(MY_LAYER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = ExperimentConfig(
        name="x",
        model=memzoo.LanguageModel(
            vocab_size=320, width=8, layers=["retnet"], rngs=nnx.Rngs(0)
        ).config,
        task=FolderConfig(path="texts", length=16, validation=0.5),
        optimizer=OptimizerConfig(warmup_steps=0),
        mesh=MeshConfig(data=1),
        steps=1,
        batch_size=2,
        evaluation_examples=2,
    )
    memzoo.train(config, progress=False)
    run_sweep = compare.run_sweep

    def small(config, **options):
        task = dataclasses.replace(config.task, vocab_size=128, length=64)
        config = dataclasses.replace(
            config,
            task=task,
            width=(8,),
            learning_rates=(1e-2,),
            seeds=(0,),
            steps=1,
            batch_size=8,
            evaluation_examples=8,
        )
        return run_sweep(config, **options)

    monkeypatch.setattr(compare, "run_sweep", small)
    frames = types.ModuleType("pandas")
    frames.DataFrame = list
    monkeypatch.setitem(sys.modules, "pandas", frames)
    return tmp_path


def test_the_block_runs_word_for_word(place, capsys):
    random = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    names = {
        "x": normal(2, 8, 512),
        "more": normal(2, 8, 512),
        "q": normal(2, 8, 4, 16),
        "k": normal(2, 8, 4, 16) / 4,
        "v": normal(2, 8, 4, 16),
        "beta": jax.nn.sigmoid(normal(2, 8, 4)),
        "g": -jnp.abs(normal(2, 8, 4)),
        "tokens": jnp.asarray(random.integers(256, size=(2, 8))),
    }
    exec(compile(BLOCK, "README.md", "exec"), names)
    assert names["y"].shape == (2, 8, 512) and names["o"].shape == (2, 8, 4, 16)
    # A new model knows nothing of 256 tokens.
    assert abs(float(names["loss"]) - np.log(256)) < 1
    assert names["logits"].shape == (2, 8, 256)
    assert names["run"].step == 1 and isinstance(names["run"].model, nnx.Module)
    layers = {row["layer"] for row in names["table"]}
    assert layers == {"gated_delta_net", "my_layer:MyConfig"}
    assert {row["num_pairs"] for row in names["table"]} == {8, 16}


@pytest.mark.slow
def test_the_block_has_types(tmp_path):
    (tmp_path / "block.py").write_text(GIVEN + BLOCK.replace(".to_pandas()", ".rows"))
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "strict"})
    )
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, "-p", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
