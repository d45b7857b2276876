"""Packing against a greedy loop; every token once; documents kept separate."""

import numpy as np
import pytest

from memzoo.data import packing

CASES = [
    ([5], 8, None),
    ([1, 1, 1, 1, 1], 4, 2),
    ([1, 2, 3, 40, 1, 1, 1, 7, 8, 9, 16, 16, 1], 16, 3),
    ([30, 2, 2, 2, 2, 2, 2, 50, 50], 10, 2),
    ([3, 4, 5], 1, 1),
    ([64, 64, 64], 64, 1),
    ([9] * 40, 20, None),
    ([3, 9, 2], 8, 5),
]


def greedy_rows(lengths: list, row_length: int, max_documents: int) -> list:
    """Return rows of (document, offset) pairs, token by token."""
    rows, row, held = [], [], 0
    for document, length in enumerate(lengths):
        if held == max_documents:
            rows.append(row)
            row, held = [], 0
        held += 1
        for offset in range(length):
            if len(row) == row_length:
                rows.append(row)
                row, held = [], 1
            row.append((document, offset))
        if len(row) == row_length:
            rows.append(row)
            row, held = [], 0
    return [*rows, row] if row else rows


@pytest.mark.parametrize(("lengths", "row_length", "bound"), CASES)
@pytest.mark.parametrize("epoch", [0, 1])
def test_rows_are_those_of_the_greedy_loop(lengths, row_length, bound, epoch):
    plan = packing.plan(np.array(lengths), row_length, bound, 7, epoch)
    order = plan.documents.tolist()
    expected = greedy_rows([lengths[d] for d in order], row_length, bound or 10**9)
    found = packing.pieces(plan, np.arange(len(plan.rows)))
    assert sorted(plan.rows.tolist()) == list(range(len(expected)))
    for i, number in enumerate(plan.rows):
        pairs = [(order[document], offset) for document, offset in expected[number]]
        filled = len(pairs)
        assert found.valid[i].tolist() == [j < filled for j in range(row_length)]
        there = zip(
            found.document[i, :filled].tolist(),
            found.offset[i, :filled].tolist(),
            strict=True,
        )
        assert list(there) == pairs
        assert found.reset[i, :filled].tolist() == [
            j == 0 or offset == 0 for j, (_, offset) in enumerate(pairs)
        ]
        assert found.has_next[i, :filled].tolist() == [
            offset + 1 < lengths[document] for document, offset in pairs
        ]
        for array in (found.document, found.offset, found.reset, found.has_next):
            assert not array[i, filled:].any()


def test_rows_begin_where_the_greedy_loop_begins_them():
    generator = np.random.default_rng(0)
    for _ in range(300):
        count, row_length, bound = generator.integers(1, [12, 10, 6]).tolist()
        lengths = generator.integers(1, generator.integers(2, 14), count)
        plan = packing.plan(lengths, row_length, bound, 0)
        rows = greedy_rows(lengths[plan.documents].tolist(), row_length, bound)
        assert np.diff(plan.row_starts).tolist() == [len(row) for row in rows]


@pytest.mark.parametrize("bound", [1, 4, None])
@pytest.mark.parametrize("longest", [6, 300])
def test_every_token_stands_in_one_place(bound: int | None, longest: int):
    lengths = np.random.default_rng(longest).integers(1, longest, 500)
    for epoch in range(2):
        plan = packing.plan(lengths, 64, bound, 0, epoch)
        found = packing.pieces(plan, np.arange(len(plan.rows)))
        there = np.stack([found.document[found.valid], found.offset[found.valid]], 1)
        there = there[np.lexsort((there[:, 1], there[:, 0]))]
        documents = np.repeat(np.arange(500), lengths)
        np.testing.assert_array_equal(there[:, 0], documents)
        np.testing.assert_array_equal(
            there[:, 1], np.concatenate([np.arange(n) for n in lengths])
        )
        assert found.reset.sum(axis=1).max() <= (bound or 64)
        assert found.valid[:, 0].all()


def test_a_plan_is_a_pure_function_of_its_arguments():
    lengths = np.random.default_rng(0).integers(1, 90, 300)
    one, same, other = (packing.plan(lengths, 32, 4, 5, e) for e in (1, 1, 2))
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.documents, other.documents)
    whole = packing.pieces(one, np.arange(20))
    few = packing.pieces(one, np.array([13, 2]))
    np.testing.assert_array_equal(few.offset, whole.offset[[13, 2]])


def test_without_crowding_only_the_last_row_has_room():
    lengths = np.full(1_000, 33)
    plan = packing.plan(lengths, 64, 4, 0)
    assert len(plan.rows) == -(-33_000 // 64)


@pytest.mark.parametrize("lengths", [[], [3, 0, 2]])
def test_documents_without_tokens_are_refused(lengths: list):
    with pytest.raises(ValueError, match="lengths is empty or holds 0"):
        packing.plan(np.array(lengths, np.int64), 8, None, 0)


@pytest.mark.parametrize(("row_length", "bound"), [(0, None), (8, 0)])
def test_empty_rows_are_refused(row_length: int, bound: int | None):
    with pytest.raises(ValueError, match="give 1 or more for both"):
        packing.plan(np.array([3]), row_length, bound, 0)
