"""Next-byte prediction: every byte is a target once, documents are kept separate."""

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest

from memzoo.data import FolderConfig, PrefixConfig, TextConfig, packing
from memzoo.data.batch import Batch
from memzoo.data.task import SPLITS, DataError, fingerprint, has_split


@pytest.fixture
def config(tmp_path: Path) -> FolderConfig:
    generator = np.random.default_rng(0)
    for i in range(60):
        text = generator.integers(0, 256, generator.integers(1, 120), np.uint8)
        (tmp_path / f"{i}.txt").write_bytes(text.tobytes())
    return FolderConfig(
        path=str(tmp_path), length=32, max_documents=3, validation=0.2, test=0.2
    )


def epoch_rows(config: FolderConfig, epoch: int) -> tuple[np.ndarray, packing.Plan]:
    """Return the numbers of an epoch's training rows, and its plan."""
    lengths = config.build("train").corpus.lengths
    plans = [
        packing.plan(lengths, config.length, config.max_documents, config.seed, 0, e)
        for e in range(epoch + 1)
    ]
    begin = sum(len(plan.rows) for plan in plans[:-1])
    return begin + np.arange(len(plans[-1].rows)), plans[-1]


@pytest.mark.parametrize("epoch", [0, 2])
def test_tokens_and_targets_are_those_of_the_documents(
    config: FolderConfig, epoch: int
):
    task = config.build("train")
    starts = task.corpus.starts.tolist()
    text = task.corpus.text.tolist()
    documents = [[256, *text[a:b]] for a, b in itertools.pairwise(starts)]
    rows, plan = epoch_rows(config, epoch)
    batch = task.examples(rows)
    pieces = packing.pieces(plan, np.arange(len(rows)))
    assert batch.target_positions is None
    asked = []
    for row, i in np.ndindex(batch.tokens.shape):
        weight = batch.target_weights[row, i]
        if not pieces.valid[row, i]:
            assert not (weight or batch.valid[row, i] or batch.reset[row, i])
            continue
        document, offset = int(pieces.document[row, i]), int(pieces.offset[row, i])
        assert batch.valid[row, i]
        assert batch.tokens[row, i] == documents[document][offset]
        assert batch.reset[row, i] == (i == 0 or offset == 0)
        if offset + 1 < len(documents[document]):
            assert weight == 1
            assert batch.targets[row, i] == documents[document][offset + 1]
            asked.append((document, offset + 1))
        else:
            assert weight == 0
    expected = [(d, o) for d, text in enumerate(documents) for o in range(1, len(text))]
    assert sorted(asked) == expected


def test_a_target_is_the_next_token_of_the_row_within_a_piece(config: FolderConfig):
    batch = config.build("train").examples(np.arange(30))
    inside = batch.valid[:, 1:] & ~batch.reset[:, 1:]
    np.testing.assert_array_equal(
        batch.targets[:, :-1][inside], batch.tokens[:, 1:][inside]
    )
    assert inside.sum() > 500
    begins = batch.reset[:, 1:] & batch.valid[:, 1:]
    assert (batch.target_weights[:, :-1][begins] == 0).all() and begins.any()


def same(one: Batch, other: Batch) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a is b is None or np.array_equal(a, b) for a, b in pairs)


def test_a_row_is_the_same_in_any_batch(config: FolderConfig):
    task = config.build("train")
    indices = np.array([200, 3, len(task), 0, len(task) - 1, 3])
    batch = task.examples(indices)
    for row, index in enumerate(indices):
        alone = config.build("train").examples(np.array([index]))
        assert same(alone, Batch(*(a if a is None else a[[row]] for a in batch)))
    copied = pickle.loads(pickle.dumps(task))
    assert same(copied.examples(indices), batch)


def test_epochs_and_seeds_differ(config: FolderConfig):
    task = config.build("train")
    first, _ = epoch_rows(config, 0)
    second, _ = epoch_rows(config, 1)
    assert len(task) == len(first)
    size = min(len(first), len(second))
    one, two = task.examples(first[:size]), task.examples(second[:size])
    assert not np.array_equal(one.tokens, two.tokens)
    fields = {
        name: getattr(config, name) for name in ("path", "length", "max_documents")
    }
    seeded = FolderConfig(**fields, seed=1, validation=0.2, test=0.2).build("train")
    assert not np.array_equal(
        seeded.examples(first).tokens, task.examples(first).tokens
    )


def test_splits_hold_different_files(config: FolderConfig):
    parts = [config.build(split).corpus for split in ("train", "validation", "test")]
    assert sum(len(part.lengths) for part in parts) == 60
    assert all(len(part.lengths) > 4 for part in parts)


def test_the_standard_library_is_a_task():
    config = TextConfig(length=128, max_bytes=200_000)
    batch = config.build("train").examples(np.arange(8))
    assert batch.tokens.shape == (8, 128)
    assert config.vocab_size == 257 and config.chance is None
    found = fingerprint(config)
    assert found["task"] == "text" and found["length"] == 128
    assert found["files"] > 0 and len(found["sha256"]) == 64


def test_the_fingerprint_follows_the_files_and_not_their_place(config: FolderConfig):
    before = fingerprint(config)
    assert "path" not in before and before["pattern"] == "**/*.txt"
    (Path(config.path) / "new.txt").write_bytes(b"new")
    after = fingerprint(config)
    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["files", "bytes", "sha256"]


def test_the_text_counts_as_data_and_the_name_of_its_field_does_not(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    found = []
    for name, text in (("text", "x"), ("body", "x"), ("body", "y")):
        path.write_text(f'{{"{name}": "{text}"}}')
        folder = FolderConfig(path=str(tmp_path), pattern="*.jsonl", text_field=name)
        found.append(fingerprint(folder))
        path.unlink()
    assert found[0] == found[1] != found[2]


def test_a_split_without_files_is_refused(config: FolderConfig):
    alone = FolderConfig(path=config.path, validation=0.0)
    with pytest.raises(DataError, match="validation split has no documents; give the"):
        alone.build("validation")
    assert not alone.has_split("validation") and not has_split(alone, "validation")
    assert has_split(alone, "train") and has_split(config, "validation")
    prefixed = PrefixConfig(task=alone, share=0.5)
    assert not has_split(prefixed, "validation") and has_split(prefixed, "test")


def test_a_lone_file_is_cut_and_the_fingerprint_says_so(tmp_path: Path):
    (tmp_path / "all.txt").write_bytes(b"x" * 1000)
    config = FolderConfig(path=str(tmp_path), length=32)
    sizes = [config.build(split).corpus.text.size for split in SPLITS]
    assert sizes == [900, 50, 50]
    assert fingerprint(config)["cut"] == "bytes"
    whole = FolderConfig(path=str(tmp_path), length=32, validation=0.0, test=0.0)
    assert whole.build("train").corpus.text.size == 1000
    assert "cut" not in fingerprint(whole)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": ""}, "path is empty; set it to a folder"),
        ({"length": 1}, "length is 1; it must be 2 or more"),
        ({"length": 10**20}, "length is 1.*; give 1000000000 or less"),
        ({"max_documents": 0}, "max_documents is 0; give 1 or more"),
        ({"max_bytes": 0}, "max_bytes is 0; give 1 or more, or None"),
        ({"validation": 0.5, "test": 0.5}, "give shares from 0 on"),
        ({"test": -0.1}, "give shares from 0 on"),
        ({"pattern": "/etc/*"}, "'/etc/\\*', which leads out of the folder; set path"),
        ({"pattern": "../*.json"}, "which leads out of the folder; set path to the"),
        ({"pattern": ""}, "pattern is ''; set it to a glob pattern, such as"),
        ({"validation": float("nan")}, "validation is nan and test 0.05; give"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict, message: str):
    with pytest.raises(ValueError, match=message):
        FolderConfig(**{"path": "x", **fields})
