"""The config of a layer: how it is built, and what the registry reads off its class."""

import re
from collections.abc import Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Protocol,
    get_args,
    runtime_checkable,
)

from flax import nnx
from jaxtyping import Array

from .interface import MemoryLayer

Family = Literal[
    "softmax attention",
    "scalar decay",
    "vector decay",
    "delta rule",
    "neural memory",
    "mixture",
    "convolution",
]


@runtime_checkable
class LayerConfig(Protocol):
    """Any frozen dataclass that builds a layer, registered or not."""

    if TYPE_CHECKING:
        # Not for isinstance: tyro asks issubclass, which allows methods alone.
        __dataclass_fields__: ClassVar[dict[str, Any]]

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> MemoryLayer[Any]:
        """Build the layer.

        Args:
            width: size of the residual stream, d.
            rngs: random streams for its parameters.
            layer_index: index of the block; may be traced, so never branch on it.
            depth: number of blocks.
        """
        ...


class RegisteredConfig(LayerConfig):
    """Facts of a registered layer that are not fields of its config.

    `memzoo list`, the laws and the comparisons read them here, so that a layer is
    registered by its name and its class alone.
    """

    family: ClassVar[Family]
    """Section of the zoo that lists the layer."""
    small: ClassVar[Mapping[str, Any]] = {}
    """Field values for the laws: windows and segments end within a few tokens."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if getattr(cls, "family", None) not in get_args(Family):
            raise TypeError(
                f"{cls.__name__} names no family; set the class variable `family` to "
                f"one of {', '.join(get_args(Family))}"
            )

    @classmethod
    def paper(cls) -> str:
        """Return the paper that the docstring names first, or an empty string."""
        found = re.search(r"arXiv:(\d{4}\.\d{5})", cls.__doc__ or "")
        return f"arXiv:{found.group(1)}" if found else ""
