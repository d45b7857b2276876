"""Laws that every memory layer must obey, whether in memzoo or outside."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .agreement import BrokenLaw, equal, near
from .capacity_laws import check_room
from .composite_laws import check_maps
from .models.interface import (
    MemoryLayer,
    SequenceInfo,
    TokenInfo,
    state_bytes,
    state_spec,
)
from .prefix_laws import check_prefix

__all__ = ["BUILD", "BrokenLaw", "LawResult", "check_layer", "laws"]

# No chunk size divides 22, and its two equal halves share one program.
BATCH, TIME = 2, 22
ROOM = 2 * TIME  # Some laws continue a document.
BUILD = "the layer can be built, with a state"


class LawResult(NamedTuple):
    """Result of one law on one layer; `detail` is empty if it holds.

    Attributes:
        error: the exception if the layer raised one.
    """

    law: str
    detail: str
    error: Exception | None = None

    @property
    def holds(self) -> bool:
        return not self.detail


def check_layer(config: Any, *, width: int = 32) -> None:
    """Run every law on the layer that `config` builds.

    Args:
        config: a frozen dataclass with `build(width, rngs, *, layer_index, depth)`.
        width: model width; small, since the laws do not depend on it.

    Raises:
        BrokenLaw: names the first law that does not hold, and the size of the error.
    """
    for result in laws(config, width=width):
        if not result.holds:
            message = f"{type(config).__name__}: {result.law}: {result.detail}"
            raise BrokenLaw(message) from result.error


def laws(config: Any, *, width: int = 32) -> Iterator[LawResult]:
    """Check the laws one by one; yield one result if the layer cannot be built."""
    name = type(config).__name__
    try:
        subject = _Subject(config, width)
    except BrokenLaw as error:
        yield LawResult(BUILD, str(error))
        return
    except Exception as error:
        yield LawResult(BUILD, f"{name} raised {_said(error)}", error)
        return
    checks: dict[str, Callable[[_Subject], None]] = {
        "a loop of step equals the sequence form": _step_equals_sequence,
        "any split equals the whole": _parts_equal_whole,
        "no output depends on a later input": _causality,
        "the state keeps its shapes and types, and grows as declared": _state_shape,
        "a state answers exactly or refuses for lack of room": check_room,
        "packed documents equal separate runs": _documents,
        "padding leaves the state unchanged bit for bit": _padding,
        "every parameter gets a finite gradient that is not zero": _gradients,
        "rows do not see each other": _rows,
        "each of several memories is written by its maps": check_maps,
        "the same function on a mesh": _mesh,
    }
    if subject.layer.accepts_prefix:
        checks["a prefix is read whole, and nothing else non-causally"] = _prefix
    for law, check in checks.items():
        try:
            check(subject)
        except BrokenLaw as error:
            yield LawResult(law, str(error))
        except Exception as error:
            yield LawResult(law, f"the layer raised {_said(error)}", error)
        else:
            yield LawResult(law, "")


def _said(error: Exception) -> str:
    """Return the error in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


class _Subject:
    """Layer with perturbed parameters and its jitted forms, built once."""

    def __init__(self, config: Any, width: int):
        if any(field.name == "chunk_size" for field in dataclasses.fields(config)):
            # The few tokens of a check should fill several chunks.
            config = dataclasses.replace(config, chunk_size=8)
        layer = config.build(width, nnx.Rngs(0), layer_index=0, depth=2)
        if not isinstance(layer, MemoryLayer):
            raise BrokenLaw(
                f"{type(config).__name__}.build returned {type(layer).__name__}, "
                "which is not a MemoryLayer"
            )
        self.layer = layer
        graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
        # Use numpy here and in the laws: JAX would compile every small operation.
        rng = np.random.default_rng(1)
        self.params = jax.tree.map(
            lambda leaf: jnp.asarray(
                np.asarray(leaf) + 0.05 * rng.standard_normal(leaf.shape), leaf.dtype
            ),
            params,
        )
        self.x = rng.standard_normal((BATCH, TIME, width)).astype(np.float32)
        self.reset = np.zeros((BATCH, TIME), bool)
        self.valid = np.ones((BATCH, TIME), bool)

        def merge(params: Any) -> Any:
            # Copy, since a trace changes the layer's variables that are not parameters.
            return nnx.merge(graphdef, params, rest, copy=True)

        def plain(params: Any, x: Any, state: Any) -> Any:
            return merge(params)(x, state)

        def masked(params: Any, x: Any, state: Any, reset: Any, valid: Any) -> Any:
            return merge(params)(x, state, SequenceInfo(reset, valid))

        def steps(params: Any, x: Any, state: Any, reset: Any, valid: Any) -> Any:
            def one(state: Any, token: Any) -> Any:
                x, reset, valid = token
                y, state = merge(params).step(x, state, TokenInfo(reset, valid))
                return state, y

            tokens = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), (x, reset, valid))
            state, y = jax.lax.scan(one, state, tokens)
            return jnp.swapaxes(y, 0, 1), state

        def prefixed(params: Any, x: Any, state: Any, info: SequenceInfo) -> Any:
            return merge(params)(x, state, info)

        def weighted(params: Any, x: Any, weight: Any, prefix: Any = None) -> Any:
            layer = merge(params)
            # A new state may hold parameters.
            state = jax.tree.map(jnp.asarray, layer.init_state(BATCH, 0))
            y, _ = layer(x, state, SequenceInfo(prefix=prefix))
            return jnp.sum(y.astype(jnp.float32) * weight)

        self.merge = merge
        new_state = jax.jit(lambda params: merge(params).init_state(BATCH, ROOM))
        self.state = new_state(self.params)
        self.plain = _with_numpy_outputs(plain)
        self.masked = _with_numpy_outputs(masked)
        self.steps = _with_numpy_outputs(steps)
        self.prefixed = _with_numpy_outputs(prefixed)
        self.gradient = jax.jit(jax.grad(weighted, argnums=(0, 1)))

    def run(
        self, x: Any = None, state: Any = None, reset: Any = None, valid: Any = None
    ):
        return self.masked(
            self.params,
            self.x if x is None else x,
            self.state if state is None else state,
            self.reset if reset is None else reset,
            self.valid if valid is None else valid,
        )


def _with_numpy_outputs(run: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
    """Return `run` jitted, with outputs in numpy and the state unchanged."""
    jitted = jax.jit(run)

    def call(*args: Any) -> tuple[np.ndarray, Any]:
        y, state = jitted(*args)
        return np.asarray(y), state

    return call


def _visible(subject: _Subject, state: Any) -> Any:
    """Return outputs of later tokens in place of the state.

    Invisible slots of a cache may differ.
    """
    y, after = subject.plain(subject.params, subject.x[:, ::-1], state)
    del after
    return y


def _step_equals_sequence(subject: _Subject) -> None:
    args = (subject.params, subject.x, subject.state)
    y, state = subject.plain(*args)
    looped, after = subject.steps(*args, subject.reset, subject.valid)
    near(looped, y, "outputs")
    near(after, state, "final states")


def _parts_equal_whole(subject: _Subject) -> None:
    y, state = subject.plain(subject.params, subject.x, subject.state)
    index = np.arange(TIME)[None, :]
    for split in (0, 1, 8, 13, TIME):
        first = np.broadcast_to(index < split, (BATCH, TIME))
        y1, middle = subject.run(valid=first)
        y2, after = subject.run(state=middle, valid=~first)
        near(y1 + y2, y, f"outputs, split at {split},")
        near(after, state, f"final states, split at {split},")
    half = subject.x[:, : TIME // 2], subject.x[:, TIME // 2 :]
    y1, middle = subject.plain(subject.params, half[0], subject.state)
    y2, after = subject.plain(subject.params, half[1], middle)
    near(np.concatenate([y1, y2], axis=1), y, "outputs, in two calls,")
    near(after, state, "final states, in two calls,")
    _, same = subject.plain(subject.params, subject.x[:, :0], middle)
    equal(same, middle, "states after a call without tokens")


def _causality(subject: _Subject) -> None:
    y, _ = subject.plain(subject.params, subject.x, subject.state)
    for time in (1, 8, 12, TIME - 1):
        other = subject.x.copy()
        other[:, time:] += 1.0 + subject.x[:, :1]
        changed, _ = subject.plain(subject.params, other, subject.state)
        equal(changed[:, :time], y[:, :time], f"outputs before {time}")
        begun = np.any(y[:, : time + 1]) or time == TIME - 1  # after segment 1
        if begun and np.array_equal(changed[:, time], y[:, time]):
            raise BrokenLaw(f"the output at {time} does not see its own token")
    weight = np.zeros_like(subject.x)
    weight[:, :12] = 1.0
    # An empty prefix, if accepted, reuses the program of another law.
    prefix = np.zeros((BATCH, TIME), bool) if subject.layer.accepts_prefix else None
    _, gradient = subject.gradient(subject.params, subject.x, weight, prefix)
    future = np.asarray(gradient)[:, 12:]
    equal(future, np.zeros_like(future), "gradients to the future")


def _state_shape(subject: _Subject) -> None:
    _, state = subject.plain(subject.params, subject.x, subject.state)
    for path, (before, after) in zip(
        jax.tree_util.tree_leaves_with_path(subject.state),
        zip(jax.tree.leaves(subject.state), jax.tree.leaves(state), strict=True),
        strict=True,
    ):
        if before.shape != after.shape or before.dtype != after.dtype:
            raise BrokenLaw(
                f"{jax.tree_util.keystr(path[0])} was {before.dtype}{before.shape} "
                f"and became {after.dtype}{after.shape}"
            )
    layer = subject.layer
    if "position" not in getattr(state_spec(layer, 1, 4), "_fields", ("position",)):
        raise BrokenLaw("the state has no field position")
    sizes = [state_bytes(layer, length) for length in (2**14, 2**15, 2**16)]
    growth = {
        "constant": sizes[0] == sizes[1] == sizes[2],
        "bounded": sizes[0] == sizes[1] == sizes[2],
        "log": sizes[1] - sizes[0] == sizes[2] - sizes[1] > 0,
        "linear": sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0]) > 0,
        "square": sizes[2] - sizes[1] > 2 * (sizes[1] - sizes[0]) > 0,
    }
    if not growth[layer.state_growth]:
        raise BrokenLaw(
            f"declared {layer.state_growth}, but its bytes at 16k, 32k and 64k tokens "
            f"are {sizes}"
        )


def _documents(subject: _Subject) -> None:
    starts = (0, 1, 2, 9, 16)
    reset = subject.reset.copy()
    reset[:, list(starts)] = True
    # The rows differ, so that a reset of the wrong row shows.
    reset[1, 9] = False
    _, carried = subject.run()
    y, state = subject.run(state=carried, reset=reset)
    looped, after = subject.steps(
        subject.params, subject.x, carried, reset, subject.valid
    )
    near(looped, y, "outputs of packed documents, step by step,")
    near(_visible(subject, after), _visible(subject, state), "states step by step,")
    ends = (*starts[1:], TIME)
    index = np.arange(TIME)[None, :]
    for start, end in zip(starts, ends, strict=True):
        alone = np.broadcast_to((index >= start) & (index < end), (BATCH, TIME))
        separate, _ = subject.run(valid=alone)
        rows = slice(0, 1) if start in (2, 9) else slice(0, 2)
        near(
            np.where(alone[rows, :, None], y[rows], 0),
            separate[rows],
            f"outputs of the document at {start}",
        )


def _padding(subject: _Subject) -> None:
    _, state = subject.run()
    nothing = np.zeros((BATCH, TIME), bool)
    y, after = subject.run(state=state, valid=nothing, reset=~nothing)
    equal(after, state, "states after padding alone")
    equal(y, np.zeros_like(y), "outputs of padding")
    mask = np.random.default_rng(3).random((BATCH, TIME)) < 0.6
    broken = np.where(mask[:, :, None], subject.x, np.float32(np.nan))
    y, after = subject.run(x=broken, valid=mask)
    looped, expected = subject.steps(
        subject.params, subject.x, subject.state, subject.reset, mask
    )
    near(y, looped, "outputs among padding")
    near(after, expected, "states among padding")
    short = np.arange(TIME)[None, :] < np.array([[5], [13]])
    longer = subject.x.copy()
    longer[:, 13:], longer[0, 5:] = 7.0, -3.0
    _, first = subject.run(valid=short)
    _, second = subject.run(x=longer, valid=short)
    equal(second, first, "states when only padding differs")


def _gradients(subject: _Subject) -> None:
    weight = np.random.default_rng(4).standard_normal(subject.x.shape)
    weight = weight.astype(np.float32)
    prefix = None
    if subject.layer.accepts_prefix:
        # Parameters that only read a prefix need one for a gradient.
        prefix = np.broadcast_to(np.arange(TIME)[None, :] < 9, (BATCH, TIME))
    for dtype in (jnp.float32, jnp.bfloat16):
        x = subject.x.astype(dtype)
        gradients, _ = subject.gradient(subject.params, x, weight, prefix)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
            name = f"{jax.tree_util.keystr(path)} in {dtype.__name__}"
            leaf = np.asarray(leaf, np.float64)
            if not np.all(np.isfinite(leaf)):
                raise BrokenLaw(f"the gradient of {name} is not finite")
            if not np.any(leaf != 0):
                raise BrokenLaw(f"the gradient of {name} is zero")


def _prefix(subject: _Subject) -> None:
    def run(x: Any, state: Any = None, reset: Any = None, **masks: Any) -> Any:
        info = SequenceInfo(reset, masks.get("valid", subject.valid))
        if masks.get("prefix") is None:
            masks["prefix"] = np.zeros_like(subject.valid)
        return subject.prefixed(
            subject.params,
            x,
            subject.state if state is None else state,
            info._replace(prefix=masks["prefix"]),
        )

    def plain(x: Any) -> Any:
        return subject.plain(subject.params, x, subject.state)

    check_prefix(run, plain, subject.x)


def _rows(subject: _Subject) -> None:
    y, state = subject.plain(subject.params, subject.x, subject.state)
    other = subject.x.copy()
    other[1] *= -2.0
    changed, after = subject.plain(subject.params, other, subject.state)
    equal(changed[0], y[0], "outputs of the first row")
    first = jnp.array([True, False])
    mixed = subject.layer.choose_rows(first, after, state)
    equal(mixed, state, "states of the first row")


def _mesh(subject: _Subject) -> None:
    if jax.device_count() < 2:
        return
    axis = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((2,), ("data",), axis_types=axis, devices=jax.devices()[:2])
    rows = jax.NamedSharding(mesh, jax.P("data"))

    def spread_rows(a: Any, b: Any) -> jax.NamedSharding:
        # The batch axis is the one that grows with the batch; in a stack it is second.
        sizes = zip(a.shape, b.shape, strict=True)
        axes = ("data" if size < larger else None for size, larger in sizes)
        return jax.NamedSharding(mesh, jax.P(*axes))

    specs = [state_spec(subject.layer, batch, ROOM) for batch in (BATCH, 2 * BATCH)]
    rows_of_state = jax.tree.map(spread_rows, *specs)
    whole = jax.NamedSharding(mesh, jax.P())
    y, state = subject.plain(subject.params, subject.x, subject.state)
    with jax.set_mesh(mesh):
        spread, after = subject.plain(
            jax.device_put(subject.params, whole),
            jax.device_put(subject.x, rows),
            jax.device_put(subject.state, rows_of_state),
        )
    near(spread, y, "outputs on two devices")
    near(after, state, "states on two devices")
