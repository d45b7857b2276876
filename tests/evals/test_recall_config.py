"""Trainings of a sweep."""

import dataclasses

import pytest

from memzoo.data.prefix import PrefixConfig
from memzoo.data.repeat import RepeatConfig, repeat_context
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.tasks.mqar import MqarRecall

SMALL = RecallConfig(
    task=MqarRecall(num_pairs=(2, 4), length=16, vocab_size=32),
    layers=("attention", "delta_net"),
    width=(8, 16),
    learning_rates=(1e-2, 3e-3),
    seeds=(0, 5),
)


def changed(**fields):
    names = {field.name for field in dataclasses.fields(MqarRecall)}
    own = {name: value for name, value in fields.items() if name in names}
    rest = {name: value for name, value in fields.items() if name not in names}
    task = dataclasses.replace(SMALL.task, **own)
    return dataclasses.replace(SMALL, task=task, **rest)


def test_every_combination_is_trained_once_in_a_place_of_its_own():
    jobs = SMALL.jobs()
    assert len(jobs) == 2**5
    assert len({job.place for job in jobs}) == 2**5
    assert len({SMALL.experiment(job).name for job in jobs}) == 2**5
    assert all(job.place.parts[0] == job.layer for job in jobs)
    assert [job.seed for job in jobs] == [0] * 16 + [5] * 16


def test_learning_rates_that_differ_in_the_seventh_digit_share_no_folder():
    rates = (3e-3, 3.0000001e-3, 1e-5)
    one = {"layers": ("delta_net",), "num_pairs": (2,), "width": (8,), "seeds": (0,)}
    jobs = changed(learning_rates=rates, **one).jobs()
    names = ["rate-0.003-seed-0", "rate-0.0030000001-seed-0", "rate-1e-05-seed-0"]
    assert [job.place.name for job in jobs] == names
    assert len({job.label for job in jobs}) == 3
    assert len({SMALL.experiment(job).name for job in jobs}) == 3


def test_an_experiment_is_what_the_sweep_says():
    config = changed(steps=77, batch_size=5, evaluate_every=7, stop_at=0.5, depth=3)
    job = config.jobs()[-1]
    experiment = config.experiment(job)
    assert job == dataclasses.replace(
        job, layer="delta_net", width=16, learning_rate=3e-3, seed=5
    )
    assert job.label == "delta_net, 4 pairs, width 16, learning rate 0.003, seed 5"
    assert experiment.steps == 77
    assert experiment.batch_size == 5
    assert experiment.evaluate_every == 7
    assert experiment.stop_at_accuracy == 0.5
    assert experiment.optimizer.learning_rate == 3e-3
    assert experiment.seed == experiment.task.seed == 5
    assert experiment.task.settings == (4,)
    assert experiment.task.filler == "blank"
    assert experiment.model.width == 16
    (group,) = experiment.model.pattern
    assert group.repeats == 3
    assert group.layers[0].convolution_size == 4
    assert group.layers[0].num_heads == 1


def test_an_ablation_stands_in_place_of_the_layers():
    whole = {"layers": RecallConfig.layers, "ablate": "titans_lmm"}
    config = changed(**whole, num_pairs=(4,), width=(16,), seeds=(0,))
    jobs = config.jobs()
    assert len(jobs) == 6 * 2 == len({job.place for job in jobs})
    assert len({config.experiment(job).name for job in jobs}) == len(jobs)
    layers = {j.layer: config.experiment(j).model.pattern[0].layers[0] for j in jobs}
    assert list(layers)[:2] == ["titans_lmm-whole", "titans_lmm-no_momentum"]
    assert [layer.momentum for layer in layers.values()] == [True, False] + 4 * [True]
    assert config.meaning() == SMALL.meaning()
    with_attention = changed(layers=("titans_lmm-whole", "attention"))
    assert with_attention.compared == ("titans_lmm-whole", "attention")


def test_a_mixture_is_one_training_on_all_pairs():
    config = changed(mixture=True)
    assert len(config.jobs()) == 2**4
    assert config.experiment(config.jobs()[0]).task.settings == (2, 4)


def test_a_window_is_shorter_than_the_sequence():
    config = changed(layers=("sliding_window_attention",))
    (layer,) = config.experiment(config.jobs()[0]).model.pattern[0].layers
    assert layer.window == 4
    config = changed(layers=("titans_mag",))
    (layer,) = config.experiment(config.jobs()[0]).model.pattern[0].layers
    assert layer.attention.window == 4


def test_sequences_are_read_as_often_as_asked():
    config = changed(repeat_context=(1, 3))
    jobs = config.jobs()
    assert len(jobs) == 2**6 == len({job.place for job in jobs})
    assert {job.place for job in SMALL.jobs()} < {job.place for job in jobs}
    assert len({job.label for job in jobs}) == 2**6
    for job in jobs:
        task = config.experiment(job).task
        plain = dataclasses.replace(config, repeat_context=(1,)).experiment(
            dataclasses.replace(job, repeat_context=1)
        )
        assert task == repeat_context(plain.task, job.repeat_context)
        assert config.settings(job)[0].get("repeat_context", 1) == job.repeat_context
    assert config.meaning() == SMALL.meaning()
    pairs = changed(repeat_context=(2,), repeat_question=False)
    assert pairs.experiment(pairs.jobs()[0]).task.length == 16 + 4
    assert pairs.meaning() == SMALL.meaning() | {"repeat_question": False}


def test_pairs_are_a_prefix_for_who_accepts_one():
    config = changed(
        layers=("prefix_attention", "attention"), repeat_context=(2,), seeds=(0,)
    )
    for job in config.jobs():
        task = config.experiment(job).task
        assert isinstance(task, PrefixConfig) == (job.layer == "prefix_attention")
    causal = dataclasses.replace(config, prefix=False)
    task = causal.experiment(causal.jobs()[0]).task
    assert isinstance(task, RepeatConfig)
    assert causal.meaning() == config.meaning() | {"prefix": False}


def test_variants_say_who_reads_a_prefix():
    names = ("prefix_attention-causal", "gated_delta_net-prefix", "gated_delta_net")
    config = changed(layers=names, num_pairs=(2,), width=(8,), seeds=(0,))
    for job in config.jobs():
        experiment = config.experiment(job)
        reads = job.layer == "gated_delta_net-prefix"
        assert isinstance(experiment.task, PrefixConfig) == reads
        (layer,) = experiment.model.pattern[0].layers
        assert getattr(layer, "prefix", False) == reads


def test_axes_are_no_part_of_what_a_sweep_means():
    same = changed(layers=("retnet",), num_pairs=(1,), width=(4,), seeds=(9,), name="b")
    assert same.meaning() == SMALL.meaning()
    assert changed(mixture=True).meaning() != SMALL.meaning()
    assert changed(steps=3).meaning() != SMALL.meaning()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": ()}, "layers is empty; give at least one"),
        ({"seeds": (1, 1)}, r"seeds is \(1, 1\); drop the duplicate"),
        (
            {"layers": ("atention",)},
            "layer 'atention' is not known; did you mean atten",
        ),
        ({"layers": ("zzz",)}, "layer 'zzz' is not known; known: armt, atlas"),
        (
            {"layers": RecallConfig.layers, "ablate": "attention"},
            "ablate is 'attention'; no ablation; known: mix",
        ),
        (
            {"layers": ("retnet",), "ablate": "titans_lmm"},
            r"ablate is 'titans_lmm' and layers is \('retnet',\); leave one of them",
        ),
        (
            {"layers": ("titans_lmm-x",)},
            "layer 'titans_lmm-x' is not known; did you mean t",
        ),
        ({"name": "a/b"}, "name is 'a/b'; give a plain folder name"),
        ({"num_pairs": (99,)}, "num_pairs is 99; with num_passes 1 and length 16"),
        ({"num_queries": 9}, "num_queries is 9; with num_passes 1 and length 16"),
        ({"length": 5}, "length is 5; give an even number, 16 or more for these pairs"),
        ({"repeat_context": (2, 0)}, "^repeat_context is 0; give 1 or more"),
        ({"read_again": (2, 1)}, r"read_again is \(2, 1\); give 2 or more, once is"),
        ({"read_again": (2, 2)}, "read_again is .*; it names something twice"),
        (
            {"read_again": (2,), "repeat_context": (1, 2)},
            r"read_again is \(2,\) and repeat_context is \(1, 2\); leave one of them",
        ),
        (
            {"head_size": 8, "layers": ("mixture_of_memories-plain",)},
            "head_size is 8; leave it out, mixture_of_memories-plain sets",
        ),
        ({"head_size": 0}, "head_size is 0; give 1 or more"),
        ({"num_heads": 0}, "^num_heads is 0; give 1 or more"),
        ({"num_heads": -1}, "^num_heads is -1; give 1 or more"),
        ({"depth": 0}, "^depth is 0; give 1 or more"),
        ({"depth": 10**14}, "^depth is 1.*; give a number below 2"),
        ({"width": (64, 0)}, "^width is 0; give 1 or more"),
        ({"batch_size": 10**20}, "^batch_size is 1.*; give a number below 2"),
        ({"evaluate_every": 10**20}, "^evaluate_every is 1.*; give a number below 2"),
        ({"evaluation_examples": 2**31}, "^evaluation_examples is 2.*; give a number "),
        ({"steps": 2**31}, "^steps is 2147483648; give a number below 2"),
        ({"repeat_context": (10**9,)}, "^times is 1000000000, which makes rows of"),
        (
            {"read_again": (10**20,)},
            "^times is 1.*, which makes rows of .*; give f",
        ),
        ({"learning_rates": (1e300,)}, r"^learning_rate is 1e\+300, which float32 can"),
        ({"learning_rates": (1e-50,)}, "^learning_rate is 1e-50, which float32 can"),
        ({"stop_at": float("nan")}, "stop_at_accuracy is nan; give a"),
        ({"vocab_size": 33}, "vocab_size is 33; give an even number"),
        ({"steps": 0}, "steps is 0; give a"),
        ({"learning_rates": (-1.0,)}, "learning_rate is -1.0; give a"),
        ({"stop_at": 2.0}, "stop_at_accuracy is 2.0; give a"),
        ({"tokens_per_pair": 4}, "tokens_per_pair is 4 and length is 16; give one"),
        (
            {"tokens_per_pair": 4, "length": 64, "mixture": True},
            "tokens_per_pair is 4 and mixture is True; give one of the two",
        ),
        (
            {"tokens_per_pair": 3, "length": 64},
            "tokens_per_pair is 3; give 4 or more",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(fields, message):
    with pytest.raises(ValueError, match=message):
        changed(**fields)
