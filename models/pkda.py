"""Preconditioned KDA: kda with smaller writes to channels that were written more."""

from dataclasses import dataclass

from flax import nnx
from jaxtyping import Array, Float, PyTree

from .associative_memory import AssociativeState
from .interface import Layout
from .kda import KDA, KDAConfig
from .memory_inputs import MemoryInputs
from .ops.preconditioned_delta import PRECONDITIONED_DELTA, PreconditionedMemory
from .preconditioner import Preconditioner
from .streams import Tails


@dataclass(frozen=True, kw_only=True)
class PKDAConfig(KDAConfig):
    """Preconditioned KDA (2026, arXiv:2604.21100).

    The memory of kda, written at a preconditioned key z_t. Per head, with gates c_t (a
    decay) and g_t (a sigmoid) for the diagonal A of the keys' covariance, and a learned
    number u:

        A_t = c_t A_(t-1) + g_t k_t * k_t
        r = log(A_t + 1e-6) - u,  z_t = k_t * 1.5^(-r / (1 + |r|))
        S_t = diag(alpha_t) S_(t-1) + beta_t z_t (v_t - S_(t-1)^T diag(alpha_t) k_t)^T

    The state is S and A. Everything else is as in kda.

    Differs from it in: nothing in the layer; sizes are free.
    """

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "PKDA":
        del layer_index
        return PKDA(self, width, rngs, depth)


class PKDA(KDA):
    """See `PKDAConfig`."""

    rule = PRECONDITIONED_DELTA

    def __init__(self, config: PKDAConfig, width: int, rngs: nnx.Rngs, depth: int):
        super().__init__(config, width, rngs, depth)
        self.preconditioner = Preconditioner(
            width, config.num_heads, rngs, fastest=config.fastest_decay
        )

    def init_memory(self, batch_size: int) -> PyTree[Array]:
        return self.preconditioner.init_memory(super().init_memory(batch_size))

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        inputs, tails = super().inputs(x, state, layout)
        return inputs._replace(tokens=self.preconditioner(inputs.tokens, x)), tails

    def read(
        self, query: Float[Array, "b t h k"], memory: PreconditionedMemory
    ) -> Float[Array, "b t h v"]:
        return super().read(query, memory.memory)
