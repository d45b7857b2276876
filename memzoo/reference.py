"""Writer of docs/reference.md, from the docstrings of the public API.

python -m memzoo.reference > docs/reference.md
"""

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

from . import errors, ops, run
from .compare import RecallTable, recall
from .field_docs import default_of, field_meanings, type_name
from .freezing import freeze, unfreeze
from .models import LAYERS
from .models.language_model import LanguageModel, LanguageModelConfig
from .models.stack_state import StackState

_HEAD = """# Reference of the library

The public names of `import memzoo`, with their docstrings; `make reference` writes
this page. `help()` shows the same texts. For the commands see the front page and
`memzoo COMMAND --help`.
"""
_LAYERS = """## memzoo.layers

Each layer is a class: `Layer(width, rngs=rngs, **fields)`. A call maps a sequence and
returns the state for the next call; `step` maps one token per row.
[docs/layers](layers) has a page for each.
"""


def reference() -> str:
    """Return the text of docs/reference.md."""
    parts = [_HEAD, "## memzoo\n"]
    for made in (LanguageModel, StackState, run.load, run.train, run.Run, run.Reading):
        parts += _entry(f"memzoo.{made.__name__}", made)
    parts += _entry("memzoo.recall", recall)
    parts += _entry("memzoo.RecallTable", RecallTable)
    parts += _entry("memzoo.freeze", freeze) + _entry("memzoo.unfreeze", unfreeze)
    parts += _fields("memzoo.LanguageModelConfig", LanguageModelConfig)
    parts.append("## memzoo.ops\n")
    for name in ops.__all__:
        parts += _entry(f"memzoo.ops.{name}", getattr(ops, name))
    parts.append(_LAYERS)
    for config in LAYERS.values():
        name = config.__name__.removesuffix("Config")
        parts += _fields(f"memzoo.layers.{name}", config)
    parts.append("## Errors\n")
    for made in vars(errors).values():
        if isinstance(made, type) and issubclass(made, errors.MemzooError):
            parts.append(f"`{made.__name__}`: {_text(made.__doc__)}\n")
    return "\n".join(parts)


def _entry(name: str, made: Any) -> list[str]:
    """Return signature and docstring of a function or class, and of its methods."""
    parts = [f"### {name}\n"]
    if not issubclass(made, tuple) if isinstance(made, type) else True:
        parts.append(f"```python\n{name}{_signature(made)}\n```\n")
    parts.append(_text(made.__doc__) + "\n")
    if isinstance(made, type):
        for method, function in _methods(made):
            parts.append(f"#### {name}.{method}\n")
            parts.append(f"```python\n.{method}{_signature(function)}\n```\n")
            parts.append(_text(function.__doc__) + "\n")
    return parts


def _methods(kind: type) -> Iterator[tuple[str, Any]]:
    for name, made in vars(kind).items():
        if name.startswith("_") and name != "__call__":
            continue
        if inspect.isfunction(made) and made.__doc__ and "tree_" not in name:
            yield name, made


def _fields(name: str, config: Any) -> list[str]:
    """Return the docstring of a config, and a table of its fields."""
    rows = ["| field | type | default | |", "|---|---|---|---|"]
    for field in dataclasses.fields(config):
        meaning = field_meanings(config).get(field.name, "").replace("|", "\\|")
        kind = type_name(field.type).replace("|", "\\|")
        rows.append(
            f"| `{field.name}` | `{kind}` | `{default_of(field)}` | {meaning} |"
        )
    return [f"### {name}\n", _text(config.__doc__) + "\n", "\n".join(rows) + "\n"]


def _signature(made: Any) -> str:
    """Return the signature without type annotations."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(made).parameters.values()
        if parameter.name != "self"
    ]
    shown = str(inspect.Signature(parameters))
    return re.sub(r"<[^>]*>", "...", shown)


def _text(docstring: str | None) -> str:
    """Return a docstring as Markdown: sections become lists."""
    lines, in_section = [], False
    for line in inspect.cleandoc(docstring or "").splitlines():
        if re.fullmatch(r"(Args|Attributes|Raises|Returns):", line):
            lines += ["", f"**{line}**", ""]
            in_section = True
        elif in_section and re.match(r"    \S", line):
            name, colon, rest = line.strip().partition(":")
            plain = re.fullmatch(r"\w+", name) and colon
            lines.append(f"- `{name}`:{rest}" if plain else f"  {line.strip()}")
        elif in_section and line.startswith("        "):
            lines.append(f"  {line.strip()}")
        else:
            in_section = in_section and not line.strip()
            lines.append(line)
    return "\n".join(lines).strip()


if __name__ == "__main__":
    sys.stdout.write(reference())
