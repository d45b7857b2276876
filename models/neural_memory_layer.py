"""Base of layers whose memory is a network that gradient steps write."""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from .associative_memory import AssociativeMemory, AssociativeState
from .interface import Layout, Metric
from .memory_inputs import MemoryInputs
from .ops.memory_network import MemoryNetwork, SlowWeights, Weights
from .ops.neural_memory import (
    neural_memory_chunkwise,
    neural_memory_step,
    read_memory,
)
from .ops.write_rule import (
    NeuralMemory,
    WriteRule,
    new_memory,
    used_weights,
    weights_before_window,
)
from .prefix import insert_prefixes

Module = TypeVar("Module", bound=nnx.Module)


class NeuralMemoryLayer(AssociativeMemory):
    """A layer whose memory is the weights of `network`, written by `write_rule`.

    A layer implements `init_tails`, `inputs` (with `NeuralTokens` as tokens) and
    `output`.
    """

    network: MemoryNetwork
    write_rule: WriteRule
    has_momentum: bool
    reports_surprise: bool = False
    """True if the sequence form reports a `Metric` named surprise; see
    `reporting_surprise`."""

    def make_initial(self, num_heads: int, rngs: nnx.Rngs, *, scale: float) -> None:
        """Create the learned weights of a new memory; see `initial_weights`."""
        weights = initial_weights(
            self.network,
            num_heads,
            rngs,
            scale=scale,
            logits=self.write_rule.link == "softmax",
        )
        self.initial = nnx.Dict(weights)

    def slow_weights(self) -> SlowWeights | None:
        """Return the network's weights that are not part of the memory."""
        return None

    def prefix_tokens(self) -> Float[Array, "p d"] | None:
        """Return the learned tokens that a new memory has read; None: none."""
        return None

    def init_state(self, batch_size: int, max_length: int) -> AssociativeState:
        state = super().init_state(batch_size, max_length)
        if max_length:
            return state
        # A state for a single call leaves no window open, so it needs no anchor.
        return state._replace(memory=state.memory._replace(anchor=None))

    def capacity(self, state: AssociativeState) -> int | None:
        memory: Any = state.memory
        carried = not self.write_rule.needs_anchor or (
            memory.anchor is not None or memory.pending is not None
        )
        return None if carried else 0

    def fresh_rows(
        self, state: AssociativeState, rows: Bool[Array, "b"]
    ) -> AssociativeState:
        return self.choose_rows(rows, self.init_state(rows.shape[0], 1), state)

    def init_memory(self, batch_size: int) -> Any:
        return self.new_network(batch_size)

    def new_network(self, batch_size: int) -> NeuralMemory:
        """Return the network of a new document, which has read the prefix tokens."""
        tokens = self.prefix_tokens()
        memory = self._blank(1)
        if tokens is not None:
            graphdef, arrays = nnx.split(self)

            # Compile one program, so that eager calls do not run many small ones.
            @jax.jit
            def read(arrays: Any, memory: NeuralMemory) -> NeuralMemory:
                return nnx.merge(graphdef, arrays)._read_prefix(memory)

            memory = read(arrays, memory)
        return jax.tree.map(
            lambda x: jnp.broadcast_to(x, (batch_size, *x.shape[1:])), memory
        )

    def _read_prefix(self, memory: NeuralMemory) -> NeuralMemory:
        """Return a new memory that has read the prefix tokens."""
        tokens = self.prefix_tokens()
        assert tokens is not None
        start = jnp.zeros((1,), jnp.int32)
        state = AssociativeState(memory, self.init_tails(1), start)
        inputs, _ = self.inputs(tokens[None], state, Layout())
        _, after = self._write(inputs, memory, None, None)
        blank = new_memory(after.weights, self.network, self.write_rule, momentum=False)
        return blank._replace(momentum=after.momentum)

    def _blank(self, batch_size: int) -> NeuralMemory:
        weights: Weights = {
            name: jnp.broadcast_to(w[...][None], (batch_size, *w[...].shape))
            for name, w in self.initial.items()
        }
        return new_memory(
            weights, self.network, self.write_rule, momentum=self.has_momentum
        )

    def _write(
        self,
        inputs: MemoryInputs,
        memory: NeuralMemory,
        reset: Bool[Array, "b t"] | None,
        initial: NeuralMemory | None,
        rule: WriteRule | None = None,
    ) -> tuple[Float[Array, "b t h v"], NeuralMemory]:
        return neural_memory_chunkwise(
            inputs.tokens,
            memory,
            network=self.network,
            rule=self.write_rule if rule is None else rule,
            slow=self.slow_weights(),
            initial=initial,
            reset=reset,
            valid=inputs.valid,
            chunk_size=self.config.chunk_size,
        )

    def write_and_read(
        self,
        inputs: MemoryInputs,
        memory: Any,
        reset: Bool[Array, "b t"] | None,
    ) -> tuple[Float[Array, "b t h v"], Any]:
        initial = self._initial(inputs, reset)
        return self._write(inputs, memory, reset, initial)

    def write_prefix_and_read(
        self,
        prefix: Bool[Array, "b t"],
        written: MemoryInputs,
        inputs: MemoryInputs,
        memory: Any,
        reset: Bool[Array, "b t"] | None,
    ) -> tuple[Float[Array, "b t h v"], Any]:
        # A prefix counts as further tokens of its document; windows begin with it.
        longer, begins, place = insert_prefixes(written, inputs, prefix, reset)
        begins = None if reset is None else begins
        read, memory = self.write_and_read(longer, memory, begins)
        return jnp.take_along_axis(read, place[:, :, None, None], axis=1), memory

    def _initial(
        self, inputs: MemoryInputs, reset: Bool[Array, "b t"] | None
    ) -> NeuralMemory | None:
        """Return a new memory if the writes need one, else None."""
        new = reset is not None or self.write_rule.keeps_norms
        return self.new_network(inputs.query.shape[0]) if new else None

    def sequence(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], AssociativeState]:
        if self.reports_surprise:
            self.surprise = Metric(self._surprise(x, state, layout))
        return super().sequence(x, state, layout)

    def _surprise(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> Float[Array, "b t"]:
        """Return ||M(k_t) - v_t||^2, M before the token's write, mean over heads."""
        inputs, _ = self.inputs(x, state, layout)
        inputs = inputs.only(layout.valid(x.shape[1]))
        prefix = layout.prefix_tokens(state.position, x.shape[1])
        reset, value, place = layout.reset, inputs.tokens.value, None
        if prefix is not None:
            written = self.prefix_inputs(x, inputs, layout)
            inputs, begins, place = insert_prefixes(written, inputs, prefix, reset)
            reset = None if reset is None else begins
        # Read at every key before that token's write; other writes are unchanged.
        tokens = inputs.tokens._replace(
            query=inputs.tokens.key, value=inputs.tokens.value.astype(jnp.float32)
        )
        foreseen, _ = self._write(
            inputs._replace(tokens=tokens),
            state.memory,
            reset,
            self._initial(inputs, reset),
            dataclasses.replace(self.write_rule, read="before"),
        )
        if place is not None:
            foreseen = jnp.take_along_axis(foreseen, place[:, :, None, None], axis=1)
        error = foreseen - value.astype(jnp.float32)
        return jnp.mean(jnp.sum(jnp.square(error), axis=-1), axis=-1)

    def write_and_read_token(
        self, inputs: MemoryInputs, memory: Any
    ) -> tuple[Float[Array, "b t h v"], Any]:
        initial = None
        if self.write_rule.keeps_norms:
            initial = self.new_network(inputs.query.shape[0])
        read, memory = neural_memory_step(
            jax.tree.map(lambda x: x[:, 0], inputs.tokens),
            memory,
            network=self.network,
            rule=self.write_rule,
            slow=self.slow_weights(),
            initial=initial,
        )
        return read[:, None], memory

    def read(
        self, query: Float[Array, "b t h k"], memory: Any
    ) -> Float[Array, "b t h v"]:
        weights = memory.weights
        if self.write_rule.read == "window":
            weights = weights_before_window(memory, self.write_rule)
        return self.read_weights(query, weights)

    def why_not_several(self) -> str | None:
        if self.prefix_tokens() is not None:
            return (
                "has persistent tokens, which a mixture with several maps cannot "
                "read; set persistent_tokens to 0"
            )
        if self.write_rule.schedule == "window":
            return (
                "takes steps that depend on a token's place in its mini-batch, but "
                "a memory of a mixture sees only some tokens; choose titans_lmm"
            )
        return super().why_not_several()

    def _without_prefix(self) -> str:
        optional = getattr(self.config, "prefix", False)
        return "set prefix to False" if optional else super()._without_prefix()

    def read_weights(
        self, query: Float[Array, "b t h k"], weights: Weights
    ) -> Float[Array, "b t h v"]:
        """Return the values at the queries from the weights alone."""
        used = used_weights(weights, self.write_rule)
        return read_memory(query, used, network=self.network, slow=self.slow_weights())


def initial_weights(
    network: MemoryNetwork,
    num_heads: int,
    rngs: nnx.Rngs,
    *,
    scale: float,
    logits: bool = False,
) -> dict[str, nnx.Param]:
    """Return learned weights of a new memory, by name.

    Args:
        network: network that the weights belong to.
        num_heads: number of memories.
        rngs: random streams for the weights.
        scale: standard deviation of the last matrix's outputs if its inputs have
            variance 1; for the other matrices it is 1.
        logits: the matrices are logits of a softmax, with standard deviation 1.
    """
    matrices = network.matrices()
    last = list(matrices)[-1]
    weights = {}
    for name, (size_in, size_out) in matrices.items():
        noise = jax.random.normal(
            rngs.params(), (num_heads, size_in, size_out), jnp.float32
        )
        gain = (scale if name == last else 1.0) * size_in**-0.5
        weights[name] = nnx.Param(noise if logits else noise * gain)
    for name, size in network.vectors().items():
        fill = 1.0 if name.endswith("norm") else 0.0
        weights[name] = nnx.Param(jnp.full((num_heads, size), fill, jnp.float32))
    return weights


def reporting_surprise(model: Module) -> Module:
    """Return the model, sharing its arrays, with surprise reported by neural memories.

    Their sequence form then reports a `Metric` `surprise`, `b t`: the memory's loss
    before the write, ||M(k_t) - v_t||^2, averaged over heads. Layers that hold a neural
    memory pass it on. It costs a second pass over the memory. A memory inside a mixture
    reports nothing.
    """
    copy = nnx.merge(*nnx.split(model))
    for _, module in nnx.iter_modules(copy):
        if isinstance(module, NeuralMemoryLayer):
            module.reports_surprise = True
    return copy
