"""Choice of the learning rate, and results of its seeds."""

import pytest

from memzoo.evals.summary import (
    Run,
    at_rates,
    averaged,
    hardest,
    is_later,
    select_learning_rate,
    setting_key,
    setting_text,
    summarise,
    widest,
)


def runs(**by_rate):
    """Build rows: `rate_3=[...]` is a list of (value, steps) over seeds at rate 3."""
    return [
        Run(learning_rate=float(name[5:]), seed=i, value=value, steps=steps)
        for name, seeds in by_rate.items()
        for i, (value, steps) in enumerate(seeds)
    ]


def row(layer="a", value=0.5, rate=1.0, seed=0, metric="accuracy", pairs=4, **setting):
    return {
        "layer": layer,
        "setting": {"num_pairs": pairs, "length": 16, **setting},
        "metric": metric,
        "value": value,
        "learning_rate": rate,
        "seed": seed,
        "parameters": 7,
        "state_bytes": 8,
        "chance": 0.25,
        "checkpoint_step": 500,
    }


def test_the_best_learning_rate_has_the_best_mean_not_the_best_seed():
    lucky = [(1.0, None), (0.1, None), (0.1, None)]
    steady = [(0.6, None)] * 3
    assert select_learning_rate(runs(rate_1=lucky, rate_2=steady)) == 2.0


def test_an_unfinished_learning_rate_does_not_win():
    assert (
        select_learning_rate(runs(rate_1=[(1.0, 5)], rate_2=[(0.5, None)] * 2)) == 2.0
    )


def test_equal_means_go_to_fewer_steps_then_to_the_smaller_rate():
    slow, fast, never = [(1.0, 90)] * 2, [(1.0, 40)] * 2, [(1.0, None)] * 2
    assert select_learning_rate(runs(rate_1=slow, rate_2=fast)) == 2.0
    assert select_learning_rate(runs(rate_1=never, rate_2=slow)) == 2.0
    assert select_learning_rate(runs(rate_2=fast, rate_1=fast)) == 1.0


def test_a_cell_shows_every_seed_of_the_best_rate():
    rows = [
        row(value=0.2, rate=1.0, seed=0),
        row(value=0.4, rate=1.0, seed=1),
        row(value=0.9, rate=2.0, seed=1),
        row(value=0.7, rate=2.0, seed=0),
        row(value=300, rate=2.0, seed=1, metric="steps_to_0.9"),
        row(value=100, rate=1.0, seed=1, metric="steps_to_0.9"),
        row(value=0.1, metric="sequence_accuracy"),
    ]
    (cell,) = summarise(rows)
    assert cell.learning_rate == 2.0
    assert cell.values == (0.7, 0.9)
    assert cell.mean == pytest.approx(0.8)
    assert cell.reached == (300,)
    assert (cell.parameters, cell.state_bytes, cell.chance) == (7, 8, 0.25)
    assert len(cell.runs) == 4
    assert cell.of("num_pairs") == 4 and cell.of("nothing") is None


def test_cells_are_told_apart_by_layer_and_setting():
    rows = [row("b"), row("a"), row("b", pairs=8), row("b", pairs=8, width=2)]
    rows = [r | {"chance": 1 / r["setting"]["num_pairs"]} for r in rows]
    cells = summarise(rows)
    assert [(c.layer, c.of("num_pairs")) for c in cells] == [
        ("b", 4),
        ("a", 4),
        ("b", 8),
        ("b", 8),
    ]
    assert [c.of("num_pairs") for c in hardest(cells)] == [8, 8]
    assert [c.of("width") for c in widest(cells)] == [2]


def test_settings_are_equal_in_any_order():
    assert setting_key({"a": 1, "b": 2}) == setting_key({"b": 2, "a": 1})


def test_a_metric_that_nobody_measured_is_refused():
    with pytest.raises(ValueError, match="metric is 'speed', and no row has it"):
        summarise([row()], "speed")


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"num_pairs": 4, "length": 64, "width": 9}, "4 pairs, 64 tokens"),
        ({"length": 512, "depth": 0.25}, "depth 0.25, 512 tokens"),
        ({"length": 512}, "all, 512 tokens"),
        (
            {"num_pairs": 4, "length": 128, "repeat_context": 2},
            "4 pairs, 128 tokens, read 2 times",
        ),
        (
            {"first": 4, "second": 16, "length": 23},
            "a set of 4, then of 16, 23 tokens",
        ),
        ({"length": 9, "context_from": 1, "context_to": 8}, "context 1 to 8"),
        ({"num_pairs": 16, "num_queries": 4}, "16 pairs, 4 asked"),
        ({"document": "a.txt", "length": 9, "read_before": 3}, "a.txt, 9 tokens"),
        (
            {"hops_to_go": 2, "length": 9, "split": "test", "width": 8},
            "hops to go 2, 9 tokens",
        ),
    ],
)
def test_a_setting_in_words(setting, text):
    assert setting_text(setting) == text


def test_readings_are_shown_at_the_rate_that_did_best_in_training():
    trained = [
        row(value=value, rate=rate, pairs=pairs)
        for rate, values in ((1.0, (0.9, 0.3)), (2.0, (0.5, 0.5)))
        for pairs, value in zip((4, 8), values, strict=True)
    ]
    later = [row(value=v, rate=r, pairs=9, split="test") for r, v in ((1, 0.2), (2, 1))]
    assert [is_later(each) for each in (trained[0], later[0])] == [False, True]
    (cell,) = at_rates(summarise(later), trained, ("width",))
    assert (cell.learning_rate, cell.mean) == (1.0, 0.2)
    # A model whose training is unknown shows its own best rate.
    (cell,) = at_rates(summarise(later), trained, ("num_pairs",))
    assert (cell.learning_rate, cell.mean) == (2.0, 1.0)


def test_means_are_over_the_settings_of_one_model():
    rows = [
        row(value=v, pairs=p, seed=s) for v, p, s in ((1, 4, 0), (0, 8, 0), (1, 4, 1))
    ]
    means = averaged(rows, ("length", "width"))
    assert [(r["seed"], r["value"]) for r in means] == [(0, 0.5), (1, 1.0)]
    assert means[0]["setting"] == {"length": 16}
