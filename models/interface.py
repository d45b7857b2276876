"""`MemoryLayer`, the interface of every layer of the zoo."""

import abc
import functools
from typing import Any, Generic, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from memzoo.errors import InputError, with_article

from .capacity import check_size, is_known, no_room
from .layout import Layout as Layout
from .layout import SequenceInfo as SequenceInfo
from .layout import TokenInfo as TokenInfo
from .layout import pack
from .ops.recurrence import select
from .state_checks import Needed, check_class, check_sizes, needed_state

State = TypeVar("State")
StateGrowth = Literal["constant", "log", "bounded", "linear", "square"]


class AuxiliaryLoss(nnx.Variable):
    """A scalar that a layer adds to the training loss (already weighted).

    With `of=function` the value is a pytree of sums over the tokens of the call, and
    the function (pure, hashable) turns the sums of the whole batch into the scalar; see
    `loss.Auxiliary`. Use it for a loss that is not a sum over tokens, such as a product
    of two means. A plain scalar is averaged over the slices of a batch.
    """


class Metric(nnx.Variable):
    """A number or array that a layer reports; it is not part of the loss."""


class MemoryLayer(nnx.Module, abc.ABC, Generic[State]):
    """A sequence mixer: sequence in, sequence out, state in, state out.

    A layer implements `init_state`, `sequence` and `token`. Callers use `__call__` and
    `step`, which handle padding for all layers; `step` also handles document starts.
    """

    state_growth: StateGrowth = "constant"
    accepts_prefix: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "init_state" in vars(cls):
            cls.init_state = _with_checked_sizes(cls.init_state)

    @abc.abstractmethod
    def init_state(self, batch_size: int, max_length: int) -> State:
        """Return the state before the first token of a document.

        The state is a NamedTuple of arrays of fixed shape, batch first. It holds
        everything that the next token needs, and `position` (int32 `b`), counted from
        the document's start.

        Args:
            batch_size: number of rows.
            max_length: tokens of the longest document, for states that grow with it.
                0: the state serves a single call and is not continued (training).
        """

    @abc.abstractmethod
    def sequence(
        self, x: Float[Array, "b t d"], state: State, layout: Layout
    ) -> tuple[Float[Array, "b t d"], State]:
        """Map a whole sequence in the fast form.

        Only the first `layout.length` tokens of a row are real; callers ignore the
        outputs of the others. The returned state is that after the last real token.
        """

    @abc.abstractmethod
    def token(
        self, x: Float[Array, "b d"], state: State
    ) -> tuple[Float[Array, "b d"], State]:
        """Map one token that continues the document, in the recurrent form."""

    def fresh_rows(self, state: State, rows: Bool[Array, "b"]) -> State:
        """Return `state` with the given rows reset to the start of a document.

        A layer whose state grows with `max_length` overrides this.
        """
        fresh = self.init_state(rows.shape[0], 0)
        return self.choose_rows(rows, fresh, state)

    def choose_rows(self, rows: Bool[Array, "b"], chosen: State, other: State) -> State:
        """Return `chosen` in the given rows of the batch, `other` elsewhere."""
        return select(rows, chosen, other)

    def capacity(self, state: State) -> int | None:
        """Return how many tokens of one document fit into `state`; None: any number.

        0 means that the state was made for a single call of the sequence form.
        Documents that begin in that call may have any length; no later call continues
        them.

        Override this in a layer whose state can be full; a layer that holds others
        returns the smallest of their capacities. Read only shapes. `__call__` and
        `step` enforce the capacity.
        """
        return None

    def position_of(self, state: State) -> Int[Array, "*r b"]:
        """Return each row's position in its document; for a stack, of each repeat."""
        return state.position  # type: ignore[attr-defined]

    def check_capacity(self, state: State, time: int, name: str) -> None:
        """Check that `time` more tokens fit. Call it outside jit: it reads values.

        Args:
            state: state of this layer.
            time: number of tokens by which every row's document continues.
            name: name of the layer for the message.

        Raises:
            InputError: the tokens do not fit.
        """
        capacity = self.capacity(state)
        if capacity is None or time == 0:
            return
        longest = int(np.max(np.asarray(self.position_of(state)), initial=0))
        if longest > 0 if capacity == 0 else longest + time > capacity:
            raise no_room(name, capacity, longest + time)

    def _without_room(
        self, state: State, layout: Layout, time: int
    ) -> Bool[Array, "b t"] | None:
        """Return a mask of the real tokens that do not fit; None: all fit.

        If values are known, as outside jit, raise instead of returning a mask.

        Raises:
            InputError: a token does not fit.
        """
        capacity = self.capacity(state)
        if capacity is None:
            return None
        position = self.position_of(state)
        known = all(map(is_known, (position, layout.reset, layout.length)))
        if not known:
            return _places_without_room(capacity, position, layout, time)[0]
        with jax.ensure_compile_time_eval():
            found = _places_without_room(capacity, position, layout, time)
            without, place = map(np.asarray, found)
        if np.any(without):
            longest = int(np.max(place[without])) + 1
            raise no_room(type(self).__name__, capacity, longest)
        return None

    def __call__(
        self,
        x: Float[Array, "b t d"],
        state: State | None = None,
        info: SequenceInfo | None = None,
        *,
        max_length: int | None = None,
    ) -> tuple[Float[Array, "b t d"], State]:
        """Map a sequence, with any masks.

        Inside jit, the output is NaN for tokens that do not fit into `state`.

        Args:
            x: the sequence.
            state: state after the previous tokens. None: each row begins a document.
            info: document starts, padding and prefixes in this call.
            max_length: tokens of the longest document that the returned state can
                hold, if it grows with the document (attention). None: the tokens of
                this call. Allowed only without a state.

        Returns:
            The outputs, and the state for the next call.

        Raises:
            InputError: `info.prefix` is given and the layer does not accept prefixes;
                the state is not one of this layer and of this batch size; or, outside
                jit, a token does not fit (see `capacity`).
        """
        info = SequenceInfo() if info is None else info
        self._check_axes(x, "b t d")
        x = jnp.asarray(x)
        self._check_masks(x, info, SequenceInfo)
        state = self._started(x, state, max_length)
        self._check_prefix(info.prefix)
        if info.valid is None:
            layout = Layout(info.reset, None, info.prefix, info.key)
            return self._sequence_with_room(x, state, layout)
        packed, layout, order = pack(x, info, info.valid)
        y, state = self._sequence_with_room(packed, state, layout)
        back = jnp.argsort(order, axis=1)
        y = jnp.take_along_axis(y, back[:, :, None], axis=1)
        return jnp.where(info.valid[:, :, None], y, jnp.zeros_like(y)), state

    def step(
        self, x: Float[Array, "b d"], state: State, info: TokenInfo | None = None
    ) -> tuple[Float[Array, "b d"], State]:
        """Map one token per row.

        Inside jit, the output is NaN for a token that does not fit into `state`.

        Raises:
            InputError: `info.prefix` is given (only `__call__` reads prefixes); the
                state is not one of this layer and of this batch size, or was made with
                `max_length` 0; or, outside jit, a token does not fit (see
                `capacity`).
        """
        info = TokenInfo() if info is None else info
        self._check_axes(x, "b d")
        x = jnp.asarray(x)
        if state is None:
            raise InputError(
                f"{type(self).__name__}.step needs a state; give that of a call, or "
                f"init_state({x.shape[0]}, max_length)"
            )
        self._check_masks(x, info, TokenInfo)
        self._check_state(x, state)
        if info.prefix is not None:
            raise InputError(
                f"{type(self).__name__}.step cannot read a prefix; "
                "give the whole prefix to one call of the sequence form"
            )
        if self.capacity(state) == 0:
            raise no_room(type(self).__name__, 0, 1)
        before = state
        if info.reset is not None:
            state = self.fresh_rows(state, info.reset)
        length = None if info.valid is None else info.valid.astype(jnp.int32)
        without = self._without_room(state, Layout(length=length), 1)
        y, state = self.token(x, state)
        if without is not None:
            y = jnp.where(without, jnp.nan, y)
        if info.valid is not None:
            state = self.choose_rows(info.valid, state, before)
            y = jnp.where(info.valid[:, None], y, jnp.zeros_like(y))
        return y, state

    def _sequence_with_room(
        self, x: Float[Array, "b t d"], state: State, layout: Layout
    ) -> tuple[Float[Array, "b t d"], State]:
        without = self._without_room(state, layout, x.shape[1])
        y, state = self.sequence(x, state, layout)
        if without is not None:
            y = jnp.where(without[:, :, None], jnp.nan, y)
        return y, state

    def _started(self, x: Any, state: State | None, max_length: int | None) -> State:
        """Return the given state, or a state for new documents.

        Raises:
            InputError: both a state and max_length are given.
        """
        if state is None:
            length = x.shape[1] if max_length is None else max_length
            check_size("max_length", length)
            return self.init_state(x.shape[0], max(length, 1))
        if max_length is not None:
            raise InputError(
                f"{type(self).__name__}: max_length is {max_length}, but the given "
                "state has a fixed size; give max_length to the first call"
            )
        self._check_state(x, state)
        return state

    def _check_axes(self, x: Any, axes: str) -> None:
        """Raise InputError unless `x` has these axes."""
        name = type(self).__name__
        if not hasattr(x, "dtype"):
            given = with_article(type(x).__name__)
            raise InputError(f"{name}: x is {given}; give an array")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise InputError(f"{name}: x is {x.dtype}; give floats")
        if x.ndim != len(axes.split()):
            raise InputError(
                f"{name}: x has shape {x.shape}; give it the axes `{axes}`"
            )

    def _check_masks(self, x: Any, info: Any, kind: type) -> None:
        """Raise InputError unless every mask is of bool, with the leading axes of x."""
        name = type(self).__name__
        if not isinstance(info, kind):
            given = with_article(type(info).__name__)
            raise InputError(f"{name}: info is {given}; give a {kind.__name__}")
        for mask in ("reset", "valid", "prefix"):
            given = getattr(info, mask)
            if given is None:
                continue
            if not hasattr(given, "dtype"):
                found = with_article(type(given).__name__)
                raise InputError(f"{name}: {mask} is {found}; give an array")
            if given.shape != x.shape[:-1]:
                axes = "b t" if kind is SequenceInfo else "b"
                raise InputError(
                    f"{name}: {mask} has shape {given.shape}; give it the axes "
                    f"`{axes}`, here {x.shape[:-1]}"
                )
            if given.dtype != jnp.bool_:
                raise InputError(
                    f"{name}: {mask} is {given.dtype}; give a mask of bool"
                )

    def _check_state(self, x: Any, state: State) -> None:
        """Raise InputError unless the state fits this layer and the batch of x.

        Only shapes and types are read. Under jit this costs nothing at run time.
        """
        batch = x.shape[0]
        needed = needed_state(self, batch, state_spec)
        self._check_class(state, needed)
        rows = self.position_of(state).shape[-1]
        if rows != batch:
            raise InputError(
                f"{type(self).__name__}: the batch size of x is {batch}, of the state "
                f"{rows}; give both the same, or no state for a new document"
            )
        self._check_sizes(state, needed)

    def _check_class(self, state: Any, needed: Needed) -> None:
        """Raise InputError unless the state has the class of `needed`."""
        check_class(type(self).__name__, state, needed)

    def _check_sizes(self, state: Any, needed: Needed) -> None:
        """Raise InputError unless the state's arrays have the sizes of `needed`."""
        check_sizes(type(self).__name__, state, needed)

    def _check_prefix(self, prefix: Any) -> None:
        if prefix is not None and not self.accepts_prefix:
            raise InputError(
                f"{type(self).__name__} does not accept a prefix; drop "
                "SequenceInfo.prefix or choose a layer that accepts one"
            )


def _places_without_room(
    capacity: int, position: Int[Array, "b"], layout: Layout, time: int
) -> tuple[Bool[Array, "b t"], Int[Array, "b t"]]:
    """Return a mask of real tokens that do not fit, and every token's position."""
    place, _ = layout.positions(position, time)
    if capacity:
        without = place >= capacity
    else:
        # The state holds nothing of a document that began before the call. XLA can
        # tell that a new state has no such document, so training pays nothing.
        number = layout.segments(time)
        goes_on = jnp.ones(place.shape, bool) if number is None else number == 0
        without = jnp.logical_and((position > 0)[:, None], goes_on)
    valid = layout.valid(time)
    return (without if valid is None else jnp.logical_and(without, valid)), place


def _with_checked_sizes(init_state: Any) -> Any:
    """Return `init_state` that refuses sizes that are not whole numbers."""

    @functools.wraps(init_state)
    def checked(self: Any, batch_size: Any, max_length: Any) -> Any:
        check_size("batch_size", batch_size)
        check_size("max_length", max_length)
        return init_state(self, batch_size, max_length)

    return checked


def state_spec(layer: MemoryLayer[State], batch_size: int, max_length: int) -> State:
    """Return the state's shapes and dtypes without allocating; the layer may be
    abstract."""
    graphdef, arrays = nnx.split(layer)

    def init(arrays: Any) -> State:
        return nnx.merge(graphdef, arrays).init_state(batch_size, max_length)

    return jax.eval_shape(init, arrays)


def state_bytes(layer: MemoryLayer[Any], max_length: int) -> int:
    """Return the bytes of one sequence's state, without positions."""
    leaves = jax.tree_util.tree_leaves_with_path(state_spec(layer, 1, max_length))
    return sum(
        leaf.size * leaf.dtype.itemsize
        for path, leaf in leaves
        if getattr(path[-1], "name", None) != "position"
    )
