"""Our side of whole models: train one step, read a prompt, generate tokens."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Key

from ..configs.experiment import MeshConfig, OptimizerConfig
from ..data.batch import Batch
from ..models import AttentionConfig, GatedDeltaNetConfig, Mamba2Config
from ..models.block import Group
from ..models.language_model import LanguageModelConfig
from ..train.optimizer import make_optimizer, schedule_numbers
from ..train.sharding import batch_sharding, make_mesh
from ..train.state import (
    Template,
    TrainState,
    init_state,
    make_template,
    shardings,
    state_specs,
)
from ..train.step import gradients_of, make_step
from . import model_weights as sizes
from .serving import Prepared, resident_peak

Arrays = dict[str, np.ndarray]
Options = dict[str, Any]

_LAYERS = {
    "attention": AttentionConfig(num_heads=sizes.HEADS),
    "gated_delta": GatedDeltaNetConfig(
        num_heads=sizes.HEADS,
        value_ratio=sizes.VALUE_RATIO,
        convolution_size=sizes.TAPS,
    ),
    "mamba2": Mamba2Config(
        head_size=sizes.MAMBA_HEAD,
        state_size=sizes.MAMBA_STATE,
        convolution_size=sizes.TAPS,
    ),
}

# Names of weights to our parameter paths; paths of blocks are relative to _BLOCK.
_BLOCK = "stack/groups/0/blocks/0/"
_PATHS = {
    "norm": "norm/scale",
    "mlp_norm": "mlp_norm/scale",
    "mlp_gate": "mlp/gate/kernel",
    "mlp_up": "mlp/up/kernel",
    "mlp_down": "mlp/down/kernel",
    "output": "mixer/read_out/projection/kernel",
    "inner_norm": "mixer/read_out/norm/scale",
    "gate": "mixer/read_out/gate/kernel",
    **{name: f"mixer/{name}" for name in ("log_a", "time_bias", "skip")},
    **{name: f"mixer/{name}/kernel" for name in ("decay", "write_strength", "time")},
}
_STREAMS = ("query", "key", "value")


def _path(name: str) -> str:
    if name == "embedding":
        return name
    if name == "final_norm":
        return "final_norm/scale"
    stream, _, part = name.partition("_")
    if stream in _STREAMS:
        places = {"": "kernel", "convolution": "convolution/kernel"}
        place = places.get(part, "convolution/bias")
        return f"{_BLOCK}mixer/{stream}/{place}"
    return _BLOCK + _PATHS[name]


class _Model:
    """Model of memzoo with given weights."""

    def __init__(self, arrays: Arrays, options: Options) -> None:
        name = options["operation"]
        width = options["num_heads"] * options["head_size"]
        config = LanguageModelConfig(
            vocab_size=sizes.VOCABULARY,
            width=width,
            pattern=(Group(layers=(_LAYERS[name],), repeats=sizes.BLOCKS),),
            mlp_width=sizes.MLP if "mlp_gate" in arrays else 0,
            norm_epsilon=sizes.EPSILON,
        )

        def build(key: Key[Array, ""]) -> nnx.Module:
            return config.build(nnx.Rngs(key))

        self.build = build
        self.template: Template = make_template(build)
        self.names = {_path(n): n for n in sizes.WEIGHTS[name](width)}
        wanted = self.template.shapes()[0]
        assert set(self.names) == set(wanted), set(self.names) ^ set(wanted)
        self.params = {path: arrays[n] for path, n in self.names.items()}


def prepare_step(arrays: Arrays, options: Options) -> Prepared:
    """Prepare forward, backward, clipping and AdamW as `memzoo train` compiles them."""
    model = _Model(arrays, options)
    # A constant rate, so that every step does the same work.
    config = OptimizerConfig(
        learning_rate=LEARNING_RATE, schedule="constant", warmup_steps=0
    )
    numbers = schedule_numbers(config, 1)
    optimizer = make_optimizer(config, numbers, model.template.shapes()[0])
    mesh = make_mesh(MeshConfig(data=1))
    specs = state_specs(mesh, model.build, optimizer)
    step = make_step(model.template, config, numbers, mesh=mesh, specs=specs)
    batch = jax.device_put(_batch(arrays), batch_sharding(mesh))
    state = [_first_state(model, optimizer, specs)]

    def call() -> None:
        state[0], metrics = step(state[0], batch)
        jax.block_until_ready((state[0], metrics))

    @jax.jit
    def gradients(params: Any, rest: Any) -> Any:
        found, _, metrics = gradients_of(model.template, params, rest, batch, mesh, 1)
        return metrics["loss"], found

    def results() -> Arrays:
        first = _first_state(model, optimizer, specs)
        loss, found = gradients(first.params, first.rest)
        named = {f"gradient_{n}": found[path] for path, n in model.names.items()}
        return {n: np.asarray(a) for n, a in (named | {"output": loss}).items()}

    return Prepared(call, results, peak=resident_peak)


LEARNING_RATE = 1e-3


def _batch(arrays: Arrays) -> Batch:
    return Batch(
        tokens=arrays["tokens"],
        targets=arrays["targets"],
        target_positions=None,
        target_weights=np.ones(arrays["targets"].shape, np.float32),
    )


def _first_state(model: _Model, optimizer: Any, specs: TrainState) -> TrainState:
    """Return the state before the first step, with the given weights."""

    def make(key: Key[Array, ""]) -> TrainState:
        return init_state(model.build, optimizer, key)

    state = jax.jit(make, out_shardings=shardings(specs))(jax.random.key(0))
    return state._replace(params=jax.device_put(model.params, shardings(specs.params)))


def _reader(arrays: Arrays, options: Options, capacity: int) -> tuple[Any, Any, Any]:
    """Return parameters, a function that reads a prompt, and one that reads a token."""
    model = _Model(arrays, options)
    template, parameters = model.template, jax.device_put(model.params)
    rest: Any = model.template.shapes()[1]
    assert not rest, rest

    @jax.jit
    def prefill(parameters: Any, tokens: Array) -> Any:
        merged = template.merge(parameters, {})
        state = merged.init_state(tokens.shape[0], capacity)
        return merged.prefill(tokens, state)

    @jax.jit
    def token(parameters: Any, token: Array, state: Any) -> Any:
        return template.merge(parameters, {}).step(token, state)

    return parameters, prefill, token


def prepare_read(arrays: Arrays, options: Options) -> Prepared:
    """Prepare to read a prompt: logits after its last token, and the state."""
    tokens = jnp.asarray(arrays["tokens"])
    parameters, prefill, _ = _reader(arrays, options, tokens.shape[1] + 1)
    last: list[Any] = []

    def call() -> None:
        last.clear()
        last.append(jax.block_until_ready(prefill(parameters, tokens)))

    def results() -> Arrays:
        return {"output": np.asarray(last[0][0])}

    return Prepared(call, results, peak=resident_peak)


def prepare_generate(arrays: Arrays, options: Options) -> Prepared:
    """Prepare to read tokens one by one after a prompt."""
    tokens = jnp.asarray(arrays["tokens"])
    following = jnp.asarray(arrays["next"]).T
    capacity = tokens.shape[1] + len(following)
    parameters, prefill, token = _reader(arrays, options, capacity)
    _, begin = prefill(parameters, tokens)
    last: list[Any] = []

    def call() -> None:
        state, logits = begin, None
        for each in following:
            logits, state = token(parameters, each, state)
            # Generation waits for the scores before it chooses the next token.
            jax.block_until_ready(logits)
        last[:] = [logits]

    def results() -> Arrays:
        return {"output": np.asarray(last[0])}

    return Prepared(call, results, peak=resident_peak)


MODEL_KINDS: Mapping[str, Callable[[Arrays, Options], Prepared]] = {
    "step": prepare_step,
    "read": prepare_read,
    "generate": prepare_generate,
}
