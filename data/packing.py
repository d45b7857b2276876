"""Packing of documents into rows; a plan gives any row directly, without earlier
rows.
"""

import bisect
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int64

from memzoo.errors import InputError

from . import counter


class Plan(NamedTuple):
    """One epoch: shuffled documents, joined end to end and cut into rows.

    Attributes:
        documents: numbers of the documents, in the order of the epoch.
        starts: offset of each document in the epoch's tokens, then the number of
            tokens.
        row_starts: offset of each row in the epoch's tokens, then the number of tokens.
        rows: order in which the rows are returned, so that the rows of a long document
            are spread out.
        row_length: tokens per row.
    """

    documents: Int64[np.ndarray, "d"]
    starts: Int64[np.ndarray, "edges"]
    row_starts: Int64[np.ndarray, "cuts"]
    rows: Int64[np.ndarray, "r"]
    row_length: int


class Pieces(NamedTuple):
    """Content of every position of some rows.

    Attributes:
        document: number of the document; 0 at an empty position.
        offset: index of the token in its document; 0 at an empty position.
        reset: whether a document, or the rest of one cut by a row's end, begins here.
        valid: whether the position holds a token.
        has_next: whether the document has another token after this one.
    """

    document: Int64[np.ndarray, "b t"]
    offset: Int64[np.ndarray, "b t"]
    reset: Bool[np.ndarray, "b t"]
    valid: Bool[np.ndarray, "b t"]
    has_next: Bool[np.ndarray, "b t"]


def plan(
    lengths: Int[np.ndarray, "d"],
    row_length: int,
    max_documents: int | None,
    seed: int,
    *path: int,
) -> Plan:
    """Plan one position for every token, with at most `max_documents` documents in a
    row.

    A row ends when it is full, or when it holds `max_documents` and the last of them
    has ended; the rest of the row then stays empty. A document cut by a row's end
    continues in another row.

    Args:
        lengths: tokens of each document, 1 or more.
        row_length: tokens per row.
        max_documents: most documents (or parts of documents) in a row; `None`: no
            limit.
        seed, path: name the stream that shuffles: split, epoch.
    """
    if len(lengths) == 0 or lengths.min() < 1:
        raise InputError("lengths is empty or holds 0; give 1 or more tokens each")
    if row_length < 1 or (max_documents is not None and max_documents < 1):
        raise InputError(
            f"row_length is {row_length} and max_documents {max_documents}; give 1 or "
            "more for both"
        )
    documents = counter.permutation(counter.key(seed, *path, 0), len(lengths))
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths[documents], out=starts[1:])
    bound = min(max_documents or len(lengths), len(lengths))
    row_starts = _row_starts(starts, row_length, bound)
    rows = counter.permutation(counter.key(seed, *path, 1), len(row_starts) - 1)
    return Plan(documents, starts, row_starts, rows, row_length)


def pieces(plan: Plan, rows: Int[np.ndarray, "b"]) -> Pieces:
    """Return the content of the rows with these numbers, in the plan's order."""
    row = plan.rows[rows]
    place = plan.row_starts[row][:, None] + np.arange(plan.row_length)
    valid = place < plan.row_starts[row + 1][:, None]
    place = np.where(valid, place, 0)
    number = np.searchsorted(plan.starts, place, side="right") - 1
    offset = np.where(valid, place - plan.starts[number], 0)
    reset = valid & (offset == 0)
    reset[:, 0] = True
    return Pieces(
        document=np.where(valid, plan.documents[number], 0),
        offset=offset,
        reset=reset,
        valid=valid,
        has_next=valid & (place + 1 < plan.starts[number + 1]),
    )


def _row_starts(
    starts: Int64[np.ndarray, "edges"], row_length: int, max_documents: int
) -> Int64[np.ndarray, "cuts"]:
    """Return the offset of each row, and the end of the last one.

    A document is crowded if a row that begins in it can be ended by `max_documents`. Up
    to the next crowded document, rows follow each other at `row_length`; the others are
    placed one by one.
    """
    total = int(starts[-1])
    first, last = starts[1 : len(starts) - max_documents], starts[max_documents:-1]
    crowded = np.flatnonzero(last < first - 1 + row_length).tolist()
    begins = starts.tolist()
    rows: list[int] = []
    place = 0
    while place < total:
        document = bisect.bisect_right(begins, place) - 1
        ahead = bisect.bisect_left(crowded, document)
        if ahead < len(crowded) and crowded[ahead] == document:
            rows.append(place)
            place = min(place + row_length, begins[document + max_documents])
        else:
            limit = begins[crowded[ahead]] if ahead < len(crowded) else total
            rows.extend(range(place, limit, row_length))
            place = rows[-1] + row_length
    return np.array([*rows, total], np.int64)
