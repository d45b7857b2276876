"""What a person sees of a sweep."""

import io

import pytest
from rich.console import Console

from memzoo.evals.show import (
    Announcer,
    print_gains,
    print_lengths,
    print_orders,
    print_rows,
    print_summary,
)


def row(layer, value, seed=0, metric="accuracy", pairs=16, parameters=1_234_567):
    return {
        "layer": layer,
        "setting": {"num_pairs": pairs, "length": 64, "width": 64},
        "metric": metric,
        "value": value,
        "learning_rate": 0.003,
        "seed": seed,
        "parameters": parameters,
        "state_bytes": 34_816,
        "chance": 1 / pairs,
        "checkpoint_step": 1500,
    }


ROWS = [
    row("sliding_window_attention", 0.991, 0),
    row("sliding_window_attention", 1.0, 1),
    row("sliding_window_attention", 1200, 0, "steps_to_0.99"),
    row("sliding_window_attention", 100, 1, "steps_to_0.99"),
    row("retnet", 0.5, 0, parameters=100_352),
]


@pytest.fixture
def printed():
    out = io.StringIO()
    print_summary(ROWS, goal=0.99, console=Console(file=out, width=80))
    return out.getvalue()


def test_long_names_are_folded_and_numbers_stay():
    name = "titans_lmm-no_persistent_tokens"
    rows = [row(name, 0.995), row(name, 400, 0, "steps_to_0.99")]
    out = io.StringIO()
    print_summary(rows, goal=0.99, console=Console(file=out, width=80))
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert "…" not in out.getvalue()
    assert {"0.995", "400"} <= set(out.getvalue().split())
    column = [line.split(" ")[0] for line in out.getvalue().splitlines()]
    assert name in "".join(column)


def test_the_table_fits_80_columns_and_cuts_nothing(printed):
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed
    line = next(x for x in printed.splitlines() if "sliding" in x)
    assert line.split() == [
        "sliding_window_attention",
        "1.235M",
        "34",
        "KiB",
        "0.003",
        "2",
        "0.996",
        "0.991-1.000",
        "100-1200",
    ]


def test_the_table_says_setting_chance_and_what_was_not_reached(printed):
    assert "16 pairs, 64 tokens, width 64, chance 0.062" in printed
    line = next(x for x in printed.splitlines() if "retnet" in x)
    assert "one seed" in line and "100,352" in line and ">1500" in line


def needle_row(layer, length, value, **setting):
    base = row(layer, value)
    return base | {"setting": {"length": length, "width": 64, **setting}}


def test_needles_are_shown_by_length_in_80_columns():
    lengths = (256, 512, 1024, 2048, 4096, 8192, 16_384)
    rows = [
        needle_row(layer, 256, 0.9) for layer in ("mamba2", "sliding_window_attention")
    ]
    rows += [
        needle_row(each["layer"], length, 256 / length - depth / 10, depth=depth)
        for each in rows[:]
        for length in lengths
        for depth in (0.0, 1.0)
    ]
    out = io.StringIO()
    print_lengths(rows, console=Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in out.getvalue()
    head, mamba = lines[1].split(), lines[3].split()
    assert head == ["layer", "rate", "256", "512", "1k", "2k", "4k", "8k", "16k"]
    assert mamba[:5] == ["mamba2", "0.003", "0.950", "0.450", "0.200"]


def shown(show, rows):
    out = io.StringIO()
    show(rows, console=Console(file=out, width=80))
    assert "…" not in out.getvalue()
    lines = out.getvalue().splitlines()
    assert max(map(len, lines), default=0) <= 80
    return lines


def test_gains_are_shown_in_80_columns_where_there_are_any():
    assert shown(print_gains, ROWS) == []
    again = [row("sliding_window_attention", 0.3005), row("retnet", 0.75)]
    for each in again:
        each["setting"]["repeat_context"] = 2
    lines = shown(print_gains, [*ROWS, *again])
    assert lines[0].strip() == "read 2 times, 16 pairs, width 64, chance 0.062"
    by_name = {words[0]: words for words in map(str.split, lines) if words}
    line = by_name["sliding_window_attention"]
    assert line[1:3] == ["34", "KiB"] and line[-1] == "-0.695"
    assert by_name["retnet"][-1] == "+0.250"


def test_orders_are_shown_in_80_columns():
    layer = "prefix_linear_attention-causal"

    def sets(value, first, second, **setting):
        sizes = {"first": first, "second": second, "length": 1035, "width": 64}
        return row(layer, value) | {"setting": sizes | setting}

    rows = [sets(0.5, 16, 4), sets(0.75, 4, 1028, split="test")]
    alone = shown(print_orders, rows)[-2].split()
    assert alone == [layer, "once", "4", "1028", "0.25", "34", "KiB", "0.750", "-", "-"]
    rows.append(sets(0.25, 1028, 4, split="test"))
    assert shown(print_orders, rows)[-2].split()[-2:] == ["0.250", "+0.500"]


def test_rows_are_printed_as_json(capsys):
    print_rows(ROWS[:1])
    assert '"layer": "sliding_window_attention"' in capsys.readouterr().out


def test_time_left_is_that_of_the_trainings_so_far(capsys):
    now = [100.0]
    announcer = Announcer(6, 4, 10, shown=True, clock=lambda: now[0])
    assert announcer.time_left(0) == ""
    with announcer:
        announcer.begin("first")
        now[0] += 30
        announcer.step({"step": 5})
        assert announcer.time_left(0.5) == "about 4 min left"
        announcer.end("first", ROWS, 60.0)
    now[0] = 100.0 + 20
    assert announcer.time_left(2) == "about 20 s left"
    now[0] = 100.0 + 7200
    assert announcer.time_left(1) == "about 6.0 h left"
    said = capsys.readouterr().err
    assert "2 of 6 trainings are done already" in said
    assert "3/6    60 s  first: 0.991, 1.000, 0.500  (about" in said


def test_nothing_is_said_where_nothing_is_shown(capsys):
    with Announcer(2, 1, 10, shown=False) as announcer:
        announcer.end("only", ROWS, 1.0)
    assert capsys.readouterr().err == ""
