"""Files from which a sweep continues: its config, and the outcome of each training.

Both are records with a checksum. A damaged outcome is ignored: its training is
repeated, and a line reports it. A damaged sweep.json is rewritten, and every outcome is
then compared with this command's config.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memzoo.errors import CheckpointError, MemzooError

from ..train.checkpoint import Report, read_manifest, saved_steps
from ..train.lock import locked
from ..train.manifest import DamagedError
from ..train.metrics import EVALUATIONS, read_lines
from ..train.runs import CHECKPOINTS
from ..train.sealed import read_json, unseal, write_sealed
from ..train.writing import explained
from .recall_config import Job, RecallConfig
from .report import versions
from .results import ResultRow, check_rows

SWEEP = "sweep.json"
# Outcome of one training, in its run's folder; `memzoo eval` writes results.json there.
OUTCOME = "outcome.json"
# Folder for damaged files that cannot stay in place.
DAMAGED = "damaged"
SCHEMA = 3


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of one training.

    Attributes:
        rows: as in results.json.
        evaluations: lines of the run's evaluations.jsonl.
    """

    rows: list[ResultRow]
    evaluations: list[dict[str, Any]]


class SweepFiles:
    """Files of one sweep.

    Args:
        config: the sweep.
        report: called with a line for every damaged file.
    """

    def __init__(self, config: RecallConfig, report: Report) -> None:
        self.directory = config.directory
        self._config, self._report = config, report
        # Pass the config through JSON, to compare it with what is read back.
        self._meaning = json.loads(json.dumps(config.meaning(), default=str))
        # Whether sweep.json was read and is of this sweep.
        self._begun = False

    def missing(self) -> list[Job]:
        """Return the trainings that are not done; nothing is written.

        Raises:
            MemzooError: the folder holds a different sweep; names the first field that
                differs, with both values.
            ReadError: a file cannot be read.
        """
        self._check_sweep()
        missing = []
        for job in self._config.jobs():
            try:
                self.outcome(job.place)
            except FileNotFoundError:
                missing.append(job)
            except DamagedError as error:
                missing.append(job)
                self._report(
                    f"{self.directory / job.place / OUTCOME} is damaged: {error}; "
                    f"{job.label} is trained again, from its newest checkpoint"
                )
        return missing

    def begin(self, command: Sequence[str], missing: Sequence[Job]) -> None:
        """Write the sweep's record, and move aside what cannot be continued.

        A training restarts from step 0 if evaluations before its newest checkpoint are
        lost, because continuing would not repeat them.

        Raises:
            MemzooError: another process is running one of the trainings.
            SaveError: a file cannot be written.
        """
        with explained(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        if not self._begun:
            self._set_aside(SWEEP)
            record = {"schema": SCHEMA, "command": list(command)}
            record |= {"config": self._meaning, "versions": versions()}
            write_sealed(self.directory / SWEEP, record)
        for job in missing:
            lost = self._lost_evaluations(job)
            if not lost:
                continue
            with locked(self.directory / job.place):
                place = self._set_aside(job.place)
            steps = ", ".join(map(str, lost[:5])) + (", ..." if len(lost) > 5 else "")
            self._report(
                f"{self.directory / job.place / EVALUATIONS} has lost the evaluations "
                f"of steps {steps}; {job.label} is trained again from step 0, its old "
                f"files are in {place}"
            )

    def outcome(self, place: Path) -> Outcome:
        """Return the outcome of the training in this folder of the sweep.

        Raises:
            FileNotFoundError: the training has not ended.
            DamagedError: the record is damaged.
            MemzooError: the record is of a different sweep.
            ReadError: the record cannot be read.
        """
        record = unseal(read_json(self.directory / place / OUTCOME))
        if record.get("schema") != SCHEMA:
            raise DamagedError(f"it has schema {record.get('schema')!r}, not {SCHEMA}")
        if record.get("place") != place.as_posix():
            raise DamagedError(f"it belongs to {record.get('place')}")
        self._check(record["config"], f"{self.directory / place} is of a sweep")
        check_rows(record["rows"])
        return Outcome(rows=record["rows"], evaluations=record["evaluations"])

    def save_outcome(
        self,
        place: Path,
        rows: Sequence[ResultRow],
        evaluations: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write the outcome of the training in this folder of the sweep.

        Raises:
            SaveError: the outcome cannot be written.
        """
        path = self.directory / place / OUTCOME
        with explained(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "schema": SCHEMA,
            "place": place.as_posix(),
            "config": self._meaning,
            "rows": list(rows),
            "evaluations": list(evaluations),
        }
        write_sealed(path, record)

    def outcomes(self) -> dict[Path, Outcome]:
        """Return all outcomes in the folder: this sweep's first, in order.

        Outcomes of other layers or settings are skipped, with a line, if they are
        damaged, unreadable or of a different sweep.

        Raises:
            CheckpointError: an outcome of this sweep is damaged or missing.
        """
        self._check_sweep()
        found: dict[Path, Outcome] = {}
        wanted = [job.place for job in self._config.jobs()]
        for place in wanted:
            try:
                found[place] = self.outcome(place)
            except (DamagedError, FileNotFoundError) as error:
                raise CheckpointError(
                    f"{self.directory / place / OUTCOME} is damaged or missing ({error}"
                    "); start the command again to train what is missing"
                ) from error
        paths = sorted(self.directory.glob(f"*/*/*/{OUTCOME}"))
        for place in (path.parent.relative_to(self.directory) for path in paths):
            if place in found:
                continue
            try:
                found[place] = self.outcome(place)
            except (DamagedError, MemzooError) as error:
                self._report(f"{self.directory / place / OUTCOME} is left out: {error}")
        return found

    def _check_sweep(self) -> None:
        """Read sweep.json; raise MemzooError if it is of a different sweep."""
        path = self.directory / SWEEP
        try:
            record = unseal(read_json(path))
            saved, schema = record.get("config"), record.get("schema")
            if not isinstance(saved, dict):
                raise DamagedError("it has no config")
        except FileNotFoundError:
            return
        except DamagedError as error:
            self._report(
                f"{path} is damaged: {error}; it is moved to {DAMAGED} and rewritten, "
                "and every training is compared with this command"
            )
            return
        if schema != SCHEMA:
            raise MemzooError(
                f"{path} has schema {schema!r}, and this memzoo writes {SCHEMA}; give "
                "another name, or use the version of memzoo that wrote it"
            )
        self._check(saved, f"{self.directory} holds a sweep")
        self._begun = True

    def _check(self, saved: Mapping[str, Any], said: str) -> None:
        """Raise MemzooError if a field differs from this sweep's."""
        for name in dict.fromkeys([*self._meaning, *saved]):
            old, new = (fields.get(name) for fields in (saved, self._meaning))
            if old != new:
                raise MemzooError(
                    f"{said} with {name} = {old!r}, and this one has {new!r}; give "
                    "the old value or another name"
                )

    def _lost_evaluations(self, job: Job) -> list[int]:
        """Return the steps up to the newest checkpoint whose evaluations are lost."""
        directory = self.directory / job.place
        newest = 0
        # Read checkpoints first: a step's evaluation is written before its checkpoint.
        for step in reversed(saved_steps(directory / CHECKPOINTS)):
            try:
                read_manifest(directory / CHECKPOINTS, step)
            except DamagedError:
                continue
            newest = step
            break
        there = {line["step"] for line in read_lines(directory / EVALUATIONS)}
        every = self._config.evaluate_every
        return [step for step in range(every, newest + 1, every) if step not in there]

    def _set_aside(self, place: str | Path) -> Path | None:
        """Move a file or folder of the sweep to the damaged ones, if it exists."""
        source, target = self.directory / place, self.directory / DAMAGED
        if not source.exists():
            return None
        with explained(target):
            target.mkdir(exist_ok=True)
            name = "-".join(Path(place).parts)
            moved = target / f"{name}-{len(list(target.glob(f'{name}-*')))}"
            shutil.move(source, moved)
        return moved
