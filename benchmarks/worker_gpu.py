"""Our contestant on a GPU; run as a module by this interpreter.

With the argument `dense` it is the dense form of our mixtures, the peer of the packed.
"""

import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..models.ops.scalar_decay import SCALAR_DECAY, ScalarDecayTokens
from .mixture import dense
from .serving import Prepared, serve
from .worker_jax import CONTESTANTS, empty_memory

Arrays = dict[str, Array]
Options = dict[str, Any]

# As in the peers' kernels, sums of logarithms of decays are not rounded.
EXACT = frozenset(["log_decay"])


def retention(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """RetNet: the decay of head h is 1 - 2^(-5-h), at every token."""
    batch, time, heads, size = x["q"].shape
    decay = jnp.log1p(-(2.0 ** (-5 - jnp.arange(heads, dtype=jnp.float32))))
    log_decay = jnp.broadcast_to(decay[None, None], (batch, time, heads))
    q = x["q"] * size**-0.5
    tokens = ScalarDecayTokens(q, x["k"], x["v"], log_decay)
    return SCALAR_DECAY.chunkwise(tokens, empty_memory(x), **options)[0]


OURS: Mapping[str, Callable[[Any, Options], Array]] = {
    **CONTESTANTS,
    "retention": retention,
}


DENSE: Mapping[str, Callable[[Any, Options], Array]] = {"mixture": dense}


def prepare(
    operation: str,
    arrays: dict[str, np.ndarray],
    options: Options,
    functions: Mapping[str, Callable[[Any, Options], Array]] = OURS,
) -> Prepared:
    """The operation in the options' `dtype`, with a `backward` pass or without."""
    function = functions[operation]
    own = dict(options)
    dtype, backward = own.pop("dtype"), own.pop("backward")
    x = {
        name: jnp.asarray(a, "float32" if name in EXACT else dtype)
        for name, a in arrays.items()
    }
    cotangent = x.pop("cotangent")

    def forward(x: Arrays, cotangent: Array) -> tuple[Array, Arrays]:
        return function(x, own).astype(cotangent.dtype), {}

    def both(x: Arrays, cotangent: Array) -> tuple[Array, Arrays]:
        o, pullback = jax.vjp(lambda x: forward(x, cotangent)[0], x)
        return o, pullback(cotangent)[0]

    run = jax.jit(both if backward else forward)
    last: list[Any] = [run(x, cotangent)]

    def call() -> None:
        last[0] = run(x, cotangent)

    def results() -> dict[str, np.ndarray]:
        o, gradients = run(x, cotangent)
        named = {f"gradient_{name}": g for name, g in gradients.items()}
        named["output"] = o
        return {name: np.asarray(a, np.float32) for name, a in named.items()}

    def peak() -> int | None:
        needs = run.lower(x, cotangent).compile().memory_analysis()
        return needs.temp_size_in_bytes + needs.output_size_in_bytes if needs else None

    return Prepared(call, results, lambda: jax.block_until_ready(last[0]), peak)


def versions() -> dict[str, str]:
    """Versions of what computes, and the device.

    Raises:
        RuntimeError: it is no GPU.
    """
    if jax.default_backend() != "gpu":
        raise RuntimeError(f"JAX computes on a {jax.default_backend()}")
    found = {name: version(name) for name in ("memzoo", "jax", "jaxlib")}
    return found | {"device": jax.devices()[0].device_kind}


if __name__ == "__main__":
    table = DENSE if "dense" in sys.argv else OURS
    serve(lambda *case: prepare(*case, functions=table), versions)
