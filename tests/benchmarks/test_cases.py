from typing import get_args

import pytest

from memzoo.benchmarks.cases import (
    GROWTH,
    OWN_PEERS,
    ROWS,
    Case,
    Operation,
    Peer,
    select_growth,
    select_rows,
)
from memzoo.benchmarks.gpu import ROWS as GPU_ROWS
from memzoo.errors import MemzooError


def test_rows_are_distinct_and_aim_beyond_their_target():
    assert len({(row.case.name, row.peer) for row in ROWS}) == len(ROWS)
    assert all(row.aim > row.target > 0 for row in ROWS)


def test_every_shape_is_that_of_the_published_table():
    for row in ROWS:
        case = row.case
        assert (case.batch_size, case.num_heads, case.head_size) == (1, 4, 64)
        if case.update_every is None:
            assert case.time in (2048, 8192)


def test_every_operation_has_a_row_and_every_peer_too():
    rows = (*ROWS, *GPU_ROWS)
    assert {row.case.operation for row in rows} == set(get_args(Operation))
    assert {row.peer for row in ROWS} == set(get_args(Peer))
    assert {"materialised", "dense"} == OWN_PEERS


def test_distances_of_anchors_tell_cases_apart():
    coarse = Case(operation="titans_mlp", time=64, update_every=16)
    assert (coarse.name, coarse.label) == ("titans_mlp:64:16", "titans mlp/16")
    plain = Case(operation="scalar_decay", time=64)
    assert (plain.name, plain.label) == ("scalar_decay:64", "scalar decay")


def test_memories_tell_cases_apart():
    four = Case(operation="mixture", time=64, num_memories=4)
    assert (four.name, four.label) == ("mixture:64:4", "mixture/4")
    uneven = Case(operation="mixture", time=64, num_memories=8, preferred="one")
    assert (uneven.name, uneven.label) == ("mixture:64:8:one", "mixture/8/one")
    peers = [row.peer for row in select_rows("mixture:2048:4")]
    assert peers == ["dense", "transformers"]
    assert len(select_rows("mixture:2048:8")) == 4


def test_growth_runs_from_1k_to_8k():
    for growth in GROWTH:
        assert (growth.times[0], growth.times[-1]) == (1024, 8192)
        assert [case.time for case in growth.cases] == list(growth.times)


def test_rows_are_chosen_by_operation_or_by_length():
    assert select_rows(None) == ROWS
    names = [row.case.name for row in select_rows("attention, delta:2048,delta:2048")]
    assert names == ["attention:2048", "attention:8192", "delta:2048"]


def test_rows_are_chosen_by_the_distance_of_their_anchors():
    def names(chosen):
        return [row.case.name for row in select_rows(chosen)]

    both = ["titans_lmm:1024:64", "titans_lmm:1024:16"]
    assert names("titans_lmm:1024") == both
    assert names("titans_lmm:1024:16") == both[1:]


@pytest.mark.parametrize("name", ["deltas", "delta:77", "delta:2048:16", ":"])
def test_an_unknown_row_is_refused(name):
    with pytest.raises(MemzooError, match="no benchmark row is named"):
        select_rows(name)


def test_growth_follows_the_rows_chosen():
    chosen = select_growth(select_rows("delta:2048,attention"))
    assert [growth.operation for growth in chosen] == ["delta"]
    layers = select_growth(select_rows("titans_lmm,ttt"))
    assert [(g.operation, g.update_every) for g in layers] == [
        ("titans_lmm", 16),
        ("titans_lmm", 64),
        ("ttt", 16),
    ]
    (deep,) = select_growth(select_rows("titans_mlp"))
    assert {case.update_every for case in deep.cases} == {16}
