"""Users' Python files, imported as modules."""

import importlib.util
import sys
import traceback
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType

from memzoo.errors import MemzooError

from ..models.field_types import wrong_field


def load_python(path: Path) -> ModuleType:
    """Import a file as a module named after it, so that its classes can be found.

    Raises:
        MemzooError: the file is missing, its name is taken, or importing it raises.
    """
    if path.suffix != ".py" or not path.is_file():
        raise MemzooError(f"{path} is not a Python file; give one that exists")
    name = path.stem
    folder = str(path.resolve().parent)
    # config.json stores classes of this file as `module:Class`.
    if folder not in sys.path:
        sys.path.insert(0, folder)
    find_modules_here()
    if name in sys.modules:
        known = getattr(sys.modules[name], "__file__", None)
        if known is None or Path(known).resolve() != path.resolve():
            raise MemzooError(
                f"{path} would hide the module {name!r}, which is already loaded; "
                "rename the file"
            )
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's file may raise anything
        del sys.modules[name]
        raise MemzooError(
            f"{line_of(path, error)} cannot be imported: {reason(error)}"
        ) from error
    return module


def find_modules_here() -> None:
    """Allow imports from the current folder, after all other folders.

    Call it only to import code that the user trusts.
    """
    if "" not in sys.path:
        sys.path.append("")


def line_of(path: Path, error: BaseException) -> str:
    """Return the file, with the line that raised the error."""
    if isinstance(error, SyntaxError):
        return str(path)  # its message names the line
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename).resolve() == path.resolve()]
    return f"{path}, line {lines[-1]}," if lines else str(path)


def reason(error: BaseException) -> str:
    """Return the error in one line.

    A config may fail on a value before its type is checked; then name the type.
    """
    if not isinstance(error, ValueError):
        for frame, _ in traceback.walk_tb(error.__traceback__):
            config = frame.f_locals.get("self")
            checks = frame.f_code.co_name == "__post_init__" and is_dataclass(config)
            if checks and (problem := wrong_field(config)):
                return f"{type(config).__name__}.{problem}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
