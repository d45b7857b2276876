"""Networks whose weights are a memory.

A network is written once, in terms of `FastWeights`: the four ways to use a weight. An
implementation holds the weights themselves; or the weights with a record of each one's
inputs and outputs; or the weights after every write of a chunk, without forming them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from memzoo.errors import InputError

from .fast_gradients import gelu, over_rows, product, standardise

Weights = dict[str, Float[Array, "b h *shape"]]
"""Weights by name: matrices `b h i o`, vectors `b h o`."""

EachWeights = dict[str, Float[Array, "b h c *shape"]]
"""Weights after every token, by name."""

SlowWeights = dict[str, Float[Array, "h o"]]
"""Weights of the network that are not part of the memory."""


@runtime_checkable
class FastWeights(Protocol):
    """The ways in which a network uses a weight."""

    def matrix(self, name: str, x: Float[Array, "b h c i"]) -> Float[Array, "b h c o"]:
        """Return x W."""
        ...

    def scale(self, name: str, x: Float[Array, "b h c o"]) -> Float[Array, "b h c o"]:
        """Return x * g."""
        ...

    def shift(self, name: str, x: Float[Array, "b h c o"]) -> Float[Array, "b h c o"]:
        """Return x + b."""
        ...

    def slow(self, name: str) -> Float[Array, "h o"]:
        """Return a learned weight that is not part of the memory."""
        ...


Size = TypeVar("Size", int, tuple[int, int])

SLOW = ("norm", "norm_bias")
"""Names of the slow weights of a network whose norm is slow."""

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "silu": jax.nn.silu,
}


@dataclass(frozen=True, kw_only=True)
class MemoryNetwork:
    """A map from keys to values: linear, an MLP, or a SwiGLU.

    Attributes:
        kind: `mlp` of depth 1 is linear; `swiglu` has no depth.
        key_size: size of the input.
        value_size: size of the output.
        hidden_size: size of the hidden layers.
        depth: number of matrices of an MLP.
        activation: activation between the matrices of an MLP.
        residual: add the input to the output; their sizes must be equal.
        norm: layer norm of the output (before the residual): none, or with scale and
            bias that are part of the memory (`fast`) or not (`slow`), or with neither
            (`plain`).
        bias: add a bias after every matrix, part of the memory.
        levels: number of such networks, each applied to the output of the one before;
            sizes of keys and values must be equal. With several, a weight's name
            begins with its level, `level_0_`.
    """

    kind: Literal["mlp", "swiglu"] = "mlp"
    key_size: int
    value_size: int
    hidden_size: int
    depth: int = 2
    activation: Literal["gelu", "silu"] = "gelu"
    residual: bool = False
    norm: Literal["none", "plain", "fast", "slow"] = "none"
    bias: bool = False
    levels: int = 1

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise InputError(f"levels is {self.levels}; give 1 or more")
        if self.levels > 1 and self.key_size != self.value_size:
            raise InputError(
                f"levels is {self.levels}, but value size {self.value_size} differs "
                f"from key size {self.key_size}; give 1, or choose equal sizes"
            )
        if self.depth < 1:
            raise InputError(f"depth is {self.depth}; give 1 or more")
        if self.residual and self.key_size != self.value_size:
            raise InputError(
                f"residual is True, but value size {self.value_size} differs from key "
                f"size {self.key_size}; drop residual or choose equal sizes"
            )

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Return the shape of every matrix by name."""
        return self._at_every_level(self._matrices())

    def vectors(self) -> dict[str, int]:
        """Return the size of every vector of the memory by name."""
        sizes: dict[str, int] = {}
        if self.bias:
            sizes |= {f"{n}_bias": shape[1] for n, shape in self._matrices().items()}
        if self.norm == "fast":
            sizes |= {"norm": self.value_size, "norm_bias": self.value_size}
        return self._at_every_level(sizes)

    def _matrices(self) -> dict[str, tuple[int, int]]:
        """Return the shape of every matrix of one level."""
        if self.kind == "swiglu":
            into, out = (self.key_size, self.hidden_size), self.value_size
            return {"gate": into, "up": into, "down": (self.hidden_size, out)}
        hidden = [self.hidden_size] * (self.depth - 1)
        sizes = [self.key_size, *hidden, self.value_size]
        return {f"kernel_{i}": (sizes[i], sizes[i + 1]) for i in range(self.depth)}

    def _at_every_level(self, sizes: dict[str, Size]) -> dict[str, Size]:
        if self.levels == 1:
            return sizes
        levels = range(self.levels)
        return {f"level_{i}_{n}": size for i in levels for n, size in sizes.items()}

    @property
    def num_parameters(self) -> int:
        """Number of values in the memory of one head."""
        matrices = sum(i * o for i, o in self.matrices().values())
        return matrices + sum(self.vectors().values())

    def __call__(
        self, fast: FastWeights, x: Float[Array, "b h c i"]
    ) -> Float[Array, "b h c o"]:
        """Return the network's output."""
        if self.levels == 1:
            return self._one_level(fast, x)
        for i in range(self.levels):
            x = self._one_level(_Level(fast, i), x)
        return x

    def _one_level(self, fast: FastWeights, x: Array) -> Array:
        y = self._swiglu(fast, x) if self.kind == "swiglu" else self._mlp(fast, x)
        if self.norm == "plain":
            y = standardise(y)
        elif self.norm == "fast":
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


def level_of(name: str) -> int:
    """Return the level of a weight, from 0."""
    found = re.match(r"level_(\d+)_", name)
    return int(found.group(1)) if found else 0


class _Level:
    """The weights of one level, by their names in a network of one level."""

    def __init__(self, fast: FastWeights, level: int):
        self.fast = fast
        self.prefix = f"level_{level}_"

    def matrix(self, name: str, x: Array) -> Array:
        return self.fast.matrix(self.prefix + name, x)

    def scale(self, name: str, x: Array) -> Array:
        return self.fast.scale(self.prefix + name, x)

    def shift(self, name: str, x: Array) -> Array:
        return self.fast.shift(self.prefix + name, x)

    def slow(self, name: str) -> Array:
        return self.fast.slow(self.prefix + name)


class Plain:
    """The weights themselves."""

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
    """The weights, with a record of each one's input, and a zero added to its output.

    The weight's gradient is computed from the gradient of the added zero.
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
