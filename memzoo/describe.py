"""`memzoo describe CONFIG`: what a model costs, before anything is allocated."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import tyro
from flax import nnx
from rich.console import Console
from rich.table import Table

from .configs.experiment import ExperimentConfig
from .configs.serialise import type_name
from .models.flops import count_flops
from .models.interface import state_bytes
from .models.language_model import (
    LanguageModelConfig,
    abstract_model,
    num_parameters,
)


@dataclass(frozen=True, kw_only=True)
class DescribeOptions:
    """Parameters, state bytes, FLOPs a token and a memory estimate of CONFIG."""

    experiment: Annotated[ExperimentConfig, tyro.conf.arg(name="")]
    json: bool = False
    """Print JSON."""


def describe(config: ExperimentConfig) -> dict[str, Any]:
    """The costs of an experiment, traced from its model.

    Returns:
        parameters; state_bytes of one sequence at the task's length; a row for each
        block of the pattern; flops_a_token of reading one token halfway through a row
        in the recurrent form (training takes about three times as much);
        memory_bytes of a training step, estimated.
    """
    model = abstract_model(config.model)
    length = config.task.length
    blocks = []
    for group, built in zip(config.model.pattern, model.stack.groups, strict=True):
        for layer, block in zip(group.layers, built.blocks, strict=True):
            one = _one_block(block, group.repeats)
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
        "memory_bytes": _memory(config, parameters),
        "tokens_a_step": config.batch_size * length,
        "steps": config.steps,
    }


def flops_a_token(config: LanguageModelConfig, length: int) -> int:
    """FLOPs of reading one token halfway through a row, in the recurrent form."""

    def step(token: jax.Array) -> jax.Array:
        model = config.build(nnx.Rngs(0))
        state = model.init_state(1, max(length // 2, 1))
        return model.step(token, state)[0]

    token = jax.ShapeDtypeStruct((1,), jnp.int32)
    whole = count_flops(step, token)

    def build(token: jax.Array) -> jax.Array:
        model = config.build(nnx.Rngs(0))
        state = model.init_state(1, max(length // 2, 1))
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(state)) + token[0]

    return whole - count_flops(build, token)


def _one_block(block: Any, repeats: int) -> Any:
    """The first repeat of a stacked block, abstract."""
    graphdef, arrays = nnx.split(block)
    del repeats
    first = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), arrays
    )
    return nnx.merge(graphdef, first)


def _memory(config: ExperimentConfig, parameters: int) -> int:
    """Bytes that a training step holds on all devices together, roughly.

    Parameters, gradients and the two moments of AdamW in float32, the activations that
    the backward pass keeps, and one piece of logits with its gradient.
    """
    model = config.model
    depth = model.stack.depth
    size = 2 if model.dtype == "bfloat16" else 4
    tokens = config.batch_size // config.gradient_accumulation * config.task.length
    # Per block: its input, and (unless recomputed) some six streams of the mixer and
    # three of the MLP.
    kept = model.width
    if model.remat == "none":
        kept += 6 * model.width + 3 * model.mlp_width
    logits = 2 * 4 * min(tokens, model.loss_chunk_tokens) * model.vocab_size
    return 16 * parameters + tokens * size * kept * depth + logits


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
        "FLOPs a token, read": f"{said['flops_a_token']:,}",
        "FLOPs a token, trained (about)": f"{3 * said['flops_a_token']:,}",
        "memory of a training step (about)": f"{said['memory_bytes'] / 2**20:,.0f} MiB",
        "tokens in all": f"{said['tokens_a_step'] * said['steps']:,}",
    }
    for name, value in facts.items():
        console.print(f"{name:<36}{value:>20}", highlight=False)
    return 0
