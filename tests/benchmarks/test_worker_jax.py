"""Our side prepares every kind of case, on any device."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.benchmarks import serving, worker_jax
from memzoo.benchmarks.cases import Case
from memzoo.benchmarks.inputs import make_inputs
from memzoo.benchmarks.rows import GPU_ROWS
from memzoo.benchmarks.runner import options_of
from memzoo.benchmarks.serving import EXACT
from memzoo.benchmarks.worker_jax import passes, prepare, versions

# Every GPU operation once, and one of them only forward.
CASES = {(r.case.operation, r.case.passes): r.case for r in GPU_ROWS}


def small(case):
    return replace(
        case,
        time=32,
        batch_size=1,
        num_heads=2,
        head_size=8,
        update_every=case.update_every and 16,
    )


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_operations_run_in_any_type_with_and_without_gradients(case):
    case = small(case)
    arrays = make_inputs(case, 0)
    prepared = prepare(dict(arrays), options_of(case, chunk_size=16))
    prepared.call()
    prepared.finish()
    assert prepared.peak is not None and prepared.peak() > 0
    results = prepared.results()
    assert all(np.isfinite(x).all() for x in results.values())
    names = {f"gradient_{name}" for name in arrays if name != "cotangent"}
    both = case.passes == "both"
    assert set(results) == ({"output"} | names if both else {"output"})


def test_logarithms_of_decays_are_not_rounded(monkeypatch):
    seen = {}

    def operation(x, options):
        seen.update({name: a.dtype for name, a in x.items()})
        return x["v"]

    monkeypatch.setitem(worker_jax.OPERATIONS, "gated_delta", operation)
    case = small(replace(CASES["gated_delta", "both"]))
    prepare(dict(make_inputs(case, 0)), options_of(case)).call()
    assert {name for name, dtype in seen.items() if dtype == "float32"} == EXACT


def test_a_layer_is_differentiated_by_input_and_parameters():
    case = Case(
        kind="layer", operation="linear_attention", time=8, num_heads=4, head_size=4
    )
    prepared = prepare(dict(make_inputs(case, 0)), options_of(case))
    prepared.call()
    results = prepared.results()
    assert results["output"].shape == results["gradient_x"].shape == (1, 8, 16)
    assert any("read_out/projection" in name for name in results)
    assert all(np.abs(x).max() > 0 for x in results.values())


def test_results_that_are_held_are_released_before_memory_is_measured():
    # Large enough that the system gives fresh pages: freed memory is not counted again.
    size = 16_000_000
    prepared = passes(lambda x: 2 * x["x"], {"x": jnp.ones(size)}, None)
    prepared.call()
    held = serving._answer(
        {"command": "memory", "name": "x"}, {"x": prepared}, prepare, dict
    )
    if held["peak_bytes"] is None:
        pytest.skip("this system does not tell a process its peak")
    assert held["peak_bytes"] > 0.9 * 4 * size
    prepared.release()
    assert prepared.results()["output"].tolist()[:2] == [2.0, 2.0]


def test_versions_name_what_computes():
    assert set(versions()) == {"memzoo", "jax", "jaxlib"}


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_it_does_not_pass_another_device_off_as_a_gpu():
    with pytest.raises(RuntimeError, match="JAX computes on a cpu"):
        versions("gpu")
