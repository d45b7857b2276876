"""Results as a flat table, for spreadsheets and data frames."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any


def flat_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with one column per field of the settings, in order of
    results.json.

    All rows have all columns. A field that a row's setting lacks is None.
    """
    settings = dict.fromkeys(name for row in rows for name in row["setting"])
    return [
        {
            name: value
            for key, held in row.items()
            for name, value in (
                {each: held.get(each) for each in settings}.items()
                if key == "setting"
                else ((key, held),)
            )
        }
        for row in rows
    ]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as comma-separated values, with a header line."""
    flat = flat_rows(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]) if flat else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()
