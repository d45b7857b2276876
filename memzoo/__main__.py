"""Command line: `memzoo COMMAND`, or `python -m memzoo COMMAND`."""

import contextlib
import functools
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

# Set before JAX is imported: it and its libraries log about missing accelerators.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# Cache compiled programs on disk. JAX reads this at import. The user's value is kept;
# an empty one switches the cache off.
_CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
_CACHE = os.path.join(_CACHE, "memzoo", "jax")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended, as in a shell."""

COMMANDS = {
    "list": "show the layers and presets",
    "describe": "show what CONFIG costs, without allocating it",
    "train": "train CONFIG, or resume its run",
    "recall": "compare layers on recall and write a report",
    "eval": "evaluate a checkpoint of RUN",
    "generate": "generate text or tokens with RUN",
    "check": "run the laws on the layers of a Python file",
    "bench": "compare speed with other libraries",
    "demo": "train, compare, reload and evaluate, end to end",
}


def usage() -> str:
    """Return the text of `memzoo --help`."""
    lines = ["usage: memzoo COMMAND [options]   (memzoo COMMAND --help for each)", ""]
    lines += [f"  {name:<10}{text}" for name, text in COMMANDS.items()]
    lines += [
        "",
        "CONFIG is a preset (`memzoo list` shows them), a Python file that assigns an",
        "ExperimentConfig to `config`, or the config.json of a run. RUN is its folder.",
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    unraisable = sys.unraisablehook
    sys.unraisablehook = functools.partial(_unraisable, unraisable)
    try:
        code = _main(argv)
        if code:
            # Collect the leftovers of a failed save while our hook is installed.
            gc.collect()
        return code
    except KeyboardInterrupt:
        # Exit may wait for threads and devices; a second Ctrl-C ends it at once.
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
        print("memzoo: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        sys.unraisablehook = unraisable


def _unraisable(before: Callable[[Any], object], error: Any) -> None:
    """Exit on Ctrl-C in a garbage collector callback, where Python would ignore it."""
    if issubclass(error.exc_type, KeyboardInterrupt):
        _leave_at_once()
    before(error)


def _leave_at_once(*_: object) -> None:
    os.write(2, b"memzoo: interrupted\n")
    os._exit(INTERRUPTED)


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Exit at once on Ctrl-C during imports: half-imported modules cannot unwind."""
    before = signal.getsignal(signal.SIGINT)
    ours = before is signal.default_int_handler
    ours = ours and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, _leave_at_once)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


def _main(argv: list[str] | None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        print(usage(), file=sys.stderr)
        return 2
    if argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        from . import __version__

        print(__version__)
        return 0
    if argv[0] not in COMMANDS:
        from difflib import get_close_matches

        close = get_close_matches(argv[0], COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "`memzoo --help` lists them"
        print(f"memzoo: unknown command {argv[0]!r}; {hint}", file=sys.stderr)
        return 2
    try:
        with _starting():
            from .commands import run_command
    except ValueError as error:
        # JAX checks its environment variables at import.
        if "JAX" not in str(error):
            raise
        said = " ".join(str(error).split())
        print(f"memzoo: {said}; unset or correct that variable", file=sys.stderr)
        return 2

    return run_command(argv[0], argv[1:])


if __name__ == "__main__":
    sys.exit(main())
