import numpy as np
import pytest

from memzoo.benchmarks.cases import GENERATED, Case
from memzoo.benchmarks.inputs import DRAWS, input_shapes, make_inputs
from memzoo.benchmarks.rows import CPU_ROWS, GPU_ROWS

TOKENS = ("q", "k", "v")
GATES = (
    *("write_strength", "log_decay", "time_step"),
    *("learning_rate", "momentum", "forget", "step"),
)


def test_every_operation_of_a_row_has_its_inputs():
    assert set(DRAWS) == {row.case.operation for row in (*CPU_ROWS, *GPU_ROWS)}


@pytest.mark.parametrize("operation", DRAWS)
def test_inputs_are_what_the_operation_reads(operation):
    memories = 4 if operation == "mixture" else None
    case = Case(
        operation=operation, time=16, num_heads=2, head_size=8, num_memories=memories
    )
    arrays = make_inputs(case, seed=0)
    assert set(arrays) == {*DRAWS[operation], "cotangent"}
    other = make_inputs(case, seed=1)
    for name, x in arrays.items():
        assert x.dtype == np.float32 and np.isfinite(x).all()
        assert np.array_equal(x, make_inputs(case, seed=0)[name])
        if name not in ("decay", "decay_bias"):
            assert not np.array_equal(x, other[name])
        if operation in ("titans_lmm", "mixture"):
            continue
        if name in (*TOKENS, "cotangent"):
            assert x.shape == (1, 16, 2, 8)
        elif name in GATES:
            assert x.shape == (1, 16, 2)


def test_a_module_has_kernels_for_its_width_and_a_memory_a_head():
    case = Case(operation="titans_lmm", time=16, num_heads=2, head_size=8)
    shapes = input_shapes(case)
    assert shapes["x"] == (1, 16, 16) == make_inputs(case, 0)["cotangent"].shape
    assert shapes["query"] == shapes["output"] == (16, 16)
    assert shapes["step"] == (16, 2) and shapes["step_bias"] == (2,)
    assert shapes["memory_up"] == (2, 8, 32) and shapes["memory_down"] == (2, 32, 8)
    assert len(shapes) == 17


def test_gates_lie_in_their_ranges_and_keys_have_length_one():
    arrays = make_inputs(Case(operation="gated_delta", time=64), seed=0)
    assert (arrays["log_decay"] < 0).all()
    assert ((arrays["write_strength"] > 0) & (arrays["write_strength"] < 1)).all()
    for name in ("q", "k"):
        norm = np.linalg.norm(arrays[name], axis=-1)
        np.testing.assert_allclose(norm, 1, rtol=1e-5)
    arrays = make_inputs(Case(operation="titans_mlp", time=64), seed=0)
    assert ((arrays["learning_rate"] > 0) & (arrays["learning_rate"] < 0.05)).all()
    assert ((arrays["forget"] > 0) & (arrays["forget"] < 0.5)).all()


def test_matrices_keep_the_size_of_what_they_map():
    case = Case(operation="titans_mlp", time=8)
    up = make_inputs(case, seed=0)["memory_up"]
    np.testing.assert_allclose(up.std(), 64**-0.5, rtol=0.05)


@pytest.mark.parametrize(
    ("preferred", "certain"), [("none", 0), ("one", 1), ("two", 2)]
)
def test_memories_have_inputs_of_their_own_and_some_are_preferred(preferred, certain):
    case = Case(
        operation="mixture",
        time=16,
        num_heads=2,
        head_size=8,
        num_memories=4,
        preferred=preferred,
    )
    x = make_inputs(case, 0)
    assert x["q"].shape == x["cotangent"].shape == (1, 16, 2, 8)
    assert x["k"].shape == x["v"].shape == (1, 4, 16, 2, 8)
    assert x["write_strength"].shape == x["log_decay"].shape == (1, 4, 16, 2)
    chosen = np.argsort(-x["logits"], axis=-1)[..., :2]
    by_all = [memory for memory in range(4) if (chosen == memory).any(-1).all()]
    assert by_all == list(range(certain))


def test_a_whole_model_reads_tokens_and_takes_weights():
    case = Case(kind="generate", operation="mamba2", time=5, batch_size=2)
    x = make_inputs(case, 0)
    assert x["tokens"].shape == x["targets"].shape == (2, 5)
    assert x["next"].shape == (2, GENERATED)
    assert x["tokens"].dtype == np.int32 and x["tokens"].min() >= 0
    assert x["norm"].dtype == np.float32 and abs(x["norm"].mean() - 1) < 0.1
    np.testing.assert_allclose(x["gate"].std(), 256**-0.5, rtol=0.05)


def test_layers_that_read_the_same_prompt_are_given_the_same_numbers():
    for kind in ("prompt", "block", "decode"):
        ours, other = (
            make_inputs(Case(kind=kind, operation=layer, time=4, num_heads=2), 0)
            for layer in ("prefix_linear_attention", "attention")
        )
        assert set(ours) == set(other)
        assert all(np.array_equal(ours[name], other[name]) for name in ours)
    assert ours["x"].shape == (1, 1, 128)
