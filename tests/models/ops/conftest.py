"""Cases shared by the tests of the recurrent ops."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.write_rule import new_memory
from memzoo.models.ops.write_schedule import Gates

BATCH, HEADS, KEY, VALUE = 2, 2, 6, 5


def keys_of_kind(kind: str, rng: np.random.Generator, time: int) -> np.ndarray:
    """Return keys of length 1: independent, close to one direction, or all equal."""
    spread = {"independent": 1.0, "correlated": 0.05, "repeated": 0.0}[kind]
    common = rng.standard_normal((BATCH, 1, HEADS, KEY)) * (kind != "independent")
    keys = common + spread * rng.standard_normal((BATCH, time, HEADS, KEY))
    return keys / np.linalg.norm(keys, axis=-1, keepdims=True)


def log_decay_of_kind(
    kind: str, rng: np.random.Generator, time: int, channels: tuple[int, ...]
) -> np.ndarray | None:
    """Return mild, strong (a factor of e^-20 at every step), mixed or no decay."""
    noise = rng.uniform(size=(BATCH, time, HEADS, *channels))
    mild = -0.3 * noise
    decays = {
        "mild": mild,
        "strong": np.full_like(noise, -20.0),
        "mixed": np.where(noise < 0.3, -20.0, mild),
        "zero": np.zeros_like(noise),
        "none": None,
    }
    return decays[kind]


def reset_of_kind(kind: str, time: int) -> np.ndarray | None:
    """Return document starts at the indices of the kind; rows differ."""
    if kind == "none":
        return None
    places = {
        "never": [],
        "start": [0],
        "end": [-1],
        "edge": [16],
        "inside": [3, 5, 12],
        "consecutive": [4, 5, 6, 7],
        "everywhere": range(time),
    }[kind]
    reset = np.zeros((BATCH, time), bool)
    for place in places:
        if -time <= place < time:
            reset[0, place] = True
            reset[1, (place + 2) % time] = True
    return reset


def _writes(
    rng: np.random.Generator, keys: str, time: int, writes: int, strength: float
) -> dict[str, np.ndarray]:
    """Return keys, values and strengths of several writes per token."""
    shape = (BATCH, time, writes, HEADS)
    return {
        "key": keys_of_kind(keys, rng, time * writes).reshape(*shape, KEY),
        "value": rng.standard_normal((*shape, VALUE)),
        "write_strength": rng.uniform(0.9 * strength, strength, size=shape),
    }


@pytest.fixture(scope="session")
def make_tokens() -> Callable[..., tuple[Any, Any]]:
    """Builds the tokens and the memory of a recurrence, in float64."""

    def make(
        kind: Any,
        sizes: tuple[int, ...],
        time: int,
        *,
        keys: str = "independent",
        decay: str = "mild",
        strength: float = 1.0,
        seed: int = 0,
        channels: tuple[int, ...] = (),
        writes: int = 0,
    ) -> tuple[Any, Any]:
        """Tokens of a class, by the names of its fields.

        `channels` are the axes of a log decay after the heads. `writes` is the length
        of an axis of writes after the time; 0: there is none. `sizes` are the axes of
        the memory after the heads, or a NamedTuple of them.
        """
        rng = np.random.default_rng(seed)
        shape = (BATCH, time, HEADS)
        strengths = rng.uniform(0.9 * strength, strength, size=shape)
        strengths[:, ::2] = strength
        fields = {
            "query": rng.standard_normal((*shape, KEY)),
            "key": keys_of_kind(keys, rng, time),
            "value": rng.standard_normal((*shape, VALUE)),
            "write_strength": strengths,
            "log_decay": log_decay_of_kind(decay, rng, time, channels),
        }
        gate = rng.uniform(0.5, 1, size=(*shape, KEY))
        fields["erase"] = gate * fields["key"]
        if "write_strength" not in kind._fields:
            fields["erase"] = strengths[..., None] * fields["erase"]
        memory = jax.tree.map(
            lambda size: rng.standard_normal((BATCH, HEADS, *size)),
            sizes,
            is_leaf=lambda size: isinstance(size[0], int),
        )
        fields["covariance_strength"] = rng.uniform(size=shape)
        fields["covariance_log_decay"] = log_decay_of_kind("mixed", rng, time, ())
        fields["centre"] = rng.standard_normal(shape)
        fields["log_momentum"] = log_decay_of_kind("mixed", rng, time, ())
        if writes:
            fields |= _writes(rng, keys, time, writes, strength)
        fields["read_key"] = -fields["key"]
        fields["write_key"] = fields["erase"]
        tokens = kind(**{name: fields[name] for name in kind._fields})
        return jax.tree.map(jnp.asarray, (tokens, memory))

    return make


@pytest.fixture(scope="session")
def make_case() -> Callable[..., dict[str, Any]]:
    """Builds the arguments of a neural memory."""

    def make_case(
        network, rule, time, *, seed=0, momentum=True, forget=True, keys="any"
    ):
        """Return inputs, gates and a memory with earlier writes, in float64."""
        rng = np.random.default_rng(seed)

        def normal(*shape):
            return jnp.asarray(rng.standard_normal(shape))

        shape = (BATCH, time, HEADS)
        key = normal(*shape, network.key_size)
        if keys == "repeated":
            key = jnp.broadcast_to(key[:, :1], key.shape)
        key = key / jnp.linalg.norm(key, axis=-1, keepdims=True)
        # A lagged rule has one rate per matrix.
        matrices = len(network.matrices())
        rates = (*shape, matrices) if rule.schedule == "lagged" else shape
        gates = Gates(
            jnp.asarray(rng.uniform(0.0, 0.2, rates)),
            jnp.asarray(rng.uniform(0.0, 0.9, shape)) if momentum else None,
            jnp.asarray(rng.uniform(0.0, 0.3, shape)) if forget else None,
            jnp.asarray(rng.uniform(0.5, 1, shape))
            if rule.schedule == "window"
            else None,
            # Some errors are below the threshold and some above.
            jnp.asarray(rng.uniform(0.5, 3, shape)) if rule.loss == "huber" else None,
        )
        sizes = network.matrices() | {n: (o,) for n, o in network.vectors().items()}
        weights = {n: 0.7 * normal(BATCH, HEADS, *s) for n, s in sizes.items()}
        initial = new_memory(weights, network, rule, momentum=momentum)
        slow = None
        if network.norm == "slow":
            slow = {
                "norm": 1 + 0.1 * normal(HEADS, network.value_size),
                "norm_bias": normal(HEADS, network.value_size),
            }
        return {
            "q": normal(*shape, network.key_size),
            "k": key,
            "v": normal(*shape, network.value_size),
            "gates": gates,
            "initial": initial,
            "slow": slow,
        }

    return make_case


@pytest.fixture(scope="session")
def make_reset() -> Callable[[str, int], jax.Array | None]:
    """Builds document starts by kind."""

    def make(kind: str, time: int) -> jax.Array | None:
        reset = reset_of_kind(kind, time)
        return None if reset is None else jnp.asarray(reset)

    return make


def _value_and_gradient(run: Any, tokens: Any, memory: Any) -> Any:
    """Return outputs, the last memory and all gradients of a function of both."""

    def total(tokens, memory):
        found = run(tokens, memory)
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(found)), found

    return jax.jit(jax.grad(total, (0, 1), has_aux=True))(tokens, memory)


@pytest.fixture(scope="session")
def assert_forms() -> Callable[..., None]:
    """Checks the laws of a recurrence in few programs: a short test_recurrence.py."""

    def compare(rule: Any, tokens: Any, memory: Any, reset: jax.Array) -> None:
        near = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-11)
        wanted = _value_and_gradient(
            functools.partial(rule.recurrent, reset=reset), tokens, memory
        )
        forms = ("scan", "parallel") if rule.all_chunks else ("scan",)
        for form in forms:
            run = functools.partial(
                rule.chunkwise, reset=reset, form=form, chunk_size=8
            )
            found = _value_and_gradient(run, tokens, memory)
            jax.tree.map(near, found, wanted)
        time, held = reset.shape[1], wanted[1][1]
        # The tokens that are not real are NaN, and the row's other memory stays.
        first = jnp.asarray(np.arange(time)[None] < np.array([[time], [0]]))

        def spoil(x: jax.Array) -> jax.Array:
            return jnp.where(first.reshape(2, time, *(1,) * (x.ndim - 2)), x, np.nan)

        hostile, equal = jax.tree.map(spoil, tokens), np.testing.assert_array_equal
        several = jax.tree.map(lambda x: jnp.stack([x + 1, x], axis=1), memory)
        for form in forms:
            _, after = jax.jit(
                functools.partial(
                    rule.chunkwise,
                    reset=reset & first,
                    valid=first,
                    which=jnp.ones((2, -(-time // 8)), jnp.int32),
                    chunk_size=8,
                    form=form,
                )
            )(hostile, several)
            jax.tree.map(lambda x, y: near(x[0, 1], y[0]), after, held)
            jax.tree.map(lambda x, y: equal(x[1, 1], y[1]), after, memory)
            jax.tree.map(lambda x, y: equal(x[:, 0], y[:, 0]), after, several)

    return compare


@pytest.fixture(scope="session")
def largest_array() -> Callable[[Any], int]:
    """Returns the size of a program's largest array, loops included."""
    return _largest


def _largest(jaxpr: Any) -> int:
    """Return the size of the program's largest array, loops included."""
    sizes = [out.aval.size for equation in jaxpr.eqns for out in equation.outvars]
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                sizes.append(_largest(inner))
    return max(sizes)
