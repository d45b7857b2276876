"""Stand-in for a side: it returns q as output and its inputs as gradients.

Arguments: a factor on the output, and `die` to end at the first request to prepare;
with a file after it, once. `refuse` refuses every case, `refuse X` the operation X.
"""

import os
import sys
from pathlib import Path

from memzoo.benchmarks.serving import Prepared, serve


def _has_died():
    """Return whether the file after `die` exists; without one, always False."""
    after = sys.argv[sys.argv.index("die") + 1 :]
    if after and Path(after[0]).exists():
        return True
    if after:
        Path(after[0]).touch()
    return False


def prepare(arrays, options):
    if "die" in sys.argv and not _has_died():
        print("out of luck", file=sys.stderr, flush=True)
        os._exit(3)
    if "refuse" in sys.argv:
        only = sys.argv[sys.argv.index("refuse") + 1 :]
        if not only or options["operation"] in only:
            raise ValueError("no such [shape]")
    print("noise that must not reach the answers")
    factor = float(sys.argv[1])
    arrays.pop("cotangent", None)
    first = next(iter(arrays.values()))
    results = {f"gradient_{name}": x for name, x in arrays.items()}
    return Prepared(lambda: None, lambda: results | {"output": factor * first})


serve(prepare, lambda: {"stand-in": sys.argv[1]})
