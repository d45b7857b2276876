"""Reading a document in pieces equals reading it whole."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.errors import MemzooError, NonFiniteError
from memzoo.evals.perplexity import contexts
from memzoo.evals.stream import (
    Curve,
    Tally,
    _note_memory,
    _pieces,
    allocated,
    begin,
    check_room,
    resident_bytes,
    stream,
)
from memzoo.models.attention import AttentionConfig
from memzoo.models.block import Group
from memzoo.models.language_model import LanguageModelConfig
from memzoo.models.neural_memory_layer import reporting_surprise
from memzoo.models.sliding_window_attention import SlidingWindowAttentionConfig
from memzoo.models.titans_lmm import TitansLMMConfig

TITANS = TitansLMMConfig(
    num_heads=1, memory_depth=1, persistent_tokens=0, update_every=4
)
TOKENS = np.random.default_rng(0).integers(0, 32, 41)
FIRST, REST = int(TOKENS[0]), TOKENS[1:]


def build(*layers, **fields):
    config = LanguageModelConfig(
        vocab_size=32, width=8, pattern=(Group(layers=layers, repeats=2),), **fields
    )
    return config.build(nnx.Rngs(0))


@pytest.fixture(scope="module")
def titans():
    return build(TITANS)


def test_pieces_are_the_whole(titans):
    """Cost, hits, surprise and final state equal those of one call."""
    reader = reporting_surprise(titans)
    state = reader.init_state(1, 64)

    @nnx.jit
    def whole(model, tokens):
        hidden, after = model.hidden(tokens[:, :-1], state)
        _, metrics = model.stack.pop_said()
        return model.logits(hidden), after, metrics

    logits, after, metrics = whole(reader, jnp.asarray(TOKENS)[None])
    logs = jax.nn.log_softmax(logits[0])
    bits = -np.asarray(logs)[np.arange(40), REST] / math.log(2)
    hits = np.argmax(logs, axis=-1) == REST
    (surprise,) = metrics.values()
    surprise = np.mean(surprise, axis=(0, 1))

    parts = np.split(REST, [3, 4, 19])
    found = stream(titans, parts, begin(titans, FIRST, 0), piece=16, surprise=True)
    assert found.length == found.carried.read == 40
    assert found.carried.token == REST[-1]
    for ours, theirs in zip(
        jax.tree.leaves(found.carried.state), jax.tree.leaves(after), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    rows = found.tally.rows({}, 40)
    for row in rows:
        ends = row["setting"]
        at = slice(ends.get("context_from", 1) - 1, ends.get("context_to", 40))
        values = {"bits_per_byte": bits, "accuracy": hits, "surprise": surprise}
        expected = np.mean(values[row["metric"]][at])
        np.testing.assert_allclose(row["value"], expected, rtol=1e-5)
    np.testing.assert_allclose(found.surprise.means, surprise, rtol=1e-4)


def test_going_on_is_reading_at_once(titans):
    first = stream(titans, [REST[:22]], begin(titans, FIRST, 0), piece=16)
    second = stream(titans, [REST[22:]], first.carried, piece=16)
    at_once = stream(titans, [REST], begin(titans, FIRST, 0), piece=16)
    assert second.carried.read == 40 and first.surprise is None
    for ours, theirs in zip(
        jax.tree.leaves(second.carried.state),
        jax.tree.leaves(at_once.carried.state),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    sums = [f.tally.sums["bits_per_byte"] for f in (first, second, at_once)]
    np.testing.assert_allclose(sums[0] + sums[1], sums[2], rtol=1e-5)


def test_progress_and_memory_are_told(titans):
    told = []
    found = stream(
        titans, [REST], begin(titans, FIRST, 0), piece=16, total=40, report=told.append
    )
    assert told == [16, 32, 40]
    assert found.first_length == 16 and found.tokens_per_second > 0
    if resident_bytes() is not None:
        assert list(found.resident) == [16, 32, 40]


def test_memory_is_noted_where_it_is_settled():
    noted = {}
    for length in range(1000, 50_000, 1000):
        _note_memory(noted, length)
    if noted:
        assert list(noted) == [1000, 2000, 4000, 8000, 10_000, 20_000, 40_000]


def test_a_state_that_grows_is_refused_in_one_line():
    model = build(AttentionConfig(num_heads=1))
    start = begin(model, FIRST, 20)
    message = r"grows with the document; 40 tokens do not fit, it has room for 20; give"
    with pytest.raises(MemzooError, match=message):
        stream(model, [REST], start, piece=16, total=40)
    told = []
    with pytest.raises(MemzooError, match="32 tokens do not fit, it has room for 20"):
        stream(model, [REST], start, piece=16, report=told.append)
    assert told == [16]
    assert stream(model, [REST[:20]], start, piece=16, surprise=True).surprise is None
    with pytest.raises(MemzooError, match="read 1,000,000,000 or less"):
        check_room(model, start._replace(read=10**9), 1)


def test_a_window_has_its_own_size():
    model = build(SlidingWindowAttentionConfig(num_heads=1, window=4))
    assert allocated(model, 2) > 2
    assert stream(model, [REST], begin(model, FIRST, 2), piece=16).length == 40


def test_nothing_is_refused(titans):
    with pytest.raises(MemzooError, match="the document is empty"):
        stream(titans, [REST[:0]], begin(titans, FIRST, 0), piece=16)


def test_a_loss_that_is_no_number_ends_it():
    model = build(TITANS, tie_embeddings=False)
    model.embedding[...] = model.embedding[...].at[5].set(jnp.nan)
    tokens = np.array([1] * 7 + [5, 2, 2])
    # The window that begins with the ninth token is computed at once.
    with pytest.raises(NonFiniteError, match="not finite from token 9 of the document"):
        stream(model, [tokens], begin(model, 1, 0), piece=16)


def test_contexts_are_grouped_as_elsewhere():
    tally = Tally()
    for first, length in ((1, 7), (8, 30), (38, 63)):
        tally.add(first, {"n": np.arange(first, first + length)})
    rows = tally.rows({}, 100)
    groups = [
        (row["setting"]["context_from"], row["setting"]["context_to"])
        for row in rows[1:]
    ]
    assert groups == contexts(100)
    for row, (first, last) in zip(rows[1:], groups, strict=True):
        assert row["count"] == last - first + 1
        assert row["value"] == (first + last) / 2
    assert rows[0]["value"] == 50.5 and rows[0]["count"] == 100


@pytest.mark.parametrize("size", [1, 3, 16, 100])
def test_a_curve_has_few_windows(size):
    curve = Curve(most=8)
    values = np.arange(50, dtype=np.float32)
    for first in range(0, 50, size):
        curve.add(values[first : first + size])
    assert curve.window == 8
    assert curve.means == [*(8 * i + 3.5 for i in range(6)), 48.5]


@pytest.mark.parametrize("sizes", [[40], [3] * 14, [1, 39], [16, 16, 8], [0, 40, 0]])
def test_parts_of_any_size_become_pieces(sizes):
    ends = np.cumsum(sizes)
    parts = [np.arange(40)[e - s : e] for e, s in zip(ends, sizes, strict=True)]
    pieces = list(_pieces(parts, 16))
    assert [len(piece) for piece in pieces] == [16, 16, 8]
    assert np.concatenate(pieces).tolist() == list(range(40))
