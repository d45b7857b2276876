"""One evaluation call for every task."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import memzoo
from memzoo.data.mqar import Mqar, MqarConfig
from memzoo.data.task import DataError
from memzoo.data.text import TextConfig
from memzoo.errors import NonFiniteError
from memzoo.evals.evaluate import Evaluation, check_targets, evaluate
from memzoo.evals.score import score

MIXED = MqarConfig(vocab_size=64, length=16, num_pairs=(2, 4))


def test_recall_by_setting_adds_up_to_the_whole(bigram):
    model = bigram(64)
    result = evaluate(model, MIXED, examples=10, batch_size=4)
    scores = score(model, [MIXED.build("validation").examples(np.arange(10))])
    assert result.loss == pytest.approx(scores.mean(scores.nats))
    parts = [result.value("loss", num_pairs=n) for n in (2, 4)]
    assert result.loss == pytest.approx((2 * parts[0] + 4 * parts[1]) / 6)
    assert {row["setting"]["num_pairs"] for row in result.rows} == {2, 4}


def test_shuffled_training_rows_count_under_their_own_setting(bigram):
    config = MqarConfig(vocab_size=64, length=32, num_pairs=(1, 8), num_examples=8)
    result = evaluate(bigram(64), config, split="train", examples=8, batch_size=4)
    counts = {
        (row["setting"]["num_pairs"], row["metric"]): row["count"]
        for row in result.rows
    }
    for pairs in (1, 8):
        assert counts[pairs, "accuracy"] == 4 * pairs
        assert counts[pairs, "sequence_accuracy"] == 4


def test_rows_that_fill_up_the_last_batch_do_not_count(bigram):
    model = bigram(64)
    whole = evaluate(model, MIXED, examples=7, batch_size=7)
    parts = evaluate(model, MIXED, examples=7, batch_size=4)
    assert parts.loss == pytest.approx(whole.loss)
    counts = [row["count"] for row in parts.rows if row["metric"] == "accuracy"]
    assert counts == [4 * 2, 3 * 4]


def test_no_more_than_an_epoch_is_read(bigram):
    config = MqarConfig(vocab_size=64, length=16, num_pairs=2, num_examples=5)
    result = evaluate(bigram(64), config, split="train", examples=99, batch_size=64)
    assert {row["count"] for row in result.rows} == {5, 10}


def test_the_split_decides_the_rows(bigram):
    model = bigram(64)
    losses = {
        split: evaluate(model, MIXED, split=split, examples=8, batch_size=4).loss
        for split in ("train", "validation", "test")
    }
    assert len(set(losses.values())) == 3


def test_equal_parameters_give_equal_numbers(bigram):
    first = evaluate(bigram(64), MIXED, examples=8, batch_size=4)
    second = evaluate(bigram(64), MIXED, examples=8, batch_size=4)
    assert first == second


def test_a_table_that_knows_the_answer_is_right(bigram):
    config = MqarConfig(vocab_size=64, length=16, num_pairs=2)
    batch = config.build("validation").examples(np.arange(1))
    table = np.zeros((64, 64), np.float32)
    for position, target in zip(
        batch.target_positions[0], batch.targets[0], strict=True
    ):
        table[batch.tokens[0, position], target] = 50.0
    result = evaluate(bigram(table), config, examples=1, batch_size=8)
    assert result.accuracy == 1.0
    assert result.value("sequence_accuracy") == 1.0
    assert result.loss < 1e-6


def test_text_is_measured_in_bits_per_byte(bigram):
    config = TextConfig(length=32, max_bytes=200_000)
    rows = evaluate(bigram(config.vocab_size), config, examples=4, batch_size=2).rows
    contexts = [row["setting"].get("context_to") for row in rows]
    assert contexts == [None, None, 8, 8, 16, 16, 32, 32]
    whole = {row["metric"]: row["value"] for row in rows[:2]}
    assert 8 < whole["bits_per_byte"] < 10
    assert whole["accuracy"] < 0.05


def test_a_row_that_is_not_there_is_an_error(bigram):
    result = evaluate(bigram(64), MIXED, examples=8, batch_size=4)
    with pytest.raises(KeyError, match="0 rows for accuracy"):
        result.value("accuracy", num_pairs=3)
    with pytest.raises(KeyError, match="2 rows for accuracy"):
        result.value("accuracy")


def test_no_examples_are_refused(bigram):
    with pytest.raises(ValueError, match="examples is 0; give a number above 0"):
        evaluate(bigram(64), MIXED, examples=0, batch_size=4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_model_without_finite_numbers_is_refused(bigram, bad):
    table = np.zeros((64, 64), np.float32)
    # A value that is asked for in few rows, and that no other token predicts.
    table[:, 40] = bad
    with pytest.raises(NonFiniteError, match="not finite: the model has diverged"):
        evaluate(bigram(table), MIXED, examples=16, batch_size=8)


@pytest.mark.parametrize(
    "numbers",
    [
        {"accuracy": np.nan},
        {"loss": np.inf},
        {"rows": [{"setting": {}, "metric": "loss", "value": np.nan, "count": 1}]},
    ],
)
def test_every_number_of_an_evaluation_is_finite(numbers):
    fine = {"accuracy": 0.5, "loss": 1.0, "rows": []}
    assert Evaluation(**fine).loss == 1.0
    with pytest.raises(NonFiniteError) as stop:
        Evaluation(**fine | numbers)
    assert stop.value.exit_code == 3


@dataclass(frozen=True, kw_only=True)
class Quiet(MqarConfig):
    """Rows before number `first` have no targets."""

    first: int = 0

    def build(self, split):
        return QuietRows(self, split)


class QuietRows(Mqar):
    def examples(self, indices):
        batch = super().examples(indices)
        asked = np.float32(indices >= self.config.first)[:, None]
        return batch._replace(target_weights=batch.target_weights * asked)


def test_rows_that_ask_for_nothing_are_no_diverged_model(bigram):
    config = Quiet(vocab_size=64, length=16, num_pairs=2, first=6)
    message = "first 6 rows of the validation split have no targets; read more rows"
    with pytest.raises(DataError, match=message):
        evaluate(bigram(64), config, examples=6, batch_size=4)
    with pytest.raises(DataError, match=message):
        check_targets(config, split="validation", examples=6, batch_size=4)
    check_targets(config, split="validation", examples=7, batch_size=4)
    assert evaluate(bigram(64), config, examples=7, batch_size=4).loss > 0


def test_training_imports_measures_alone():
    """Measures import nothing of training, so that neither needs the other."""
    root = Path(memzoo.__file__).parent
    measures = {"evaluate", "perplexity", "recall", "score"}
    for path in sorted((root / "train").glob("*.py")):
        found = re.findall(
            r"^from \.\.evals[. ](?:import )?(\w+)", path.read_text(), re.M
        )
        assert set(found) <= measures, path.name
    for name in measures:
        text = (root / "evals" / f"{name}.py").read_text()
        assert "..train" not in text
        assert set(re.findall(r"^from \.(\w+) import", text, re.M)) <= measures
