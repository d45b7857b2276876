"""Two sets, read in both orders."""

import pytest

from memzoo.evals.orders import orders, orders_finding, orders_sections

LAYER = "prefix_linear_attention"


def row(value, first, second, *, layer=LAYER, times=1, seed=0, rate=0.1, test=True):
    setting = {"first": first, "second": second, "width": 8}
    setting["length"] = times * (first + second + 3)
    if times > 1:
        setting["repeat_context"] = times
    if test:
        setting["split"] = "test"
    return {
        "layer": layer,
        "setting": setting,
        "metric": "accuracy",
        "value": value,
        "learning_rate": rate,
        "seed": seed,
        "parameters": 10,
        "state_bytes": 2048,
        "chance": 1 / min(first, second),
        "checkpoint_step": 5,
    }


def rows_of(layer, small_first, large_first, **kind):
    """Trained on (2, 4) and (4, 2), read there and on (2, 8) and (8, 2)."""
    return [
        row(1.0, 2, 4, layer=layer, test=False, **kind),
        row(0.5, 4, 2, layer=layer, test=False, **kind),
        row(0.9, 2, 4, layer=layer, **kind),
        row(0.8, 4, 2, layer=layer, **kind),
        row(small_first, 2, 8, layer=layer, **kind),
        row(large_first, 8, 2, layer=layer, **kind),
    ]


ROWS = [
    *rows_of(LAYER, 0.95, 0.93),
    *rows_of(f"{LAYER}-causal", 0.9, 0.2, seed=0),
    *rows_of(f"{LAYER}-causal", 0.8, 0.4, seed=1),
    *rows_of(f"{LAYER}-causal", 0.7, 0.7, times=2),
]


def test_both_orders_of_a_reader_stand_beside_each_other():
    found = {(o.name, o.small, o.large): o for o in orders(ROWS)}
    assert len(found) == 3 * 2
    causal = found[f"{LAYER}-causal", 2, 8]
    assert causal.small_first is not None and causal.large_first is not None
    assert (causal.small_first.mean, causal.large_first.mean) == pytest.approx(
        (0.85, 0.3)
    )
    assert causal.difference == pytest.approx(0.55)
    twice = found[f"{LAYER}-causal, 2 times", 2, 8]
    assert (twice.times, twice.difference) == (2, 0)
    assert found[LAYER, 2, 4].difference == pytest.approx(0.1)


def test_the_learning_rate_is_chosen_on_the_trained_sizes():
    worse = rows_of(LAYER, 1.0, 1.0, rate=0.2)
    worse[0]["value"] = worse[1]["value"] = 0.6
    (far,) = [o for o in orders(rows_of(LAYER, 0.3, 0.1) + worse) if o.large == 8]
    assert far.either.learning_rate == 0.1
    assert far.difference == pytest.approx(0.2)


def test_one_order_alone_has_no_difference():
    (alone,) = orders([row(0.4, 2, 8), row(0.5, 2, 4, test=False)])
    assert alone.large_first is None and alone.difference is None
    assert alone.either is alone.small_first
    (equal,) = orders([row(0.4, 8, 8), row(0.5, 2, 4, test=False)])
    assert equal.difference is None
    rows = [row(0.4, 2, 8), row(0.5, 2, 4, test=False)]
    assert orders_finding(rows) == "No sets were read in both orders."


def test_the_finding_is_of_the_most_unequal_sets():
    said = orders_finding(ROWS)
    assert said.startswith("Sets of 2 and 8 tokens, the small one first and the large")
    assert f"{LAYER} 95.0 % and 93.0 %" in said
    assert f"{LAYER}-causal, 2 times 70.0 % and 70.0 %" in said
    assert said.endswith("(chance: 50.0 %).")


def test_the_page_has_a_table_for_every_pair_of_sizes():
    both, reading = orders_sections(ROWS, {}, trained=((2, 4), (4, 2)), steps=5)
    assert both.title == "Both orders" and reading.title == "How to read this"
    assert "Sets of 2 and 4, chance" in both.body
    assert "Sets of 2 and 8, not trained on, chance" in both.body
    line = next(x for x in both.body.split("<tr>") if "0.200 to 0.400" in x)
    for text in ("once", "0.850", "0.800 to 0.900", "0.300", "+0.550", "2 KiB"):
        assert text in line
