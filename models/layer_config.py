"""Configs of layers: how they are built, and class facts for the registry."""

import re
from collections.abc import Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    get_args,
    runtime_checkable,
)

from flax import nnx
from jaxtyping import Array

from .field_types import check_fields
from .interface import MemoryLayer
from .regression import Regression

# Not `typing.Self`, which checkers of types at run time do not know in a method.
Made = TypeVar("Made", bound="RegisteredConfig")

Family = Literal[
    "softmax attention",
    "scalar decay",
    "vector decay",
    "delta rule",
    "regression",
    "least squares",
    "neural memory",
    "mixture",
    "hierarchical memory",
    "convolution",
]


@runtime_checkable
class LayerConfig(Protocol):
    """Any frozen dataclass that builds a layer, registered or not."""

    if TYPE_CHECKING:
        # Hidden at run time: tyro calls issubclass, which needs method-only protocols.
        __dataclass_fields__: ClassVar[dict[str, Any]]

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> MemoryLayer[Any]:
        """Build the layer.

        Args:
            width: size of the residual stream, d.
            rngs: random streams for its parameters.
            layer_index: index of the block; may be traced, so do not branch on it.
            depth: number of blocks.
        """
        ...


class RegisteredConfig(LayerConfig):
    """Facts of a registered layer that are not fields of its config.

    `memzoo list`, the shared tests (laws) and the comparisons read them here, so the
    registry needs only a layer's name and class.
    """

    family: ClassVar[Family]
    """Section of the zoo in which the layer is listed."""
    regression: ClassVar[Regression | None] = None
    """Place of the default config on the map of test-time regression."""
    small: ClassVar[Mapping[str, Any]] = {}
    """Field values for the laws: windows and segments end within a few tokens."""

    def __new__(cls: type[Made], *values: Any, **fields: Any) -> Made:
        # Before `__post_init__`, which compares the values with numbers.
        check_fields(cls, fields)
        return object.__new__(cls)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if getattr(cls, "family", None) not in get_args(Family):
            raise TypeError(
                f"{cls.__name__} has no family; set the class variable `family` to "
                f"one of {', '.join(get_args(Family))}"
            )

    @classmethod
    def paper(cls) -> str:
        """Return the first paper in the docstring, or an empty string."""
        found = re.search(r"arXiv:(\d{4}\.\d{5})", cls.__doc__ or "")
        return f"arXiv:{found.group(1)}" if found else ""
