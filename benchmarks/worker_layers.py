"""The contestant that runs registered layers; run as a module by this interpreter."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree

from ..configs.variants import layer_from_text
from ..models.interface import MemoryLayer
from .serving import Prepared, serve
from .worker_jax import versions


def prepare(
    operation: str, arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> Prepared:
    """The layer that `operation` names, differentiated by all it holds."""
    del options
    x, cotangent = jnp.asarray(arrays["x"]), jnp.asarray(arrays["cotangent"])
    batch_size, _, width = x.shape
    built = layer_from_text(operation).build(width, nnx.Rngs(0), layer_index=0, depth=1)
    layer = cast(MemoryLayer[Any], built)
    definition, parameters, rest = nnx.split(layer, nnx.Param, ...)
    state = layer.init_state(batch_size, 0)

    @jax.jit
    def forward_backward(parameters: PyTree, x: Float[Array, "b t d"]):
        def outputs(parameters: PyTree, x: Array) -> Array:
            return nnx.merge(definition, parameters, rest)(x, state)[0]

        o, pullback = jax.vjp(outputs, parameters, x)
        return o, pullback(cotangent)

    def call() -> None:
        jax.block_until_ready(forward_backward(parameters, x))

    def results() -> dict[str, np.ndarray]:
        o, (_, gradient) = forward_backward(parameters, x)
        return {"output": np.asarray(o), "gradient_x": np.asarray(gradient)}

    return Prepared(call, results)


if __name__ == "__main__":
    serve(prepare, versions)
