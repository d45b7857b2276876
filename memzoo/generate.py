"""`memzoo generate RUN`: stream text from a run, token by token."""

import codecs
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from memzoo.errors import InputError, MemzooError, NonFiniteError

from .configs.comma_list import split_list
from .data.task import MOST_TOKENS, Config, reads_prefix
from .evals.document import check_bytes
from .evals.state_file import load_state
from .evals.stream import Carried, check_room
from .models.interface import SequenceInfo
from .models.language_model import LanguageModel
from .sampling import check_sampling, choose_token

# The token for the beginning of a document follows the 256 bytes.
BEGIN = 256
# Marks a token whose scores are not finite.
_NOT_FINITE = -1


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """Stream a continuation of a prompt from a run's newest checkpoint."""

    prompt: str = ""
    """Text to continue; for a recall task, token numbers separated by commas."""
    tokens: int = 256
    """Tokens to generate."""
    temperature: float = 0.8
    """Randomness of the draw; 0 takes the most probable token, of equal ones the
    first."""
    top_k: int | None = None
    """Draw from this many most probable tokens, of equal ones the first; None: from
    all."""
    seed: int = 0
    """Seed of the draws."""
    prefix: Literal["auto", "yes", "no"] = "auto"
    """Whether layers that accept a prefix read the prompt as one, non-causally; auto:
    if the run was trained with prefixes."""
    load_state: Path | None = None
    """Continue the document whose state `memzoo eval --stream --save-state` wrote;
    the prompt follows it."""
    checkpoint: int | None = None
    """Step of the checkpoint; None: the newest."""
    trust: bool = False
    """Allow modules outside memzoo that the run's config.json names to run their
    code."""

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise InputError(f"tokens is {self.tokens}; give 1 or more")
        if self.tokens > MOST_TOKENS:
            raise InputError(f"tokens is {self.tokens}; give {MOST_TOKENS} or fewer")
        check_sampling(self.temperature, self.top_k)
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed is {self.seed}; give 0 or more, below 2^32")
        if self.checkpoint is not None and self.checkpoint < 0:
            raise InputError(f"checkpoint is {self.checkpoint}; give 0 or more")
        if self.load_state is not None and self.prefix == "yes":
            raise InputError(
                "prefix is yes; a prefix begins a document, and load_state continues "
                "one: drop one of them"
            )


def generate(
    model: LanguageModel,
    prompt: list[int],
    *,
    tokens: int,
    temperature: float,
    top_k: int | None = None,
    seed: int = 0,
    vocab_size: int | None = None,
    prefix: bool = False,
    carried: Carried | None = None,
) -> Iterator[int]:
    """Yield the tokens that follow the prompt; memory use does not grow meanwhile.

    Args:
        prompt: at least one token.
        temperature: 0 takes the most probable token.
        top_k: draw from this many most probable tokens, of equal ones the first;
            None: from all.
        vocab_size: number of real tokens, if the model's vocabulary is padded.
        prefix: layers that accept a prefix read the prompt non-causally, once; later
            tokens take the same steps as without one.
        carried: a document that the prompt continues; the prompt's first token is the
            document's last. None: a new document.

    Raises:
        InputError: the temperature or top_k is refused.
        MemzooError: a token of the prompt is not in the vocabulary, no layer accepts a
            prefix, or the carried state has no room.
        NonFiniteError: while it streams, a token's scores are not finite.
    """
    check_sampling(temperature, top_k)
    if prefix and not model.stack.accepts_prefix:
        raise MemzooError(
            "no layer of the model accepts a prefix; read the prompt without one (on "
            "the command line: --prefix no)"
        )
    known = model.config.vocab_size if vocab_size is None else vocab_size
    _check_prompt(prompt, known)
    length = len(prompt) + tokens
    if carried is not None:
        check_room(model, carried, length)
    state = model.init_state(1, length) if carried is None else carried.state

    def choose(logits: jax.Array, index: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed), index)
        logits = logits[:, :known]
        finite = jnp.all(jnp.isfinite(logits), axis=-1)
        token = choose_token(logits, key, temperature=temperature, top_k=top_k)
        return jnp.where(finite, token, _NOT_FINITE)

    # A separate generator, so that the checks above run before the first token.
    return _stream(model, prompt, state, tokens, prefix, jax.jit(choose))


def _stream(
    model: LanguageModel,
    prompt: list[int],
    state: Any,
    tokens: int,
    prefix: bool,
    choose: Callable[[jax.Array, jax.Array], jax.Array],
) -> Iterator[int]:
    graphdef, arrays = nnx.split(model)

    @jax.jit
    def prefill(arrays: Any, prompt: jax.Array, state: Any) -> Any:
        marked = jnp.ones(prompt.shape, bool) if prefix else None
        info = SequenceInfo(prefix=marked)
        return nnx.merge(graphdef, arrays).prefill(prompt, state, info)

    @jax.jit
    def step(arrays: Any, token: jax.Array, state: Any) -> Any:
        return nnx.merge(graphdef, arrays).step(token, state)

    logits, state = prefill(arrays, jnp.asarray([prompt], jnp.int32), state)
    token = None
    for index in range(tokens):
        if token is not None:
            logits, state = step(arrays, token, state)
        token = choose(logits, jnp.uint32(index)).astype(jnp.int32)
        number = int(token[0])
        if number == _NOT_FINITE:
            raise NonFiniteError(
                f"the scores of token {index + 1} are not finite, since the memory or "
                "the model has diverged; give a shorter prompt, another checkpoint "
                "or another state"
            )
        yield number


def _check_prompt(prompt: list[int], known: int) -> None:
    wrong = [token for token in prompt if not 0 <= token < known]
    if wrong:
        raise MemzooError(
            f"token {wrong[0]} of the prompt is not in the vocabulary of {known}; "
            f"give tokens from 0 to {known - 1}"
        )
    if not prompt:
        raise MemzooError("the prompt is empty; give at least one token")


def continuation(
    model: LanguageModel, task: Config, options: GenerateOptions
) -> Iterator[str]:
    """Yield the text, or token numbers of a recall task, that follow the prompt.

    Args:
        model: a language model.
        task: the task that it was trained on.
        options: the prompt, and how to draw tokens.

    Raises:
        MemzooError: the prompt or an option does not fit the task.
        NonFiniteError: while it streams, a token's scores are not finite.
    """
    is_text = task.chance is None
    prompt = _text_prompt(options.prompt) if is_text else _token_prompt(options.prompt)
    carried = None
    if options.load_state is not None:
        check_bytes(task)
        carried, _ = load_state(options.load_state, model, task.vocab_size)
        prompt[0] = carried.token
    stream = generate(
        model,
        prompt,
        tokens=options.tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        seed=options.seed,
        # Mask tokens are never read or generated here.
        vocab_size=getattr(task, "mask_token", task.vocab_size),
        prefix=options.prefix == "yes"
        or (options.prefix == "auto" and carried is None and reads_prefix(task)),
        carried=carried,
    )
    return _text(stream) if is_text else _numbers(stream)


def generate_command(run: Path, options: GenerateOptions) -> int:
    """Print what a run generates, piece by piece."""
    from .train.runs import load_run

    loaded = load_run(run, options.checkpoint, report=_say, trust=options.trust)
    task = loaded.config.task
    pieces = continuation(loaded.model, task, options)
    if task.chance is None:
        sys.stdout.write(options.prompt)
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    except NonFiniteError:
        print(flush=True)  # the error goes on a new line
        raise
    print()
    return 0


def _say(line: str) -> None:
    print(f"memzoo: {line}", file=sys.stderr)


def _numbers(stream: Iterator[int]) -> Iterator[str]:
    for index, token in enumerate(stream):
        yield f",{token}" if index else str(token)


def _text(stream: Iterator[int]) -> Iterator[str]:
    """Yield the text of the tokens, up to the end of the document."""
    # A character may take several bytes: wait until it is complete.
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in itertools.takewhile(lambda token: token < BEGIN, stream):
        yield decoder.decode(bytes([token]))
    yield decoder.decode(b"", final=True)


def _text_prompt(prompt: str) -> list[int]:
    return [BEGIN, *os.fsencode(prompt)]


def _token_prompt(prompt: str) -> list[int]:
    try:
        return [int(word) for word in split_list(prompt)]
    except ValueError as error:
        raise MemzooError(
            f"prompt {prompt!r} is not a list of token numbers, which this run of a "
            "recall task needs; give a prompt such as 2,8,4,7,2"
        ) from error
