"""From CONFIG on the command line to an experiment."""

import importlib.util
import json
import sys
from pathlib import Path

from .errors import MemzooError
from .experiment import ExperimentConfig
from .presets import PRESETS
from .serialise import from_json, near


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
    raise MemzooError(
        f"{argument!r} is no preset, Python file or config.json"
        f"{near(argument, PRESETS)}; `memzoo list` shows the presets"
    )


def read_config_json(path: Path) -> ExperimentConfig:
    """The experiment in a run's config.json.

    Raises:
        MemzooError: the file is missing, cut off, or holds no valid experiment.
    """
    if not path.exists():
        raise MemzooError(
            f"{path} does not exist; give a run's folder or its config.json"
        )
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise MemzooError(
            f"{path} is not JSON ({error}); restore it or start a new run"
        ) from error
    if not isinstance(content, dict):
        raise MemzooError(f"{path} holds no JSON object; give a run's config.json")
    if content.get("schema") != 1:
        raise MemzooError(
            f"{path} has schema {content.get('schema')!r}; this version reads schema 1"
        )
    if "config" not in content:
        raise MemzooError(f"{path} lacks the field 'config'; give a run's config.json")
    try:
        return from_json(content["config"])
    except ValueError as error:
        raise MemzooError(f"{path}: {error}") from error


def _from_python(path: Path) -> ExperimentConfig:
    if not path.exists():
        raise MemzooError(f"{path} does not exist; give a Python file that does")
    module = load_python(path)
    config = getattr(module, "config", None)
    if callable(config):
        config = config()
    if not isinstance(config, ExperimentConfig):
        raise MemzooError(
            f"{path} has no ExperimentConfig called `config`; assign one, as "
            "`config = ExperimentConfig(name=..., model=..., task=...)`"
        )
    return config


def load_python(path: Path) -> object:
    """Import a file as a module named after it, so that its classes can be found.

    Raises:
        MemzooError: the file raises when it is imported.
    """
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
    except Exception as error:
        del sys.modules[name]
        raise MemzooError(
            f"{path} does not import: {type(error).__name__}: {error}"
        ) from error
    return module
