"""From CONFIG on the command line to an experiment."""

import importlib.util
import json
import sys
import traceback
from pathlib import Path
from types import ModuleType

from .errors import MemzooError
from .experiment import ExperimentConfig
from .presets import PRESETS
from .reading import readable
from .serialise import SCHEMA, from_json, near


def resolve(argument: str) -> ExperimentConfig:
    """The experiment that CONFIG names.

    Args:
        argument: a preset; a Python file with an `ExperimentConfig` called `config`;
            a run's config.json, or the run's folder.

    Raises:
        MemzooError: there is no such experiment, or it is not valid.
    """
    if argument in PRESETS:
        return PRESETS[argument]()
    path = Path(argument)
    if path.is_dir():
        path = path / "config.json"
    if path.suffix == ".py":
        return _from_python(path)
    if path.suffix == ".json":
        return read_config_json(path)
    hint = near(argument, PRESETS)
    if not hint.endswith("?"):
        hint += "; `memzoo list` shows the presets"
    raise MemzooError(
        f"{argument!r} is no preset, Python file, run or config.json{hint}"
    )


def read_config_json(path: Path) -> ExperimentConfig:
    """The experiment in a run's config.json.

    Raises:
        MemzooError: the file is missing, cut off, or holds no valid experiment.
    """
    try:
        with readable(path):
            content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MemzooError(
            f"{path} does not exist; give a run's folder or its config.json"
        ) from error
    except OSError as error:
        raise MemzooError(
            f"{path} is no file ({error.strerror}); give a run's config.json"
        ) from error
    except (ValueError, RecursionError) as error:
        raise MemzooError(
            f"{path} is not JSON ({error}); restore it or start a new run"
        ) from error
    if not isinstance(content, dict):
        raise MemzooError(f"{path} holds no JSON object; give a run's config.json")
    if content.get("schema") != SCHEMA:
        raise MemzooError(
            f"{path} has schema {content.get('schema')!r} and this memzoo reads "
            f"{SCHEMA}; use the version of memzoo that wrote it"
        )
    if "config" not in content:
        raise MemzooError(f"{path} lacks the field 'config'; give a run's config.json")
    try:
        return from_json(content["config"])
    except ValueError as error:
        raise MemzooError(f"{path}: {error}") from error


def _from_python(path: Path) -> ExperimentConfig:
    config = getattr(load_python(path), "config", None)
    if callable(config):
        try:
            config = config()
        except Exception as error:  # whatever a user's function raises
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
    except (Exception, SystemExit) as error:
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
    """What was raised, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
