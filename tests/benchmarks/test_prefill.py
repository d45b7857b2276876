"""The run over long prompts, with stand-ins for the contestants."""

import io
import json
import sys
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import pytest
from rich.console import Console

from memzoo.benchmarks import prefill
from memzoo.benchmarks.contestant import Contestant
from memzoo.benchmarks.environments import PeerMissingError
from memzoo.benchmarks.prefill import (
    Case,
    count_prefill,
    measure_prefill,
    prefill_commands,
    prefill_json,
    prefill_tables,
    require_torch,
    select_cases,
)
from memzoo.errors import MemzooError

CASES = (
    Case(kind="op", time=8),
    Case(kind="block", time=8),
    Case(kind="decode", time=5),
)


@pytest.fixture(scope="module")
def run():
    steps = []
    stand_in = str(Path(__file__).parent / "stand_in.py")
    results = measure_prefill(
        CASES,
        rounds=2,
        minimum_seconds=1e-6,
        seed=0,
        advance=steps.append,
        commands={
            name: [sys.executable, stand_in, "1"] for name in ("memzoo", "torch")
        },
    )
    return results, steps


def test_contestants_take_turns_and_their_order_turns_round(run):
    _, steps = run
    assert len(steps) == count_prefill(CASES, 2) == (3 + 3 + 2) * 3
    assert steps[3:9] == [
        "op:8, round 1/2: prefix_linear_attention",
        "op:8, round 1/2: attention",
        "op:8, round 1/2: torch",
        "op:8, round 2/2: torch",
        "op:8, round 2/2: attention",
        "op:8, round 2/2: prefix_linear_attention",
    ]


def test_both_attentions_are_compared(run):
    results, _ = run
    assert [m.error for m in results.measured] == [0.0, None, None]
    assert all(len(each) == 2 for m in results.measured for each in m.seconds.values())
    assert set(results.measured[2].seconds) == {"prefix_linear_attention", "attention"}
    written = json.loads(json.dumps(prefill_json(results)))
    assert [(m["kind"], m["tokens"]) for m in written] == [
        ("op", 8),
        ("block", 8),
        ("decode", 5),
    ]


def test_the_tables_fit_80_columns(run):
    results, _ = run
    seconds = {"prefix_linear_attention": [3.125], "attention": [75.5], "torch": [68.0]}
    for m in results.measured:
        m.seconds.update({name: seconds[name] for name in m.seconds})
    console = Console(width=80, file=io.StringIO())
    console.print(prefill_tables(results))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in console.file.getvalue()
    line = next(x for x in lines if "operation" in x)
    assert line.split()[1:5] == ["8", "3.12", "75.50", "68.00"]
    assert line.endswith("24.2 x   21.8 x   21.8..21.8")
    assert "One generated token" in console.file.getvalue()


class Clock(Contestant):
    """A contestant whose two clocks differ."""

    asked: ClassVar[list] = []

    def __init__(self, name, command, cores, variables, device):
        self.asked.append(device)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, command, **fields):
        if command == "prepare":
            np.savez(fields["outputs"], output=np.zeros(1))
        if command == "run":
            self.asked.append(fields.get("warm", True))
        if command == "versions":
            return {"device": "Card"}
        return {"cpu_seconds": 1.0, "wall_seconds": 2e-3}


def test_on_a_gpu_times_are_those_of_the_clock(monkeypatch):
    monkeypatch.setattr(prefill, "Contestant", Clock)
    results = measure_prefill(
        CASES[:1],
        rounds=1,
        minimum_seconds=1e-6,
        seed=0,
        advance=lambda _: None,
        commands={"memzoo": [], "torch": []},
        device="gpu",
    )
    assert Clock.asked == ["gpu", "gpu", *[True] * 6]
    console = Console(width=120, file=io.StringIO())
    console.print(prefill_tables(results))
    assert "ms on Card, bfloat16" in console.file.getvalue()
    assert prefill_json(results)[0]["wall_seconds"]["torch"] == [2e-3]


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_without_a_gpu_no_prompt_is_read():
    commands = prefill_commands(Path("nowhere"), 1, "gpu")
    with pytest.raises(MemzooError, match="JAX finds no GPU"):
        measure_prefill(
            CASES,
            rounds=1,
            minimum_seconds=1.0,
            seed=0,
            advance=lambda _: None,
            commands={"memzoo": commands["memzoo"]},
            device="gpu",
        )


def test_cases_are_chosen_by_name():
    assert [c.name for c in select_cases("op")] == ["op:8192", "op:32768"]
    assert [c.name for c in select_cases("block:8192,decode,block")] == [
        "block:8192",
        "decode:1024",
        "decode:8192",
        "decode:32768",
        "block:32768",
    ]
    assert len(select_cases("all")) == 7
    with pytest.raises(MemzooError, match="no prefill is named 'prefix'; choose among"):
        select_cases("prefix")


def test_pytorch_runs_in_its_own_environment(tmp_path):
    commands = prefill_commands(tmp_path, 3)
    assert commands["memzoo"][0] == sys.executable
    assert str(tmp_path) in commands["torch"][0]
    assert commands["torch"][-2:] == ["3", "cpu"]
    assert prefill_commands(tmp_path, 3, "gpu")["torch"][-2:] == ["3", "cuda"]
    with pytest.raises(PeerMissingError, match="no environment for torch"):
        require_torch(tmp_path)
