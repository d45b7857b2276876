"""The one language model: embedding, stack, norm, head."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memzoo.errors import InputError

from .block import Group, RematPolicy, Stack, StackConfig
from .interface import SequenceInfo, TokenInfo
from .loss import LossSums, chunked_cross_entropy

# Far above any model: beyond it the compiler ends the process without a word.
LARGEST = 2**24


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """A language model over any pattern of the zoo's layers."""

    vocab_size: int
    width: int
    pattern: tuple[Group, ...]
    """Groups of layers with repeats, first to last."""
    mlp_width: int = 0
    """Hidden width of each block's SwiGLU; 0: no MLP."""
    tie_embeddings: bool = True
    """The output embedding is the input embedding."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations; parameters, gates and states are float32."""
    remat: RematPolicy = "none"
    """What the backward pass keeps of a block: everything, nothing, or products."""
    norm_epsilon: float = 1e-5
    """Added to the mean square in the norms of blocks and of the model's output;
    layers have such a field too."""
    zero_centred_norm: bool = False
    """Give these norms the factor 1 + scale, with a scale that begins at 0."""
    loss_chunk_tokens: int = 8192
    """Targets whose logits exist at once: memory only."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "width", "loss_chunk_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")
        for name in ("vocab_size", "width"):
            if getattr(self, name) > LARGEST:
                raise InputError(
                    f"{name} is {getattr(self, name)}; give {LARGEST} or less"
                )
        if self.dtype not in ("float32", "bfloat16"):
            raise InputError(
                f"dtype {self.dtype!r} is not known; choose float32 or bfloat16"
            )
        self.stack  # noqa: B018  (validates the pattern, the MLP and the policy)

    @property
    def stack(self) -> StackConfig:
        return StackConfig(
            pattern=self.pattern,
            mlp_width=self.mlp_width,
            norm_epsilon=self.norm_epsilon,
            zero_centred_norm=self.zero_centred_norm,
            remat=self.remat,
        )

    def build(self, rngs: nnx.Rngs) -> "LanguageModel":
        return LanguageModel(self, rngs)


class LanguageModel(nnx.Module):
    """See `LanguageModelConfig`."""

    def __init__(self, config: LanguageModelConfig, rngs: nnx.Rngs):
        self.config = config
        shape = (config.vocab_size, config.width)
        normal = nnx.initializers.normal(0.02)
        self.embedding = nnx.Param(normal(rngs.params(), shape, jnp.float32))
        self.stack = Stack(config.stack, config.width, rngs)
        self.final_norm = config.stack.norm(config.width)
        if config.tie_embeddings:
            self.head = None
        else:
            self.head = nnx.Param(normal(rngs.params(), shape, jnp.float32))

    def init_state(self, batch_size: int, max_length: int) -> tuple:
        """The state before the first token; see `MemoryLayer.init_state`."""
        return self.stack.init_state(batch_size, max_length)

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        state: tuple,
        info: SequenceInfo | None = None,
    ) -> tuple[Float[Array, "b t d"], tuple]:
        """Return hidden states after the final norm, and the state after all tokens.

        Tokens are not checked: give whole numbers from 0 to vocab_size - 1.
        """
        x, state = self.stack(self._embed(tokens), state, info)
        return self.final_norm(x), state

    def logits(self, hidden: Float[Array, "*b d"]) -> Float[Array, "*b y"]:
        """Logits in float32."""
        return jnp.einsum(
            "...d,yd->...y",
            hidden,
            self._head().astype(hidden.dtype),
            preferred_element_type=jnp.float32,
        )

    def prefill(
        self,
        tokens: Int[Array, "b t"],
        state: tuple,
        info: SequenceInfo | None = None,
    ) -> tuple[Float[Array, "b y"], tuple]:
        """Read a prompt: logits after each row's last real token, and the state."""
        hidden, state = self(tokens, state, info)
        if info is None or info.valid is None:
            return self.logits(hidden[:, -1]), state
        index = jnp.arange(tokens.shape[1])[None, :]
        last = jnp.max(jnp.where(info.valid, index, 0), axis=1)
        hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)
        return self.logits(hidden[:, 0]), state

    def step(
        self, token: Int[Array, "b"], state: tuple, info: TokenInfo | None = None
    ) -> tuple[Float[Array, "b y"], tuple]:
        """Read one token a row: logits of the next one, and the state."""
        x, state = self.stack.step(self._embed(token), state, info)
        return self.logits(self.final_norm(x)), state

    def check_capacity(self, state: tuple, time: int) -> None:
        """Raise InputError where `time` more tokens do not fit into `state`."""
        self.stack.check_capacity(state, time, "language model")

    def loss(
        self,
        tokens: Int[Array, "b t"],
        targets: Int[Array, "b n"],
        *,
        target_positions: Int[Array, "b n"] | None = None,
        target_weights: Float[Array, "b n"] | None = None,
        info: SequenceInfo | None = None,
    ) -> LossSums:
        """Sums of the loss of a batch whose rows begin documents.

        Args:
            targets: what is to be put out; target i belongs to the token at
                `target_positions[i]`, or to token i where that is None.
            target_weights: 0 leaves a target out; None: all count 1.
        """
        hidden, _ = self(tokens, self.init_state(tokens.shape[0], 0), info)
        if target_positions is not None:
            hidden = jnp.take_along_axis(hidden, target_positions[:, :, None], axis=1)
        if target_weights is None:
            target_weights = jnp.ones(targets.shape, jnp.float32)
        sums = chunked_cross_entropy(
            hidden,
            self._head().astype(hidden.dtype),
            targets,
            target_weights,
            chunk_tokens=self.config.loss_chunk_tokens,
        )
        parts, metrics = self.stack.pop_said()
        if metrics:
            self.metrics = Reported(metrics)
        return sums._replace(parts=sums.parts + parts)

    def _embed(self, tokens: Int[Array, "*b"]) -> Float[Array, "*b d"]:
        x = jnp.take(self.embedding[...], tokens, axis=0)
        return x.astype(jnp.dtype(self.config.dtype))

    def _head(self) -> Float[Array, "y d"]:
        return (self.embedding if self.head is None else self.head)[...]


class Reported(nnx.Variable):
    """Metrics of the last loss, by path."""


def num_parameters(model: nnx.Module) -> int:
    """Trained numbers in a model, concrete or abstract."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def abstract_model(config: LanguageModelConfig) -> Any:
    """The model with shapes and types in place of arrays; nothing is allocated."""
    return nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))
