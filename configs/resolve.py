"""Resolution of CONFIG on the command line to an experiment."""

from pathlib import Path

from memzoo.errors import InputError, MemzooError

from .experiment import ExperimentConfig
from .presets import PRESETS
from .python_file import line_of, load_python, reason
from .reading import readable
from .record import check_unchanged, load_record
from .serialise import from_json, near


def resolve(argument: str, *, trust: bool = False) -> ExperimentConfig:
    """Return the experiment that CONFIG names.

    Args:
        argument: a preset; a Python file with an `ExperimentConfig` called `config`; a
            run's config.json, or the run's folder.
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
        f"{argument!r} is not a preset, Python file, run or config.json{hint}"
    )


def read_config_json(path: Path, *, trust: bool = False) -> ExperimentConfig:
    """Return the experiment in a run's config.json.

    Args:
        trust: import the modules of classes outside memzoo that it names.

    Raises:
        MemzooError: the file is missing, truncated or changed, or holds no valid
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
            f"{path} is not a file ({error.strerror}); give a run's config.json"
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
                f"{line_of(path, error)} config() fails: {reason(error)}"
            ) from error
    if not isinstance(config, ExperimentConfig):
        raise MemzooError(
            f"{path} has no ExperimentConfig called `config`; add one: "
            "`config = ExperimentConfig(name=..., model=..., task=...)`"
        )
    return config
