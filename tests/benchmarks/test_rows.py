from dataclasses import fields
from typing import get_args

import pytest

from memzoo.benchmarks.cases import OURS, Peer
from memzoo.benchmarks.rows import (
    CPU_ROWS,
    GPU_ROWS,
    GROWTH,
    all_rows,
    layer_rows,
    peers_of,
    select_growth,
    select_rows,
)
from memzoo.errors import MemzooError
from memzoo.models import LAYERS


def names(chosen, device="cpu"):
    return [row.case.name for row in select_rows(chosen, device)]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_rows_are_distinct_and_aim_beyond_their_target(device):
    rows = all_rows(device)
    assert len({(row.name, row.case.shape) for row in rows}) == len(rows)
    assert len({(row.ours, row.theirs) for row in rows}) == len(rows)
    assert all(row.case.device == row.theirs.case.device == device for row in rows)
    assert all(row.aim > row.target > 0 for row in rows if row.aim is not None)


def test_what_a_peer_runs_differs_in_form_or_layer_alone():
    for row in (*all_rows("cpu"), *all_rows("gpu")):
        ours, theirs = row.ours.case, row.theirs.case
        changed = {
            field.name
            for field in fields(ours)
            if getattr(ours, field.name) != getattr(theirs, field.name)
        }
        assert changed <= {"form", "operation"}
        assert changed or row.peer != OURS


def test_every_peer_has_a_row():
    assert {row.peer for row in all_rows("cpu")} == {OURS, *get_args(Peer)}


def test_a_run_without_names_measures_the_operations():
    assert select_rows(None) == CPU_ROWS
    assert select_rows(None, "gpu") == GPU_ROWS
    assert peers_of(CPU_ROWS) == ("transformers", "fla", "torch", "titans")
    assert peers_of(GPU_ROWS) == ("torch", "fla", "titans")


def test_rows_are_chosen_by_the_first_words_of_their_names():
    assert names("attention, delta:2048,delta:2048") == [
        "attention:2048",
        "attention:8192",
        "delta:2048",
    ]
    both = ["titans_lmm:1024:64", "titans_lmm:1024:16"]
    assert names("titans_lmm:1024") == both
    assert names("titans_lmm:1024:16") == both[1:]
    peers = [row.peer_name for row in select_rows("mixture:2048:4")]
    assert peers == ["dense", "transformers"]
    assert len(select_rows("mixture:2048:8")) == 4
    assert names("step:mamba2") == ["step:mamba2:512", "step:mamba2:2048"]
    assert len(select_rows("read,generate:attention:512")) == 7


def test_a_peer_is_chosen_after_an_at():
    assert [row.peer for row in select_rows("delta")] == ["fla", "fla"]
    assert [row.peer for row in select_rows("delta:2048@jla")] == ["jla"]
    assert [row.peer_name for row in select_rows("mixture@dense")] == ["dense"] * 2


def test_rows_of_a_gpu_are_chosen_by_name():
    assert names("delta:2048,retention", "gpu") == [
        "delta:2048:both",
        "delta:2048:forward",
        "retention:2048:both",
        "retention:8192:both",
    ]
    assert peers_of(select_rows("mixture,titans_lmm", "gpu")) == ("titans",)
    with pytest.raises(MemzooError, match="no benchmark row on a GPU is named 'mlp'"):
        select_rows("mlp", "gpu")


def test_long_prompts_have_both_attentions_beside_them():
    rows = select_rows("prompt:32768")
    assert [(r.case.operation, r.peer, r.differs is None) for r in rows] == [
        ("prefix_linear_attention", "memzoo", False),
        ("prefix_linear_attention", "torch", False),
        ("attention", "torch", True),
    ]
    assert len({turn for row in rows for turn in (row.ours, row.theirs)}) == 3
    assert [r.peer for r in select_rows("decode")] == [OURS] * 3
    assert {r.case.dtype for r in select_rows("block", "gpu")} == {"bfloat16"}


def test_layers_are_set_beside_attention():
    assert {row.case.operation for row in select_rows("layer")} == {
        *LAYERS.keys() - {"attention"}
    }
    (row,) = select_rows("layer:retnet/num_heads=8")
    assert row.case.operation == "retnet/num_heads=8"
    assert row.theirs.case.operation == row.peer_name == "attention"
    assert select_rows("layer:attention") == layer_rows()
    with pytest.raises(MemzooError, match="layer is 'delta'; did you mean delta_net"):
        select_rows("layer:delta")
    with pytest.raises(MemzooError, match="has no field 'form'"):
        select_rows("layer:retnet/form=dense")


@pytest.mark.parametrize(
    "name", ["deltas", "delta:77", "delta:2048:16", ":", "delta@torch", "mamba2"]
)
def test_an_unknown_row_is_refused(name):
    with pytest.raises(MemzooError, match="no benchmark row is named"):
        select_rows(name)


@pytest.mark.parametrize("text", ["", " ", "delta,,attention"])
def test_an_empty_name_is_refused(text):
    with pytest.raises(MemzooError, match=r"^rows is .*empty"):
        select_rows(text)


def test_growth_follows_the_rows_chosen():
    chosen = select_growth(select_rows("delta:2048,attention"))
    assert [growth.operation for growth in chosen] == ["delta"]
    layers = select_growth(select_rows("titans_lmm,ttt"))
    assert [(g.operation, g.update_every) for g in layers] == [
        ("titans_lmm", 16),
        ("titans_lmm", 64),
        ("ttt", 16),
    ]
    assert not select_growth(select_rows("delta", "gpu"))
    # A layer or model of the same name is another case.
    assert not select_growth(select_rows("step:gated_delta"))


def test_growth_runs_from_1k_to_8k():
    for growth in GROWTH:
        assert (growth.times[0], growth.times[-1]) == (1024, 8192)
        assert [case.time for case in growth.cases] == list(growth.times)
        assert {case.update_every for case in growth.cases} == {growth.update_every}
