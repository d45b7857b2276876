"""The laws find the fault of each small broken layer."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jaxtyping import Array, Float, Int

from memzoo.models.interface import MemoryLayer
from memzoo.models.ops.recurrence import select
from memzoo.testing import BrokenLaw, LawResult, check_layer, laws


class SumState(NamedTuple):
    total: Float[Array, "b d"]
    slots: Float[Array, "b s"]
    position: Int[Array, "b"]


class Sum(MemoryLayer[SumState]):
    """Decaying sum of the document, times a matrix; it obeys every law."""

    def __init__(self, config, width, rngs):
        self.config = config
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (width, width)) / 4)
        if config.fault == "goes on when it is full":
            self.state_growth = "linear"

    def init_state(self, batch_size, max_length):
        grows = self.config.fault in ("grows", "goes on when it is full")
        slots = max_length if grows else 1
        return SumState(
            jnp.zeros((batch_size, self.kernel.shape[0])),
            jnp.zeros((batch_size, slots)),
            jnp.zeros((batch_size,), jnp.int32),
        )

    def fresh_rows(self, state, rows):
        fresh = self.init_state(rows.shape[0], state.slots.shape[1])
        return self.choose_rows(rows, fresh, state)

    def sequence(self, x, state, layout):
        fault, time = self.config.fault, x.shape[1]
        if fault == "raises":
            raise KeyError("lost")
        if fault == "forgets the call before":
            fresh = self.init_state(x.shape[0], 0)
            state = state._replace(total=fresh.total)
        valid = layout.valid(time)
        if valid is None or fault == "counts padding":
            valid = jnp.ones(x.shape[:2], bool)
        reset = layout.reset
        if reset is None or fault == "ignores documents":
            reset = jnp.zeros(x.shape[:2], bool)
        seen = x
        if fault == "sees the next token":
            seen = x + 0.1 * jnp.roll(x, -1, axis=1).at[:, -1].set(0)
        if fault == "mixes rows":
            seen = x + 0.1 * jnp.mean(x, axis=0, keepdims=True)

        def body(state, token):
            x, reset, valid = token
            fresh = state._replace(
                total=jnp.zeros_like(state.total), position=0 * state.position
            )
            y, after = self.token(x, select(reset, fresh, state))
            return select(valid, after, state), y

        tokens = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), (seen, reset, valid))
        state, y = jax.lax.scan(body, state, tokens)
        if fault == "changes its type":
            state = state._replace(total=state.total.astype(jnp.bfloat16))
        return jnp.swapaxes(y, 0, 1), state

    def token(self, x, state):
        wide = x.astype(jnp.float32)
        kernel = self.kernel[...]
        if self.config.fault == "has a dead parameter":
            kernel = jax.lax.stop_gradient(kernel)
        total = 0.5 * state.total + wide @ kernel
        if self.config.fault == "has an infinite gradient":
            total = total + 0 * jnp.sqrt(jnp.sum(jnp.square(kernel * 0)))
        if self.config.fault == "ignores its token":
            total = state.total + jnp.ones_like(wide) @ kernel
        if self.config.fault == "goes on when it is full":
            room = state.slots.shape[1] or 1000
            total = jnp.where((state.position >= room)[:, None], wide @ kernel, total)
        y = total.astype(x.dtype)
        if self.config.fault == "falls silent":
            y = jnp.where((state.position >= 8)[:, None], 0, y)
        if self.config.fault == "is silent":
            y = 0 * y
        return y, SumState(total, state.slots, state.position + 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SumConfig:
    """Config of a `Sum` with one fault."""

    fault: str = ""

    def build(self, width, rngs, *, layer_index, depth):
        del layer_index, depth
        return Sum(self, width, rngs)


def test_a_layer_without_fault_obeys_every_law():
    results = list(laws(SumConfig(), width=4))
    assert [result.law for result in results if not result.holds] == []
    assert len(results) == len({result.law for result in results}) == 11


FAULTS = {
    "forgets the call before": "any split equals the whole: outputs",
    "ignores documents": "packed documents equal separate runs: outputs",
    "counts padding": "any split equals the whole",
    "sees the next token": "a loop of step equals the sequence form: outputs",
    "mixes rows": "a loop of step equals the sequence form: outputs",
    "changes its type": r"a loop of step equals the sequence form: final states.*total",
    "grows": "grows as declared: declared constant, but its bytes",
    "goes on when it is full": "of room: outputs of a state with max_length 4 are nei",
    "has a dead parameter": "gradient of .*kernel.* in float32 is zero",
    "has an infinite gradient": "gradient of .*kernel.* in float32 is not finite",
    "ignores its token": "no output depends on a later input: the output at 1 does not",
    "falls silent": "no output depends on a later input: the output at 8 does not",
    "is silent": "no output depends on a later input: the output at .. does not",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_broken_law_is_named(fault):
    with pytest.raises(BrokenLaw, match=f"^SumConfig: .*{FAULTS[fault]}"):
        check_layer(SumConfig(fault=fault), width=4)


BROKEN_TOO = {
    "sees the next token": "no output depends on a later input",
    "mixes rows": "rows do not see each other",
    "counts padding": "padding leaves the state unchanged bit for bit",
    "changes its type": "the state keeps its shapes and types, and grows as declared",
}


@pytest.mark.parametrize("fault", BROKEN_TOO)
def test_every_law_is_run(fault):
    broken = [r.law for r in laws(SumConfig(fault=fault), width=4) if not r.holds]
    assert BROKEN_TOO[fault] in broken


def test_what_a_layer_raises_breaks_the_law_that_met_it():
    with pytest.raises(
        BrokenLaw, match=r"a loop of step .* raised KeyError: 'lost'"
    ) as e:
        check_layer(SumConfig(fault="raises"), width=4)
    assert isinstance(e.value.__cause__, KeyError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearConfig:
    def build(self, width, rngs, *, layer_index, depth):
        return nnx.Linear(width, width, rngs=rngs)


def test_what_is_no_layer_is_refused():
    with pytest.raises(BrokenLaw, match=r"LinearConfig\.build returned Linear, which"):
        check_layer(LinearConfig())


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountingConfig(SumConfig):
    def build(self, width, rngs, *, layer_index, depth):
        return Counting(self, width, rngs)


class Counting(Sum):
    """Layer that stores a count in addition to its parameters."""

    def __init__(self, config, width, rngs):
        super().__init__(config, width, rngs)
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

    def sequence(self, x, state, layout):
        self.calls[...] += 1
        return super().sequence(x, state, layout)


def test_a_layer_may_keep_more_than_parameters():
    assert next(laws(CountingConfig(), width=4)).holds


def test_a_result_without_detail_holds():
    assert LawResult("a law", "").holds
    assert not LawResult("a law", "broken").holds
