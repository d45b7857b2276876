"""Worker of our side, in JAX, run as a module by this interpreter.

python -m memzoo.benchmarks.worker_jax [gpu]
"""

import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from ..configs.variants import layer_from_text
from ..models.interface import MemoryLayer
from ..train.state import by_path, make_template
from .jax_models import MODEL_KINDS
from .jax_operations import FORMS, OPERATIONS
from .jax_prompts import BLOCK_KINDS, PROMPTS
from .serving import EXACT, Prepared, serve

Arrays = dict[str, Array]
# Fields of the case, `chunk_size` and `form`.
Options = dict[str, Any]
Function = Callable[[Arrays], Array]


def prepare(arrays: dict[str, np.ndarray], options: Options) -> Prepared:
    """Prepare the case that the options describe, on these inputs."""
    kind = options["kind"]
    if kind in MODEL_KINDS:
        return MODEL_KINDS[kind](arrays, options)
    if kind == "decode":
        return BLOCK_KINDS[kind](arrays, options)
    dtype = options["dtype"]
    x = {
        name: jnp.asarray(a, "float32" if name in EXACT else dtype)
        for name, a in arrays.items()
    }
    cotangent = x.pop("cotangent", None)
    function, x = _FUNCTIONS[kind](x, options)
    if options["passes"] == "forward":
        cotangent = None
    return passes(function, x, cotangent, gpu=options["device"] == "gpu")


def passes(
    function: Function, x: Arrays, cotangent: Array | None, *, gpu: bool = False
) -> Prepared:
    """Prepare a forward pass, and with a cotangent a backward pass by all of `x`.

    On a GPU passes are started one after the other, and waited for at the end.
    """

    def forward(x: Arrays) -> tuple[Array, Arrays]:
        return function(x), {}

    def both(x: Arrays, cotangent: Array) -> tuple[Array, Arrays]:
        o, pullback = jax.vjp(lambda x: function(x).astype(cotangent.dtype), x)
        return o, pullback(cotangent)[0]

    given = (x,) if cotangent is None else (x, cotangent)
    run = jax.jit(forward if cotangent is None else both)
    last: list[Any] = []

    def begin() -> None:
        last[:] = [run(*given)]

    def finish() -> None:
        jax.block_until_ready(last)

    def call() -> None:
        # Free the last results before the next pass allocates its own.
        last.clear()
        begin()
        finish()

    def results() -> dict[str, np.ndarray]:
        if not last:
            call()
        o, gradients = last[0]
        named = {f"gradient_{name}": g for name, g in gradients.items()}
        named["output"] = o
        return {name: np.asarray(a, np.float32) for name, a in named.items()}

    def peak() -> int | None:
        needs = run.lower(*given).compile().memory_analysis()
        return needs.temp_size_in_bytes + needs.output_size_in_bytes if needs else None

    if gpu:
        return Prepared(begin, results, finish, peak, last.clear)
    return Prepared(call, results, release=last.clear)


def _operation(x: Arrays, options: Options) -> tuple[Function, Arrays]:
    name, form = options["operation"], options["form"]
    function = FORMS.get((name, form), OPERATIONS[name])
    return lambda x: function(x, options), x


def _layer(x: Arrays, options: Options) -> tuple[Function, Arrays]:
    """Return a registered layer as a function of its input and all its parameters."""
    batch_size, _, width = x["x"].shape
    config = layer_from_text(options["operation"])

    def build(key: Any) -> nnx.Module:
        return cast(
            nnx.Module, config.build(width, nnx.Rngs(key), layer_index=0, depth=1)
        )

    template = make_template(build)
    _, parameters, rest = nnx.split(build(jax.random.key(0)), nnx.Param, ...)
    others = by_path(rest)

    def function(x: Arrays) -> Array:
        parameters = {name: a for name, a in x.items() if name != "x"}
        layer = cast(MemoryLayer[Any], template.merge(parameters, others))
        return layer(x["x"], layer.init_state(batch_size, 0))[0]

    return function, x | by_path(parameters)


_FUNCTIONS: Mapping[str, Callable[[Arrays, Options], tuple[Function, Arrays]]] = {
    "operation": _operation,
    "layer": _layer,
    "prompt": lambda x, options: (PROMPTS[options["operation"]], x),
    "block": BLOCK_KINDS["block"],
}


def versions(device: str = "cpu") -> dict[str, str]:
    """Return the versions of the libraries, and the name of a GPU.

    Raises:
        RuntimeError: `device` is gpu, and JAX finds none.
    """
    found = {name: version(name) for name in ("memzoo", "jax", "jaxlib")}
    if device == "gpu":
        if jax.default_backend() != "gpu":
            raise RuntimeError(f"JAX computes on a {jax.default_backend()}")
        found["device"] = jax.devices()[0].device_kind
    return found


if __name__ == "__main__":
    serve(prepare, lambda: versions(*sys.argv[1:]))
