"""Classes outside memzoo that a config.json or a user names, as `module:Class`.

Importing a module runs its code. A config.json may come from anyone, so memzoo imports
nothing for it unless the user asks; a module that is already loaded runs nothing new.
"""

import dataclasses
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memzoo.errors import InputError

from .python_file import find_modules_here, load_python


def import_outside(value: Any, where: str) -> None:
    """Import the modules of all classes that a JSON value names.

    Raises:
        InputError: a module cannot be imported; the message names its place.
    """
    for place, name in _outside_names(value, where):
        module = name.partition(":")[0]
        find_modules_here()
        try:
            importlib.import_module(module)
        except KeyboardInterrupt:
            raise
        # A module may raise anything, even `SystemExit`, which would end the command as
        # if it had succeeded.
        except BaseException as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(
                f"{place} is of type {name}, which cannot be imported ({said}); run in "
                "the folder that holds the module, or add that folder to PYTHONPATH"
            ) from error


def import_typed(text: str, where: str) -> tuple[str, Any]:
    """Import the dataclass that a user has typed; return its name and the class.

    A file or module typed on the command line is trusted.

    Args:
        text: `module:Class`, or `path/to/file.py:Class`.
        where: option that gave it, for messages.

    Returns:
        The name `module:Class`, as config.json stores it, and the class.

    Raises:
        MemzooError: the file or module is missing, cannot be imported, or has no such
            dataclass.
    """
    module, _, name = text.rpartition(":")
    if module.endswith(".py"):
        module = load_python(Path(module)).__name__
    text = f"{module}:{name}"
    if not is_outside(text):
        raise InputError(
            f"{where} is {text!r}, which is not a class; give file.py:Class or "
            "module:Class"
        )
    import_outside({"type": text}, where)
    return text, _loaded_dataclass(text, where)


def outside_class(name: str, where: str) -> Any:
    """Return the config class `module:Class` of a module that is loaded.

    Raises:
        InputError: the module is not loaded or lacks the class, or it is not a config.
    """
    kind = _loaded_dataclass(name, where)
    if not hasattr(kind, "build"):
        raise InputError(
            f"{where} is of type {name}, which is not a config; name a dataclass with "
            "`build`"
        )
    return kind


def _loaded_dataclass(name: str, where: str) -> Any:
    module, _, attributes = name.partition(":")
    if module not in sys.modules:
        raise InputError(
            f"{where} is of type {name}, which is not part of memzoo: loading it runs "
            f"the code of the module {module}; add --trust if you trust that code "
            "(Python: import the module first)"
        )
    kind: Any = sys.modules[module]
    for attribute in attributes.split("."):
        # A plain `getattr` could run code: modules may define `__getattr__`.
        kind = inspect.getattr_static(kind, attribute, None)
    if kind is None:
        raise InputError(
            f"{where} is of type {name}, and the module {module} has no {attributes}; "
            "use the module's version that the run was made with"
        )
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise InputError(
            f"{where} is of type {name}, which is not a config; name a dataclass with "
            "`build`"
        )
    return kind


def is_outside(name: str) -> bool:
    """Return whether a type has the form `module:Class`."""
    parts = name.replace(":", ".", 1).split(".")
    return name.count(":") == 1 and all(part.isidentifier() for part in parts)


def names_outside(value: Any) -> bool:
    """Return whether a JSON value names a class outside memzoo."""
    return next(_outside_names(value, ""), None) is not None


def _outside_names(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yield the place and the name of every type outside memzoo."""
    if isinstance(value, dict):
        name = value.get("type")
        if isinstance(name, str) and is_outside(name):
            yield where, name
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, item in items:
        # Quote keys that are not names: they could break the line of a message.
        inner = key if str(key).isalnum() or str(key).isidentifier() else repr(key)
        yield from _outside_names(item, f"{where}.{inner}")
