"""Functions that exclude parameters from training."""

import fnmatch
from typing import Any

from flax import nnx

from memzoo.errors import InputError, shown, with_article


class Frozen(nnx.Variable):
    """Parameter that is not an `nnx.Param`, so gradients and optimizers skip it."""


def freeze(model: nnx.Module, *names: str) -> list[str]:
    """Freeze the parameters of these parts in place, and return their names.

    `nnx.value_and_grad` and `nnx.Optimizer(model, tx, wrt=nnx.Param)` then skip them.
    `unfreeze` reverses this.

    Args:
        model: any module.
        names: names of parts, with `.` between levels and `*` for anything:
            "embedding", "stack.groups.0", "*.mlp". A part includes everything below it.

    Raises:
        InputError: no name is given, or a name matches no parameter.
    """
    return _change(model, names, nnx.Param, Frozen)


def unfreeze(model: nnx.Module, *names: str) -> list[str]:
    """Make frozen parameters of these parts trainable again; see `freeze`."""
    return _change(model, names, Frozen, nnx.Param)


def _change(
    model: nnx.Module,
    names: tuple[str, ...],
    from_type: type[nnx.Variable],
    to_type: type[nnx.Variable],
) -> list[str]:
    if not isinstance(model, nnx.Module):
        raise InputError(f"model is {shown(model)}; give an nnx.Module")
    flat = nnx.to_flat_state(nnx.state(model, from_type))
    found = {".".join(map(str, path)): path for path, _ in flat}
    tops = ", ".join(sorted({each.split(".")[0] for each in found})) or "none"
    if not names:
        raise InputError(
            f"no part is named; give names of parts, of {tops}, or '*' for all"
        )
    chosen: dict[str, tuple] = {}
    for name in names:
        if not isinstance(name, str):
            raise InputError(
                f"a part is {with_article(type(name).__name__)}; give its name, such "
                "as 'embedding'"
            )
        fitting = {
            each: path
            for each, path in found.items()
            if fnmatch.fnmatchcase(each, name) or fnmatch.fnmatchcase(each, f"{name}.*")
        }
        if not fitting:
            raise InputError(f"no parameter is called {name!r}; the model has {tops}")
        chosen |= fitting
    for path in chosen.values():
        holder: Any = model
        for part in path[:-1]:
            holder = _part(holder, part)
        variable = _part(holder, path[-1])
        setattr(holder, str(path[-1]), to_type(variable.get_value()))
    return list(chosen)


def _part(module: Any, name: object) -> Any:
    if isinstance(name, int):
        return module[name]
    return getattr(module, str(name))
