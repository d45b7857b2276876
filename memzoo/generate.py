"""`memzoo generate RUN`: text streamed from a run, token by token."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from .configs.errors import MemzooError
from .models.language_model import LanguageModel

# Byte tokenizers put the beginning of a document after the 256 bytes.
BEGIN = 256


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """Stream a continuation of a prompt from a run's newest checkpoint."""

    prompt: str = ""
    """Text to go on from; for a recall task, token numbers with commas between."""
    tokens: int = 256
    """Tokens to generate."""
    temperature: float = 0.8
    """0 takes the most probable token."""
    top_k: int | None = None
    """Draw among this many most probable tokens; None: among all."""
    seed: int = 0
    checkpoint: int | None = None
    """Step of the checkpoint; None: the newest."""

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"tokens is {self.tokens}; give 1 or more")
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; give 0 or more")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; give 1 or more, or None")


def generate(
    model: LanguageModel,
    prompt: list[int],
    *,
    tokens: int,
    temperature: float,
    top_k: int | None = None,
    seed: int = 0,
) -> Iterator[int]:
    """Token after token behind the prompt; memory does not grow while it streams.

    Raises:
        MemzooError: a token of the prompt is not in the vocabulary.
    """
    wrong = [token for token in prompt if not 0 <= token < model.config.vocab_size]
    if wrong:
        raise MemzooError(
            f"token {wrong[0]} of the prompt is not in the vocabulary of "
            f"{model.config.vocab_size}; give tokens from 0 on"
        )
    graphdef, arrays = nnx.split(model)

    @jax.jit
    def prefill(arrays: Any, prompt: jax.Array, state: Any) -> Any:
        return nnx.merge(graphdef, arrays).prefill(prompt, state)

    @jax.jit
    def step(arrays: Any, token: jax.Array, state: Any) -> Any:
        return nnx.merge(graphdef, arrays).step(token, state)

    @jax.jit
    def choose(logits: jax.Array, key: jax.Array) -> jax.Array:
        if top_k is not None:
            least = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        if temperature == 0:
            return jnp.argmax(logits, axis=-1)
        return jax.random.categorical(key, logits / temperature)

    state = model.init_state(1, len(prompt) + tokens)
    model.check_capacity(state, len(prompt) + tokens)
    logits, state = prefill(arrays, jnp.asarray([prompt], jnp.int32), state)
    for key in jax.random.split(jax.random.key(seed), tokens):
        token = choose(logits, key)
        yield int(token[0])
        logits, state = step(arrays, token.astype(jnp.int32), state)


def generate_command(run: Path, options: GenerateOptions) -> int:
    """Print what a run generates, as it comes."""
    from .train.runs import load_run

    loaded = load_run(run, options.checkpoint)
    is_text = loaded.config.task.chance is None
    prompt = _text_prompt(options.prompt) if is_text else _token_prompt(options.prompt)
    stream = generate(
        loaded.model,
        prompt,
        tokens=options.tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        seed=options.seed,
    )
    if not is_text:
        for token in stream:
            print(token, end=" ", flush=True)
        print()
        return 0
    sys.stdout.write(options.prompt)
    pending = b""
    for token in stream:
        if token >= BEGIN:
            break
        # A character may take several bytes: hold them back until it is whole.
        pending += bytes([token])
        try:
            text = pending.decode()
        except UnicodeDecodeError:
            if len(pending) < 4:
                continue
            text = pending.decode(errors="replace")
        sys.stdout.write(text)
        sys.stdout.flush()
        pending = b""
    print()
    return 0


def _text_prompt(prompt: str) -> list[int]:
    return [BEGIN, *prompt.encode()]


def _token_prompt(prompt: str) -> list[int]:
    try:
        return [int(word) for word in prompt.split(",")]
    except ValueError as error:
        raise MemzooError(
            f"prompt {prompt!r} is not a list of token numbers; this run reads a "
            "recall task: give --prompt 2,8,4,7,2"
        ) from error
