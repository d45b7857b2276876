import numpy as np
import pytest

from memzoo.benchmarks.cases import (
    GROWTH,
    INPUTS,
    ROWS,
    Case,
    make_inputs,
    select_growth,
    select_rows,
)
from memzoo.configs.errors import MemzooError


def test_rows_are_distinct_and_aim_beyond_their_target():
    assert len({row.case.name for row in ROWS}) == len(ROWS)
    assert all(row.aim > row.target > 0 for row in ROWS)


def test_every_shape_is_that_of_the_published_table():
    for row in ROWS:
        case = row.case
        assert (case.batch_size, case.num_heads, case.head_size) == (1, 4, 64)
        assert case.time in (2048, 8192)


def test_growth_runs_from_1k_to_8k():
    for growth in GROWTH:
        assert (growth.times[0], growth.times[-1]) == (1024, 8192)
        assert [case.time for case in growth.cases] == list(growth.times)


@pytest.mark.parametrize("operation", INPUTS)
def test_inputs_are_what_the_operation_reads(operation):
    case = Case(operation=operation, time=16, num_heads=2, head_size=8)
    arrays = make_inputs(case, seed=0)
    assert set(arrays) == {*INPUTS[operation], "cotangent"}
    for name, x in arrays.items():
        gate = name in ("write_strength", "log_decay", "time_step")
        assert x.shape == ((1, 16, 2) if gate else (1, 16, 2, 8))
        assert x.dtype == np.float32 and np.isfinite(x).all()
        assert np.array_equal(x, make_inputs(case, seed=0)[name])
        assert not np.array_equal(x, make_inputs(case, seed=1)[name])


def test_gates_lie_in_their_ranges_and_keys_have_length_one():
    arrays = make_inputs(Case(operation="gated_delta", time=64), seed=0)
    assert (arrays["log_decay"] < 0).all()
    assert ((arrays["write_strength"] > 0) & (arrays["write_strength"] < 1)).all()
    for name in ("q", "k"):
        norm = np.linalg.norm(arrays[name], axis=-1)
        np.testing.assert_allclose(norm, 1, rtol=1e-5)


def test_rows_are_chosen_by_operation_or_by_length():
    assert select_rows(None) == ROWS
    names = [row.case.name for row in select_rows("attention, delta:2048,delta:2048")]
    assert names == ["attention:2048", "attention:8192", "delta:2048"]


@pytest.mark.parametrize("name", ["deltas", "delta:77", ""])
def test_an_unknown_row_is_refused(name):
    with pytest.raises(MemzooError, match="no benchmark row is named"):
        select_rows(name)


def test_growth_follows_the_rows_chosen():
    chosen = select_growth(select_rows("delta:2048,attention"))
    assert [growth.operation for growth in chosen] == ["delta"]
