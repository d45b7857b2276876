"""The residual block, and the stack of blocks in a pattern."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from memzoo.errors import InputError

from .capacity import smallest_capacity
from .interface import (
    AuxiliaryLoss,
    Layout,
    MemoryLayer,
    Metric,
)
from .layer_checks import check_positive
from .layer_config import LayerConfig
from .loss import Auxiliary
from .projection import RMSNorm, output_gain, projection
from .stack_state import StackState
from .state_checks import Needed

RematPolicy = Literal["none", "full", "dots", "dots_with_no_batch_dims"]

_POLICIES: dict[str, Any] = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_with_no_batch_dims": (
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    ),
}


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group of repeated blocks; the repeats run in one `jax.lax.scan`."""

    layers: tuple[LayerConfig, ...]
    """Layers of the group's blocks, in order."""
    repeats: int = 1
    mlp_widths: tuple[int, ...] | None = None
    """Hidden width of each block's SwiGLU, one per layer; 0: no MLP. None: the model's
    `mlp_width` for all."""

    def __post_init__(self) -> None:
        if not self.layers:
            raise InputError("a group of the pattern has no layers; give at least one")
        for index, layer in enumerate(self.layers):
            if isinstance(layer, type) or not isinstance(layer, LayerConfig):
                given = repr(layer)
                if isinstance(layer, nnx.Module):  # its repr has many lines
                    given = f"a {type(layer).__name__}"
                raise InputError(
                    f"pattern.layers[{index}] is {given}; give a layer config"
                )
        if self.repeats < 1:
            raise InputError(f"repeats is {self.repeats}; give 1 or more")
        widths = self.mlp_widths
        if widths is not None and len(widths) != len(self.layers):
            raise InputError(
                f"mlp_widths has {len(widths)} numbers and the group has "
                f"{len(self.layers)} layers; give one for each layer, or None"
            )
        if widths is not None and min(widths) < 0:
            raise InputError(f"mlp_widths is {widths}; give 0 (none) or more for each")


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Residual blocks in a pattern."""

    pattern: tuple[Group, ...]
    mlp_width: int = 0
    """Hidden width of each block's SwiGLU; 0: no MLP."""
    norm_epsilon: float = 1e-5
    """Epsilon of the blocks' norms: added to the mean square. Layers have their own."""
    zero_centred_norm: bool = False
    """Multiply by 1 + scale in the blocks' norms, with a scale that begins at 0."""
    remat: RematPolicy = "none"
    """Values of a block kept for the backward pass: all (none), none (full), or matrix
    products (dots)."""

    def __post_init__(self) -> None:
        if not self.pattern:
            raise InputError("pattern is empty; give at least one group of layers")
        for index, group in enumerate(self.pattern):
            if not isinstance(group, Group):
                raise InputError(f"pattern[{index}] is {group!r}; give a Group")
        if self.mlp_width < 0:
            raise InputError(f"mlp_width is {self.mlp_width}; give 0 (none) or more")
        check_positive("norm_epsilon", self.norm_epsilon)
        if self.remat != "none" and self.remat not in _POLICIES:
            raise InputError(
                f"remat {self.remat!r} is not a policy; choose one of "
                f"none, {', '.join(_POLICIES)}"
            )

    @property
    def depth(self) -> int:
        """Number of blocks in the stack."""
        return sum(len(group.layers) * group.repeats for group in self.pattern)

    def norm(self, width: int) -> RMSNorm:
        """Return a norm of the residual stream."""
        return RMSNorm(width, self.norm_epsilon, zero_centred=self.zero_centred_norm)


class SwiGLU(nnx.Module):
    """W_down (silu(W_gate x) * W_up x) (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, width: int, hidden: int, rngs: nnx.Rngs, depth: int):
        self.gate = projection(width, hidden, rngs)
        self.up = projection(width, hidden, rngs)
        self.down = projection(hidden, width, rngs, gain=output_gain(depth))

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))


class Block(nnx.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self,
        layer: LayerConfig,
        config: StackConfig,
        width: int,
        rngs: nnx.Rngs,
        layer_index: int | Array,
        mlp_width: int | None = None,
    ):
        depth = config.depth
        mlp_width = config.mlp_width if mlp_width is None else mlp_width
        self.norm = config.norm(width)
        self.mixer: MemoryLayer = layer.build(
            width, rngs, layer_index=layer_index, depth=depth
        )
        if mlp_width:
            self.mlp_norm = config.norm(width)
            self.mlp = SwiGLU(width, mlp_width, rngs, depth)
        else:
            self.mlp = None

    def sequence(
        self, x: Float[Array, "b t d"], state: Any, layout: Layout
    ) -> tuple[Float[Array, "b t d"], Any]:
        if not self.mixer.accepts_prefix:
            layout = layout._replace(prefix=None)
        y, state = self.mixer.sequence(self.norm(x), state, layout)
        return self._add_mlp(x + y), state

    def token(
        self, x: Float[Array, "b d"], state: Any
    ) -> tuple[Float[Array, "b d"], Any]:
        y, state = self.mixer.token(self.norm(x), state)
        return self._add_mlp(x + y), state

    def _add_mlp(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        return x if self.mlp is None else x + self.mlp(self.mlp_norm(x))


class BlockGroup(nnx.Module):
    """One repeat of a group; `Stack` stacks the parameters of all repeats."""

    def __init__(
        self,
        group: Group,
        config: StackConfig,
        width: int,
        rngs: nnx.Rngs,
        first_index: Array,
    ):
        widths = group.mlp_widths or [None] * len(group.layers)
        self.blocks = nnx.List(
            [
                Block(layer, config, width, rngs, first_index + offset, mlp_width)
                for offset, (layer, mlp_width) in enumerate(
                    zip(group.layers, widths, strict=True)
                )
            ]
        )


class Stack(MemoryLayer[StackState]):
    """A stack of blocks in a pattern, itself a `MemoryLayer`.

    Each group is one `jax.lax.scan` over its repeats, so that compile time does not
    grow with depth. It accepts a prefix if any layer does; the other layers read
    causally.
    """

    def __init__(self, config: StackConfig, width: int, rngs: nnx.Rngs):
        self.config = config
        groups, first = [], 0
        for group in config.pattern:
            starts = first + len(group.layers) * jnp.arange(group.repeats)
            groups.append(_build_repeats(group, config, width, rngs, starts))
            first += len(group.layers) * group.repeats
        self.groups = nnx.List(groups)
        mixers = self._mixers()
        self.state_growth = _fastest(mixer.state_growth for mixer in mixers)
        self.accepts_prefix = any(mixer.accepts_prefix for mixer in mixers)

    def _mixers(self) -> list[MemoryLayer]:
        return [block.mixer for group in self.groups for block in group.blocks]

    def init_state(self, batch_size: int, max_length: int) -> StackState:
        states = []
        for group in self.groups:
            graphdef, arrays = nnx.split(group)

            def one(arrays: Any, graphdef: Any = graphdef) -> tuple:
                blocks = nnx.merge(graphdef, arrays).blocks
                return tuple(
                    block.mixer.init_state(batch_size, max_length) for block in blocks
                )

            states.append(jax.vmap(one)(arrays))
        return StackState(states)

    def fresh_rows(self, state: StackState, rows: Bool[Array, "b"]) -> StackState:
        fresh = []
        for group, held in zip(self.groups, state, strict=True):
            graphdef, arrays = nnx.split(group)

            def one(arrays: Any, held: tuple, graphdef: Any = graphdef) -> tuple:
                blocks = nnx.merge(graphdef, arrays).blocks
                return tuple(
                    block.mixer.fresh_rows(each, rows)
                    for block, each in zip(blocks, held, strict=True)
                )

            fresh.append(jax.vmap(one)(arrays, held))
        return StackState(fresh)

    def choose_rows(
        self, rows: Bool[Array, "b"], chosen: StackState, other: StackState
    ) -> StackState:
        picked = []
        for group, ours, theirs in zip(self.groups, chosen, other, strict=True):
            graphdef, arrays = nnx.split(group)

            def one(
                arrays: Any, ours: tuple, theirs: tuple, graphdef: Any = graphdef
            ) -> tuple:
                blocks = nnx.merge(graphdef, arrays).blocks
                return tuple(
                    block.mixer.choose_rows(rows, a, b)
                    for block, a, b in zip(blocks, ours, theirs, strict=True)
                )

            picked.append(jax.vmap(one)(arrays, ours, theirs))
        return StackState(picked)

    def _check_class(self, state: Any, needed: Needed) -> None:
        super()._check_class(state, needed)
        found, wanted = ([len(blocks) for blocks in s] for s in (state, needed.long))
        if found != wanted:
            raise InputError(
                f"the state has groups of {found} layers, and the model of {wanted}; "
                "give the state that this model returned, or none"
            )
        for mixer, *parts in self._mixers_with(state, *needed):
            mixer._check_class(parts[0], Needed(*parts[1:]))

    def _check_sizes(self, state: StackState, needed: Needed) -> None:
        for mixer, *parts in self._mixers_with(state, *needed):
            mixer._check_sizes(parts[0], Needed(*parts[1:]))

    def capacity(self, state: StackState) -> int | None:
        return smallest_capacity(
            mixer.capacity(held) for mixer, held in self._mixers_with(state)
        )

    def position_of(self, state: StackState) -> Int[Array, "b"]:
        # All blocks are at the same position.
        mixer, held = next(self._mixers_with(state))
        return mixer.position_of(held)[0]

    def _mixers_with(self, *states: StackState) -> Iterator[Any]:
        """Yield each block's layer with its states; the first axis is the repeats."""
        for group, *held in zip(self.groups, *states, strict=True):
            for block, *each in zip(group.blocks, *held, strict=True):
                yield block.mixer, *each

    def sequence(
        self, x: Float[Array, "b t d"], state: StackState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], StackState]:
        def apply(block: Block, x: Array, each: Any, number: Array) -> Any:
            return block.sequence(x, each, layout.with_own_key(number))

        return self._scan(x, state, apply)

    def token(
        self, x: Float[Array, "b d"], state: StackState
    ) -> tuple[Float[Array, "b d"], StackState]:
        return self._scan(x, state, lambda block, x, each, _: block.token(x, each))

    def _scan(
        self, x: Array, state: StackState, apply: Any
    ) -> tuple[Array, StackState]:
        after, first = [], 0
        for group, held in zip(self.groups, state, strict=True):
            graphdef, params, rest = nnx.split(group, nnx.Param, ...)
            count = len(group.blocks)
            repeats = jax.tree.leaves(params)[0].shape[0]
            starts = first + count * jnp.arange(repeats)
            first += count * repeats

            def body(
                x: Array, repeat: tuple, graphdef: Any = graphdef
            ) -> tuple[Array, tuple]:
                params, rest, held, start = repeat
                group = nnx.merge(graphdef, params, rest)
                states = []
                pairs = zip(group.blocks, held, strict=True)
                for place, (block, each) in enumerate(pairs):
                    x, new = apply(block, x, each, start + place)
                    states.append(new)
                said = (
                    auxiliary(nnx.pop(group, AuxiliaryLoss)),
                    nnx.to_pure_dict(nnx.pop(group, Metric)),
                )
                # Do not return parameters: the scan would stack copies of them.
                return x, (tuple(states), said, nnx.state(group, nnx.Not(nnx.Param)))

            if self.config.remat != "none":
                body = jax.checkpoint(
                    body, prevent_cse=False, policy=_POLICIES[self.config.remat]
                )
            repeated = (params, rest, held, starts)
            x, (states, said, rest) = jax.lax.scan(body, x, repeated)
            # Set only if something was reported: a jitted function may close over it.
            if jax.tree.leaves(rest):
                nnx.update(group, rest)
            if jax.tree.leaves(said):
                group.said = Said(said)
            after.append(states)
        return x, StackState(after)

    def pop_said(self) -> tuple[tuple[Auxiliary, ...], dict[str, Array]]:
        """Return and clear the last call's auxiliary losses and metrics by path.

        The first axis of sums and metrics is the repeats.
        """
        parts: tuple[Auxiliary, ...] = ()
        metrics: dict[str, Array] = {}
        for index, group in enumerate(self.groups):
            said = getattr(group, "said", None)
            if said is None:
                continue
            del group.said
            losses, reported = said.get_value()
            parts += losses
            for path, leaf in jax.tree_util.tree_leaves_with_path(reported):
                name = "/".join(str(getattr(key, "key", key)) for key in path)
                metrics[f"groups/{index}/{name}"] = leaf
        return parts, metrics


def auxiliary(popped: Any) -> tuple[Auxiliary, ...]:
    """Return the auxiliary losses that modules reported, from popped variables."""
    parts = []
    for _, variable in nnx.to_flat_state(popped):
        value, of = variable.get_value(), variable.get_metadata().get("of")
        if of is None:
            parts.append(Auxiliary.scalar(value))
        else:
            parts.append(Auxiliary(value, of))
    return tuple(parts)


class Said(nnx.Variable):
    """Losses and metrics that the layers of a group reported in the last call."""


def _build_repeats(
    group: Group, config: StackConfig, width: int, rngs: nnx.Rngs, starts: Array
) -> BlockGroup:
    @nnx.split_rngs(splits=group.repeats)
    @nnx.vmap(in_axes=(0, 0), out_axes=0, transform_metadata={nnx.PARTITION_NAME: None})
    def build(rngs: nnx.Rngs, start: Array) -> BlockGroup:
        return BlockGroup(group, config, width, rngs, start)

    return build(rngs, starts)


def _fastest(growths: Any) -> Any:
    order = ("constant", "bounded", "log", "linear", "square")
    return max(growths, key=order.index)
