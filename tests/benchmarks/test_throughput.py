import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from memzoo.benchmarks.throughput import (
    LayerShape,
    layers_command,
    measure_layers,
    select_layers,
    throughput_json,
    throughput_table,
)
from memzoo.errors import MemzooError
from memzoo.models import LAYERS


def test_attention_comes_first_whatever_is_chosen():
    assert select_layers("delta_net") == ("attention", "delta_net")
    assert select_layers("all")[0] == "attention"
    assert set(select_layers("all")) == set(LAYERS)


def test_an_unknown_layer_is_refused():
    with pytest.raises(MemzooError, match="no layer is named 'delta'"):
        select_layers("attention,delta")
    with pytest.raises(MemzooError, match="has no field 'form'"):
        select_layers("retnet/form=dense")
    fields = "mixture_of_memories/form=dense"
    assert select_layers(fields) == ("attention", fields)


def test_the_contestant_runs_in_this_interpreter():
    assert layers_command()[0] == sys.executable


def test_every_layer_is_measured_in_every_round():
    steps = []
    stand_in = str(Path(__file__).parent / "stand_in.py")
    results = measure_layers(
        ("attention", "delta_net"),
        LayerShape(time=8, width=4),
        rounds=2,
        minimum_seconds=1e-6,
        advance=steps.append,
        command=[sys.executable, stand_in, "1"],
    )
    assert len(steps) == 8
    assert steps[4:] == [
        "round 1/2: attention",
        "round 1/2: delta_net",
        "round 2/2: delta_net",
        "round 2/2: attention",
    ]
    assert results[0].ratio == (1.0, 1.0, 1.0)
    written = json.loads(json.dumps(throughput_json(results)))
    assert written[1]["layer"] == "delta_net" and written[1]["time"] == 8
    console = Console(width=100, file=io.StringIO())
    console.print(throughput_table(results))
    assert "delta_net" in console.file.getvalue()
