"""Inputs of the cases, which contestants read and differentiate by."""

from collections.abc import Callable, Mapping

import numpy as np

from .cases import GENERATED, Case, Kind, Preferred
from .model_weights import VOCABULARY, WEIGHTS

# Number of memories that all tokens choose, and the logit added to them.
_PREFERRED: Mapping[Preferred, int] = {"none": 0, "one": 1, "two": 2}
_SURELY = 8.0

Shape = tuple[int, ...]
Draw = Callable[[np.random.Generator, Shape], np.ndarray]

EXPANSION = 4
"""Hidden size of a deep memory, over the size of its keys."""

PREFIX_KEY = 16
"""Size of queries and keys in prefix linear attention."""


def normal(generator: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw standard normal numbers."""
    return generator.standard_normal(shape)


def unit(generator: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw vectors of length one along the last axis."""
    x = generator.standard_normal(shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softplus(shift: float, sign: float = 1.0) -> Draw:
    """Draw softplus of shifted normal numbers."""
    return lambda generator, shape: (
        sign * np.logaddexp(0, generator.standard_normal(shape) + shift)
    )


def sigmoid(shift: float = 0.0, largest: float = 1.0) -> Draw:
    """Draw sigmoids of shifted normal numbers."""
    return lambda generator, shape: (
        largest * np.exp(-np.logaddexp(0, -generator.standard_normal(shape) - shift))
    )


def near(centre: float) -> Draw:
    """Draw numbers close to the centre."""
    return lambda generator, shape: centre + 0.1 * generator.standard_normal(shape)


def constant(value: float) -> Draw:
    """Fill with the value."""
    return lambda generator, shape: np.full(shape, value)


def projection(generator: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw a matrix (or one per head) that preserves the size of its input."""
    return generator.standard_normal(shape) * shape[-2] ** -0.5


# Inputs of every operation and their distributions, as the layers produce them.
_NORM: dict[str, Draw] = {"norm": near(1.0), "norm_bias": near(0.0)}
_GATES: dict[str, Draw] = {
    "learning_rate": sigmoid(largest=0.05),
    "momentum": sigmoid(),
    "forget": sigmoid(-4.0),
}
DRAWS: Mapping[str, Mapping[str, Draw]] = {
    "gated_delta": {
        "q": unit,
        "k": unit,
        "v": normal,
        "write_strength": sigmoid(),
        "log_decay": softplus(-2.0, -1.0),
    },
    "delta": {"q": unit, "k": unit, "v": normal, "write_strength": sigmoid()},
    "scalar_decay": {"q": unit, "k": unit, "v": normal, "time_step": softplus(-2.0)},
    "attention": {"q": normal, "k": normal, "v": normal},
    # Both sides compute the fixed decays of the heads.
    "retention": {"q": unit, "k": unit, "v": normal},
    "titans": {"q": unit, "k": unit, "v": normal, **_GATES, **_NORM},
    "ttt": {
        "q": unit,
        "k": unit,
        "v": normal,
        "step": sigmoid(largest=0.01),
        **_NORM,
    },
    "titans_mlp": {
        "q": unit,
        "k": unit,
        "v": normal,
        **_GATES,
        "memory_up": projection,
        "memory_down": projection,
    },
    # Inputs for every memory; a token chooses two memories by its logits.
    "mixture": {
        "q": unit,
        "k": unit,
        "v": normal,
        "write_strength": sigmoid(),
        "log_decay": softplus(-2.0, -1.0),
        "logits": normal,
    },
    # A whole layer. With a faster initial decay the peer forgets everything.
    "titans_lmm": {
        "x": normal,
        "store_norm": near(1.0),
        "retrieve_norm": near(1.0),
        "query": projection,
        "key": projection,
        "value": projection,
        "step": projection,
        "step_bias": near(0.0),
        "momentum": projection,
        "momentum_bias": near(0.0),
        "decay": constant(0.0),
        "decay_bias": constant(-6.0),
        "memory_norm": near(0.0),
        "memory_up": projection,
        "memory_down": projection,
        "gate": projection,
        "output": projection,
    },
}


def input_shapes(case: Case) -> dict[str, Shape]:
    """Return the shape of every input of the case, by name."""
    heads, size = case.num_heads, case.head_size
    width, hidden = heads * size, EXPANSION * case.head_size
    tokens = (case.batch_size, case.time)
    token, gate = (*tokens, heads, size), (*tokens, heads)
    known: dict[str, Shape] = dict.fromkeys(("q", "k", "v"), token)
    known |= dict.fromkeys(("norm", "norm_bias"), (heads, size))
    if case.num_memories is not None:
        own = (case.batch_size, case.num_memories, case.time, heads)
        known |= {"k": (*own, size), "v": (*own, size)}
        known |= {"write_strength": own, "log_decay": own}
        known |= {"logits": (*tokens, case.num_memories)}
    known |= {"memory_up": (heads, size, hidden), "memory_down": (heads, hidden, size)}
    if case.operation == "titans_lmm":
        known |= dict.fromkeys(("query", "key", "value", "output"), (width, width))
        known |= dict.fromkeys(("step", "momentum", "decay", "gate"), (width, heads))
        known |= dict.fromkeys(("step_bias", "momentum_bias", "decay_bias"), (heads,))
        known |= dict.fromkeys(("store_norm", "retrieve_norm"), (width,))
        known |= {"x": (*tokens, width), "memory_norm": (heads, size)}
    return {name: known.get(name, gate) for name in DRAWS[case.operation]}


def make_inputs(case: Case, seed: int) -> dict[str, np.ndarray]:
    """Return the inputs of a case, and for an operation or layer a `cotangent`.

    Tokens have the layout `b t h k` and gates `b t h`. With several memories they have
    `b m t h k` and `b m t h`, and logits `b t m`. A whole module reads `b t d` and has
    kernels `d f`. A whole model reads `tokens` and has the weights of `model_weights`.
    Tokens are int32 and everything else is float32.
    """
    generator = np.random.default_rng([seed, case.time])
    arrays = _DRAWN[case.kind](case, generator)
    return {
        name: np.ascontiguousarray(x, np.int32 if x.dtype.kind == "i" else np.float32)
        for name, x in arrays.items()
    }


Arrays = dict[str, np.ndarray]


def _operation(case: Case, generator: np.random.Generator) -> Arrays:
    shapes = input_shapes(case)
    arrays = {
        name: draw(generator, shapes[name])
        for name, draw in DRAWS[case.operation].items()
    }
    if "logits" in arrays:
        arrays["logits"][:, :, : _PREFERRED[case.preferred]] += _SURELY
    first = next(iter(shapes.values()))
    arrays["cotangent"] = normal(generator, first)
    return arrays


def _layer(case: Case, generator: np.random.Generator) -> Arrays:
    shape = (case.batch_size, case.time, case.width)
    return {name: normal(generator, shape) for name in ("x", "cotangent")}


def _prompt(case: Case, generator: np.random.Generator) -> Arrays:
    """Draw queries and keys of prefix linear attention and attention; share values."""

    def draw(names: tuple[str, ...], size: int) -> Arrays:
        shape = (case.batch_size, case.time, case.num_heads, size)
        return {name: normal(generator, shape) for name in names}

    small = draw(("q", "k", "k_prefix"), PREFIX_KEY)
    return small | draw(("v", "v_prefix", "q_attention", "k_attention"), case.head_size)


def _block(case: Case, generator: np.random.Generator) -> Arrays:
    time = 1 if case.kind == "decode" else case.time
    return {"x": normal(generator, (case.batch_size, time, case.width))}


def _model(case: Case, generator: np.random.Generator) -> Arrays:
    def tokens(time: int) -> np.ndarray:
        return generator.integers(VOCABULARY, size=(case.batch_size, time))

    drawn = {"tokens": tokens(case.time), "targets": tokens(case.time)}
    if case.kind == "generate":
        drawn["next"] = tokens(GENERATED)
    kinds = {"near_one": near(1.0), "near_zero": near(0.0), "matrix": projection}
    weights = WEIGHTS[case.operation](case.width)
    return drawn | {n: kinds[kind](generator, s) for n, (kind, s) in weights.items()}


_DRAWN: Mapping[Kind, Callable[[Case, np.random.Generator], Arrays]] = {
    "operation": _operation,
    "layer": _layer,
    "prompt": _prompt,
    "block": _block,
    "decode": _block,
    "step": _model,
    "read": _model,
    "generate": _model,
}
