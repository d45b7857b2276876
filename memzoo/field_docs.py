"""Documentation of a config's fields, taken from the strings below them."""

import ast
import dataclasses
import functools
import inspect
import textwrap
from typing import Any


def described_fields(config: type[Any]) -> str:
    """Return the config's docstring, followed by its fields.

    Each field is listed with its type, its default and the string below it.
    """
    lines = [inspect.cleandoc(config.__doc__ or ""), "", "Args:"]
    lines += [
        "    width: Size of the residual stream, d.",
        "    rngs: Random numbers for the parameters, `flax.nnx.Rngs`.",
    ]
    for field in dataclasses.fields(config):
        text = f"{field.name} ({type_name(field.type)}, {default_of(field)}): "
        text += field_meanings(config).get(field.name, "")
        lines += textwrap.wrap(
            text.rstrip(), 88, initial_indent=" " * 4, subsequent_indent=" " * 8
        )
    return "\n".join(lines) + "\n"


def type_name(kind: Any) -> str:
    """Return a type as source text."""
    if isinstance(kind, str):
        return kind
    if isinstance(kind, type) and not hasattr(kind, "__args__"):
        return kind.__name__
    return str(kind).replace("typing.", "").replace("memzoo.models.", "")


def default_of(field: dataclasses.Field[Any]) -> str:
    """Return the default of a field as source text, or "required"."""
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
        return f"{type(made).__name__}(...)" if dataclasses.is_dataclass(made) else ""
    return "required"


@functools.cache
def field_meanings(config: type[Any]) -> dict[str, str]:
    """Return the string below each field, inherited fields included."""
    found: dict[str, str] = {}
    for kind in reversed(config.__mro__):
        if not dataclasses.is_dataclass(kind):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=text)),
                ):
                    found[name] = " ".join(str(text).split())
    return found
