"""Classes that build the registered layers: `GatedDeltaNet(512, rngs=rngs)`.

Each class has the name of its config without "Config", and builds the same layer as the
config. `layers.pyi` tells editors the fields; `make stubs` writes it.
"""

import dataclasses
import inspect
import sys
from numbers import Integral
from typing import Any

from flax import nnx

from memzoo.errors import InputError, name_to_use, shown

from .field_docs import described_fields
from .models import LAYERS
from .models.capacity import check_size
from .models.interface import MemoryLayer
from .models.layer_config import LayerConfig, RegisteredConfig

OTHER_NAMES = {
    "dim": "width",
    "hidden_size": "width",
    "d_model": "width",
    "features": "width",
    "in_features": "width",
    "head_dim": "head_size",
    "expand_v": "value_ratio",
    "conv_size": "convolution_size",
    "d_conv": "convolution_size",
    "d_state": "state_size",
    "heads": "num_heads",
    "n_heads": "num_heads",
    "window_size": "window",
    "rope_theta": "rotary_base",
}
"""Names of fields in other libraries, and in memzoo."""

OTHER_LAYERS = {
    "MultiheadAttention": "Attention",
    "MultiHeadAttention": "Attention",
    "MultiScaleRetention": "RetNet",
    "Mamba": "Mamba2",
    "NeuralMemory": "TitansLMM",
    "MomAttention": "MixtureOfMemories",
    "TTT": "TTTLinear",
}
"""Names of layers in other libraries, and in memzoo."""


class LayerClass(type):
    """Type of the classes in this module."""

    Config: type[RegisteredConfig]

    def __call__(
        cls,
        width: int,
        *values: Any,
        rngs: nnx.Rngs | None = None,
        layer_index: int = 0,
        depth: int = 1,
        **fields: Any,
    ) -> MemoryLayer[Any]:
        """Build the layer.

        Raises:
            InputError: the layer has no such field, or refuses a value; width or rngs
                is of another type; rngs is missing, or a field has no name.
            TypeError: width is missing.
        """
        if values:
            raise InputError(
                f"{cls.__name__} takes the width and then fields by name; give "
                f"{shown(values[0])} a name"
            )
        if isinstance(width, bool) or not isinstance(width, Integral) or width < 1:
            raise InputError(f"width is {width!r}; give a whole number, 1 or more")
        if not isinstance(rngs, nnx.Rngs):
            raise InputError(f"rngs is {shown(rngs)}; give rngs=nnx.Rngs(0)")
        check_size("layer_index", layer_index)
        check_size("depth", depth, 1)
        known = [field.name for field in dataclasses.fields(cls.Config)]
        for name in fields:
            if name not in known:
                raise InputError(_no_field(cls.__name__, name, known))
        config: LayerConfig = cls.Config(**fields)
        return config.build(width, rngs, layer_index=layer_index, depth=depth)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(getattr(instance, "config", None), cls.Config)


def _no_field(layer: str, name: str, known: list[str]) -> str:
    if OTHER_NAMES.get(name) == "width":
        remedy = f"give the width first, as in {layer}(512, rngs=rngs)"
    else:
        remedy = name_to_use(name, known, OTHER_NAMES, rest="its fields are")
    return f"{layer} has no field {name!r}; {remedy}"


def _layer_class(config: type[RegisteredConfig]) -> LayerClass:
    name = config.__name__.removesuffix("Config")
    made = LayerClass(name, (), {"Config": config, "__module__": __name__})
    made.__doc__ = described_fields(config)
    made.__signature__ = signature(config)  # type: ignore[attr-defined]
    return made


def signature(config: type[RegisteredConfig]) -> inspect.Signature:
    """Return the signature of a layer's class: width, rngs, and the config's fields."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(
            "width", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=int
        ),
        inspect.Parameter("rngs", keyword, annotation=nnx.Rngs),
    ]
    for field in dataclasses.fields(config):
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not default:
            default = field.default_factory()  # type: ignore[misc]
        parameters.append(
            inspect.Parameter(
                field.name, keyword, default=default, annotation=field.type
            )
        )
    parameters += [
        inspect.Parameter("layer_index", keyword, default=0, annotation=int),
        inspect.Parameter("depth", keyword, default=1, annotation=int),
    ]
    return inspect.Signature(parameters)


def __getattr__(name: str) -> Any:
    known = [each for each in __all__ if not each.endswith("Config")]
    remedy = name_to_use(name, known, OTHER_LAYERS, rest="there are")
    raise AttributeError(f"memzoo.layers has no {name!r}; {remedy}")


def __dir__() -> list[str]:
    return sorted(__all__)


__all__: list[str] = []
for _config in LAYERS.values():
    _made = _layer_class(_config)
    for _name, _value in ((_made.__name__, _made), (_config.__name__, _config)):
        setattr(sys.modules[__name__], _name, _value)
        __all__.append(_name)
