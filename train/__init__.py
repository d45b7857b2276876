"""The one training loop: optimizer, sharding, checkpoints, metrics."""

import sys
import types
from typing import Any


class _Package(types.ModuleType):
    """This package, which `memzoo.train(config)` calls: both have one name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from ..run import train

        return train(*args, **kwargs)


sys.modules[__name__].__class__ = _Package
