"""The command line: `memzoo COMMAND`, or `python -m memzoo COMMAND`."""

import os
import sys

# Quiet before JAX and its friends are imported: they log about absent accelerators.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# A program that was compiled once is read back the next time. JAX reads this when it is
# imported; a directory of one's own, or an empty value for none, is left alone.
_CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
_CACHE = os.path.join(_CACHE, "memzoo", "jax")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

COMMANDS = {
    "list": "show the layers and presets",
    "describe": "what CONFIG costs, before anything is allocated",
    "train": "pretrain CONFIG, or go on where its run stopped",
    "recall": "compare layers on recall and write one report",
    "eval": "evaluate a checkpoint of RUN",
    "generate": "stream text or tokens from RUN",
    "check": "run the laws on the layers of a Python file",
    "bench": "speed beside the peers",
    "demo": "train, compare, reload and evaluate, end to end",
}


def usage() -> str:
    """What `memzoo --help` prints."""
    lines = ["usage: memzoo COMMAND [options]   (memzoo COMMAND --help for each)", ""]
    lines += [f"  {name:<10}{text}" for name, text in COMMANDS.items()]
    lines += [
        "",
        "CONFIG is a preset (`memzoo list` shows them), a Python file that assigns an",
        "ExperimentConfig to `config`, or the config.json of a run. RUN is its folder.",
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code says how it went."""
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
    from .commands import run_command

    return run_command(argv[0], argv[1:])


if __name__ == "__main__":
    sys.exit(main())
