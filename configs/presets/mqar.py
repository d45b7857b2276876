"""Multi-query associative recall: every layer in the same small model.

The model is that of the comparison: two blocks without MLP, one head, short
convolutions of 4 taps on queries, keys and values, and a memory of width x width;
docs/decisions/0004 lists what is equal and what is not. Results: seed 0, a 2-core CPU.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...data.mqar import MqarConfig
from ...data.prefix import PrefixConfig
from ...data.task import Config
from ...models import LAYERS, LayerConfig
from ...models.block import Group
from ...models.language_model import LanguageModelConfig
from ...models.ops.feature_maps import taylor_size
from ..experiment import ExperimentConfig, OptimizerConfig

# Values that make layers comparable, for layers with these fields.
_COMPARABLE = {
    "convolution_size": 4,
    "value_ratio": 1,
    "expand": 1,
    "output_gate": False,
    # With one head, a published draw may forget within two tokens (docs/layers).
    "fastest_decay": 0.1,
    # One matrix, with write steps large enough for pairs that are seen once.
    "memory_depth": 1,
    "max_learning_rate": 0.5,
    "clip": None,
    # Windows end within the sequence.
    "update_every": 16,
}
_INNER = ("memory", "attention", "layers")


def comparable_layer(
    layer: str | type[Any], width: int, num_heads: int = 1, head_size: int | None = None
) -> LayerConfig:
    """Return a layer with the same memory size as all others, also in its inner layers.

    Args:
        layer: a registered name, or the config class of a layer from outside. Fields
            that it lacks are skipped.
        width: size of the residual stream.
        num_heads: heads of each layer.
        head_size: size of keys; None: width / num_heads.
    """
    kind = LAYERS[layer] if isinstance(layer, str) else layer
    return _comparable(kind(), width, num_heads, head_size)


def _comparable(layer: Any, width: int, num_heads: int, head_size: int | None) -> Any:
    fields = {field.name for field in dataclasses.fields(layer)}
    chosen = {**_COMPARABLE, "num_heads": num_heads}
    values = {field: value for field, value in chosen.items() if field in fields}
    key_size = width // num_heads if head_size is None else head_size
    if "feature_size" in fields:
        # Choose the number of Taylor features nearest to the head size.
        values["feature_size"] = min(
            range(1, width + 1),
            key=lambda size: abs(taylor_size(size) - key_size),
        )
    for inner in _INNER:
        if inner in fields:
            held = getattr(layer, inner)
            if isinstance(held, tuple):
                values[inner] = tuple(
                    _comparable(each, width, num_heads, head_size) for each in held
                )
            else:
                values[inner] = _comparable(held, width, num_heads, head_size)
    if {"residual", "memory"} <= fields:
        # For a memory in series with attention: without the clip, training was
        # unstable.
        values["memory"] = dataclasses.replace(values["memory"], clip=layer.memory.clip)
    if fields & {"levels", "slow_every"}:
        # Their slow memories add up many writes from the same weights.
        values["clip"] = layer.clip
    if "expand" in fields:
        # Its heads share their keys, and its values are as wide as the model.
        values |= {"head_size": width // num_heads, "state_size": key_size}
    elif head_size is not None and "head_size" in fields:
        values["head_size"] = head_size
    return dataclasses.replace(layer, **values)


def with_window(layer: Any, window: int) -> Any:
    """Return the layer with windows of `window` tokens, if its attention has windows.

    A segment of tokens that see each other is a window too. The memory's windows of
    writes are at most as long.
    """
    fields = {field.name for field in dataclasses.fields(layer)}
    names = {"window", "segment_size"} & fields
    values: dict[str, Any] = dict.fromkeys(names, window)
    if "attention" in fields:
        values["attention"] = with_window(layer.attention, window)
    if "layers" in fields:
        values["layers"] = tuple(with_window(each, window) for each in layer.layers)
    if {"segment_size", "memory"} <= fields and hasattr(layer.memory, "update_every"):
        every = min(layer.memory.update_every, window)
        values["memory"] = dataclasses.replace(layer.memory, update_every=every)
    return dataclasses.replace(layer, **values) if values else layer


def mqar_experiment(
    layer: LayerConfig,
    name: str,
    *,
    task: Config | None = None,
    width: int = 64,
    depth: int = 2,
    learning_rate: float = 1e-2,
    steps: int = 1500,
) -> ExperimentConfig:
    """Return an experiment of a layer on recall: `depth` blocks without MLP."""
    chosen: Any = MqarConfig() if task is None else task
    return ExperimentConfig(
        name=name,
        model=LanguageModelConfig(
            vocab_size=chosen.vocab_size,
            width=width,
            pattern=(Group(layers=(layer,), repeats=depth),),
        ),
        task=chosen,
        optimizer=OptimizerConfig(learning_rate=learning_rate, warmup_steps=50),
        steps=steps,
        batch_size=64,
        evaluate_every=100,
        stop_at_accuracy=0.99,
        log_every=20,
        checkpoint_every=500,
    )


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """Result of a layer's preset, and its settings."""

    result: str
    learning_rate: float = 1e-2
    prefix: bool = False
    """Read the pairs as a prefix."""


# One entry per trained layer; windows are of 16 tokens.
_TRAINED = {
    "attention": _Trained(result="1.000 after 300 steps"),
    "sliding_window_attention": _Trained(result="0.070, chance, after 1500 steps"),
    "linear_attention": _Trained(result="0.067, chance, after 1500 steps"),
    "retnet": _Trained(result="0.991 after 1200 steps"),
    "mamba2": _Trained(result="0.991 after 700 steps"),
    "delta_net": _Trained(result="0.991 after 400 steps"),
    "gated_delta_net": _Trained(result="0.992 after 500 steps"),
    "gla": _Trained(result="0.971 after 600 of 1500 steps, not trained further"),
    "gated_short_convolution": _Trained(result="0.002 after 1500 steps; no memory"),
    "prefix_linear_attention": _Trained(
        result="0.991 after 500 steps; pairs first", prefix=True
    ),
    "prefix_attention": _Trained(
        result="0.998 after 500 steps; pairs first", prefix=True
    ),
    # Each of its memories is as large as the whole memory of other layers.
    "mixture_of_memories": _Trained(result="0.992 after 400 steps; 4, one shared"),
    # A deep memory, with memory_depth 2, memory_expansion 2 and clip 1.0: 0.992 after
    # 400 of 1,000 steps; without the clip it is not finite at step 4.
    "titans_lmm": _Trained(result="0.993 after 400 steps; a linear memory"),
    "titans_mac": _Trained(
        result="0.994 after 300 steps; segments of 16", learning_rate=5e-3
    ),
    "titans_mag": _Trained(result="0.993 after 400 steps; a window of 16"),
    "titans_mal": _Trained(result="0.994 after 500 steps; a window of 16"),
    "ttt_linear": _Trained(result="0.995 after 600 steps", learning_rate=3e-3),
    "ttt_mlp": _Trained(
        result="0.993 after 1200 steps, on an H100", learning_rate=3e-3
    ),
}


def _preset(layer: str) -> Callable[[], ExperimentConfig]:
    """Return the preset of a registered layer; its docstring holds the result."""
    name = f"mqar-{layer.replace('_', '-')}"
    trained = _TRAINED.get(layer, _Trained(result="not trained yet"))

    def make() -> ExperimentConfig:
        task = MqarConfig()
        return mqar_experiment(
            with_window(comparable_layer(layer, 64), 16),
            name,
            task=PrefixConfig(task=task, mask_share=0.0) if trained.prefix else task,
            learning_rate=trained.learning_rate,
        )

    make.__doc__ = f"memzoo train {name}: {trained.result}"
    return make


PRESETS = {f"mqar-{layer.replace('_', '-')}": _preset(layer) for layer in LAYERS}
