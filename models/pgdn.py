"""Preconditioned Gated DeltaNet: smaller writes to channels that were written more."""

from dataclasses import dataclass

from flax import nnx
from jaxtyping import Array, Float, PyTree

from memzoo.errors import InputError

from .associative_memory import AssociativeState
from .gated_delta_net import GatedDeltaNet, GatedDeltaNetConfig
from .interface import Layout
from .memory_inputs import MemoryInputs
from .ops.erase_write import EraseWriteTokens
from .ops.preconditioned_delta import PRECONDITIONED_DELTA, PreconditionedMemory
from .preconditioner import Preconditioner
from .streams import Tails


@dataclass(frozen=True, kw_only=True)
class PGDNConfig(GatedDeltaNetConfig):
    """Preconditioned Gated DeltaNet (2026, arXiv:2604.21100).

    The memory of gated_delta_net, written at a preconditioned key z_t. Per head, with
    gates c_t (a decay) and g_t (a sigmoid) for the diagonal A of the keys' covariance,
    and a learned number u:

        A_t = c_t A_(t-1) + g_t k_t * k_t
        r = log(A_t + 1e-6) - u,  z_t = k_t * 1.5^(-r / (1 + |r|))
        S_t = alpha_t S_(t-1) + beta_t z_t (v_t - alpha_t S_(t-1)^T k_t)^T

    The state is S and A. Everything else is as in gated_delta_net.

    Differs from it in: the covariance belongs to a value head, not to a key head; the
    two are the same unless `value_heads` is set. It reads no prefix.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prefix:
            raise InputError(
                "prefix is True, and pgdn reads no prefix; "
                "set it to False, or use gated_delta_net"
            )

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "PGDN":
        del layer_index
        return PGDN(self, width, rngs, depth)


class PGDN(GatedDeltaNet):
    """See `PGDNConfig`."""

    rule = PRECONDITIONED_DELTA

    def __init__(
        self,
        config: PGDNConfig,
        width: int,
        rngs: nnx.Rngs,
        depth: int,
    ):
        super().__init__(config, width, rngs, depth)
        self.preconditioner = Preconditioner(
            width, self.value_heads, rngs, fastest=config.fastest_decay
        )

    def init_memory(self, batch_size: int) -> PyTree[Array]:
        return self.preconditioner.init_memory(super().init_memory(batch_size))

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        inputs, tails = super().inputs(x, state, layout)
        q, k, v, strength, log_decay = inputs.tokens
        assert log_decay is not None
        tokens = EraseWriteTokens(
            query=q,
            key=k,
            value=(strength[..., None] * v).astype(v.dtype),
            erase=(strength[..., None] * k).astype(k.dtype),
            log_decay=log_decay[..., None],
        )
        return inputs._replace(tokens=self.preconditioner(tokens, x)), tails

    def read(
        self, query: Float[Array, "b t h k"], memory: PreconditionedMemory
    ) -> Float[Array, "b t h v"]:
        return super().read(query, memory.memory)
