"""A sweep, with a training loop that only counts."""

import dataclasses
import json
import signal
from types import SimpleNamespace

import pytest
from flax import nnx

from memzoo.data.task import kinds_of
from memzoo.errors import MemzooError, NonFiniteError
from memzoo.evals import sweep
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.results import read_results
from memzoo.evals.sweep import SweepStopped, recall
from memzoo.evals.sweep_files import SweepFiles
from memzoo.evals.tasks.mqar import MqarRecall
from memzoo.evals.tasks.needle import NeedleRecall
from memzoo.evals.tasks.set_disjointness import SetDisjointnessRecall
from memzoo.train.loop import TrainResult
from memzoo.train.runs import load_run
from memzoo.train.writing import SaveError


class Loop:
    """Write what the training loop would; accuracy 0.25 + 10 * learning rate."""

    def __init__(self, stop=None, diverge=None, late=None):
        self.trained, self.stop, self.diverge = [], stop, diverge
        self.late = late

    def __call__(self, config, directory, *, progress, on_log, command):
        self.trained.append(str(directory))
        if self.stop == len(self.trained):
            return TrainResult(
                step=7, status="preempted", evaluation=None, asked=signal.SIGINT
            )
        if self.diverge == len(self.trained):
            error = NonFiniteError("the loss is not finite")
            error.asked = signal.SIGINT if self.late == self.diverge else None
            raise error
        on_log({"step": 10, "loss": 1.0})
        final = min(1.0, 0.25 + 10 * config.optimizer.learning_rate)
        lines = [self.line(config, 10, final / 2), self.line(config, 20, final)]
        directory.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (directory / "evaluations.jsonl").write_text(text)
        asked = signal.SIGINT if self.late == len(self.trained) else None
        return TrainResult(step=20, status="done", evaluation=lines[-1], asked=asked)

    def line(self, config, step, accuracy):
        rows = [
            {
                "setting": setting,
                "metric": "accuracy",
                "value": accuracy / (i + 1),
                "count": 5,
            }
            for i, setting in enumerate(kinds_of(config.task))
        ]
        return {"step": step, "accuracy": accuracy, "loss": 1.0, "rows": rows}


@pytest.fixture
def small(tmp_path):
    return RecallConfig(
        task=MqarRecall(num_pairs=(2, 4), length=16, vocab_size=32),
        layers=("attention", "delta_net"),
        width=(8,),
        learning_rates=(1e-2, 8e-2),
        seeds=(0, 1),
        steps=20,
        output=tmp_path,
    )


def changed(config, **fields):
    """Return the sweep with other fields of its task."""
    return dataclasses.replace(config, task=dataclasses.replace(config.task, **fields))


def done(config, loop, load=load_run):
    command = ["memzoo", "recall"]
    return recall(config, progress=False, train=loop, load=load, command=command)


def go(config, loop, load=load_run):
    return done(config, loop, load).page


def test_everything_is_trained_once_and_reported(small):
    loop = Loop()
    report = go(small, loop)
    assert len(loop.trained) == len(set(loop.trained)) == 16
    assert report == small.directory / "report.html"
    rows = read_results(small.directory / "results.json")
    accuracy = [r for r in rows if r["metric"] == "accuracy"]
    assert len(accuracy) == 16
    assert accuracy[0]["setting"] == {"num_pairs": 2, "length": 16, "width": 8}
    assert accuracy[0]["chance"] == 0.5
    assert {r["checkpoint_step"] for r in rows} == {20}
    steps = [r for r in rows if r["metric"] == "steps_to_0.99"]
    assert {(r["learning_rate"], r["value"]) for r in steps} == {(8e-2, 20)}
    assert len(steps) == 8


def test_a_finished_sweep_trains_nothing_and_changes_nothing(small):
    go(small, Loop())
    files = [small.directory / n for n in ("results.json", "report.html", "sweep.json")]
    before = [path.read_bytes() for path in files]
    loop = Loop()
    go(small, loop)
    assert loop.trained == []
    assert [path.read_bytes() for path in files] == before


def test_a_stop_with_the_last_step_of_a_training_stops_the_sweep_behind_it(small):
    loop = Loop(late=3)
    with pytest.raises(SweepStopped, match=r"stopped after .* is done; start") as stop:
        go(small, loop)
    assert stop.value.exit_code == 130 and len(loop.trained) == 3
    others = Loop(late=13)
    go(small, others)
    assert len(set(loop.trained + others.trained)) == 16 == 3 + len(others.trained)


def test_a_stop_with_the_last_training_counts_where_more_is_to_be_run(small):
    with pytest.raises(SweepStopped, match="is done; start the command again"):
        recall(small, progress=False, train=Loop(late=16), command=[], more=True)


def test_a_stop_is_seen_where_the_training_diverges(small):
    loop = Loop(diverge=2, late=2)
    with pytest.raises(SweepStopped, match=r"stopped after .* is done") as stop:
        go(small, loop)
    assert stop.value.exit_code == 130 and len(loop.trained) == 2


def test_a_sweep_grows_by_what_is_missing(small):
    go(small, Loop())
    loop = Loop()
    go(dataclasses.replace(small, layers=("retnet",), seeds=(0,)), loop)
    assert len(loop.trained) == 4
    assert all("retnet" in place for place in loop.trained)
    rows = read_results(small.directory / "results.json")
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    assert layers == ["retnet", "attention", "delta_net"]
    assert "delta_net" in (small.directory / "report.html").read_text()


def test_variants_of_a_layer_are_rows_of_their_own(small):
    loop = Loop()
    fields = {"learning_rates": (1e-2,), "seeds": (0,)}
    fields |= {"layers": RecallConfig.layers, "ablate": "titans_lmm"}
    go(dataclasses.replace(changed(small, num_pairs=(2,)), **fields), loop)
    assert len(loop.trained) == 6
    rows = read_results(small.directory / "results.json")
    accuracy = {r["layer"]: r for r in rows if r["metric"] == "accuracy"}
    assert list(accuracy)[:2] == ["titans_lmm-whole", "titans_lmm-no_momentum"]
    whole, linear = (
        accuracy[f"titans_lmm-{name}"] for name in ("whole", "linear_memory")
    )
    assert linear["state_bytes"] < whole["state_bytes"]
    page = (small.directory / "report.html").read_text()
    assert (
        "titans_lmm-no_convolution" in page and "each other variant changes one" in page
    )


def test_a_sweep_that_was_stopped_goes_on_where_it_was(small):
    first = Loop(stop=5)
    with pytest.raises(
        SweepStopped, match="at step 7 of 20; start the command"
    ) as stop:
        go(small, first)
    assert stop.value.exit_code == 130
    assert not (small.directory / "results.json").exists()
    second = Loop()
    go(small, second)
    assert second.trained[0] == first.trained[-1]
    assert first.trained[:-1] + second.trained == first.trained + second.trained[1:]
    assert len(second.trained) == 12


def test_a_training_that_diverges_counts_as_nothing_recalled(small):
    go(dataclasses.replace(small, learning_rates=(1e-2,), seeds=(0,)), Loop(diverge=1))
    rows = read_results(small.directory / "results.json")
    failed = [row for row in rows if row["metric"] == "diverged"]
    assert [(row["layer"], row["setting"]["num_pairs"]) for row in failed] == [
        ("attention", 2)
    ]
    values = [row["value"] for row in rows if row["metric"] == "accuracy"]
    assert values == [0.0, 0.35, 0.35, 0.35]


def test_a_mixture_is_reported_by_setting(small):
    loop = Loop()
    go(dataclasses.replace(changed(small, mixture=True), seeds=(0,)), loop)
    assert len(loop.trained) == 4
    rows = read_results(small.directory / "results.json")
    best = {
        row["setting"]["num_pairs"]: row["value"]
        for row in rows
        if row["metric"] == "accuracy" and row["learning_rate"] == 8e-2
    }
    assert best == {2: 1.0, 4: 0.5}
    steps = [r["setting"]["num_pairs"] for r in rows if "steps" in r["metric"]]
    assert steps == [2, 2]


def test_curves_are_read_by_layer_and_setting(small):
    config = changed(small, mixture=True)
    go(config, Loop())
    curves = sweep.collect(config).curves
    key = ("delta_net", (("length", 16), ("num_pairs", 4), ("width", 8)))
    assert len(curves) == 4
    assert [(c.learning_rate, c.seed) for c in curves[key]] == [
        (1e-2, 0),
        (8e-2, 0),
        (1e-2, 1),
        (8e-2, 1),
    ]
    assert curves[key][1].steps == (10, 20)
    assert curves[key][1].accuracy == (0.25, 0.5)


@pytest.fixture
def needles(small):
    fields = {"length": 32, "lengths": (32, 48), "depths": (0.0, 1.0)}
    task = NeedleRecall(**fields, length_examples=4, vocab_size=32)
    return dataclasses.replace(small, seeds=(0,), task=task)


class Loaded:
    """Load a model that knows nothing, and count the calls."""

    def __init__(self, config, model):
        self.config, self.model, self.asked = config, model, []

    def __call__(self, directory):
        self.asked.append(str(directory))
        job = next(j for j in self.config.jobs() if str(j.place) in str(directory))
        experiment = self.config.experiment(job)
        return SimpleNamespace(config=experiment, model=self.model, step=20)


def test_mixtures_alone_are_asked_where_they_send_their_tokens(small):
    fields = {"learning_rates": (1e-2,), "seeds": (0,)}
    layers = ("delta_net", "mixture_of_memories")
    config = changed(small, num_pairs=(2,))
    config = dataclasses.replace(config, layers=layers, **fields)
    built = config.experiment(config.jobs()[1]).model.build(nnx.Rngs(0))
    loop, load = Loop(), Loaded(config, built)
    report = go(config, loop, load)
    assert load.asked == loop.trained[1:]
    rows = read_results(config.directory / "results.json")
    routed = [row for row in rows if row["metric"] == "routed"]
    assert {row["setting"]["block"] for row in routed} == {0, 1}
    assert {row["layer"] for row in routed} == {"mixture_of_memories"}
    assert "Which memory answers?" in report.read_text()


def test_needles_are_read_beyond_the_trained_length(needles, bigram):
    loop, load = Loop(), Loaded(needles, bigram(32))
    finished = done(needles, loop, load)
    assert load.asked == loop.trained and len(load.asked) == 4
    rows = read_results(needles.directory / "results.json")
    deep = [r for r in rows if r["metric"] == "accuracy" and "depth" in r["setting"]]
    assert len(deep) == 4 * 2 * 2
    setting = {"length": 32, "depth": 0.0, "split": "test", "width": 8}
    assert deep[0]["setting"] == setting
    assert deep[0]["chance"] == 1 / 7
    assert "Accuracy by length" in finished.page.read_text()
    curves = finished.measured.curves
    assert {len(own) for own in curves.values()} == {2} and len(curves) == 2


@pytest.fixture
def sets(small):
    sizes = {"sizes": ((2, 4), (4, 2)), "read_sizes": ((2, 8), (8, 2))}
    task = SetDisjointnessRecall(**sizes, size_examples=3, vocab_size=32)
    layers = ("prefix_attention", "prefix_attention-causal")
    return dataclasses.replace(small, layers=layers, seeds=(0,), task=task)


def test_sets_are_read_in_both_orders(sets, bigram):
    loop, load = Loop(), Loaded(sets, bigram(32))
    finished = done(sets, loop, load)
    assert load.asked == loop.trained and len(load.asked) == 4
    rows = read_results(sets.directory / "results.json")
    read = [r for r in rows if r["setting"].get("split") and r["metric"] == "accuracy"]
    assert len(read) == 4 * 2
    assert read[1]["setting"] == {
        "first": 8,
        "second": 2,
        "length": 13,
        "split": "test",
        "width": 8,
    }
    assert "Both orders" in finished.page.read_text()
    assert finished.findings.sections[0].tables
    assert not any("split" in dict(key) for _, key in finished.measured.curves)


def test_a_model_that_read_once_reads_again(small, bigram):
    config = dataclasses.replace(changed(small, read_again=(2, 3)), seeds=(0,))
    finished = done(config, Loop(), Loaded(config, bigram(32)))
    rows = read_results(config.directory / "results.json")
    read = [r for r in rows if r["setting"].get("split") and r["metric"] == "accuracy"]
    times = [r["setting"].get("repeat_context", 1) for r in read]
    assert times == [1, 2, 3] * len(config.jobs())
    titles = [t.title for each in finished.findings.sections for t in each.tables]
    assert sum("trained on reading once, read 3 times" in each for each in titles) == 2
    # Readings after training are only in their own tables.
    assert sum(each.startswith("4 pairs") for each in titles) == 1
    page = finished.page.read_text()
    assert (
        "After training, the models read them 2, 3 times too, question included" in page
    )


@pytest.mark.parametrize("fields", [{"read_again": (2,)}, {"head_size": 4}])
def test_a_sweep_goes_on_only_as_it_began(small, fields):
    (name,) = fields
    change = changed if name == "read_again" else dataclasses.replace
    with_fields = change(small, **fields)
    for first, second in ((small, with_fields), (with_fields, small)):
        first, second = (
            dataclasses.replace(c, name=f"from-{first is small}")
            for c in (first, second)
        )
        for _ in range(2):
            files = SweepFiles(first, print)
            files.begin(["x"], files.missing())
        with pytest.raises(MemzooError, match=f"holds a sweep with {name} = "):
            SweepFiles(second, print).missing()
        (first.directory / "sweep.json").unlink()


def test_a_needle_training_that_diverges_counts_as_nothing_found(needles, bigram):
    loop, load = Loop(diverge=1), Loaded(needles, bigram(32))
    go(needles, loop, load)
    rows = SweepFiles(needles, print).outcome(needles.jobs()[0].place).rows
    assert {row["value"] for row in rows if row["metric"] != "diverged"} == {0.0}
    assert len(rows) == 3 * (1 + 2 * 2)
    assert len(load.asked) == 3


def test_another_sweep_in_the_folder_is_refused(small):
    go(small, Loop())
    other = dataclasses.replace(small, steps=30)
    with pytest.raises(MemzooError, match=r"steps = 20, and this one has 30; give the"):
        go(other, Loop())


def test_a_folder_that_cannot_be_made_is_refused(small):
    small.output.joinpath(small.name).write_text("a file")
    with pytest.raises(SaveError, match=r"cannot write .*recall: File exists"):
        go(small, Loop())


def test_a_command_is_shown_as_it_was_typed():
    typed = ["/env/bin/memzoo", "recall", "--seeds", "0"]
    assert sweep.command_text(typed) == "memzoo recall --seeds 0"
    assert sweep.command_text(["/x/memzoo/__main__.py", "recall"]) == "memzoo recall"
