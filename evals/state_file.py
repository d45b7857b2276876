"""A document's state on disk: one .npz file, an array for every path of the state."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from ..configs.errors import MemzooError
from ..models.language_model import LanguageModel
from ..train.writing import explained
from .stream import Carried, allocated

# The entry that holds what is no array, as JSON.
ABOUT = "about"
SCHEMA = 1


def save_state(path: Path, carried: Carried, **about: Any) -> None:
    """The state is at `path`, whole or not at all.

    `numpy.load` opens it: entries are named as `groups/0/blocks/0/memory/...`, and
    their first axis is the repeats of the group, the second the batch of one.

    Args:
        path: file to write, replaced if it is there.
        carried: what is saved.
        about: of the model, for people: JSON values.

    Raises:
        SaveError: it cannot be written.
    """
    record = about | {
        "schema": SCHEMA,
        "token": carried.token,
        "read": carried.read,
        "capacity": carried.capacity,
    }
    arrays = {name: np.asarray(leaf) for name, leaf in named(carried.state).items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with explained(path):
        try:
            with temporary.open("wb") as file:
                np.savez(file, **{ABOUT: np.array(json.dumps(record))}, **arrays)  # type: ignore[arg-type]
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def load_state(path: Path, model: LanguageModel) -> tuple[Carried, dict[str, Any]]:
    """The state at `path`, and what was said about its model.

    Raises:
        MemzooError: it is no such file, or does not fit the model.
    """
    about, arrays = _read(path)
    graphdef, parameters = nnx.split(model)
    slots = allocated(model, about["capacity"])
    template = jax.eval_shape(
        lambda arrays: nnx.merge(graphdef, arrays).init_state(1, slots), parameters
    )
    wanted = named(template)
    origin = f"it was saved from {about.get('layer', 'another model')}"
    for name in [*wanted, *arrays]:
        if name not in arrays or name not in wanted:
            has = "the model" if name in wanted else "the file"
            raise MemzooError(
                f"{path} does not fit the model: only {has} has {name}; {origin}"
            )
        here, there = wanted[name], arrays[name]
        if (here.shape, here.dtype) != (there.shape, there.dtype):
            raise MemzooError(
                f"{path} does not fit the model: {name} is {_kind(there)} in the file "
                f"and {_kind(here)} in the model; {origin}"
            )
    leaves = [jax.numpy.asarray(arrays[name]) for name in wanted]
    state = jax.tree.unflatten(jax.tree.structure(template), leaves)
    return Carried(state, about["token"], about["read"], about["capacity"]), about


def named(state: Any) -> dict[str, Any]:
    """The leaves of a stack's state by path, in the tree's order."""
    names = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        group, block, *rest = (_word(key) for key in path)
        names["/".join(["groups", group, "blocks", block, *rest])] = leaf
    return names


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with path.open("rb") as data, np.load(data, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop(ABOUT)))
        schema = about["schema"]
        counts = [about[name] for name in ("token", "read", "capacity")]
        if not all(type(n) is int for n in counts):
            raise ValueError("a count is no whole number")
    except OSError as error:
        raise MemzooError(
            f"cannot read {path}: {error.strerror or error}; give a file that "
            "--save-state wrote"
        ) from error
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        # What numpy says of a foreign file is advice on reading it all the same.
        raise MemzooError(
            f"{path} is not a state that `memzoo eval --stream --save-state` writes; "
            "give a file that it wrote"
        ) from error
    if schema != SCHEMA:
        raise MemzooError(
            f"{path} has schema {schema} and this memzoo reads {SCHEMA}; use the "
            "version of memzoo that wrote it"
        )
    return about, arrays


def _word(key: Any) -> str:
    for name in ("name", "key", "idx"):
        if hasattr(key, name):
            return str(getattr(key, name))
    return str(key)


def _kind(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"
