"""The training loop: optimizer, sharding, checkpoints, metrics."""

import importlib
import sys
import types
from typing import Any


class _Package(types.ModuleType):
    """This package, callable as `memzoo.train(config)`: package and function share a
    name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return importlib.import_module("memzoo.run").train(*args, **kwargs)


sys.modules[__name__].__class__ = _Package
