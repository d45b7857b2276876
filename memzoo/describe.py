"""`memzoo describe CONFIG`: show what a model costs, without allocating it."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from rich.console import Console
from rich.table import Table

from .configs.experiment import ExperimentConfig
from .configs.serialise import type_name
from .data.batch import Batch
from .models.flops import count_flops
from .models.interface import SequenceInfo, state_bytes
from .models.language_model import (
    LanguageModelConfig,
    abstract_model,
    num_parameters,
)


@dataclass(frozen=True, kw_only=True)
class DescribeOptions:
    """Show parameters, state bytes, FLOPs per token and a memory estimate of CONFIG."""

    experiment: Annotated[ExperimentConfig, tyro.conf.arg(name="")]
    trust: bool = False
    """Allow modules outside memzoo that a config.json names to run their code."""
    json: bool = False
    """Print JSON."""


def describe(config: ExperimentConfig) -> dict[str, Any]:
    """Return the costs of an experiment, traced from its model.

    Returns:
        parameters; state_bytes of one sequence at the task's length; a row for each
        block of the pattern; flops_a_token to read one token halfway through a row in
        the recurrent form (training takes about three times as much); memory_bytes,
        estimated, of a training step; warnings, one sentence for each memory that can
        diverge.
    """
    model = abstract_model(config.model)
    length = config.task.length
    blocks = []
    for group, built in zip(config.model.pattern, model.stack.groups, strict=True):
        for layer, block in zip(group.layers, built.blocks, strict=True):
            one = _one_block(block)
            blocks.append(
                {
                    "layer": type_name(layer),
                    "repeats": group.repeats,
                    "parameters": num_parameters(block),
                    "state_bytes": group.repeats * state_bytes(one.mixer, length),
                    "state_growth": one.mixer.state_growth,
                }
            )
    parameters = num_parameters(model)
    return {
        "name": config.name,
        "parameters": parameters,
        "blocks": blocks,
        "state_bytes": sum(block["state_bytes"] for block in blocks),
        "length": length,
        "flops_a_token": flops_a_token(config.model, length),
        "memory_bytes": memory_bytes(config),
        "tokens_a_step": config.batch_size * length,
        "steps": config.steps,
        "warnings": list(warnings(config.model)),
    }


def warnings(config: LanguageModelConfig) -> Iterator[str]:
    """Yield a sentence for every memory whose writes can make it diverge.

    All gradients of a window are taken at one memory. If one key fills the window, the
    step is learning rate times window, and above 2 the error grows with every window.
    Clipped gradients, and rows that keep their norms, prevent this growth.
    """
    for i, group in enumerate(config.pattern):
        for j, layer in enumerate(group.layers):
            place = f"pattern.{i}.layers.{j}"
            for path, memory in _memories(layer, place):
                step = memory.step_of_repeated_keys
                if step <= 2 or memory.clip is not None:
                    continue
                rate = memory.max_learning_rate
                yield (
                    f"{path} ({type_name(memory)}) can diverge where keys repeat: "
                    f"learning rate {rate:g} over a window of {memory.update_every} "
                    f"tokens makes a step of {step:.3g}, above 2; lower "
                    f"max_learning_rate (to {_floor(2 * rate / step)}) or "
                    "update_every, or set clip"
                )


def _memories(layer: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the layer, and layers inside it, that gradient steps write."""
    if hasattr(layer, "step_of_repeated_keys"):
        yield path, layer
    for field in fields(layer) if is_dataclass(layer) else ():
        inner = getattr(layer, field.name)
        if is_dataclass(inner):
            yield from _memories(inner, f"{path}.{field.name}")


def _floor(value: float) -> str:
    """Return the value rounded down to two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.floor(value / unit) * unit:.2g}"


def flops_a_token(config: LanguageModelConfig, length: int) -> int:
    """Return the FLOPs to read one token halfway through a row, recurrent form."""
    graphdef, arrays = nnx.split(abstract_model(config))

    def init(arrays: Any) -> Any:
        return nnx.merge(graphdef, arrays).init_state(1, max(length // 2, 1))

    def step(arrays: Any, token: jax.Array, state: Any) -> jax.Array:
        return nnx.merge(graphdef, arrays).step(token, state)[0]

    token = jax.ShapeDtypeStruct((1,), jnp.int32)
    return count_flops(step, arrays, token, jax.eval_shape(init, arrays))


def _one_block(block: Any) -> Any:
    """Return the first repeat of a stacked block, without values."""
    graphdef, arrays = nnx.split(block)
    first = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), arrays
    )
    return nnx.merge(graphdef, first)


def memory_bytes(config: ExperimentConfig) -> int:
    """Return a rough number of bytes that a training step holds on all devices.

    It counts parameters, gradients and the two moments of AdamW in float32, the arrays
    that the traced forward pass saves for the backward pass, and one piece of logits
    with its gradient.
    """
    graphdef, params, rest = nnx.split(abstract_model(config.model), nnx.Param, ...)
    batch = _abstract_batch(config)

    def backward(params: Any, batch: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            sums = nnx.merge(graphdef, params, rest).loss_sums(
                batch.tokens,
                batch.targets,
                target_positions=batch.target_positions,
                target_weights=batch.target_weights,
                info=SequenceInfo(batch.reset, batch.valid, batch.prefix),
            )
            return sums.cross_entropy + sums.auxiliary

        # The backward pass is a pytree whose leaves are the saved arrays.
        return jax.vjp(loss, params)[1]

    kept = jax.tree.leaves(jax.eval_shape(backward, params, batch))
    targets = min(batch.targets.size, config.model.loss_chunk_tokens)
    return (
        16 * sum(leaf.size for leaf in jax.tree.leaves(params))
        + sum(leaf.size * leaf.dtype.itemsize for leaf in kept)
        + 2 * 4 * targets * config.model.vocab_size
    )


def _abstract_batch(config: ExperimentConfig) -> Batch:
    """Return the shapes of the batch of one gradient, without reading data."""
    rows = config.batch_size // config.gradient_accumulation
    task = config.task
    if task.chance is not None:
        one = task.build("train").examples(np.arange(1))  # generated, not read
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype), one
        )

    def every_token(dtype: Any) -> Any:
        return jax.ShapeDtypeStruct((rows, task.length), dtype)

    return Batch(
        tokens=every_token(jnp.int32),
        targets=every_token(jnp.int32),
        target_positions=None,
        target_weights=every_token(jnp.float32),
        reset=every_token(bool),
        valid=every_token(bool),
    )


def show_description(options: DescribeOptions) -> int:
    """Print the description as a table or as JSON."""
    said = describe(options.experiment)
    if options.json:
        print(json.dumps(said, indent=1))
        return 0
    console = Console()
    console.print(f"[bold]{said['name']}[/bold]")
    table = Table(box=None, pad_edge=False)
    table.add_column("layer")
    for column in ("repeats", "parameters", "state bytes", "state"):
        table.add_column(column, justify="right")
    for block in said["blocks"]:
        table.add_row(
            block["layer"],
            str(block["repeats"]),
            f"{block['parameters']:,}",
            f"{block['state_bytes']:,}",
            block["state_growth"],
        )
    console.print(table)
    facts = {
        "parameters": f"{said['parameters']:,}",
        f"state of one row at {said['length']} tokens": f"{said['state_bytes']:,} B",
        "FLOPs per token, read": f"{said['flops_a_token']:,}",
        "FLOPs per token, trained (about)": f"{3 * said['flops_a_token']:,}",
        "memory of a training step (about)": f"{said['memory_bytes'] / 2**20:,.0f} MiB",
        "training tokens in all": f"{said['tokens_a_step'] * said['steps']:,}",
    }
    for name, value in facts.items():
        console.print(f"{name:<36}{value:>20}", highlight=False)
    for warning in said["warnings"]:
        line = f"warning: {warning}"
        console.print(line, style="yellow", highlight=False, soft_wrap=True)
    return 0
