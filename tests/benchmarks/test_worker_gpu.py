"""Our contestant on a GPU, on whatever device there is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.benchmarks import worker_gpu
from memzoo.benchmarks.cases import Case
from memzoo.benchmarks.gpu import ROWS
from memzoo.benchmarks.inputs import make_inputs
from memzoo.benchmarks.worker_gpu import DENSE, OURS, prepare, retention

SMALL = {"num_heads": 2, "head_size": 8}


def small(row):
    """The row's case on few tokens, and what the contestant is told."""
    case = Case(
        operation=row.case.operation,
        time=32,
        update_every=row.case.update_every and 16,
        num_memories=row.case.num_memories,
        **SMALL,
    )
    options = {"dtype": row.dtype, "backward": row.backward, "chunk_size": 16}
    own = {"form": "auto"} if case.update_every is None else {"update_every": 16}
    return case, options | own


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}-{row.shape}")
def test_every_row_runs_with_and_without_gradients(row):
    case, options = small(row)
    arrays = make_inputs(case, 0)
    prepared = prepare(case.operation, dict(arrays), options)
    results = prepared.results()
    assert all(np.isfinite(x).all() for x in results.values())
    names = {f"gradient_{name}" for name in arrays if name != "cotangent"}
    assert set(results) == ({"output"} | names if row.backward else {"output"})
    prepared.call()
    prepared.finish()
    assert prepared.peak() > 0


def test_the_dense_form_of_a_mixture_is_the_peer_of_the_packed():
    row = next(row for row in ROWS if row.peer == "dense")
    case, options = small(row)
    options |= {"dtype": "float32"}
    arrays = make_inputs(case, 0)
    packed = prepare("mixture", dict(arrays), options).results()
    dense = prepare("mixture", dict(arrays), options, DENSE).results()
    assert DENSE["mixture"] is not OURS["mixture"]
    for name in packed:
        np.testing.assert_allclose(packed[name], dense[name], rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_it_does_not_pass_another_device_off_as_a_gpu():
    with pytest.raises(RuntimeError, match="JAX computes on a cpu"):
        worker_gpu.versions()


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
