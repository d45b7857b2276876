"""A contestant that knows no operation: it puts out q, and its inputs as gradients.

Arguments: a factor on the output, and `die` to end at the first request to prepare.
"""

import os
import sys

from memzoo.benchmarks.serving import Prepared, serve


def prepare(operation, arrays, options):
    if "die" in sys.argv:
        print("out of luck", file=sys.stderr, flush=True)
        os._exit(3)
    if "refuse" in sys.argv:
        raise ValueError("no such shape")
    print("noise that must not reach the answers")
    factor = float(sys.argv[1])
    arrays.pop("cotangent", None)
    first = next(iter(arrays.values()))
    results = {f"gradient_{name}": x for name, x in arrays.items()}
    return Prepared(lambda: None, lambda: results | {"output": factor * first})


serve(prepare, lambda: {"stand-in": sys.argv[1]})
