"""Mixture of memories: several equal memories; each token writes to a few of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PyTree

from memzoo.errors import InputError

from .associative_memory import AssociativeMemory
from .gated_delta_net import GatedDeltaNetConfig
from .interface import AuxiliaryLoss, Layout, MemoryLayer, Metric
from .layer_checks import check_choice
from .layer_config import Family, LayerConfig, RegisteredConfig
from .memory_copies import (
    Tails,
    inputs_of_copies,
    inputs_of_slots,
    one_copy,
    own_maps,
    own_tails,
    query_of_copies,
    spread_tails,
    stack_copies,
    state_for,
    with_own_tails,
)
from .ops.routing import Routing, Slots, route, selected, tokens_to_slots
from .projection import projection
from .routed_writes import Copies, with_skip, write_dense, write_grouped, write_token
from .routing_loss import RoutingLoss, RoutingSums

Form = Literal["auto", "packed", "padded", "dense"]


@dataclass(frozen=True, kw_only=True)
class MixtureOfMemoriesConfig(RegisteredConfig):
    """Mixture-of-Memories (Du et al. 2025, arXiv:2502.13685), over any memory.

    With p_t = softmax(W_g x_t), the memories I_t of its top_k largest entries and
    g_t^m = p_t^m / (sum of p_t over I_t):

        M_t^m = update(M_(t-1)^m; k_t^m, v_t^m) for m in I_t, else M_(t-1)^m
        o_t = q_t (sum over I_t of g_t^m M_t^m + M_t^shared)

    `update`, and everything before and after it, is as in the layer `memory`. Each
    memory has separate maps for keys, values, write strengths and data-dependent
    decays; all other parameters are shared.

    The loss gains balance_scale * M * sum over m of f_m P_m (top_k if either f or P is
    uniform) and z_scale times the mean of logsumexp(W_g x)^2. Here f_m is the fraction
    of tokens that chose m and P_m the mean of p^m. Both terms are over the real tokens
    of a batch and divided by the depth.

    Differs from it in: the short convolutions run over all tokens in order, so that
    they see the same neighbours in training, prefill and decoding (in the published
    training they see the neighbours in the grouped batch); tokens are grouped stably
    and none is dropped; the balance loss is computed per layer; the router can have
    noise in training.
    """

    family: ClassVar[Family] = "mixture"
    small: ClassVar[Mapping[str, Any]] = {"memory": GatedDeltaNetConfig(chunk_size=8)}

    memory: LayerConfig = field(default_factory=GatedDeltaNetConfig)
    """Config of the memory to copy; its chunk_size is used here too."""
    num_memories: int = 4
    """Number of memories that tokens are routed to, M."""
    top_k: int = 2
    """Number of memories that each token writes and reads."""
    shared_memory: bool = True
    """Add one memory that every token writes and reads."""
    single_kv_proj: bool = False
    """Use the same maps for all memories, the shared one included."""
    balance_scale: float = 1e-3
    """Weight of the loss that balances the use of memories; best in the paper: 1e-3."""
    z_scale: float = 0.0
    """Weight of the loss that keeps the router's logits small; not in the paper."""
    router_noise: float = 0.0
    """Standard deviation of noise on the router's logits in training; not in the
    paper."""
    form: Form = "auto"
    """Affects speed only. packed: tokens grouped by memory in one row; padded: one
    full-length row per memory; dense: every memory processes every token and masks
    most. auto: packed if the memory's rule supports it, else padded."""

    def __post_init__(self) -> None:
        if isinstance(self.memory, type) or not isinstance(self.memory, LayerConfig):
            raise InputError(
                f"memory is {self.memory!r}; give a layer config, such as "
                "GatedDeltaNetConfig()"
            )
        if self.num_memories < 1:
            raise InputError(f"num_memories is {self.num_memories}; give 1 or more")
        if not 1 <= self.top_k <= self.num_memories:
            raise InputError(
                f"top_k is {self.top_k}; give 1 to num_memories, {self.num_memories}"
            )
        for name in ("balance_scale", "z_scale", "router_noise"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise InputError(f"{name} is {value}; give a finite number, 0 or more")
        check_choice("form", self.form, get_args(Form))

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "MixtureOfMemories":
        return MixtureOfMemories(self, width, rngs, layer_index, depth)


class MixtureState(NamedTuple):
    """State of a `MixtureOfMemories`.

    Attributes:
        memories: all routed memories, `b m ...`.
        shared_memory: the shared memory, `b ...`; None: there is none.
        tails: last inputs of the short convolutions; `b m w d` for per-memory maps.
        shared_tails: last inputs for the shared memory's maps, `b w d`.
        position: number of tokens of the document so far.
    """

    memories: PyTree[Array]
    shared_memory: PyTree[Array] | None
    tails: PyTree[Array]
    shared_tails: tuple[Array, ...]
    position: Int[Array, "b"]


class MixtureOfMemories(MemoryLayer[MixtureState]):
    """See `MixtureOfMemoriesConfig`."""

    def __init__(
        self,
        config: MixtureOfMemoriesConfig,
        width: int,
        rngs: nnx.Rngs,
        layer_index: int | Array,
        depth: int,
    ):
        own = not config.single_kv_proj
        copies = config.num_memories + config.shared_memory if own else 1
        layers = [
            _check_memory(
                config.memory.build(width, rngs, layer_index=layer_index, depth=depth),
                config.form,
            )
            for _ in range(copies)
        ]
        self.config = config
        self.depth = depth
        self.router = projection(width, config.num_memories, rngs)
        self.memory: AssociativeMemory = (
            stack_copies(layers[: config.num_memories]) if own else layers[0]
        )
        self.shared_maps = (
            own_maps(layers[-1]) if own and config.shared_memory else None
        )
        self.state_growth = layers[0].state_growth

    def init_state(self, batch_size: int, max_length: int) -> MixtureState:
        count = self.config.num_memories
        del max_length
        empty = self.memory.init_memory(batch_size)
        tails = self.memory.init_tails(batch_size)
        shared_tails = ()
        if not self.config.single_kv_proj:
            if self.config.shared_memory:
                shared_tails = own_tails(self.memory, tails)
            tails = spread_tails(self.memory, tails, count)
        return MixtureState(
            memories=jax.tree.map(lambda a: jnp.stack([a] * count, axis=1), empty),
            shared_memory=empty if self.config.shared_memory else None,
            tails=tails,
            shared_tails=shared_tails,
            position=jnp.zeros((batch_size,), jnp.int32),
        )

    def sequence(
        self, x: Float[Array, "b t d"], state: MixtureState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], MixtureState]:
        time = x.shape[1]
        valid = layout.valid(time)
        logits = self._logits(x)
        noisy = self._with_noise(logits, layout)
        routing = route(noisy, self.config.top_k)
        inputs, tails = self._inputs(x, state, layout, routing)
        there = selected(routing.chosen, self.config.num_memories, valid)
        self._report(logits, routing, there, valid)
        copies = Copies(self.memory, not self.config.single_kv_proj)
        write = self._writes(time)
        read, memories = write(
            copies, inputs, state.memories, routing, there, layout.reset
        )
        shared, shared_memory, shared_tails = self._shared(x, inputs, state, layout)
        if shared is not None:
            read = read + shared
        y = self.memory.output(read.astype(x.dtype), x)
        _, position = layout.positions(state.position, time)
        return y, MixtureState(memories, shared_memory, tails, shared_tails, position)

    def token(
        self, x: Float[Array, "b d"], state: MixtureState
    ) -> tuple[Float[Array, "b d"], MixtureState]:
        x = x[:, None]
        layout = Layout()
        inputs, tails = self._inputs(x, state, layout)
        routing = route(self._logits(x), self.config.top_k)
        copies = Copies(self.memory, not self.config.single_kv_proj)
        read, memories = write_token(copies, inputs, state.memories, routing)
        shared, shared_memory, shared_tails = self._shared(
            x, inputs, state, layout, token=True
        )
        if shared is not None:
            read = read + shared
        y = self.memory.output(read.astype(x.dtype), x)[:, 0]
        position = state.position + 1
        return y, MixtureState(memories, shared_memory, tails, shared_tails, position)

    def routing(self, x: Float[Array, "b t d"]) -> Routing:
        """Return which memories each token of the layer's input writes and reads."""
        return route(self._logits(x), self.config.top_k)

    def _form(self) -> str:
        if self.config.form != "auto":
            return self.config.form
        return "packed" if self.memory.packs_several else "padded"

    def _writes(self, time: int) -> Callable[..., tuple[Array, PyTree[Array]]]:
        """Return the form in which a sequence is written."""
        form = self._form()
        if form == "dense":
            return write_dense
        if form == "padded":
            return partial(write_grouped, chunk_size=None)
        size = self.memory.chunk_size_of_several(time)
        return partial(write_grouped, chunk_size=size)

    def _logits(self, x: Float[Array, "b t d"]) -> Float[Array, "b t m"]:
        """Return the router's logits, by exact products: small differences decide."""
        wide = jnp.promote_types(x.dtype, jnp.float32)
        kernel = self.router.kernel[...].astype(wide)
        return jnp.einsum("btd,dm->btm", x.astype(wide), kernel, precision="highest")

    def _with_noise(
        self, logits: Float[Array, "b t m"], layout: Layout
    ) -> Float[Array, "b t m"]:
        """Return the logits that choose memories, with noise in training."""
        if layout.key is None or self.config.router_noise == 0:
            return logits
        noise = jax.random.normal(layout.key, logits.shape, logits.dtype)
        return logits + self.config.router_noise * noise

    def _inputs(
        self,
        x: Float[Array, "b t d"],
        state: MixtureState,
        layout: Layout,
        routing: Routing | None = None,
    ) -> tuple[Any, Tails]:
        """Return the inputs for the writing form, and the new tails."""
        if self.config.single_kv_proj:
            own = state_for(state.tails, state.position)
            return self.memory.inputs(x, own, layout)
        if routing is None or state.tails or self._form() != "packed":
            return inputs_of_copies(self.memory, x, state.tails, state.position, layout)
        query = query_of_copies(self.memory, x, state.position, layout)
        place, _ = layout.positions(state.position, x.shape[1])

        def in_slots(slots: Slots) -> Any:
            tokens = tokens_to_slots(x, slots, routing.chosen)
            token = jnp.maximum(slots.pair, 0) // self.config.top_k
            places = jnp.take_along_axis(place, token, axis=1)
            inputs = inputs_of_slots(self.memory, tokens, places, slots.which)
            return inputs.with_query(tokens_to_slots(query, slots, routing.chosen))

        return in_slots, ()

    def _shared(
        self,
        x: Float[Array, "b t d"],
        inputs: Any,
        state: MixtureState,
        layout: Layout,
        *,
        token: bool = False,
    ) -> tuple[Array | None, PyTree[Array] | None, tuple[Array, ...]]:
        """Return the shared memory's read, memory and tails."""
        if not self.config.shared_memory:
            return None, None, ()
        layer, tails = self.memory, ()
        if self.shared_maps is not None:
            layer = one_copy(self.memory, self.shared_maps)
            before = with_own_tails(layer, state.tails, state.shared_tails)
            own = state_for(before, state.position)
            inputs, after = layer.inputs(x, own, layout)
            tails = own_tails(layer, after)
        memory: Any = state.shared_memory
        if token:
            read, memory = layer.write_and_read_token(inputs, memory)
        else:
            inputs = inputs.only(layout.valid(x.shape[1]))
            read, memory = layer.write_and_read(inputs, memory, layout.reset)
        return with_skip(read, inputs), memory, tails

    def _report(
        self,
        logits: Float[Array, "b t m"],
        routing: Routing,
        there: Bool[Array, "b t m"],
        valid: Bool[Array, "b t"] | None,
    ) -> None:
        """Report auxiliary losses and metrics over the real tokens of the batch."""
        config = self.config
        real = jnp.ones(there.shape[:2], bool) if valid is None else valid

        def total(a: Float[Array, "b t *m"]) -> Array:
            mask = real.reshape(real.shape + (1,) * (a.ndim - 2))
            return jnp.sum(jnp.where(mask, a, 0), axis=(0, 1))

        entropy = jnp.sum(jax.scipy.special.entr(routing.probability), axis=-1)
        sums = RoutingSums(
            tokens=jnp.sum(real, dtype=logits.dtype),
            chosen=total(there.astype(logits.dtype)),
            probability=total(routing.probability),
            z=total(jax.nn.logsumexp(logits, axis=-1) ** 2),
        )
        loss = RoutingLoss(config.balance_scale, config.z_scale, self.depth)
        self.routing_loss = AuxiliaryLoss(sums, of=loss)
        self.load = Metric(sums.mean(sums.chosen) / config.top_k)
        self.routing_entropy = Metric(sums.mean(total(entropy)))
        self.balance = Metric(sums.balance)
        self.z = Metric(sums.mean(sums.z))


def _check_memory(layer: MemoryLayer[Any], form: Form) -> AssociativeMemory:
    """Return the layer, if a mixture can hold it.

    Raises:
        InputError: a mixture cannot hold this layer.
    """
    if not isinstance(layer, AssociativeMemory):
        raise InputError(
            f"memory is {type(layer).__name__}, not an AssociativeMemory; choose "
            "a layer with a memory that is written at keys, such as gated_delta_net"
        )
    reason = layer.why_not_several()
    if reason is not None:
        raise InputError(f"memory is {type(layer).__name__}, which {reason}")
    if form in ("packed", "dense") and not layer.packs_several:
        raise InputError(
            f"form is {form!r}, which needs a matrix memory, but memory is "
            f"{type(layer).__name__}; choose auto or padded"
        )
    return layer
