"""Zoo of memory architectures for sequence models in JAX."""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from .errors import name_to_use

if TYPE_CHECKING:
    from . import layers as layers
    from . import ops as ops
    from .compare import RecallTable as RecallTable
    from .compare import recall as recall
    from .configs.experiment import ExperimentConfig as ExperimentConfig
    from .freezing import freeze as freeze
    from .freezing import unfreeze as unfreeze
    from .models.language_model import LanguageModel as LanguageModel
    from .models.language_model import LanguageModelConfig as LanguageModelConfig
    from .models.layout import SequenceInfo as SequenceInfo
    from .run import Reading as Reading
    from .run import Run as Run
    from .run import load as load
    from .run import train as train

__version__ = version("memzoo")

# Import on first use, so that `memzoo --version` does not wait for JAX.
_EXPORTS = {
    "ExperimentConfig": "configs.experiment",
    "InputError": "errors",
    "LanguageModel": "models.language_model",
    "LanguageModelConfig": "models.language_model",
    "MemzooError": "errors",
    "Reading": "run",
    "RecallTable": "compare",
    "Run": "run",
    "SequenceInfo": "models.layout",
    "freeze": "freezing",
    "layers": "",
    "load": "run",
    "ops": "",
    "recall": "compare",
    "train": "run",
    "unfreeze": "freezing",
}
_OTHER_NAMES = {
    "AutoModelForCausalLM": "load",
    "Model": "LanguageModel",
    "Config": "LanguageModelConfig",
    "load_run": "load",
    "from_pretrained": "load",
    "fit": "train",
    "modules": "layers",
    "nn": "layers",
}

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "__version__",
    *_EXPORTS,
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        module = _EXPORTS[name]
        if not module:
            return importlib.import_module(f".{name}", __name__)
        return getattr(importlib.import_module(f".{module}", __name__), name)
    remedy = name_to_use(name, __all__, _OTHER_NAMES, rest="it has")
    # Classes alone, since `layers` imports JAX.
    if name[:1].isupper() and hasattr(
        importlib.import_module(f"{__name__}.layers"), name
    ):
        remedy = f"it is memzoo.layers.{name}"
    raise AttributeError(f"memzoo has no {name!r}; {remedy}")


def __dir__() -> list[str]:
    return sorted(__all__)
