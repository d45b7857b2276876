"""The one training loop: optimizer, sharding, checkpoints, metrics."""

import importlib
import sys
import types
from typing import Any


class _Package(types.ModuleType):
    """This package, which `memzoo.train(config)` calls: both have one name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return importlib.import_module("memzoo.run").train(*args, **kwargs)


sys.modules[__name__].__class__ = _Package
