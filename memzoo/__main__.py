"""The command line: `memzoo COMMAND`, or `python -m memzoo COMMAND`."""

import os
import sys

# Quiet before JAX and its friends are imported: they log about absent accelerators.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

COMMANDS = {
    "list": "show the layers and presets",
    "describe": "parameters, state bytes, FLOPs and memory of CONFIG, nothing allocated",
    "train": "pretrain CONFIG, or resume it where it stopped",
    "recall": "compare layers on recall and write one report",
    "eval": "evaluate a run's checkpoint",
    "generate": "stream text or tokens from a run",
    "check": "run the laws on the layers of a Python file",
    "bench": "speed beside the peers",
    "demo": "train, compare, reload and evaluate, end to end",
}


def usage() -> str:
    """What `memzoo --help` prints."""
    lines = ["usage: memzoo COMMAND [options]   (memzoo COMMAND --help for each)", ""]
    lines += [f"  {name:<10}{text}" for name, text in COMMANDS.items()]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code says how it went."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        from . import __version__

        print(__version__)
        return 0
    if argv[0] not in COMMANDS:
        from difflib import get_close_matches

        close = get_close_matches(argv[0], COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "see memzoo --help"
        print(f"memzoo: unknown command {argv[0]!r}; {hint}", file=sys.stderr)
        return 2
    from .commands import run_command

    return run_command(argv[0], argv[1:])


if __name__ == "__main__":
    sys.exit(main())
