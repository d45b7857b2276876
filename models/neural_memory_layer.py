"""What layers share whose memory is a network that is written by gradient steps."""

import dataclasses
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from .associative_memory import AssociativeMemory, AssociativeState
from .interface import Layout, Metric
from .ops.memory_network import MemoryNetwork, SlowWeights, Weights
from .ops.neural_memory import (
    neural_memory_chunkwise,
    neural_memory_step,
    read_memory,
)
from .ops.write_rule import NeuralMemory, WriteRule, new_memory
from .ops.write_schedule import Gates
from .prefix import insert_prefixes

Module = TypeVar("Module", bound=nnx.Module)


class NeuralInputs(NamedTuple):
    """What a neural memory takes from the tokens; gates `b t h`, float32.

    Attributes:
        valid: the other tokens change no memory; None: all count.
        skip: added to what is read; None: nothing.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]
    gates: Gates
    valid: Bool[Array, "b t"] | None = None
    skip: Float[Array, "b t h v"] | None = None

    def only(self, valid: Bool[Array, "b t"] | None) -> "NeuralInputs":
        """Turn the other tokens into identity tokens, which change no memory."""
        return self if valid is None else self._replace(valid=valid)


class NeuralMemoryLayer(AssociativeMemory):
    """A layer whose memory is the weights of `network`, written by `write_rule`.

    Of its own it has `inputs`, which returns `NeuralInputs`, and `output`.
    """

    network: MemoryNetwork
    write_rule: WriteRule
    has_momentum: bool
    reports_surprise: bool = False
    """Whether the sequence form leaves a `Metric` named surprise; see
    `reporting_surprise`."""

    def make_initial(self, num_heads: int, rngs: nnx.Rngs, *, scale: float) -> None:
        """Create the learned weights of a new memory.

        Args:
            num_heads: memories.
            rngs: for the weights.
            scale: standard deviation of what the last matrix makes of an input whose
                entries have variance 1; of the others it is 1.
        """
        matrices = self.network.matrices()
        last = list(matrices)[-1]
        weights = {}
        for name, (size_in, size_out) in matrices.items():
            noise = jax.random.normal(
                rngs.params(), (num_heads, size_in, size_out), jnp.float32
            )
            gain = scale if name == last else 1.0
            weights[name] = nnx.Param(noise * (gain * size_in**-0.5))
        for name, size in self.network.vectors().items():
            fill = 1.0 if name == "norm" else 0.0
            weights[name] = nnx.Param(jnp.full((num_heads, size), fill, jnp.float32))
        self.initial = nnx.Dict(weights)

    def slow_weights(self) -> SlowWeights | None:
        """Weights of the network that are not part of the memory."""
        return None

    def prefix_tokens(self) -> Float[Array, "p d"] | None:
        """Learned tokens that a new memory has read; None: none."""
        return None

    def init_state(self, batch_size: int, max_length: int) -> AssociativeState:
        state = super().init_state(batch_size, max_length)
        if max_length:
            return state
        # Not carried on: no window is left open that would need its anchor.
        memory: Any = state.memory
        return state._replace(memory=memory._replace(anchor=None))

    def capacity(self, state: AssociativeState) -> int | None:
        memory: Any = state.memory
        carried = memory.anchor is not None or self.write_rule.update_every == 1
        return None if carried else 0

    def fresh_rows(
        self, state: AssociativeState, rows: Bool[Array, "b"]
    ) -> AssociativeState:
        return self.choose_rows(rows, self.init_state(rows.shape[0], 1), state)

    def init_memory(self, batch_size: int) -> NeuralMemory:  # type: ignore[override]
        tokens = self.prefix_tokens()
        memory = self._blank(1)
        if tokens is not None:
            graphdef, arrays = nnx.split(self)

            # Outside a trace it is one program and not many small ones.
            @jax.jit
            def read(arrays: Any, memory: NeuralMemory) -> NeuralMemory:
                return nnx.merge(graphdef, arrays)._read_prefix(memory)

            memory = read(arrays, memory)
        return jax.tree.map(
            lambda x: jnp.broadcast_to(x, (batch_size, *x.shape[1:])), memory
        )

    def _read_prefix(self, memory: NeuralMemory) -> NeuralMemory:
        """A new memory that has read the prefix tokens."""
        tokens = self.prefix_tokens()
        assert tokens is not None
        start = jnp.zeros((1,), jnp.int32)
        state = AssociativeState(memory, self.init_tails(1), start)  # type: ignore[arg-type]
        inputs, _ = self.inputs(tokens[None], state, Layout())
        _, after = self._write(inputs, memory, None, None)  # type: ignore[arg-type]
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
        inputs: NeuralInputs,
        memory: NeuralMemory,
        reset: Bool[Array, "b t"] | None,
        initial: NeuralMemory | None,
        rule: WriteRule | None = None,
    ) -> tuple[Float[Array, "b t h v"], NeuralMemory]:
        return neural_memory_chunkwise(
            inputs.query,
            inputs.key,
            inputs.value,
            inputs.gates,
            memory,
            network=self.network,
            rule=self.write_rule if rule is None else rule,
            slow=self.slow_weights(),
            initial=initial,
            reset=reset,
            valid=inputs.valid,
            chunk_size=self.config.chunk_size,
        )

    def write_and_read(  # type: ignore[override]
        self,
        inputs: NeuralInputs,
        memory: NeuralMemory,
        reset: Bool[Array, "b t"] | None,
    ) -> tuple[Float[Array, "b t h v"], NeuralMemory]:
        initial = self._initial(inputs, reset)
        return self._write(inputs, memory, reset, initial)

    def _write_and_read_behind(  # type: ignore[override]
        self,
        prefix: Bool[Array, "b t"],
        written: NeuralInputs,
        inputs: NeuralInputs,
        memory: NeuralMemory,
        reset: Bool[Array, "b t"] | None,
    ) -> tuple[Float[Array, "b t h v"], NeuralMemory]:
        longer, begins, place = self._with_prefixes(prefix, written, inputs, reset)
        read, memory = self.write_and_read(longer, memory, begins)
        return jnp.take_along_axis(read, place[:, :, None, None], axis=1), memory

    @staticmethod
    def _with_prefixes(
        prefix: Bool[Array, "b t"],
        written: NeuralInputs,
        inputs: NeuralInputs,
        reset: Bool[Array, "b t"] | None,
    ) -> tuple[NeuralInputs, Bool[Array, "b s"] | None, Array]:
        """The tokens behind those of their prefixes; see `insert_prefixes`.

        A prefix is so many more tokens of its document, and windows begin with it.
        """
        real = jnp.ones_like(prefix) if inputs.valid is None else inputs.valid
        none = jnp.zeros_like(prefix) if reset is None else reset
        longer, begins, place = insert_prefixes(
            written.only(prefix), inputs._replace(valid=real), prefix, none
        )
        return longer, None if reset is None else begins, place

    def _initial(
        self, inputs: NeuralInputs, reset: Bool[Array, "b t"] | None
    ) -> NeuralMemory | None:
        """A new memory, where the writes ask for one."""
        new = reset is not None or self.write_rule.keep_row_norms
        return self.init_memory(inputs.query.shape[0]) if new else None

    def sequence(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], AssociativeState]:
        if self.reports_surprise:
            self.surprise = Metric(self._surprise(x, state, layout))
        return super().sequence(x, state, layout)

    def _surprise(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> Float[Array, "b t"]:
        """||M(k_t) - v_t||^2 of the memory before the token, averaged over heads."""
        inputs, _ = self.inputs(x, state, layout)
        inputs = inputs.only(layout.valid(x.shape[1]))  # type: ignore[assignment]
        assert isinstance(inputs, NeuralInputs)
        prefix = layout.prefix_tokens(state.position, x.shape[1])
        reset, value, place = layout.reset, inputs.value, None
        if prefix is not None:
            written: Any = self.prefix_inputs(x, inputs, layout)  # type: ignore[arg-type]
            inputs, reset, place = self._with_prefixes(prefix, written, inputs, reset)
        # What every key reads before its own write, all other writes as they are.
        foreseen, _ = self._write(
            inputs._replace(query=inputs.key, value=inputs.value.astype(jnp.float32)),
            state.memory,  # type: ignore[arg-type]
            reset,
            self._initial(inputs, reset),
            dataclasses.replace(self.write_rule, read="before"),
        )
        if place is not None:
            foreseen = jnp.take_along_axis(foreseen, place[:, :, None, None], axis=1)
        error = foreseen - value.astype(jnp.float32)
        return jnp.mean(jnp.sum(jnp.square(error), axis=-1), axis=-1)

    def write_and_read_token(  # type: ignore[override]
        self, inputs: NeuralInputs, memory: NeuralMemory
    ) -> tuple[Float[Array, "b t h v"], NeuralMemory]:
        initial = None
        if self.write_rule.keep_row_norms:
            initial = self.init_memory(inputs.query.shape[0])
        read, memory = neural_memory_step(
            inputs.query[:, 0],
            inputs.key[:, 0],
            inputs.value[:, 0],
            jax.tree.map(lambda gate: gate[:, 0], inputs.gates),
            memory,
            network=self.network,
            rule=self.write_rule,
            slow=self.slow_weights(),
            initial=initial,
        )
        return read[:, None], memory

    def read(  # type: ignore[override]
        self, query: Float[Array, "b t h k"], memory: NeuralMemory
    ) -> Float[Array, "b t h v"]:
        return self.read_weights(query, memory.weights)

    def read_weights(
        self, query: Float[Array, "b t h k"], weights: Weights
    ) -> Float[Array, "b t h v"]:
        """The same of the weights alone."""
        return read_memory(
            query, weights, network=self.network, slow=self.slow_weights()
        )


def reporting_surprise(model: Module) -> Module:
    """The same model, on the same arrays, whose neural memories report surprise.

    Their sequence form then leaves a `Metric` `surprise`, `b t`: the loss of the memory
    before it is written, ||M(k_t) - v_t||^2, averaged over heads (a layer that holds
    one passes it on). It costs a second pass over the memory. A memory inside a mixture
    reports nothing.
    """
    copy = nnx.merge(*nnx.split(model))
    for _, module in nnx.iter_modules(copy):
        if isinstance(module, NeuralMemoryLayer):
            module.reports_surprise = True
    return copy
