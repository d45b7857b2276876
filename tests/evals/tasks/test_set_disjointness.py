"""Two sets in a comparison, read in both orders."""

import pytest

from memzoo.data.prefix import PrefixConfig
from memzoo.data.repeat import RepeatConfig
from memzoo.data.set_disjointness import SetDisjointnessConfig
from memzoo.errors import MemzooError
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.recall_task import Measured
from memzoo.evals.results import sizes
from memzoo.evals.tasks.set_disjointness import SetDisjointnessRecall, orders

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
    """Return rows trained on (2, 4) and (4, 2), read on those and on (2, 8) and (8,
    2).
    """
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


def findings(rows=ROWS):
    task = SetDisjointnessRecall(sizes=((2, 4), (4, 2)))
    return task.findings(Measured(rows=rows, curves={}, steps=5, goal=0.9))


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
    assert findings(rows).finding == "No sets were read in both orders."


def test_the_finding_is_of_the_most_unequal_sets():
    said = findings().finding
    assert said.startswith(
        "Sets of 2 and 8 tokens, with the small one first and with the large"
    )
    assert f"{LAYER} 95.0% and 93.0%" in said
    assert f"{LAYER}-causal, 2 times 70.0% and 70.0%" in said
    assert said.endswith("(chance: 50.0%).")


def test_the_page_has_a_table_for_every_pair_of_sizes():
    both, reading = findings().sections
    assert both.title == "Both orders" and reading.title == "How to read this"
    assert "Sets of 2 and 4, chance" in both.body
    assert "Sets of 2 and 8, not trained on, chance" in both.body
    line = next(x for x in both.body.split("<tr>") if "0.200 to 0.400" in x)
    for text in ("once", "0.850", "0.800 to 0.900", "0.300", "+0.550", "2 KiB"):
        assert text in line


def sets(**fields):
    layers = ("prefix_linear_attention", "prefix_linear_attention-causal")
    names = {"sizes", "read_sizes", "size_examples"} & set(fields)
    small = {"sizes": ((1, 2), (4, 2)), "read_sizes": ((2, 8), (8, 2))}
    small |= {name: fields.pop(name) for name in names} | {"vocab_size": 64}
    task = SetDisjointnessRecall(**small)
    return RecallConfig(task=task, layers=layers, width=(8,), seeds=(5,), **fields)


def test_sets_are_trained_on_in_turn_and_read_in_both_orders():
    config = sets(repeat_context=(1, 2), learning_rates=(1e-2,))
    jobs = config.jobs()
    assert len(jobs) == len({job.place for job in jobs}) == 2 * 2
    inner = SetDisjointnessConfig(sizes=((1, 2), (4, 2)), vocab_size=64, seed=5)
    prefix, causal = (config.experiment(job).task for job in jobs[:2])
    assert prefix == PrefixConfig(task=inner, mask_share=0.0)
    assert causal == inner
    assert config.experiment(jobs[3]).task == RepeatConfig(task=inner)
    assert config.settings(jobs[1]) == [
        {"first": 1, "second": 2, "length": 6},
        {"first": 4, "second": 2, "length": 9},
        {"first": 2, "second": 8, "length": 13, "split": "test"},
        {"first": 8, "second": 2, "length": 13, "split": "test"},
    ]
    assert sets(sizes=((1, 2),)).meaning() != sets().meaning()


def test_a_layer_has_one_state_however_it_reads():
    config = sets(repeat_context=(1, 2))
    states = {sizes(config.experiment(job))[1] for job in config.jobs()}
    assert len(states) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"read_sizes": ((99, 2),)}, r"sizes holds \(99, 2\); with vocab_size 64"),
        ({"sizes": ()}, "sizes is empty; give at least one"),
        ({"size_examples": 0}, "size_examples is 0; give 1 or more"),
    ],
)
def test_sets_that_cannot_be_are_refused(fields, message):
    with pytest.raises((ValueError, MemzooError), match=message):
        sets(**fields)
