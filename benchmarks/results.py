"""Measurements of a run, and numbers derived from them."""

import statistics
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

from .cases import Clock, Growth, Row, Turn
from .measures import Errors, Ratio, growth_exponent, paired_ratio

Reached = Literal["aim", "target", "below"]


@dataclass(kw_only=True)
class Measured:
    """Measurements of one case on one side: seconds per pass, one number per round.

    Attributes:
        cpu: processor time, on one core if that is the case's clock.
        wall: wall time in the same rounds.
        all_cores: wall time in rounds on all cores.
        peak_bytes: memory that one pass adds; for a whole model, the peak of its
            process.
        first_seconds: seconds until the end of the first pass, compilation included.
    """

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    all_cores: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    first_seconds: float | None = None

    def seconds(self, clock: Clock) -> list[float]:
        return self.cpu if clock == "cpu" else self.wall


def median(seconds: Sequence[float]) -> float | None:
    """Return the median of the rounds, or None without rounds."""
    return statistics.median(seconds) if seconds else None


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """Results of one row.

    Attributes:
        errors: differences from the peer; None: the peer computes something else.
        failure: message of a side that failed; None: neither did.
    """

    row: Row
    ours: Measured
    theirs: Measured
    errors: Errors | None = None
    failure: str | None = None

    @property
    def ratio(self) -> Ratio | None:
        """Number of times that ours is faster, by the case's clock."""
        clock = self.row.case.clock
        return _ratio(self.theirs.seconds(clock), self.ours.seconds(clock))

    @property
    def wall_ratio(self) -> Ratio | None:
        """Number of times that ours is faster on all cores, in wall time."""
        return _ratio(self.theirs.all_cores, self.ours.all_cores)

    @property
    def reached(self) -> Reached | None:
        """Goal that the median ratio reaches; None: no goal, or no ratio."""
        row, ratio = self.row, self.ratio
        if ratio is None or row.target is None:
            return None
        if row.aim is not None and ratio.median >= row.aim:
            return "aim"
        return "target" if ratio.median >= row.target else "below"


def _ratio(theirs: list[float], ours: list[float]) -> Ratio | None:
    return paired_ratio(theirs, ours) if theirs and ours else None


@dataclass(frozen=True, kw_only=True)
class GrowthResult:
    """Growth of one operation's time and memory with the length."""

    growth: Growth
    measured: tuple[Measured, ...]

    @property
    def time_exponent(self) -> float | None:
        found = [median(each.cpu) for each in self.measured]
        return _exponent(self.growth.times, found)

    @property
    def memory_exponent(self) -> float | None:
        return _exponent(self.growth.times, [m.peak_bytes for m in self.measured])

    @property
    def reached(self) -> Reached | None:
        """Result of comparing the time's growth with its target."""
        exponent = self.time_exponent
        if exponent is None:
            return None
        return "target" if exponent <= self.growth.target else "below"


def _exponent(times: Sequence[int], measured: Sequence[float | None]) -> float | None:
    known = [each for each in measured if each]
    return growth_exponent(times, known) if len(known) == len(times) else None


@dataclass(frozen=True, kw_only=True)
class Results:
    """Results of a whole run.

    Attributes:
        versions: versions of the libraries, by side.
        load_before: mean number of runnable processes in the minute before the run;
            None: the system does not report it.
    """

    rows: tuple[RowResult, ...]
    growth: tuple[GrowthResult, ...] = ()
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    wall_cores: int = 1
    load_before: float | None = None


@dataclass(kw_only=True)
class Findings:
    """Results so far, by turn."""

    measured: dict[Turn, Measured] = field(default_factory=dict)
    errors: dict[Row, Errors] = field(default_factory=dict)
    failures: dict[Turn, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def of(self, turn: Turn) -> Measured:
        return self.measured.setdefault(turn, Measured())

    def of_row(self, row: Row) -> RowResult:
        """Return the results of a row so far."""
        failures = [self.failures.get(turn) for turn in (row.theirs, row.ours)]
        return RowResult(
            row=row,
            ours=deepcopy(self.of(row.ours)),
            theirs=deepcopy(self.of(row.theirs)),
            errors=self.errors.get(row),
            failure=next((failure for failure in failures if failure), None),
        )

    def of_growth(self, growth: Growth) -> GrowthResult:
        measured = tuple(deepcopy(self.of(turn)) for turn in growth.turns)
        return GrowthResult(growth=growth, measured=measured)
