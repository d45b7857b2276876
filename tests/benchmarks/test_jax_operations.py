"""Our operations compute what the peers do: the same maps, written as plain loops."""

import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.benchmarks.cases import Case
from memzoo.benchmarks.inputs import make_inputs
from memzoo.benchmarks.jax_operations import OPERATIONS, retention
from memzoo.benchmarks.rows import CPU_ROWS, GPU_ROWS
from memzoo.benchmarks.runner import options_of
from memzoo.benchmarks.worker_jax import prepare


def recurrent_memory(x, forget, update):
    """Read q from a memory that is kept by `forget` and then changed by `update`."""
    memory = np.zeros((*x["k"].shape[:1], *x["k"].shape[2:], x["v"].shape[-1]))
    outputs = []
    for t in range(x["k"].shape[1]):
        memory = memory * forget[:, t, :, None, None]
        key = x["k"][:, t]
        memory = memory + np.einsum("bhk,bhv->bhkv", key, update(t, key, memory))
        outputs.append(np.einsum("bhk,bhkv->bhv", x["q"][:, t], memory))
    return np.stack(outputs, axis=1)


def delta_update(x):
    def update(t, key, memory):
        error = x["v"][:, t] - np.einsum("bhk,bhkv->bhv", key, memory)
        return x["write_strength"][:, t, :, None] * error

    return update


def expected(operation, x):
    scale = x["q"].shape[-1] ** -0.5
    if operation == "attention":
        logits = np.einsum("bthk,bshk->bhts", x["q"], x["k"]) * scale
        logits = np.where(np.tri(logits.shape[-1], dtype=bool), logits, -np.inf)
        weights = np.exp(logits)
        weights = weights / weights.sum(-1, keepdims=True)
        return np.einsum("bhts,bshv->bthv", weights, x["v"])
    if operation == "scalar_decay":
        step = x["time_step"]
        return recurrent_memory(
            x, np.exp(-step), lambda t, *_: x["v"][:, t] * step[:, t, :, None]
        )
    keep = np.exp(x["log_decay"]) if "log_decay" in x else np.ones(x["k"].shape[:3])
    return scale * recurrent_memory(x, keep, delta_update(x))


@pytest.mark.parametrize(
    "operation", ["gated_delta", "delta", "scalar_decay", "attention"]
)
def test_ours_computes_what_the_peer_does(operation):
    case = Case(operation=operation, time=9, num_heads=2, head_size=4)
    x = make_inputs(case, seed=0)
    prepared = prepare(dict(x), options_of(case, chunk_size=4))
    prepared.call()
    results = prepared.results()
    np.testing.assert_allclose(results["output"], expected(operation, x), atol=1e-5)
    del x["cotangent"]
    assert set(results) == {"output", *(f"gradient_{name}" for name in x)}
    for name, value in x.items():
        assert results[f"gradient_{name}"].shape == value.shape


def test_retention_is_the_sum_with_decays_of_the_heads():
    rng = np.random.default_rng(0)
    x = {n: jnp.asarray(rng.standard_normal((1, 9, 2, 4)), "float32") for n in "qkv"}
    y = retention(x, {"chunk_size": 4, "form": "auto"})
    apart = np.arange(9)[:, None] - np.arange(9)
    for head in range(2):
        decay = np.where(apart >= 0, (1 - 2.0 ** (-5 - head)) ** apart, 0)
        scores = x["q"][0, :, head] @ x["k"][0, :, head].T / 2
        wanted = (scores * decay) @ x["v"][0, :, head]
        np.testing.assert_allclose(y[0, :, head], wanted, rtol=1e-4, atol=1e-5)


def test_every_operation_of_a_row_is_there():
    wanted = {row.case.operation for row in (*CPU_ROWS, *GPU_ROWS)}
    assert wanted == set(OPERATIONS)
