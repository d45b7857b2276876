"""Gains of reading twice."""

import pytest

from memzoo.evals.reading_gains import gain_sections, gain_tables, gains
from memzoo.evals.summary import trained_rows


def row(layer, value, times=1, seed=0, rate=0.1, pairs=16, metric="accuracy"):
    reading = {} if times == 1 else {"repeat_context": times}
    return {
        "layer": layer,
        "setting": {"num_pairs": pairs, "length": 64 * times, "width": 8, **reading},
        "metric": metric,
        "value": value,
        "learning_rate": rate,
        "seed": seed,
        "parameters": 10,
        "state_bytes": 2048,
        "chance": 1 / pairs,
        "checkpoint_step": 5,
    }


ROWS = [
    row("retnet", 0.25),
    row("retnet", 0.35, seed=1),
    row("retnet", 0.9, times=2),
    row("retnet", 0.7, times=2, seed=1),
    # When read twice, another learning rate is best.
    row("mamba2", 0.5, rate=0.1),
    row("mamba2", 0.4, rate=0.2),
    row("mamba2", 0.1, times=2, rate=0.1),
    row("mamba2", 0.3, times=2, rate=0.2),
    row("attention", 1.0),
]


def test_the_gain_is_twice_minus_once_at_the_best_rate_of_each():
    retnet, mamba2 = gains(ROWS)
    assert (retnet.once.layer, retnet.times, retnet.once.of("num_pairs")) == (
        "retnet",
        2,
        16,
    )
    assert retnet.gain == pytest.approx(0.8 - 0.3)
    assert mamba2.gain == pytest.approx(0.3 - 0.5)


def test_what_was_read_in_one_way_alone_has_no_gain():
    assert gains([row("retnet", 0.5)]) == gains([row("retnet", 0.5, times=2)]) == []
    assert gain_sections([row("retnet", 0.5)]) == []


def test_what_is_read_again_after_training_is_compared_apart():
    after = [row("retnet", value, times) for value, times in ((0.2, 1), (0.6, 2))]
    for each in after:
        each["setting"]["split"] = "test"
    rows = [*ROWS, *after]
    assert [g.gain for g in gains(rows)] == pytest.approx([0.5, -0.2, 0.4])
    assert gain_tables(rows)[1].title == (
        "trained on reading once, read 2 times, 16 pairs, width 8, chance 0.062"
    )
    assert trained_rows(rows) == ROWS


def test_a_model_is_compared_with_itself():
    """Training chooses the rate, even if another rate reads twice better."""
    rows = [row("retnet", 0.8, rate=0.1), row("retnet", 0.7, rate=0.2)]
    for value, times, rate in (
        (0.7, 1, 0.1),
        (0.9, 1, 0.2),
        (0.8, 2, 0.1),
        (1, 2, 0.2),
    ):
        after = row("retnet", value, times, rate=rate)
        after["setting"]["split"] = "test"
        rows.append(after)
    (gain,) = gains(rows)
    assert (gain.once.mean, gain.more.mean) == (0.7, 0.8)


def test_every_number_of_readings_and_pairs_has_its_table():
    rows = [*ROWS, row("retnet", 1.0, times=3), row("retnet", 0.5, pairs=4)]
    rows.append(row("retnet", 0.6, times=2, pairs=4))
    tables = gain_tables(rows)
    assert [table.title for table in tables] == [
        "read 2 times, 16 pairs, width 8, chance 0.062",
        "read 3 times, 16 pairs, width 8, chance 0.062",
        "read 2 times, 4 pairs, width 8, chance 0.250",
    ]
    assert [len(table.rows) for table in tables] == [2, 1, 1]


def test_the_page_has_both_readings_of_a_layer_in_one_row():
    (section,) = gain_sections(ROWS)
    assert section.title == "Read twice"
    (line,) = [x for x in section.body.split("<tr>")[1:] if "retnet" in x]
    for text in ("0.300", "0.250 to 0.350", "0.800", "0.700 to 0.900", "+0.500"):
        assert text in line
    assert "-0.200" in section.body
