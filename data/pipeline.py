"""Pipeline that makes a task's rows into global batches, through Grain."""

import dataclasses
import itertools
import json
import weakref
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from absl import flags
from jaxtyping import Int

from memzoo.errors import InputError

from .batch import Batch
from .task import ENDLESS, Config, DataError, Split, Task, fingerprint

_ABSENT = "(absent)"


class Pipeline(Iterator[Batch]):
    """Iterator over the global batches of one split, or over this process's rows of
    them.

    Batch number `i` holds the rows `i * batch_size` to `(i + 1) * batch_size` of the
    split. Process `p` of `n` makes only the p-th of `n` equal slices of them. The state
    is the number of global batches taken and the fingerprint of the data; it does not
    depend on the number of processes or workers.

    Args:
        config: the task.
        split: split to read.
        batch_size: rows of a global batch.
        num_rows: number of rows to read, once each; rows that pad the last batch have
            target weight 0. `None`: no end, epoch after epoch.
        process_index: number of this process.
        process_count: processes that share the batches.
        num_workers: Grain worker processes; 0 makes the batches in this process. A
            program that uses workers needs the `if __name__ == "__main__"` guard.
        prefetch: batches that a thread (or each worker) prepares ahead; 0 for none.

    Attributes:
        num_batches: global batches from beginning to end; `None`: no end.
        fingerprint: everything that determines the bytes of the batches; a flat JSON
            object.

    Raises:
        InputError: the batch cannot be divided evenly, or a number is out of range.
        DataError: the data is missing.
    """

    def __init__(
        self,
        config: Config,
        split: Split,
        batch_size: int,
        *,
        num_rows: int | None = None,
        process_index: int = 0,
        process_count: int = 1,
        num_workers: int = 0,
        prefetch: int = 2,
    ) -> None:
        _check(batch_size, process_index, process_count, num_workers, prefetch)
        if num_rows is not None and num_rows < 1:
            raise InputError(
                f"num_rows is {num_rows}; give 1 or more, or None for no end"
            )
        maker = _BatchMaker(
            task=_built(config, split),
            batch_size=batch_size,
            num_rows=num_rows,
            first=process_index * batch_size // process_count,
            count=batch_size // process_count,
        )
        self.fingerprint: dict[str, Any] = fingerprint(config) | {
            "split": split,
            "batch_size": batch_size,
        }
        self.num_batches = None if num_rows is None else -(-num_rows // batch_size)
        self._end = self.num_batches or ENDLESS // batch_size
        self._dataset = grain.MapDataset.range(self._end).map(maker)
        self._num_workers = num_workers
        self._prefetch = prefetch
        self._position = 0
        self._running: list[grain.DatasetIterator] = []  # one, or none
        # Also runs at exit, where Grain's own destructor would run too late and
        # complain.
        weakref.finalize(self, _end, self._running)

    def __next__(self) -> Batch:
        if self._position >= self._end:
            raise StopIteration
        if not self._running:
            self._running.append(self._start())
        batch = next(self._running[0])
        if self._num_workers:
            # Copy out of the memory shared with the worker, which is freed with the
            # worker.
            batch = Batch._make(None if a is None else np.array(a) for a in batch)
        self._position += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """Return the position after the last batch taken, as a small JSON object."""
        return {"position": self._position, "fingerprint": dict(self.fingerprint)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue after the last batch that was taken when `state` was saved.

        Raises:
            DataError: `state` belongs to other data; names the first differing field.
        """
        refuse_changed_data(state["fingerprint"], self.fingerprint)
        self.close()
        self._position = int(state["position"])

    def close(self) -> None:
        """End worker processes and threads; the next batch starts new ones."""
        _end(self._running)

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(self) -> grain.DatasetIterator:
        """Return a Grain iterator from the present position."""
        dataset = self._dataset[self._position :]
        if self._num_workers:
            if not flags.FLAGS.is_parsed():  # Grain's workers read absl's flags
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(
                num_workers=self._num_workers,
                per_worker_buffer_size=max(1, self._prefetch),
            )
            # A thread inside the worker would only hold more batches.
            reading = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
            return iter(dataset.to_iter_dataset(reading).mp_prefetch(options))
        reading = grain.ReadOptions(
            num_threads=min(1, self._prefetch), prefetch_buffer_size=self._prefetch
        )
        return iter(dataset.to_iter_dataset(reading))


def _built(config: Config, split: Split) -> Task:
    """Build one split of the task, and check that it has the required methods.

    Raises:
        DataError: a user's task lacks a method, or the data is missing.
    """
    task = config.build(split)
    for name in ("__len__", "examples", "setting"):
        if not hasattr(task, name):
            raise DataError(
                f"{type(config).__name__}.build gives a {type(task).__name__}, which "
                f"lacks {name}; add the method, as in memzoo.data.task.Task"
            )
    return task


def refuse_changed_data(saved: dict[str, Any], present: dict[str, Any]) -> None:
    """Check that the two fingerprints are equal.

    Raises:
        DataError: they differ; names the first field that differs, with both values.
    """
    present = json.loads(json.dumps(present))
    for name in itertools.chain(present, saved):
        before, now = saved.get(name, _ABSENT), present.get(name, _ABSENT)
        # Ignore a field that the run did not know and that is None now.
        younger = before is _ABSENT and now is None
        if before != now and not younger:
            raise DataError(
                f"the data has changed: {name} was {before} and is {now}; use the "
                "original data, or start a new run"
            )


def _end(running: list[grain.DatasetIterator]) -> None:
    """Close all iterators and leave none to a later destructor."""
    while running:
        running.pop().close()


@dataclasses.dataclass(frozen=True)
class _BatchMaker:
    """Callable from a global batch's number to this process's rows of it."""

    task: Task
    batch_size: int
    num_rows: int | None
    first: int
    count: int

    def __call__(self, number: int | Int[np.ndarray, ""]) -> Batch:
        start = int(number) * self.batch_size + self.first
        indices = np.arange(start, start + self.count, dtype=np.int64)
        if self.num_rows is None or indices[-1] < self.num_rows:
            return self.task.examples(indices)
        spare = indices >= self.num_rows
        batch = self.task.examples(np.minimum(indices, self.num_rows - 1))
        weights = np.where(spare[:, None], np.float32(0), batch.target_weights)
        return batch._replace(target_weights=weights)


def _check(
    batch_size: int,
    process_index: int,
    process_count: int,
    num_workers: int,
    prefetch: int,
) -> None:
    """Check that the numbers fit together."""
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; give 1 or more")
    if not 0 <= process_index < process_count:
        raise InputError(
            f"process_index is {process_index}; with process_count {process_count} "
            f"give a number in [0, {process_count - 1}]"
        )
    if batch_size % process_count:
        raise InputError(
            f"batch_size is {batch_size}; give a multiple of the number of "
            f"processes, {process_count}"
        )
    if num_workers < 0 or prefetch < 0:
        raise InputError(
            f"num_workers is {num_workers} and prefetch {prefetch}; "
            "give 0 or more for both"
        )
