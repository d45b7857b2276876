"""Worker of jax-linear-attention, run by the interpreter of its environment.

    python -I worker_jla.py jla THREADS DEVICE

It cannot import memzoo, so it uses only files in this folder.
"""

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.append(str(Path(__file__).parent))

from jla.ops import chunked
from serving import Prepared, serve

Arrays = dict[str, jax.Array]

# The default precision is the highest one; on a CPU all products are float32.
OPERATIONS: dict[str, Callable[[Arrays], jax.Array]] = {
    "gated_delta": lambda x: chunked.gated_delta_rule(
        x["q"], x["k"], x["v"], x["log_decay"], x["write_strength"]
    )[0],
    "delta": lambda x: chunked.delta_rule(x["q"], x["k"], x["v"], x["write_strength"])[
        0
    ],
}


def prepare(arrays: dict[str, np.ndarray], options: dict[str, Any]) -> Prepared:
    """Prepare an operation, forward and backward, compiled like ours."""
    function = OPERATIONS[options["operation"]]
    x = {name: jnp.asarray(a) for name, a in arrays.items()}
    cotangent = x.pop("cotangent")

    @jax.jit
    def run(x: Arrays, cotangent: jax.Array) -> tuple[jax.Array, Arrays]:
        o, pullback = jax.vjp(function, x)
        return o, pullback(cotangent)[0]

    last: list[Any] = []

    def call() -> None:
        # Free the last results before the next pass allocates its own.
        last.clear()
        last[:] = [jax.block_until_ready(run(x, cotangent))]

    def results() -> dict[str, np.ndarray]:
        if not last:
            call()
        o, gradients = last[0]
        named = {f"gradient_{name}": g for name, g in gradients.items()}
        return {name: np.asarray(a) for name, a in (named | {"output": o}).items()}

    return Prepared(call, results, release=last.clear)


def versions() -> dict[str, str]:
    """Return the versions of the libraries, by distribution."""
    names = {"jax-linear-attention": "jax-linear-attention"}
    names["jax of jax-linear-attention"] = "jax"
    return {name: version(distribution) for name, distribution in names.items()}


if __name__ == "__main__":
    serve(prepare, versions)
