"""`memzoo eval RUN --stream`, on a run whose loading is faked."""

import json
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from memzoo.configs.experiment import ExperimentConfig
from memzoo.data.mqar import MqarConfig
from memzoo.data.text import FolderConfig
from memzoo.errors import MemzooError
from memzoo.evals import command, stream_command
from memzoo.evals.command import EvalConfig, evaluate_run
from memzoo.evals.results import read_results
from memzoo.evals.stream_command import StreamOptions
from memzoo.models.attention import AttentionConfig
from memzoo.models.block import Group
from memzoo.models.language_model import LanguageModelConfig
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.parsing import parse
from memzoo.train.runs import LoadedRun
from memzoo.train.writing import SaveError

TITANS = TitansLMMConfig(
    num_heads=1, memory_depth=1, persistent_tokens=0, update_every=4
)
TEXT = bytes(np.random.default_rng(0).integers(97, 123, 60).tolist())


def config_of(folder, layer, task=None):
    model = LanguageModelConfig(
        vocab_size=257, width=8, pattern=(Group(layers=(layer,)),)
    )
    task = task or FolderConfig(path=str(folder), length=40)
    return ExperimentConfig(name="a-run", model=model, task=task)


@pytest.fixture
def run_with(tmp_path, monkeypatch):
    """Return the folder of a run with a layer, and two files beside it."""
    (tmp_path / "a.txt").write_bytes(TEXT[:25])
    (tmp_path / "b.txt").write_bytes(TEXT[25:])

    def make(layer=TITANS, task=None):
        config = config_of(tmp_path, layer, task)
        model = config.model.build(nnx.Rngs(0))
        loaded = LoadedRun(config, model, 7)
        monkeypatch.setattr(command, "load_run", lambda *a, **k: loaded)
        (tmp_path / "run").mkdir(exist_ok=True)
        return tmp_path / "run"

    return make


def streamed(run, *files, **options):
    names = tuple(str(run.parent / name) for name in files)
    streaming = StreamOptions(stream=names, piece=16, **options)
    return command.run(EvalConfig(run=run, streaming=streaming))


def values(run, document):
    return {
        row["metric"]: row["value"]
        for row in read_results(run / "results.json")
        if row["setting"].get("document") == document
        and "context_to" not in row["setting"]
    }


def test_a_document_is_measured_and_written(run_with, capsys):
    run = run_with()
    assert streamed(run, "a.txt", "b.txt") == 0
    rows = read_results(run / "results.json")
    setting = {"document": "a.txt+b.txt", "length": 60}
    assert rows[0]["setting"] == setting and rows[0]["checkpoint_step"] == 7
    assert {row["metric"] for row in rows} == {"bits_per_byte", "accuracy", "surprise"}
    said = capsys.readouterr()
    assert "titans_lmm on folder, step 7" in said.out
    assert "context 33 to 60" in said.out and "a.txt+b.txt, 60 tokens" in said.out
    assert "60 tokens in" in said.err and "stream.html" in said.err
    (timing,) = json.loads((run / "timings.json").read_text())
    assert timing["tokens"] == 60 and timing["tokens_per_second"] > 0
    page = (run / "stream.html").read_text()
    assert "The loss of the memory at every token" in page
    config = EvalConfig(
        run=run, streaming=StreamOptions(stream=(str(run.parent / "a.txt"),), piece=16)
    )
    assert evaluate_run(config) == read_results(run / "results.json")[len(rows) :]
    assert len(json.loads((run / "timings.json").read_text())) == 2


def test_the_state_is_saved_and_goes_on(run_with, capsys):
    """Two files end to end equal the first, saved, and then the second."""
    run = run_with()
    state = run.parent / "state.npz"
    streamed(run, "a.txt", "b.txt")
    streamed(run, "a.txt", save_state=state)
    streamed(run, "b.txt", load_state=state)
    assert f"the state after the document is in {state}" in capsys.readouterr().err
    whole, first, second = (
        values(run, name) for name in ("a.txt+b.txt", "a.txt", "b.txt")
    )
    for metric, value in whole.items():
        mean = (25 * first[metric] + 35 * second[metric]) / 60
        np.testing.assert_allclose(mean, value, rtol=1e-4)
    rows = read_results(run / "results.json")
    assert [r["setting"] for r in rows if r["setting"].get("read_before") == 25]


def test_a_place_for_the_state_is_looked_for_before_reading(run_with, monkeypatch):
    run = run_with()
    monkeypatch.setattr(stream_command, "stream", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(SaveError, match=r"cannot write .*/none/s.npz: No such file"):
        streamed(run, "a.txt", save_state=run / "none" / "s.npz")


def test_the_runs_own_text_is_the_default(run_with, capsys):
    run = run_with()
    for number in range(20):
        (run.parent / f"{number}.txt").write_bytes(TEXT)
    options = parse(
        EvalConfig,
        [str(run), "--stream", "--tokens", "70", "--split", "train", "--no-surprise"],
        command="eval",
    )
    assert command.run(options) == 0
    assert set(values(run, "folder, train")) == {"bits_per_byte", "accuracy"}
    assert "surprise: not requested" in capsys.readouterr().err


def test_layers_without_a_neural_memory_have_no_surprise(run_with, capsys):
    run = run_with(AttentionConfig(num_heads=1))
    assert streamed(run, "a.txt") == 0
    said = capsys.readouterr().err
    assert "surprise: none, no layer of attention is a neural memory" in said
    assert "No layer of this model reported" in (run / "stream.html").read_text()
    with pytest.raises(MemzooError, match="60 tokens do not fit, it has room for 40"):
        streamed(run, "a.txt", "b.txt")
    assert streamed(run, "a.txt", "b.txt", capacity=60) == 0


def test_a_run_that_reads_no_bytes_is_refused(run_with):
    run = run_with(task=MqarConfig(vocab_size=128))
    with pytest.raises(MemzooError, match="is mqar, which is not over bytes"):
        streamed(run, "a.txt")


def test_what_cannot_be_kept_is_shown(run_with, monkeypatch, capsys):
    def full(path, rows):
        raise SaveError(f"cannot write {path}: Permission denied; make room there")

    run = run_with()
    monkeypatch.setattr(command, "write_results", full)
    assert streamed(run, "a.txt") == 0
    said = capsys.readouterr()
    assert "titans_lmm on folder" in said.out and "25 tokens in" in said.err
    assert "warning: the results are not saved" in said.err


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stream": (), "piece": 0}, "piece is 0; give 1 or more"),
        ({"stream": (), "tokens": 0}, "tokens is 0; give 1 or more"),
        ({"stream": (), "piece": 10**20}, "piece is 1.*; give 1000000000 or less"),
        ({"stream": (), "capacity": 10**10}, "capacity is 1.*; give 1000000000 or l"),
        ({"stream": ("a", "")}, "a name in it is empty; name files, - for"),
        ({"tokens": 5}, "tokens needs --stream; add --stream"),
        ({"surprise": False}, "surprise needs --stream; add --stream"),
        (
            {"stream": (), "load_state": Path("s.npz"), "capacity": 5},
            "capacity is 5; leave it out, --load-state sets it",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        StreamOptions(**fields)


def test_a_state_without_a_place_is_refused_before_the_document_is_read(
    run_with, monkeypatch
):
    run = run_with()
    monkeypatch.setattr(stream_command, "stream", lambda *a, **k: pytest.fail("read"))
    with pytest.raises(SaveError, match=r"cannot write .*x: No such file or dir"):
        streamed(run, "a.txt", save_state=run / "no" / "x")


@pytest.mark.parametrize("fields", [{"examples": 3}, {"lengths": (16,)}])
def test_what_does_not_go_with_a_stream_is_refused(tmp_path, fields):
    with pytest.raises(ValueError, match="leave it out, --stream does not use it"):
        EvalConfig(run=tmp_path, streaming=StreamOptions(stream=()), **fields)
