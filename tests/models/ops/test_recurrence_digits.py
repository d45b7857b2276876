"""Digits of every recurrence after a strong decay, in float32 and in float64.

The bounds are relative to an array's largest entry: about sixteen and fifty roundings,
because sums over tokens round too. A decay that loses digits is wrong by 2e-5 or more
at a log decay of -80.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.delta_rule import DELTA_RULE
from memzoo.models.ops.erase_write import ERASE_WRITE
from memzoo.models.ops.low_rank import LOW_RANK
from memzoo.models.ops.recurrence import Recurrence
from memzoo.models.ops.scalar_decay import SCALAR_DECAY
from memzoo.models.ops.vector_decay import VECTOR_DECAY

RULES = {
    "delta_rule": (DELTA_RULE, ()),
    "erase_write": (ERASE_WRITE, (6,)),
    "low_rank": (LOW_RANK, (6,)),
    "scalar_decay": (SCALAR_DECAY, ()),
    "vector_decay": (VECTOR_DECAY, (6,)),
}


class Reference(NamedTuple):
    """The token-by-token form."""

    rule: Recurrence

    def __call__(self, tokens, memory):
        return self.rule.recurrent(tokens, memory)


class Fast(NamedTuple):
    """The chunkwise form."""

    rule: Recurrence
    form: str

    def __call__(self, tokens, memory):
        return self.rule.chunkwise(tokens, memory, chunk_size=32, form=self.form)


class WriteAlone(NamedTuple):
    """Return the memory after a sequence without outputs, or the reference's memory."""

    rule: Recurrence
    fast: bool

    def __call__(self, tokens, memory):
        after = (
            self.rule.write(tokens, memory)
            if self.fast
            else self.rule.recurrent(tokens, memory)[1]
        )
        return after, after


@partial(jax.jit, static_argnums=0)
def _pulled(run, tokens, memory, cotangents):
    values, pull = jax.vjp(run, tokens, memory)
    return values, pull(cotangents)


def assert_digits(reference, fast, tokens, memory):
    rng = np.random.default_rng(2)
    hit = rng.uniform(size=tokens.log_decay.shape) < 0.3
    for dtype, bound in ((np.float32, 2e-6), (np.float64, 1e-14)):
        narrow = jax.tree.map(lambda x, dtype=dtype: np.asarray(x, dtype), tokens)
        start = np.asarray(memory, dtype)
        cotangents = tuple(
            rng.standard_normal(x.shape).astype(dtype)
            for x in jax.eval_shape(lambda *given: reference(*given), narrow, start)
        )
        for strong in (-1.0, -80.0, -800.0, -1e4, -np.inf):
            decay = np.where(hit, dtype(strong), narrow.log_decay)
            given = (narrow._replace(log_decay=decay), start, cotangents)
            expected = _pulled(reference, *jax.tree.map(np.float64, given))
            found = _pulled(fast, *given)
            # The gradient of a rate: a decay is the rate times a number per token.
            rate = np.where(np.isfinite(decay), decay, 0)
            rates = [
                np.sum(rate * np.asarray(gradient.log_decay), axis=1)
                for _, (gradient, _) in (found, expected)
            ]
            pairs = zip(
                jax.tree.leaves((found, rates[0])),
                jax.tree.leaves((expected, rates[1])),
                strict=True,
            )
            for number, (got, wanted) in enumerate(pairs):
                np.testing.assert_allclose(
                    got,
                    wanted,
                    rtol=0,
                    # Values below 1e-30 count as zero: exp magnifies a sum's rounding.
                    atol=bound * np.max(np.abs(wanted)) + 1e-30,
                    err_msg=f"{dtype.__name__}, {strong}, array {number}",
                )


@pytest.mark.parametrize("form", ["scan", "parallel"])
@pytest.mark.parametrize("name", RULES)
def test_a_strong_decay_costs_no_digits(x64, name, form, make_tokens):
    rule, channels = RULES[name]
    tokens, memory = make_tokens(rule.tokens, (6, 5), 50, channels=channels)
    assert_digits(Reference(rule), Fast(rule, form), tokens, memory)


def test_a_strong_decay_costs_no_digits_of_a_write_alone(x64, make_tokens):
    tokens, memory = make_tokens(SCALAR_DECAY.tokens, (6, 5), 20)
    memory = jnp.asarray(memory)
    runs = WriteAlone(SCALAR_DECAY, False), WriteAlone(SCALAR_DECAY, True)
    assert_digits(*runs, tokens, memory)
