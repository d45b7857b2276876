"""Our side of long prompts, on short ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.benchmarks.cases import Case
from memzoo.benchmarks.inputs import make_inputs
from memzoo.benchmarks.jax_prompts import read_prefix
from memzoo.benchmarks.runner import options_of
from memzoo.benchmarks.worker_jax import prepare

LAYERS = ("prefix_linear_attention", "attention")


def prepared_and_called(case, arrays):
    prepared = prepare(arrays, options_of(case))
    prepared.call()
    return prepared


def test_the_operation_is_that_of_the_paper():
    case = Case(
        kind="prompt", operation=LAYERS[0], time=9, num_heads=2, passes="forward"
    )
    x = make_inputs(case, 0)
    y = prepared_and_called(case, dict(x)).results()["output"]

    def kernel(keys):
        s = np.einsum("bthk,bshk->bhts", x["q"], keys) / np.sqrt(keys.shape[-1])
        return 1 + s + s**2 / 2

    causal, whole = np.tril(kernel(x["k"])), kernel(x["k_prefix"])
    total = causal.sum(axis=-1) + whole.sum(axis=-1)
    sums = [
        np.einsum("bhts,bshv->bthv", scores, x[name])
        for scores, name in ((causal, "v"), (whole, "v_prefix"))
    ]
    expected = sum(sums) / np.moveaxis(total, 1, 2)[..., None]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_block_reads_the_whole_prompt_or_what_came_before(layer):
    case = Case(
        kind="block", operation=layer, time=6, num_heads=2, head_size=16,
        passes="forward",
    )  # fmt: skip
    x = make_inputs(case, 0)["x"]
    other = x.copy()
    other[:, -1] *= -1
    first, second = (
        prepared_and_called(case, {"x": a}).results()["output"] for a in (x, other)
    )
    assert first.shape == x.shape
    ahead = np.abs(first[:, 0] - second[:, 0]).max()
    assert (ahead > 0) == (layer == "prefix_linear_attention")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_token_can_be_generated_again_and_again(layer, dtype):
    case = Case(
        kind="decode", operation=layer, time=5, num_heads=2, head_size=16, dtype=dtype
    )
    prepared = prepared_and_called(case, make_inputs(case, 0))
    prepared.call()
    assert prepared.results()["output"].shape == (1, 32)


def test_sums_are_not_rounded_with_the_prompt():
    names = ("q", "k", "k_prefix", "v", "v_prefix")
    rng = np.random.default_rng(0)
    x = {n: rng.standard_normal((1, 8192, 1, 8)) for n in names}
    x = {n: jnp.asarray(a, "bfloat16") for n, a in x.items()}
    wide = {n: a.astype("float32") for n, a in x.items()}
    run = jax.jit(read_prefix)
    exact, rounded = (np.asarray(run(y), np.float32)[:, 4096:] for y in (wide, x))
    error = np.sqrt(np.mean((exact - rounded) ** 2) / np.mean(exact**2))
    # Only the result is rounded; with rounded sums the error would be 0.02.
    assert error < 0.008
