"""The read-out of a layer: a norm, a gate and the projection to the model's width."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .projection import (
    GroupNorm,
    RMSNorm,
    merge_heads,
    output_gain,
    projection,
    split_heads,
)

GateActivation = Literal["silu", "sigmoid", "gelu", "identity"]

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "sigmoid": jax.nn.sigmoid,
    "gelu": lambda x: jax.nn.gelu(x, approximate=True),
    "identity": lambda x: x,
}


class ReadOut(nnx.Module):
    """The map y = W_o (norm(o) * act(W_g x)) + b, from a layer's read o and input x.

    Norm and gate are optional. The parameters are `norm/scale`, `gate/kernel`,
    `projection/kernel` and `projection/bias`.
    """

    def __init__(
        self,
        size: int,
        width: int,
        rngs: nnx.Rngs,
        *,
        depth: int | None,
        norm: RMSNorm | GroupNorm | nnx.LayerNorm | None = None,
        norm_per_head: bool = True,
        gate: Callable[[Array], Array] | None = None,
        activation: GateActivation = "silu",
        gate_first: bool = False,
        bias: bool = False,
    ):
        """Create the projection.

        Args:
            size: size of all heads together.
            width: size of the output.
            rngs: random streams for the projection.
            depth: number of blocks, which sets the initial gain of maps into the
                residual stream; None: the output is not added to that stream.
            norm: norm of the read.
            norm_per_head: normalise each head; else all heads together.
            gate: map from the layer's input to `size` numbers.
            activation: activation of the gate.
            gate_first: multiply by the gate before the norm.
            bias: add a bias to the projection.
        """
        self.norm = norm
        self.gate = gate
        self.norm_per_head = norm_per_head
        self.activation = activation
        self.gate_first = gate_first
        gain = 1.0 if depth is None else output_gain(depth)
        self.projection = projection(size, width, rngs, gain=gain, bias=bias)

    def __call__(
        self,
        read: Float[Array, "b t h v"],
        x: Float[Array, "b t d"],
        bonus: Float[Array, "b t h v"] | None = None,
    ) -> Float[Array, "b t d"]:
        """Return the layer's output `b t d`, in the type of the read.

        Args:
            read: read of the memory.
            x: input of the gate.
            bonus: term added after the norm and before the gate, if that order is set.
        """
        assert bonus is None or not self.gate_first
        heads, y = read.shape[2], merge_heads(read)
        if self.gate_first:
            y = self._normed(self._gated(y, x), heads)
        else:
            y = self._normed(y, heads)
            y = self._gated(y if bonus is None else y + merge_heads(bonus), x)
        return self.projection(y)

    def _normed(self, y: Float[Array, "b t e"], heads: int) -> Float[Array, "b t e"]:
        if self.norm is None:
            return y
        if self.norm_per_head:
            return merge_heads(self.norm(split_heads(y, heads)))
        wide = y.astype(jnp.promote_types(y.dtype, jnp.float32))
        return self.norm(wide).astype(y.dtype)

    def _gated(
        self, y: Float[Array, "b t e"], x: Float[Array, "b t d"]
    ) -> Float[Array, "b t e"]:
        if self.gate is None:
            return y
        return y * _ACTIVATIONS[self.activation](self.gate(x))
