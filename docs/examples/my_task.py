"""Example of your own task: follow links that are given in random order.

memzoo train docs/examples/my_task.py
memzoo recall --task docs/examples/my_task.py:MyTaskConfig --task.hops 1
memzoo recall --task docs/examples/my_task.py:MyRecall --hops 1,2,3
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from memzoo.configs.presets.mqar import comparable_layer, mqar_experiment
from memzoo.data import counter
from memzoo.data.batch import Batch
from memzoo.data.task import ENDLESS, SPLITS, with_task_fields
from memzoo.errors import InputError
from memzoo.evals.recall_task import Reading, RecallTask, Training
from memzoo.evals.tuple_flags import Integers, check_tuple


@dataclass(frozen=True, kw_only=True)
class MyTaskConfig:
    """Task to follow links: given links and a node, name the node `hops` links further.

    With 4 nodes on a ring 5 -> 2 -> 8 -> 3 -> 5 and 2 hops (`.`: no target):

        tokens    8  3  5  2  3  5  2  8  5
        targets   .  .  .  .  .  .  .  .  8
    """

    task_name: ClassVar[str] = "links"
    data_version: ClassVar[int] = 1

    nodes: int = 8
    """Number of nodes in the ring, and of links."""
    hops: int = 2
    """Number of links to follow."""
    vocab_size: int = 64
    """Number of tokens; the nodes are drawn from them."""
    seed: int = 0
    """Seed of every draw. No row is repeated."""

    def __post_init__(self) -> None:
        if not 1 <= self.hops < self.nodes <= self.vocab_size:
            raise InputError(
                f"hops is {self.hops}, nodes {self.nodes} and vocab_size "
                f"{self.vocab_size}; give 1 <= hops < nodes <= vocab_size"
            )

    @property
    def length(self) -> int:
        """Tokens in a row."""
        return 2 * self.nodes + 1

    @property
    def context_length(self) -> int:
        """Tokens before the question, which layers may read as a prefix."""
        return 2 * self.nodes

    @property
    def chance(self) -> float:
        """Accuracy of naming any node of the row."""
        return 1 / self.nodes

    @property
    def kinds(self) -> tuple[dict[str, float], ...]:
        """Settings of the rows; here all rows have the same one."""
        return ({"hops": self.hops, "length": self.length},)

    def build(self, split) -> "MyTask":
        """Return one split of the task."""
        return MyTask(self, split)

    def content(self) -> dict[str, int | str]:
        """Describe the data read from outside; this task reads none."""
        return {}


class MyTask:
    """Split of the task; row `i` is the same in any batch, order or process."""

    def __init__(self, config: MyTaskConfig, split) -> None:
        self.config = config
        self._split = SPLITS.index(split)

    def __len__(self) -> int:
        return ENDLESS

    def examples(self, indices) -> Batch:
        """Return the rows with these numbers, with one target each."""
        config, rows = self.config, len(indices)
        ring, order, start = (
            counter.key(config.seed, self._split, stream, index=indices)
            for stream in range(3)
        )
        nodes = counter.distinct(ring, config.nodes, config.vocab_size)
        links = np.stack([nodes, np.roll(nodes, -1, axis=1)], axis=2)
        shuffle = counter.distinct(order, config.nodes, config.nodes)
        links = np.take_along_axis(links, shuffle[:, :, None], axis=1)
        first = counter.bounded(counter.bits(start, 1), config.nodes)
        asked = np.take_along_axis(nodes, first, axis=1)
        answer = np.take_along_axis(nodes, (first + config.hops) % config.nodes, axis=1)
        tokens = np.concatenate([links.reshape(rows, -1), asked], axis=1)
        return Batch(
            tokens=tokens.astype(np.int32),
            targets=answer.astype(np.int32),
            target_positions=np.full((rows, 1), config.length - 1, np.int32),
            target_weights=np.ones((rows, 1), np.float32),
            context=np.full(rows, config.context_length, np.int32),
        )

    def setting(self, index: int) -> dict[str, float]:
        """Return the setting of row `index`."""
        return self.config.kinds[0]


@dataclass(frozen=True, kw_only=True)
class MyRecall(RecallTask):
    """Comparison with one training per number of hops, also tested on other rings."""

    title: ClassVar[str] = "Links, compared"
    axes: ClassVar[tuple[str, ...]] = ("hops",)

    hops: Integers = (1, 2)
    """Numbers of links to follow; one model is trained for each."""
    nodes: int = 8
    """Nodes of the rings in training."""
    read_nodes: Integers = (16,)
    """Nodes of the rings to read after training."""

    def __post_init__(self) -> None:
        for name in ("hops", "read_nodes"):
            check_tuple(name, getattr(self, name))

    def trainings(self):
        """Return one training for each number of hops."""
        return [
            Training(
                task=MyTaskConfig(hops=hops, nodes=self.nodes),
                folder=f"hops-{hops}",
                label=f"{hops} hops",
            )
            for hops in self.hops
        ]

    def readings(self, experiment, config):
        """Return rings of other sizes than in training."""
        return [
            Reading(with_task_fields(experiment.task, nodes=nodes), examples=256)
            for nodes in self.read_nodes
        ]


config = replace(
    mqar_experiment(
        comparable_layer("delta_net", 64),
        "my-task",
        task=MyTaskConfig(hops=1),
    ),
    steps=500,
)
