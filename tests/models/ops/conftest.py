"""Cases shared by the tests of the recurrent ops."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.write_rule import new_memory
from memzoo.models.ops.write_schedule import Gates

Op = Callable[..., tuple[jax.Array, jax.Array]]

BATCH, HEADS, KEY, VALUE = 2, 2, 6, 5


def keys_of_kind(kind: str, rng: np.random.Generator, time: int) -> np.ndarray:
    """Keys of length 1: independent, close to one direction, or all the same."""
    spread = {"independent": 1.0, "correlated": 0.05, "repeated": 0.0}[kind]
    common = rng.standard_normal((BATCH, 1, HEADS, KEY)) * (kind != "independent")
    keys = common + spread * rng.standard_normal((BATCH, time, HEADS, KEY))
    return keys / np.linalg.norm(keys, axis=-1, keepdims=True)


def log_decay_of_kind(
    kind: str, rng: np.random.Generator, time: int
) -> np.ndarray | None:
    """Mild, strong (a factor of e^-20 at every step), mixed or no decay."""
    noise = rng.uniform(size=(BATCH, time, HEADS))
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
    """Document starts at the places that the kind tells, other rows differ."""
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


@pytest.fixture(scope="session")
def make_inputs() -> Callable[..., dict[str, Any]]:
    """Builds the arguments of a recurrent op, in float64."""

    def make(
        time: int,
        *,
        keys: str = "independent",
        decay: str = "mild",
        write_strength: float | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        inputs = {
            "q": rng.standard_normal((BATCH, time, HEADS, KEY)),
            "k": keys_of_kind(keys, rng, time),
            "v": rng.standard_normal((BATCH, time, HEADS, VALUE)),
            "log_decay": log_decay_of_kind(decay, rng, time),
            "memory": rng.standard_normal((BATCH, HEADS, KEY, VALUE)),
        }
        if write_strength is not None:
            low = 0.9 * write_strength
            strengths = rng.uniform(low, write_strength, size=(BATCH, time, HEADS))
            strengths[:, ::2] = write_strength
            inputs["write_strength"] = strengths
        return {
            name: None if x is None else jnp.asarray(x) for name, x in inputs.items()
        }

    return make


@pytest.fixture(scope="session")
def make_case() -> Callable[..., dict[str, Any]]:
    """Builds the arguments of a neural memory."""

    def make_case(
        network, rule, time, *, seed=0, momentum=True, forget=True, keys="any"
    ):
        """Inputs, gates and a memory that has been in use, float64."""
        rng = np.random.default_rng(seed)

        def normal(*shape):
            return jnp.asarray(rng.standard_normal(shape))

        shape = (BATCH, time, HEADS)
        key = normal(*shape, network.key_size)
        if keys == "repeated":
            key = jnp.broadcast_to(key[:, :1], key.shape)
        key = key / jnp.linalg.norm(key, axis=-1, keepdims=True)
        gates = Gates(
            jnp.asarray(rng.uniform(0.0, 0.2, shape)),
            jnp.asarray(rng.uniform(0.0, 0.9, shape)) if momentum else None,
            jnp.asarray(rng.uniform(0.0, 0.3, shape)) if forget else None,
            jnp.asarray(rng.uniform(0.5, 1, shape))
            if rule.schedule == "window"
            else None,
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


@partial(jax.jit, static_argnums=(0, 1))
def _values_and_gradients(
    op: Op, options: tuple, inputs: dict, reset: Any, cotangents: tuple
) -> tuple[Any, Any]:
    run = partial(op, reset=reset, **dict(options))
    values, pull = jax.vjp(lambda inputs: run(**inputs), inputs)
    return values, pull(cotangents)[0]


@pytest.fixture(scope="session")
def assert_same() -> Callable[..., None]:
    """Compares values and the gradient of every input of two ops, in float64."""

    def compare(
        reference: Op, fast: Op, inputs: dict, reset: Any = None, **options: Any
    ) -> None:
        rng = np.random.default_rng(1)
        output, memory = jax.eval_shape(partial(reference, reset=reset), **inputs)
        cotangents = tuple(
            jnp.asarray(rng.standard_normal(x.shape)) for x in (output, memory)
        )
        expected = _values_and_gradients(reference, (), inputs, reset, cotangents)
        given = tuple(sorted(options.items()))
        found = _values_and_gradients(fast, given, inputs, reset, cotangents)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for path, wanted in jax.tree.leaves_with_path(expected):
            got = found
            for key in path:
                got = got[getattr(key, "key", getattr(key, "idx", None))]
            size = np.max(np.abs(wanted), initial=0.0)
            np.testing.assert_allclose(
                got,
                wanted,
                rtol=1e-9,
                atol=1e-9 * max(size, 1e-3),
                err_msg=jax.tree_util.keystr(path),
            )

    return compare


@pytest.fixture(scope="session")
def assert_digits() -> Callable[..., None]:
    """Compares two ops where some decays are strong, in float32 and in float64.

    The bounds are shares of an array's largest entry: some sixteen and fifty roundings,
    for the sums over tokens round too. A decay that loses digits is off by 2e-5 and
    more where a log decay is -80.
    """

    def compare(reference: Op, fast: Op, inputs: dict, **options: Any) -> None:
        rng = np.random.default_rng(2)
        given = tuple(sorted(options.items()))
        for dtype, bound in ((np.float32, 2e-6), (np.float64, 1e-14)):
            narrow = {name: np.asarray(x, dtype) for name, x in inputs.items()}
            output, memory = jax.eval_shape(reference, **narrow)
            cotangents = tuple(
                rng.standard_normal(x.shape).astype(dtype) for x in (output, memory)
            )
            hit = rng.uniform(size=narrow["log_decay"].shape) < 0.3
            for strong in (-1.0, -80.0, -800.0, -1e4, -np.inf):
                decay = np.where(hit, dtype(strong), narrow["log_decay"])
                tokens = {**narrow, "log_decay": decay}
                wide = jax.tree.map(np.float64, (tokens, cotangents))
                expected = _values_and_gradients(reference, (), wide[0], None, wide[1])
                found = _values_and_gradients(fast, given, tokens, None, cotangents)
                # A decay is a rate times what a token gives: the rate's gradient.
                rate = np.where(np.isfinite(decay), decay, 0)
                rates = [
                    np.sum(rate * np.asarray(gradients["log_decay"]), axis=1)
                    for _, gradients in (found, expected)
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
                        # Below 1e-30 is zero: exp magnifies a sum's rounding there.
                        atol=bound * np.max(np.abs(wanted)) + 1e-30,
                        err_msg=f"{dtype.__name__}, {strong}, array {number}",
                    )

    return compare


@pytest.fixture(scope="session")
def assert_causal_in_every_bit() -> Callable[..., None]:
    """Changes all tokens from some place on, and compares the outputs before it."""

    def compare(run: Op, inputs: dict, other: dict, reset: Any) -> None:
        inputs, other = jax.tree.map(np.asarray, (inputs, other))
        o, _ = run(**inputs, reset=reset)
        reset = np.asarray(reset)
        place_of = np.arange(reset.shape[1])
        for place in (1, 13, 20, 36):
            changed = {
                name: x
                if name == "memory"
                else np.concatenate([x[:, :place], other[name][:, place:]], axis=1)
                for name, x in inputs.items()
            }
            o_changed, _ = run(
                **changed, reset=np.where(place_of < place, reset, ~reset)
            )
            np.testing.assert_array_equal(
                np.asarray(o)[:, :place], np.asarray(o_changed)[:, :place]
            )

    return compare


@pytest.fixture(scope="session")
def one_memory_at_a_time() -> Callable[..., Op]:
    """Makes of a recurrent op one with several memories a row, chunk by chunk."""

    def make(recurrent: Op, which: np.ndarray, chunk_size: int) -> Op:
        def several(memory: Any, reset: Any = None, **tokens: Any) -> Any:
            rows = []
            for row, names in enumerate(which):
                held, outputs = list(memory[row]), []
                for chunk, name in enumerate(names):
                    at = slice(chunk * chunk_size, (chunk + 1) * chunk_size)
                    part = {
                        key: None if x is None else x[row : row + 1, at]
                        for key, x in tokens.items()
                    }
                    start = None if reset is None else reset[row : row + 1, at]
                    o, after = recurrent(**part, memory=held[name][None], reset=start)
                    held[name] = after[0]
                    outputs.append(o)
                rows.append((jnp.concatenate(outputs, axis=1)[0], jnp.stack(held)))
            return tuple(jnp.stack(parts) for parts in zip(*rows, strict=True))

        return several

    return make
