"""`memzoo check FILE`: run the laws on the layers of a Python file."""

import dataclasses
import inspect
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from memzoo.errors import MemzooError

from .configs.python_file import load_python
from .models.field_types import sort_of
from .testing import laws


def check_command(path: Path) -> int:
    """Print every law on every layer of the file; return 0 if all hold, else 1.

    A layer config is a dataclass with `build` whose fields all have defaults.

    Raises:
        MemzooError: the file is missing, fails to import, or defines no layer.
    """
    module = load_python(path)
    defined = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and dataclasses.is_dataclass(value)
        and hasattr(value, "build")
        and value.__module__ == module.__name__  # type: ignore[attr-defined]
    ]
    kinds = [kind for kind in defined if sort_of(kind) != "task"]
    if defined and not kinds:
        task = defined[0].__name__
        raise MemzooError(
            f"{path} defines the task {task} and no layer, and only layers have laws; "
            f"try the task with `memzoo recall --task {path}:{task}`"
        )
    if not kinds:
        raise MemzooError(
            f"{path} defines no layer config: a frozen dataclass with "
            "`build(width, rngs, *, layer_index, depth)`; see docs/adding-a-layer.md"
        )
    console = Console(highlight=False)
    broken = 0
    for kind in kinds:
        try:
            config = kind()
        except Exception as error:  # whatever a user's class raises
            said = " ".join(str(error).split())
            raise MemzooError(
                f"{kind.__name__} cannot be made without arguments ({said}); give "
                "all its fields defaults"
            ) from error
        console.print(f"[bold]{kind.__name__}[/bold]")
        for result in laws(config):
            if result.holds:
                console.print(f"  [green]holds [/green] {result.law}")
                continue
            broken += 1
            console.print(
                f"  [red]broken[/red] {result.law}: {escape(result.detail)}",
                soft_wrap=True,
            )
    if broken:
        console.print(f"{broken} broken", style="red")
    return 1 if broken else 0
