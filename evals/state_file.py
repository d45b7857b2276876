"""A document's state on disk: an .npz file with one array per leaf of the state."""

import errno
import hashlib
import io
import json
import math
import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from memzoo.errors import CheckpointError, InputError, MemzooError, NonFiniteError

from ..configs.record import checksum
from ..models.language_model import LanguageModel
from ..train.digest import digests
from ..train.writing import explained
from .stream import MOST_TOKENS, Carried, allocated

# Entry that holds everything except the arrays, as JSON.
ABOUT = "about"
SCHEMA = 1
# Integers in the record, with their minimum and maximum.
_NUMBERS = {
    "token": (0, 2**31 - 1),
    "read": (0, MOST_TOKENS),
    "capacity": (1, MOST_TOKENS),
}
_AGAIN = "save the state again"


def save_state(path: Path, carried: Carried, **about: Any) -> None:
    """Save the state to `path`, atomically.

    `numpy.load` opens the file. Entries are named `groups/0/blocks/0/memory/...`; their
    first axis is the repeats of the group, the second the batch of one.

    Args:
        path: file to write; an existing file is replaced.
        carried: the document so far.
        about: facts about the model for people, as JSON values.

    Raises:
        NonFiniteError: the state is not finite; nothing is written.
        SaveError: the file cannot be written.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in named(carried.state).items()}
    _check_finite(path, arrays)
    record = about | {
        "schema": SCHEMA,
        "token": carried.token,
        "read": carried.read,
        "capacity": carried.capacity,
    }
    record["checksum"] = _checksum(record, arrays)
    temporary = _temporary(path)
    with explained(path):
        try:
            with temporary.open("wb") as file:
                np.savez(file, **{ABOUT: np.array(json.dumps(record))}, **arrays)  # type: ignore[arg-type]
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def parameters_digest(model: LanguageModel) -> str:
    """Return a digest of the parameters that a state belongs to."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    arrays = {"/".join(map(str, path)): leaf[...] for path, leaf in flat}
    return checksum(digests(arrays))


def check_place(path: Path) -> None:
    """Raise SaveError if `path` cannot be written, before the state is computed."""
    with explained(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        _temporary(path).touch()
        _temporary(path).unlink()


def load_state(
    path: Path, model: LanguageModel, vocab_size: int | None = None
) -> tuple[Carried, dict[str, Any]]:
    """Load the state at `path`; return it with the saved facts about its model.

    Loading runs no code from the file: it holds arrays and JSON, read without pickle.

    Args:
        vocab_size: number of tokens; `None`: the model's number, which may be padded.

    Raises:
        MemzooError: the file is not a state, or does not fit the model.
        CheckpointError: the file is damaged.
        NonFiniteError: the state is not finite.
    """
    about, arrays = _read(path)
    if about.get("parameters", ...) not in (..., parameters_digest(model)):
        saved = f"step {about.get('checkpoint_step')} of {about.get('run')}"
        raise MemzooError(
            f"{path} does not fit the model: it was saved with other parameters, those "
            f"of {saved}; use that run and --checkpoint, or read the document again"
        )
    known = model.config.vocab_size if vocab_size is None else vocab_size
    if about["token"] >= known:
        raise MemzooError(
            f"{path} does not fit the model: its last token is {about['token']} and "
            f"the vocabulary has {known}; give a state of this run"
        )
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
        arrays[name] = _typed(arrays[name], wanted[name].dtype)
        here, there = wanted[name], arrays[name]
        if (here.shape, here.dtype) != (there.shape, there.dtype):
            raise MemzooError(
                f"{path} does not fit the model: {name} is {_kind(there)} in the file "
                f"and {_kind(here)} in the model; {origin}"
            )
    _check_finite(path, arrays)
    leaves = [jax.numpy.asarray(arrays[name]) for name in wanted]
    state = jax.tree.unflatten(jax.tree.structure(template), leaves)
    return Carried(state, about["token"], about["read"], about["capacity"]), about


def named(state: Any) -> dict[str, Any]:
    """Return the leaves of a stack's state by path, in the tree's order."""
    names = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        group, block, *rest = (_word(key) for key in path)
        names["/".join(["groups", group, "blocks", block, *rest])] = leaf
    return names


def _content(path: Path) -> bytes:
    """Return the bytes of a file; refuse pipes and devices, which may never end."""
    try:
        if stat.S_ISREG(path.stat().st_mode) or path.is_dir():
            return path.read_bytes()
    except OSError as error:
        raise MemzooError(
            f"cannot read {path}: {error.strerror or error}; give a file that "
            "--save-state wrote"
        ) from error
    raise MemzooError(f"{path} is not a file; give one that --save-state wrote")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the record and the arrays of the file."""
    content = _content(path)
    foreign = MemzooError(
        f"{path} is not a state that `memzoo eval --stream --save-state` writes; "
        "give a file that it wrote"
    )
    if not content.startswith(b"PK"):
        raise foreign
    try:
        arrays = _arrays(content)
        about = json.loads(str(arrays.pop(ABOUT))) if ABOUT in arrays else None
    except MemoryError:
        raise
    # For invalid bytes, zipfile and numpy raise some ten kinds of errors.
    except Exception as error:
        said = " ".join(str(error).split())[:160] or type(error).__name__
        raise CheckpointError(f"{path} is damaged ({said}); {_AGAIN}") from error
    if not isinstance(about, dict):
        raise foreign
    if about.get("schema") != SCHEMA:
        raise MemzooError(
            f"{path} has schema {about.get('schema')!r} and this memzoo reads "
            f"{SCHEMA}; use the version of memzoo that wrote it"
        )
    _check_about(path, about)
    # Files of older versions have no checksum.
    if about.pop("checksum", ...) not in (..., _checksum(about, arrays)):
        raise CheckpointError(
            f"{path} is damaged: its content does not match its checksum; {_AGAIN}"
        )
    return about, arrays


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an archive that `numpy.savez` wrote, by name.

    Memory use is bounded by the file's size, whatever sizes its headers claim.
    """
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise InputError(f"{member.filename!r} is compressed")
            name = member.filename.removesuffix(".npy")
            if not name.isprintable():
                raise InputError(f"an array is called {name[:60]!r}")
            arrays[name] = _array(archive.read(member))
    return arrays


def _array(content: bytes) -> np.ndarray:
    """Return the array of an .npy file; `numpy.load` would allocate the header's
    size.
    """
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise InputError("an array is of another version")
    shape, transposed, dtype = np.lib.format.read_array_header_1_0(file)
    rest = content[file.tell() :]
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(rest):
        raise InputError("an array is not as long as its header says")
    return np.ndarray(shape, dtype, rest, order="F" if transposed else "C")


def _check_about(path: Path, about: Mapping[str, Any]) -> None:
    """Raise CheckpointError if a field has the wrong type or is out of range."""
    step = {"checkpoint_step": (0, 2**63)} if "checkpoint_step" in about else {}
    for name, (least, most) in (_NUMBERS | step).items():
        value = about.get(name)
        if type(value) is not int or not least <= value <= most:
            raise _wrong(path, name, value, f"a whole number from {least} to {most}")
    for name in ("layer", "run", "parameters"):
        value = about.get(name, "")
        if not isinstance(value, str) or not value.isprintable() or len(value) > 1000:
            raise _wrong(path, name, value, "a name")


def _wrong(path: Path, name: str, value: Any, right: str) -> CheckpointError:
    said = repr(value)[:60]
    return CheckpointError(
        f"{path} is damaged: {name} is {said} and must be {right}; {_AGAIN}"
    )


def _check_finite(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise NonFiniteError if an array is not finite."""
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.integer) and not np.isfinite(array).all():
            raise NonFiniteError(
                f"{path}: {name} of the state is not finite, the memory has diverged; "
                "read less of the document, or lower the inner learning rate as "
                "`memzoo describe` advises"
            )


def _checksum(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of everything in the file."""
    digest = hashlib.sha256(checksum(about).encode())
    for name in sorted(arrays):
        array = arrays[name]
        kind = [name, array.dtype.kind, array.dtype.itemsize, *array.shape]
        digest.update(json.dumps(kind).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _typed(array: np.ndarray, dtype: Any) -> np.ndarray:
    """Return the array in its type: .npy files store bfloat16 as two untyped bytes."""
    if (array.dtype.kind, array.dtype.itemsize) == ("V", dtype.itemsize):
        return array.view(dtype)
    return array


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")


def _word(key: Any) -> str:
    for name in ("name", "key", "idx"):
        if hasattr(key, name):
            return str(getattr(key, name))
    return str(key)


def _kind(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"
