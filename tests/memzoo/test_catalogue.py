"""`memzoo list`."""

import json

from memzoo.catalogue import (
    ListOptions,
    catalogue,
    regression_map,
    show_catalogue,
)
from memzoo.configs.presets import PRESETS
from memzoo.models import LAYERS


def test_one_object_a_layer():
    layers = {layer["name"]: layer for layer in catalogue()}
    assert list(layers) == list(LAYERS)
    for layer in layers.values():
        assert {"name", "family", "paper", "presets", "refuses"} <= set(layer)
        assert layer["paper"].startswith("arXiv:")
        assert layer["refuses"] in ([], ["prefix"])
    assert layers["gated_delta_net"] == {
        "name": "gated_delta_net",
        "family": "delta rule",
        "paper": "arXiv:2412.06464",
        "inspired": False,
        "state": "constant",
        "presets": [
            "mqar-gated-delta-net",
            "needle-gated-delta-net",
            "ballet-gated-delta-net",
            "gist-and-detail-gated-delta-net",
            "several-needles-gated-delta-net",
            "text-gated-delta-net",
            "text-hybrid",
        ],
        "refuses": ["prefix"],
        "unless": "prefix",
    }
    assert layers["mamba2"]["family"] == "scalar decay"
    assert layers["attention"]["family"] == "softmax attention"
    assert layers["attention"]["state"] == "linear"
    assert layers["gated_short_convolution"]["family"] == "convolution"
    for name in ("titans_lmm", "titans_mac", "titans_mag", "ttt_linear", "ttt_mlp"):
        assert layers[name]["family"] == "neural memory"
    for name in ("continuum_memory", "hmm_two_rate", "infini_attention"):
        assert layers[name]["family"] == "hierarchical memory"
    assert layers["prefix_linear_attention"]["family"] == "scalar decay"
    assert layers["prefix_linear_attention"]["refuses"] == []
    options = {name: layer["unless"] for name, layer in layers.items()}
    assert {name: option for name, option in options.items() if option} == {
        "gated_delta_net": "prefix",
        "continuum_memory": "prefix",
        "hmm_two_rate": "prefix",
        "titans_lmm": "prefix",
        "titans_mag": "memory.prefix",
        "titans_mal": "memory.prefix",
    }


def test_every_preset_is_shown():
    shown = {preset for layer in catalogue() for preset in layer["presets"]}
    assert shown == set(PRESETS)


def test_as_json(capsys):
    assert show_catalogue(ListOptions(json=True)) == 0
    assert json.loads(capsys.readouterr().out) == catalogue()


def test_as_tables(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert show_catalogue(ListOptions()) == 0
    said = capsys.readouterr().out
    for name in (*LAYERS, *PRESETS):
        assert name in said
    assert "memzoo train" in said
    assert "prefix*" in said
    assert "titans_mag by memory.prefix" in " ".join(said.split())
    assert "not all of them: hmm_two_rate, bmojo" in " ".join(said.split())
    # The table has only the first paragraph of a preset's docstring.
    assert "each has the size" not in " ".join(said.split())


def test_the_table_of_layers_fits_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert show_catalogue(ListOptions()) == 0
    said = capsys.readouterr().out
    assert "…" not in said and max(map(len, said.splitlines())) <= 80


def test_map_shows_the_choices_and_the_cost_of_each_layer(capsys, monkeypatch):
    rows = {str(row["name"]): row for row in regression_map()}
    assert set(rows) == {n for n, kind in LAYERS.items() if kind.regression is not None}
    delta = rows["delta_net"]
    assert (delta["weights"], delta["solver"]) == ("uniform", "online")
    # Four heads of 128 x 128 numbers, three tails of 3 x 512, and a position.
    assert delta["state_bytes"] == 4 * (4 * 128**2 + 9 * 512 + 1)
    # At least four projections of 512 x 512.
    assert 4 * 2 * 512**2 < delta["flops"] < 6 * 2 * 512**2
    for columns, shown in [("80", False), ("120", True)]:
        monkeypatch.setenv("COLUMNS", columns)
        assert show_catalogue(ListOptions(map=True)) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= int(columns)
        assert any("arXiv:2406.06484" in line for line in lines) == shown
