"""Tables of what reading twice gains: accuracy by number of readings."""

from collections.abc import Sequence
from dataclasses import dataclass

from .number_text import byte_text
from .page import Section
from .report import legend, range_cell, series_numbers
from .summary import (
    Cell,
    ResultRow,
    Setting,
    at_rates,
    is_later,
    setting_key,
    setting_text,
    summarise,
    trained_rows,
)
from .table import LAYER, Name, Strip, Table, column

_LEAD = (
    "Accuracy of each layer by how often it reads a sequence before it answers, at "
    "its own best learning rate. The gain is the difference of the means. A model "
    "trained on reading once is the same model in every row."
)
# Fields of a setting that reading again changes.
_READING = ("length", "repeat_context")


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Layer on one setting, read once and read several times."""

    once: Cell
    more: Cell

    @property
    def times(self) -> int:
        """Return the number of readings of `more`."""
        return self.more.of("repeat_context")

    @property
    def gain(self) -> float:
        """Return the mean accuracy of `more` minus that of `once`."""
        return self.more.mean - self.once.mean

    @property
    def title(self) -> str:
        """Return the setting and readings that the gains of a table share, in words."""
        again = "trained on reading once, " if self.once.of("split") else ""
        chance = self.once.chance
        setting = setting_text(dict(_unread(self.once)))
        return (
            f"{again}read {self.times} times, {f'{setting}, ' if setting else ''}"
            f"width {self.once.of('width')}"
            f"{'' if chance is None else f', chance {chance:.3f}'}"
        )


def gains(rows: Sequence[ResultRow]) -> list[Gain]:
    """Return a gain for every layer that read the same setting once and several times.

    Models trained on reading several times, and models trained on reading once, form
    separate gains.

    Args:
        rows: as in results.json.
    """
    trained = trained_rows(rows)
    cells = summarise(trained)
    if later := [row for row in rows if is_later(row)]:
        once = [row for row in trained if "repeat_context" not in row["setting"]]
        names = {name for row in once for name in row["setting"]} - {*_READING}
        cells += at_rates(summarise(later), once, sorted(names)) if once else []
    places: dict[tuple[str, Setting], dict[int, Cell]] = {}
    for cell in cells:
        place = places.setdefault((cell.layer, _unread(cell)), {})
        place[cell.of("repeat_context") or 1] = cell
    return [
        Gain(once=found[1], more=found[times])
        for found in places.values()
        for times in sorted(found)
        if times > 1 and 1 in found
    ]


def gain_tables(rows: Sequence[ResultRow]) -> list[Table]:
    """Return one table per setting and number of readings."""
    found = gains(rows)
    numbers = series_numbers([gain.once for gain in found])
    tables: dict[str, list[Gain]] = {}
    for gain in found:
        tables.setdefault(gain.title, []).append(gain)
    return [_table(title, group, numbers) for title, group in tables.items()]


def gain_sections(rows: Sequence[ResultRow]) -> list[Section]:
    """Return the tables as a section; no section if nothing was read more than once."""
    tables = gain_tables(rows)
    if not tables:
        return []
    numbers = series_numbers([gain.once for gain in gains(rows)])
    return [Section(title="Read twice", lead=_LEAD, parts=[legend(numbers), *tables])]


def _table(title: str, group: Sequence[Gain], numbers: dict[str, int]) -> Table:
    times = group[0].times
    spread = (column("lowest to highest", "range"), column("seeds, 0 to 1", None))
    columns = (
        LAYER,
        column("state"),
        column("read once", "read\nonce"),
        *spread,
        column(f"read {times} times", f"read\n{times} times"),
        *spread,
        column("gain"),
    )
    rows = [
        (
            Name(gain.once.layer, numbers[gain.once.layer]),
            byte_text(gain.once.state_bytes),
            *(
                each
                for cell in (gain.once, gain.more)
                for each in (
                    f"{cell.mean:.3f}",
                    range_cell(cell),
                    Strip(cell.values, cell.chance, numbers[cell.layer]),
                )
            ),
            f"{gain.gain:+.3f}",
        )
        for gain in group
    ]
    return Table(title=title, columns=columns, rows=rows)


def _unread(cell: Cell) -> Setting:
    setting = dict(cell.setting)
    return setting_key({n: v for n, v in setting.items() if n not in _READING})
