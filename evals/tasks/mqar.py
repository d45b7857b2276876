"""Multi-query associative recall in `memzoo recall`."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from memzoo.errors import InputError

from ...configs.experiment import ExperimentConfig
from ...data.mqar import MqarConfig
from ...data.repeat import repeat_context
from ..figures import accuracy_by_setting
from ..page import Section, figure
from ..recall_task import (
    Described,
    Measured,
    Probe,
    Reading,
    RecallTask,
    Training,
    layers_finding,
)
from ..routing import has_mixture, routing_rows
from ..routing_report import routing_sections
from ..summary import Cell, hardest, widest
from ..tuple_flags import Integers, check_tuple

if TYPE_CHECKING:
    from ..recall_config import RecallConfig

_ROUTED_EXAMPLES = 128


@dataclass(frozen=True, kw_only=True)
class MqarRecall(RecallTask):
    """Key-value pairs, then their keys; one model is trained per number of pairs."""

    axes: ClassVar[tuple[str, ...]] = ("num_pairs",)
    notes: ClassVar[tuple[str, ...]] = (
        "micro-MQAR: the task of Zoology (arXiv 2312.04927) with a smaller vocabulary, "
        "blank filler by default (published: random), shorter sequences, smaller "
        "models and fewer steps than published. Compare layers on this page with each "
        "other, not with numbers from papers.",
        "Every layer is in the same model: same width and depth, the same short "
        "convolution on queries, keys and values, no MLP.",
        "Accuracy is the share of queries answered correctly, on sequences that were "
        "not trained on. Training ends early when it reaches the goal on them.",
        "Chance is 1 / pairs: guessing any value of the sequence.",
        "State counts the arrays carried from token to token, for one sequence and the "
        "whole model, including the tails of convolutions. The state of attention "
        "grows with the length; the page gives it at the length of the task.",
    )

    num_pairs: Integers = (4, 8, 16)
    """Key-value pairs in a sequence; one model is trained per number."""
    num_queries: int | None = None
    """Pairs that a sequence asks for; None: all of them."""
    mixture: bool = False
    """Train one model on all numbers of pairs instead."""
    length: int = 64
    """Tokens in a sequence."""
    tokens_per_pair: int | None = None
    """Tokens per pair, instead of a fixed length: 4 or more, or 3 with num_queries."""
    read_again: Integers = ()
    """Times a model trained on reading once reads each sequence after training, as
    published; it is compared with itself reading once."""
    vocab_size: int = 1024
    """Number of tokens."""

    def __post_init__(self) -> None:
        check_tuple("num_pairs", self.num_pairs)
        if self.tokens_per_pair is not None:
            self._check_tokens_per_pair(self.tokens_per_pair)
        said = f"read_again is {self.read_again}"
        if min(self.read_again, default=2) < 2:
            raise InputError(f"{said}; give 2 or more, once is always measured")
        if len(set(self.read_again)) < len(self.read_again):
            raise InputError(f"{said}; it names something twice, drop one")
        # Check the most pairs first: a length long enough for them is enough for all.
        for pairs in sorted(self._trained_on(), key=max, reverse=True):
            self._rows(pairs)

    def _check_tokens_per_pair(self, each: int) -> None:
        said = f"tokens_per_pair is {each}"
        if self.length != type(self).length or self.mixture:
            other = "mixture is True" if self.mixture else f"length is {self.length}"
            raise InputError(f"{said} and {other}; give one of the two")
        least = 4 if self.num_queries is None else 3
        if each < least:
            raise InputError(f"{said}; give {least} or more")

    def _trained_on(self) -> list[tuple[int, ...]]:
        return [self.num_pairs] if self.mixture else [(n,) for n in self.num_pairs]

    def _rows(self, pairs: tuple[int, ...]) -> MqarConfig:
        each = self.tokens_per_pair
        return MqarConfig(
            num_pairs=pairs,
            num_queries=self.num_queries,
            length=self.length if each is None else each * max(pairs),
            vocab_size=self.vocab_size,
        )

    def trainings(self) -> Sequence[Training]:
        """Return one training per number of pairs, or one for all."""
        return [
            Training(
                task=self._rows(pairs),
                folder=f"pairs-{'-'.join(map(str, pairs))}",
                label=f"{', '.join(map(str, pairs))} pairs",
            )
            for pairs in self._trained_on()
        ]

    def readings(
        self, experiment: ExperimentConfig, config: "RecallConfig"
    ) -> Sequence[Reading]:
        """Return the same sequences, read once and as often as `read_again` asks."""
        if self.read_again and config.repeat_context != (1,):
            raise InputError(
                f"read_again is {self.read_again} and repeat_context is "
                f"{config.repeat_context}; leave one of them out"
            )
        question, examples = config.repeat_question, config.evaluation_examples
        return [
            Reading(repeat_context(experiment.task, times, question), examples)
            for times in ((1, *self.read_again) if self.read_again else ())
        ]

    def probes(
        self, experiment: ExperimentConfig, config: "RecallConfig"
    ) -> Sequence[Probe]:
        """Return a probe of where mixtures send their tokens, on plain rows of one
        setting."""
        task, examples = experiment.task, config.evaluation_examples
        if not isinstance(task, MqarConfig) or len(task.kinds) > 1:
            return ()
        if not has_mixture(experiment.model.pattern):
            return ()
        return [
            functools.partial(
                routing_rows,
                task=task,
                examples=min(examples, _ROUTED_EXAMPLES),
                batch_size=config.batch_size,
            )
        ]

    def described(self, config: "RecallConfig") -> Described:
        """Return length, pairs and readings in words."""
        each = self.tokens_per_pair
        tokens = f"{self.length} tokens" if each is None else f"{each} tokens a pair"
        sentences = [
            "One model is trained on all numbers of pairs, alternating between them."
            if self.mixture
            else "A model is trained for each number of pairs."
        ]
        if self.read_again:
            sentences.append(
                "After training, the models read them "
                f"{', '.join(map(str, self.read_again))} times too, "
                f"{config.read_again_text}, on test rows."
            )
        return Described(f"sequences of {tokens} with blank filler", sentences)

    def figures(self, cells: Sequence[Cell], numbers: Mapping[str, int]) -> list[str]:
        """Return accuracy against the number of pairs, if there are several numbers."""
        if len({cell.of("num_pairs") for cell in cells}) == 1:
            return []
        drawn = accuracy_by_setting(
            widest(cells),
            numbers,
            "num_pairs",
            name="pairs",
            title="Accuracy against the number of pairs",
            axis="key-value pairs in the sequence",
        )
        caption = "Accuracy against the number of key-value pairs in a sequence."
        return [figure(drawn, "How many pairs fit?", caption)]

    def sections(
        self, measured: Measured, numbers: Mapping[str, int]
    ) -> Sequence[Section]:
        """Return where mixtures send their tokens."""
        return routing_sections(measured.trained, numbers)

    def finding(self, cells: Sequence[Cell]) -> str:
        """Return the result at the most pairs, in a sentence."""
        cell = hardest(cells)[0]
        asked, pairs = cell.of("num_queries"), cell.of("num_pairs")
        of = f"{asked} of {pairs}" if asked else f"{pairs}"
        what = f"Recall of {of} key-value pairs in {cell.of('length')} tokens"
        return layers_finding(what, cells)
