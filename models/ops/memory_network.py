"""Networks whose weights are a memory.

A network is written once, over `FastWeights`: the four ways in which a weight can enter
it. What stands behind them is the weights themselves, the weights with a record of what
entered and left each of them, or the weights after every single write of a chunk, which
are never formed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from memzoo.errors import InputError

from .fast_gradients import gelu, over_rows, product, standardise

Weights = dict[str, Float[Array, "b h *shape"]]
"""By name: matrices `b h i o`, vectors `b h o`."""

SlowWeights = dict[str, Float[Array, "h o"]]
"""Weights of the network that are not part of the memory."""


@runtime_checkable
class FastWeights(Protocol):
    """The ways in which a weight enters a network."""

    def matrix(self, name: str, x: Float[Array, "b h c i"]) -> Float[Array, "b h c o"]:
        """x W."""
        ...

    def scale(self, name: str, x: Float[Array, "b h c o"]) -> Float[Array, "b h c o"]:
        """x * g."""
        ...

    def shift(self, name: str, x: Float[Array, "b h c o"]) -> Float[Array, "b h c o"]:
        """x + b."""
        ...

    def slow(self, name: str) -> Float[Array, "h o"]:
        """A weight that is learned, and not part of the memory."""
        ...


SLOW = ("norm", "norm_bias")
"""Names of the slow weights, of a network whose norm is slow."""

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "silu": jax.nn.silu,
}


@dataclass(frozen=True, kw_only=True)
class MemoryNetwork:
    """A map from keys to values: linear, an MLP, or a SwiGLU.

    Attributes:
        kind: `mlp` of depth 1 is linear; `swiglu` has no depth.
        key_size: size of what enters.
        value_size: size of what leaves.
        hidden_size: size of the layers between.
        depth: matrices of an MLP.
        activation: between the matrices of an MLP.
        residual: add what enters to what leaves; the sizes must agree.
        norm: layer norm of what leaves (before the residual), none or with scale and
            bias that are part of the memory (`fast`) or not (`slow`).
        bias: a bias after every matrix, part of the memory.
    """

    kind: Literal["mlp", "swiglu"] = "mlp"
    key_size: int
    value_size: int
    hidden_size: int
    depth: int = 2
    activation: Literal["gelu", "silu"] = "gelu"
    residual: bool = False
    norm: Literal["none", "fast", "slow"] = "none"
    bias: bool = False

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise InputError(f"depth is {self.depth}; a memory has 1 matrix or more")
        if self.residual and self.key_size != self.value_size:
            raise InputError(
                f"residual needs values as large as keys, not {self.value_size} and "
                f"{self.key_size}; drop residual or choose equal sizes"
            )

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Shape of every matrix, by name."""
        if self.kind == "swiglu":
            into, out = (self.key_size, self.hidden_size), self.value_size
            return {"gate": into, "up": into, "down": (self.hidden_size, out)}
        hidden = [self.hidden_size] * (self.depth - 1)
        sizes = [self.key_size, *hidden, self.value_size]
        return {f"kernel_{i}": (sizes[i], sizes[i + 1]) for i in range(self.depth)}

    def vectors(self) -> dict[str, int]:
        """Size of every vector that is part of the memory, by name."""
        sizes: dict[str, int] = {}
        if self.bias:
            sizes |= {f"{n}_bias": shape[1] for n, shape in self.matrices().items()}
        if self.norm == "fast":
            sizes |= {"norm": self.value_size, "norm_bias": self.value_size}
        return sizes

    @property
    def num_parameters(self) -> int:
        """Numbers in the memory of one head."""
        matrices = sum(i * o for i, o in self.matrices().values())
        return matrices + sum(self.vectors().values())

    def __call__(
        self, fast: FastWeights, x: Float[Array, "b h c i"]
    ) -> Float[Array, "b h c o"]:
        """The network's output."""
        y = self._swiglu(fast, x) if self.kind == "swiglu" else self._mlp(fast, x)
        if self.norm == "fast":
            y = fast.scale("norm", standardise(y))
            y = fast.shift("norm_bias", y)
        elif self.norm == "slow":
            scale, bias = (over_rows(fast.slow(n), y.shape[2])[None] for n in SLOW)
            y = standardise(y) * scale + bias
        return y + x if self.residual else y

    def _mlp(self, fast: FastWeights, x: Array) -> Array:
        for i in range(self.depth):
            if i:
                x = ACTIVATIONS[self.activation](x)
            x = self._linear(fast, f"kernel_{i}", x)
        return x

    def _swiglu(self, fast: FastWeights, x: Array) -> Array:
        gate = jax.nn.silu(self._linear(fast, "gate", x))
        return self._linear(fast, "down", gate * self._linear(fast, "up", x))

    def _linear(self, fast: FastWeights, name: str, x: Array) -> Array:
        y = fast.matrix(name, x)
        return fast.shift(f"{name}_bias", y) if self.bias else y


class Plain:
    """The weights as they are."""

    def __init__(self, weights: Weights, slow: SlowWeights | None, operand: DTypeLike):
        self.weights = weights
        self._slow = slow or {}
        self.operand = operand

    def matrix(self, name: str, x: Array) -> Array:
        return product("bhci,bhio->bhco", x, self.weights[name], self.operand)

    def scale(self, name: str, x: Array) -> Array:
        return x * over_rows(self.weights[name], x.shape[2])

    def shift(self, name: str, x: Array) -> Array:
        return x + over_rows(self.weights[name], x.shape[2])

    def slow(self, name: str) -> Array:
        return self._slow[name]


class Recording(Plain):
    """The weights, with a record of what enters each, and a zero added to what leaves.

    The gradient for the added zero is what the weight's own gradient is made of.
    """

    def __init__(
        self,
        weights: Weights,
        slow: SlowWeights | None,
        operand: DTypeLike,
        added: dict[str, Float[Array, "b h c f"]],
    ):
        super().__init__(weights, slow, operand)
        self.added = added
        self.entered: dict[str, Array] = {}

    def matrix(self, name: str, x: Array) -> Array:
        self.entered[name] = x
        return super().matrix(name, x) + self.added[name]

    def scale(self, name: str, x: Array) -> Array:
        self.entered[name] = x
        return super().scale(name, x) + self.added[name]
