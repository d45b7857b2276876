"""Writer of `layers.pyi`, which tells editors the fields of every layer.

python -m memzoo.layer_stubs > memzoo/layers.pyi
"""

import dataclasses
import sys
import types
import typing
from typing import Any

from .field_docs import default_of
from .models import LAYERS
from .models.layer_config import RegisteredConfig

_HEAD = '''"""Written by `make stubs` from the configs of the layers."""

from typing import Any, Literal

from flax import nnx

from .models.interface import MemoryLayer
'''

_LAYER = """
class {name}(_Layer):
    Config = {config}
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
{fields}
        layer_index: int = 0,
        depth: int = 1,
    ) -> {name}: ...
"""

_BASE = """
class _Layer(MemoryLayer[Any]):
    def init_state(self, batch_size: int, max_length: int) -> Any: ...
    def sequence(self, x: Any, state: Any, layout: Any) -> Any: ...
    def token(self, x: Any, state: Any) -> Any: ...
"""


def stubs() -> str:
    """Return the text of `layers.pyi`."""
    named: dict[str, str] = {}
    bodies = [_stub(config, named) for config in LAYERS.values()]
    imports = [
        f"from .{module.partition('memzoo.')[2]} import {name} as {name}"
        for name, module in sorted(named.items(), key=lambda item: item[::-1])
    ]
    return "\n".join([_HEAD.rstrip(), *imports, _BASE, *bodies])


def _stub(config: type[RegisteredConfig], named: dict[str, str]) -> str:
    hints = typing.get_type_hints(config)
    named[config.__name__] = config.__module__
    fields = []
    for field in dataclasses.fields(config):
        kind = _spelled(hints[field.name], named)
        plain = isinstance(field.default, int | float | str | None)
        default = default_of(field) if plain else "..."
        fields.append(f"        {field.name}: {kind} = {default},")
    return _LAYER.format(
        name=config.__name__.removesuffix("Config"),
        config=config.__name__,
        fields="\n".join(fields),
    )


def _spelled(kind: Any, named: dict[str, str]) -> str:
    """Return a type as source, and add the memzoo classes that it names to `named`."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " | ".join(_spelled(each, named) for each in arguments)
    if typing.get_origin(kind) is typing.Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if arguments:
        inner = ", ".join("..." if a is ... else _spelled(a, named) for a in arguments)
        return f"{typing.get_origin(kind).__name__}[{inner}]"
    if kind is type(None):
        return "None"
    if kind.__module__.startswith("memzoo."):
        named[kind.__name__] = kind.__module__
    return kind.__name__


if __name__ == "__main__":
    sys.stdout.write(stubs())
