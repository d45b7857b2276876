"""The language model: embedding, stack, norm and head."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memzoo.errors import InputError, name_to_use, shown, with_article

from .block import Group, RematPolicy, Stack, StackConfig
from .capacity import is_known
from .field_types import check_types
from .interface import SequenceInfo, TokenInfo
from .layer_config import LayerConfig
from .loss import LossSums, chunked_cross_entropy
from .stack_state import StackState

# Far above any model's size; above this the compiler kills the process silently.
LARGEST = 2**24

_OTHER_NAMES = {
    "d_ff": "mlp_width",
    "d_model": "width",
    "dim": "width",
    "hidden_size": "width",
    "intermediate_size": "mlp_width",
    "mlp": "mlp_width",
    "n_embd": "width",
    "rms_norm_eps": "norm_epsilon",
    "tie_word_embeddings": "tie_embeddings",
    "vocab": "vocab_size",
}
"""Names of fields in other libraries, and here."""
_COUNTS = ("depth", "n_layer", "n_layers", "num_hidden_layers", "num_layers")
"""Names of the number of blocks in other libraries."""


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """A language model over any pattern of the zoo's layers."""

    vocab_size: int
    width: int
    pattern: tuple[Group, ...]
    """Groups of layers with their repeats, first to last."""
    mlp_width: int = 0
    """Hidden width of each block's SwiGLU; 0: no MLP."""
    tie_embeddings: bool = True
    """Use the input embedding as the output embedding."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations; parameters, gates and states are float32."""
    remat: RematPolicy = "none"
    """Values of a block kept for the backward pass: all (none), none (full), or matrix
    products (dots)."""
    norm_epsilon: float = 1e-5
    """Epsilon of the norms of blocks and of the output: added to the mean square.
    Layers have their own."""
    zero_centred_norm: bool = False
    """Multiply by 1 + scale in these norms, with a scale that begins at 0."""
    loss_chunk_tokens: int = 8192
    """Number of targets whose logits are computed at once; affects memory only."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "width", "loss_chunk_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise InputError(f"{name} is {value!r}; give a whole number")
            if value < 1:
                raise InputError(f"{name} is {value}; give 1 or more")
            # JSON has no numbers of numpy.
            object.__setattr__(self, name, int(value))
        for name in ("vocab_size", "width"):
            if getattr(self, name) > LARGEST:
                raise InputError(
                    f"{name} is {getattr(self, name)}; give {LARGEST} or less"
                )
        if self.dtype not in ("float32", "bfloat16"):
            raise InputError(
                f"dtype {self.dtype!r} is not known; choose float32 or bfloat16"
            )
        check_types(self)
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
    """A language model over layers of the zoo.

    It has an embedding, residual blocks (RMSNorm, layer, and a SwiGLU if `mlp_width` is
    given), a final RMSNorm, and a head that is the embedding unless `tie_embeddings` is
    False. Build it from sizes and `layers`, or from a `LanguageModelConfig`.

    Args:
        config: the whole config; then give no other argument but `rngs`.
        rngs: random streams for the parameters.
        vocab_size: number of tokens in the vocabulary.
        width: size of the residual stream, d.
        layers: names or configs of the layers, first to last.
        fields: further fields of `LanguageModelConfig`, such as `mlp_width`.

    Raises:
        InputError: a layer or field is unknown, or a value is invalid.
    """

    def __init__(
        self,
        config: LanguageModelConfig | None = None,
        rngs: nnx.Rngs | None = None,
        *,
        vocab_size: int | None = None,
        width: int | None = None,
        layers: Sequence[str | LayerConfig] | None = None,
        **fields: Any,
    ):
        _check_names(fields)
        given = {"vocab_size": vocab_size, "width": width, "layers": layers}
        given = {name: value for name, value in given.items() if value is not None}
        if rngs is None:
            raise InputError("LanguageModel needs rngs; give rngs=nnx.Rngs(0)")
        if not isinstance(rngs, nnx.Rngs):
            raise InputError(f"rngs is {shown(rngs)}; give rngs=nnx.Rngs(0)")
        if config is not None and not isinstance(config, LanguageModelConfig):
            raise InputError(f"config is {shown(config)}; give a LanguageModelConfig")
        if config is None:
            config = _config_of(given | fields)
        elif given or fields:
            raise InputError(
                f"LanguageModel: {', '.join(given | fields)} is given with a config; "
                "use dataclasses.replace on the config"
            )
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

    def init_state(self, batch_size: int, max_length: int) -> StackState:
        """Return the state before the first token; see `MemoryLayer.init_state`."""
        return self.stack.init_state(batch_size, max_length)

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        state: StackState | None = None,
        info: SequenceInfo | None = None,
        *,
        max_length: int | None = None,
    ) -> tuple[Float[Array, "b t y"], StackState]:
        """Return the logits of each next token, in float32, and the state.

        Args:
            tokens: whole numbers from 0 to vocab_size - 1.
            state: state after the previous tokens. None: each row begins a document.
            info: document starts, padding and prefixes in this call.
            max_length: tokens of the longest document that the returned state can
                hold, if it grows. None: the tokens of this call. Allowed only without
                a state.

        Raises:
            InputError: outside jit, a token is not in the vocabulary or does not fit
                into the state; see `MemoryLayer.__call__`.
        """
        hidden, state = self.hidden(tokens, state, info, max_length=max_length)
        return self.logits(hidden), state

    def hidden(
        self,
        tokens: Int[Array, "b t"],
        state: StackState | None = None,
        info: SequenceInfo | None = None,
        *,
        max_length: int | None = None,
    ) -> tuple[Float[Array, "b t d"], StackState]:
        """Return hidden states after the final norm, and the state after all tokens.

        Arguments and errors are as in `__call__`.
        """
        x = self._embed(tokens, "b t")
        x, state = self.stack(x, state, info, max_length=max_length)
        return self.final_norm(x), state

    def logits(self, hidden: Float[Array, "*b d"]) -> Float[Array, "*b y"]:
        """Return logits in float32."""
        return jnp.einsum(
            "...d,yd->...y",
            hidden,
            self._head().astype(hidden.dtype),
            preferred_element_type=jnp.float32,
        )

    def prefill(
        self,
        tokens: Int[Array, "b t"],
        state: StackState,
        info: SequenceInfo | None = None,
    ) -> tuple[Float[Array, "b y"], StackState]:
        """Return logits after each row's last real token of a prompt, and the state."""
        hidden, state = self.hidden(tokens, state, info)
        if info is None or info.valid is None:
            return self.logits(hidden[:, -1]), state
        index = jnp.arange(tokens.shape[1])[None, :]
        last = jnp.max(jnp.where(info.valid, index, 0), axis=1)
        hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)
        return self.logits(hidden[:, 0]), state

    def step(
        self, token: Int[Array, "b"], state: StackState, info: TokenInfo | None = None
    ) -> tuple[Float[Array, "b y"], StackState]:
        """Read one token per row and return the next token's logits and the state."""
        x, state = self.stack.step(self._embed(token, "b"), state, info)
        return self.logits(self.final_norm(x)), state

    def check_capacity(self, state: StackState, time: int) -> None:
        """Raise InputError if `time` more tokens do not fit into `state`."""
        self.stack.check_capacity(state, time, "language model")

    def loss(
        self, tokens: Int[Array, "b t"], info: SequenceInfo | None = None
    ) -> Float[Array, ""]:
        """Return the mean nats per token; the first token of a document does not count.

        Auxiliary losses of layers (a mixture's balance) are included.

        Args:
            tokens: rows of 2 tokens or more; each row begins a document.
            info: further document starts, padding and prefixes.

        Raises:
            InputError: a row has fewer than 2 tokens; outside jit, a token is not in
                the vocabulary.
        """
        self._check_tokens(tokens, "b t")
        if tokens.shape[1] < 2:
            raise InputError(
                f"tokens have shape {tokens.shape}; give 2 tokens or more per row"
            )
        if info is not None:
            self.stack._check_masks(tokens[:, :, None], info, SequenceInfo)
        weights = jnp.ones(tokens[:, 1:].shape, jnp.float32)
        if info is not None and info.reset is not None:
            weights = jnp.where(info.reset[:, 1:], 0, weights)
        if info is not None and info.valid is not None:
            both = jnp.logical_and(info.valid[:, 1:], info.valid[:, :-1])
            weights = jnp.where(both, weights, 0)
        return self.loss_sums(
            tokens,
            tokens[:, 1:],
            target_weights=weights,
            info=info,
        ).mean

    def loss_sums(
        self,
        tokens: Int[Array, "b t"],
        targets: Int[Array, "b n"],
        *,
        target_positions: Int[Array, "b n"] | None = None,
        target_weights: Float[Array, "b n"] | None = None,
        info: SequenceInfo | None = None,
    ) -> LossSums:
        """Return the sums of the loss of a batch; each row begins a document.

        Args:
            targets: tokens to predict; target i is predicted at the token
                `target_positions[i]`, or at token i if that is None.
            target_weights: weight of each target, 0 to skip it; None: all are 1.
        """
        hidden, _ = self.hidden(tokens, self.init_state(tokens.shape[0], 0), info)
        if target_positions is None:
            hidden = hidden[:, : targets.shape[1]]
        else:
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

    def _embed(self, tokens: Int[Array, "*b"], axes: str) -> Float[Array, "*b d"]:
        self._check_tokens(tokens, axes)
        x = jnp.take(self.embedding[...], tokens, axis=0)
        return x.astype(jnp.dtype(self.config.dtype))

    def _check_tokens(self, tokens: Any, axes: str) -> None:
        """Raise InputError unless tokens have these axes and are in the vocabulary.

        Values are checked only outside jit.
        """
        if not hasattr(tokens, "dtype"):
            given = with_article(type(tokens).__name__)
            raise InputError(f"tokens are {given}; give an array of whole numbers")
        if not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise InputError(f"tokens are {tokens.dtype}; give whole numbers")
        if tokens.ndim != len(axes.split()):
            raise InputError(
                f"tokens have shape {tokens.shape}; give them the axes `{axes}`"
            )
        if tokens.size == 0 or not is_known(tokens):
            return
        with jax.ensure_compile_time_eval():
            least, most = int(jnp.min(tokens)), int(jnp.max(tokens))
        if least < 0 or most >= self.config.vocab_size:
            wrong = least if least < 0 else most
            raise InputError(
                f"token {wrong} is not in the vocabulary; give whole numbers from 0 "
                f"to {self.config.vocab_size - 1}"
            )

    def _head(self) -> Float[Array, "y d"]:
        return (self.embedding if self.head is None else self.head)[...]


def _check_names(fields: Iterable[str]) -> None:
    """Raise InputError if a name is not a field of a model."""
    known = {field.name for field in dataclasses.fields(LanguageModelConfig)}
    for name in fields:
        if name not in known:
            ours = ["layers", *sorted(known - {"pattern"})]
            remedy = name_to_use(name, ours, _OTHER_NAMES)
            if name in _COUNTS:
                remedy = "give layers, a list with one layer for each block"
            raise InputError(f"LanguageModel has no field {name!r}; {remedy}")


def _config_of(fields: dict[str, Any]) -> LanguageModelConfig:
    """Return the config with these fields, `layers` in place of `pattern`.

    Raises:
        InputError: a field is missing or invalid.
    """
    # Imported late: `pattern` imports the registry, which is above this module.
    from .pattern import pattern_of

    fields = dict(fields)
    if "layers" in fields:
        fields["pattern"] = pattern_of(fields.pop("layers"))
    for name in ("vocab_size", "width", "pattern"):
        if name not in fields:
            name = "layers" if name == "pattern" else name
            raise InputError(f"LanguageModel: {name} is missing; give it or a config")
    return LanguageModelConfig(**fields)


class Reported(nnx.Variable):
    """Metrics of the last loss, by path."""


def num_parameters(model: nnx.Module) -> int:
    """Return the number of trained values in a model, concrete or abstract."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def abstract_model(config: LanguageModelConfig) -> Any:
    """Return the model with shapes and types in place of arrays, without allocating."""
    return nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))
