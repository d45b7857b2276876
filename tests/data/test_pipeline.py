"""The pipeline: resuming, slices of processes, workers, refusal of changed data."""

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memzoo.data import FolderConfig, MqarConfig
from memzoo.data.batch import Batch
from memzoo.data.pipeline import Pipeline, refuse_changed_data
from memzoo.data.task import DataError

CONFIG = MqarConfig(vocab_size=64, length=16, num_pairs=(2, 4))


@pytest.fixture
def folder(tmp_path: Path) -> FolderConfig:
    for i in range(20):
        (tmp_path / f"{i}.txt").write_text(f"line {i}\n" * (2 * i + 1))
    return FolderConfig(path=str(tmp_path), length=16, validation=0.2, test=0.3)


def take(pipeline: Pipeline, count: int) -> list[Batch]:
    return list(itertools.islice(pipeline, count))


def join(slices: tuple[Batch, ...]) -> Batch:
    fields = zip(*slices, strict=True)
    return Batch(*(None if f[0] is None else np.concatenate(f) for f in fields))


def assert_equal(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert type(one) is Batch
        for a, b in zip(one, other, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)


def test_batches_are_the_rows_of_the_task_in_order():
    task = CONFIG.build("validation")
    expected = [task.examples(np.arange(4 * i, 4 * i + 4)) for i in range(5)]
    for prefetch in (0, 3):
        with Pipeline(CONFIG, "validation", 4, prefetch=prefetch) as pipeline:
            assert_equal(take(pipeline, 5), expected)


def test_resume_is_exact_across_epochs_and_numbers_of_workers(folder: FolderConfig):
    rows = len(folder.build("train"))
    count = 2 * rows // 4 + 3
    with Pipeline(folder, "train", 4) as unbroken:
        expected = take(unbroken, count)
    with Pipeline(folder, "train", 4) as pipeline:
        assert_equal(take(pipeline, 3), expected[:3])
        state = json.loads(json.dumps(pipeline.get_state()))
        assert_equal(take(pipeline, 2), expected[3:5])
        pipeline.set_state(state)
        assert_equal(take(pipeline, count - 3), expected[3:])
    with Pipeline(folder, "train", 4, num_workers=2) as working:
        working.set_state(state)
        assert_equal(take(working, count - 7), expected[3:-4])
        later = working.get_state()
    assert later["position"] == count - 4
    with Pipeline(folder, "train", 4) as alone:
        alone.set_state(later)
        assert_equal(take(alone, 4), expected[-4:])


def test_slices_of_the_processes_make_up_the_batch():
    with Pipeline(CONFIG, "train", 8) as whole:
        expected = take(whole, 3)
        state = whole.get_state()
    for count in (2, 4):
        parts = []
        for index in range(count):
            shared = Pipeline(
                CONFIG, "train", 8, process_index=index, process_count=count
            )
            with shared:
                parts.append(take(shared, 3))
                assert shared.get_state() == state
        joined = [
            Batch(
                *(
                    None if a[0] is None else np.concatenate(a)
                    for a in zip(*b, strict=True)
                )
            )
            for b in zip(*parts, strict=True)
        ]
        assert_equal(joined, expected)
        assert len(parts[0][0].tokens) == 8 // count


def test_a_process_makes_only_its_own_rows():
    asked = []

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Watched(MqarConfig):
        def build(self, split):
            task = super().build(split)
            examples = task.examples
            task.examples = lambda indices: asked.append(indices) or examples(indices)
            return task

    with Pipeline(
        Watched(), "train", 8, process_index=1, process_count=2, prefetch=0
    ) as pipeline:
        take(pipeline, 2)
    assert [rows.tolist() for rows in asked] == [[4, 5, 6, 7], [12, 13, 14, 15]]


def test_the_last_batch_of_a_fixed_number_of_rows_is_filled_with_weight_zero(
    folder: FolderConfig,
):
    task = folder.build("test")
    rows = len(task)
    whole = task.examples(np.arange(rows))
    size = rows - 1
    with Pipeline(folder, "test", size, num_rows=rows) as pipeline:
        assert pipeline.num_batches == 2
        batches = list(pipeline)
        assert next(pipeline, None) is None
    assert [len(batch.tokens) for batch in batches] == [size, size]
    weights = np.concatenate([batch.target_weights for batch in batches])
    np.testing.assert_array_equal(weights[:rows], whole.target_weights)
    assert (weights[rows:] == 0).all()
    tokens = np.concatenate([batch.tokens for batch in batches])
    np.testing.assert_array_equal(tokens[:rows], whole.tokens)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dataclasses.replace(CONFIG, seed=4), "seed was 0 and is 4"),
        (
            dataclasses.replace(CONFIG, filler="random"),
            "filler was blank and is random",
        ),
        (dataclasses.replace(CONFIG, num_pairs=3), r"num_pairs was \[2, 4\] and is 3"),
    ],
)
def test_a_changed_task_is_refused(changed: MqarConfig, message: str):
    state = Pipeline(CONFIG, "train", 4).get_state()
    with pytest.raises(DataError, match=f"the data has changed: {message}"):
        Pipeline(changed, "train", 4).set_state(state)


def test_a_changed_split_batch_or_file_is_refused(folder: FolderConfig):
    state = json.loads(json.dumps(Pipeline(folder, "train", 4).get_state()))
    Pipeline(folder, "train", 4).set_state(state)
    with pytest.raises(DataError, match="batch_size was 4 and is 8"):
        Pipeline(folder, "train", 8).set_state(state)
    with pytest.raises(DataError, match="split was train and is validation"):
        Pipeline(folder, "validation", 4).set_state(state)
    with pytest.raises(DataError, match="task was folder and is mqar"):
        Pipeline(CONFIG, "train", 4).set_state(state)
    path = Path(folder.path) / "0.txt"
    path.write_text("lime 0\n")
    with pytest.raises(DataError, match=r"sha256 was \w+ and is \w+;"):
        Pipeline(folder, "train", 4).set_state(state)


def test_a_field_that_is_new_or_gone_is_named():
    refuse_changed_data({"a": 1}, {"a": 1, "younger": None})
    with pytest.raises(DataError, match=r"b was \(absent\) and is 2"):
        refuse_changed_data({"a": 1}, {"a": 1, "b": 2})
    with pytest.raises(DataError, match=r"b was 2 and is \(absent\)"):
        refuse_changed_data({"a": 1, "b": 2}, {"a": 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; give 1 or more"),
        ({"process_count": 3}, "batch_size is 4; give a multiple of .*, 3"),
        ({"process_index": 1}, r"process_index is 1; .* give a number in \[0, 0\]"),
        ({"num_workers": -1}, "num_workers is -1 and prefetch 2; give 0 or more"),
        ({"num_rows": 0}, "num_rows is 0; give 1 or more, or None for no end"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Pipeline(CONFIG, "train", **{"batch_size": 4, **arguments})


def test_a_task_of_ones_own_without_settings_is_refused_before_the_first_batch():
    class Mine(MqarConfig):
        def build(self, split):
            return Silent()

    class Silent:
        def __len__(self):
            return 4

        def examples(self, indices):
            raise NotImplementedError

    message = r"Mine.build gives a Silent, which lacks setting; add the method"
    with pytest.raises(DataError, match=message):
        Pipeline(Mine(), "train", 4)


def test_workers_end_without_a_word(tmp_path: Path):
    """A program that stops in the middle prints nothing, closed or not."""
    program = tmp_path / "program.py"
    program.write_text(
        "from memzoo.data import MqarConfig\n"
        "from memzoo.data.pipeline import Pipeline\n"
        "if __name__ == '__main__':\n"
        "    pipelines = [\n"
        "        Pipeline(MqarConfig(), 'train', 4, num_workers=n) for n in (0, 1)\n"
        "    ]\n"
        "    batches = [next(pipeline) for pipeline in pipelines]\n"
    )
    command = [sys.executable, "-W", "error", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
