"""From CONFIG on the command line to an experiment."""

import importlib.util
import sys
import traceback
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType

from memzoo.errors import InputError, MemzooError

from .experiment import ExperimentConfig
from .field_types import wrong_field
from .outside import find_modules_here
from .presets import PRESETS
from .reading import readable
from .record import check_unchanged, load_record
from .serialise import from_json, near


def resolve(argument: str, *, trust: bool = False) -> ExperimentConfig:
    """The experiment that CONFIG names.

    Args:
        argument: a preset; a Python file with an `ExperimentConfig` called `config`;
            a run's config.json, or the run's folder.
        trust: import the modules of classes outside memzoo that a config.json names.

    Raises:
        MemzooError: there is no such experiment, it is not valid, or it needs trust.
    """
    if argument in PRESETS:
        return PRESETS[argument]()
    path = Path(argument)
    if path.is_dir():
        path = path / "config.json"
    if path.suffix == ".py":
        return _from_python(path)
    if path.suffix == ".json":
        return read_config_json(path, trust=trust)
    hint = near(argument, PRESETS)
    if not hint.endswith("?"):
        hint += "; `memzoo list` shows the presets"
    raise MemzooError(
        f"{argument!r} is no preset, Python file, run or config.json{hint}"
    )


def read_config_json(path: Path, *, trust: bool = False) -> ExperimentConfig:
    """The experiment in a run's config.json.

    Args:
        trust: import the modules of classes outside memzoo that it names.

    Raises:
        MemzooError: the file is missing, cut off, changed, or holds no valid
            experiment, or one that needs trust.
    """
    try:
        with readable(path):
            record = load_record(path)
    except FileNotFoundError as error:
        raise MemzooError(
            f"{path} does not exist; give a run's folder or its config.json"
        ) from error
    except OSError as error:
        raise MemzooError(
            f"{path} is no file ({error.strerror}); give a run's config.json"
        ) from error
    check_unchanged(path, record)
    try:
        return from_json(record["config"], trust=trust)
    except InputError as error:
        raise MemzooError(f"{path}: {error}") from error


def _from_python(path: Path) -> ExperimentConfig:
    config = getattr(load_python(path), "config", None)
    if callable(config):
        try:
            config = config()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's function may raise anything
            raise MemzooError(
                f"{_line_of(path, error)} config() fails: {_reason(error)}"
            ) from error
    if not isinstance(config, ExperimentConfig):
        raise MemzooError(
            f"{path} has no ExperimentConfig called `config`; assign one, as "
            "`config = ExperimentConfig(name=..., model=..., task=...)`"
        )
    return config


def load_python(path: Path) -> ModuleType:
    """Import a file as a module named after it, so that its classes can be found.

    Raises:
        MemzooError: there is no such file, its name is taken, or it raises when it is
            imported.
    """
    if path.suffix != ".py" or not path.is_file():
        raise MemzooError(f"{path} is no Python file; give one that exists")
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
                f"{path} would hide the module {name!r} that is loaded already; "
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
            f"{_line_of(path, error)} does not import: {_reason(error)}"
        ) from error
    return module


def _line_of(path: Path, error: BaseException) -> str:
    """The file, and the line of it that the error comes from."""
    if isinstance(error, SyntaxError):
        return str(path)  # its message names the line
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename).resolve() == path.resolve()]
    return f"{path}, line {lines[-1]}," if lines else str(path)


def _reason(error: BaseException) -> str:
    """Return the error in one line.

    A config may fail on a value before its type is looked at: then the type is named.
    """
    if not isinstance(error, ValueError):
        for frame, _ in traceback.walk_tb(error.__traceback__):
            config = frame.f_locals.get("self")
            checks = frame.f_code.co_name == "__post_init__" and is_dataclass(config)
            if checks and (problem := wrong_field(config)):
                return f"{type(config).__name__}.{problem}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
