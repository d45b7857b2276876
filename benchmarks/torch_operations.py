"""Operations of the peers in PyTorch, one function each.

The interpreter of a peer's environment imports this file, so it cannot import memzoo.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch

Tensors = dict[str, torch.Tensor]
# Fields of the case.
Options = dict[str, Any]


class Function(NamedTuple):
    """Function of a peer.

    Attributes:
        function: maps inputs by name to the output.
        heads_first: the peer needs arrays with the layout `b h t k`.
        adopt: copies the inputs into the peer's parameters and returns these; None:
            differentiate by the inputs themselves.
    """

    function: Callable[[Tensors], torch.Tensor]
    heads_first: bool = False
    adopt: Callable[[Tensors], Tensors] | None = None


def transformers_gated_delta(options: Options) -> Function:
    from transformers.models.qwen3_next import modeling_qwen3_next

    public = modeling_qwen3_next.torch_chunk_gated_delta_rule
    # The public function looks for faster kernels first; unwrap the plain form.
    plain = getattr(public, "__wrapped__", public)

    def function(x: Tensors) -> torch.Tensor:
        return plain(
            x["q"], x["k"], x["v"], g=x["log_decay"], beta=x["write_strength"]
        )[0]

    return Function(function)


def transformers_mixture(options: Options) -> Function:
    rule = transformers_gated_delta(options).function
    top_k = 2

    def function(x: Tensors) -> torch.Tensor:
        batch, memories, time = x["k"].shape[:3]
        weight, chosen = x["logits"].softmax(-1).topk(top_k)
        weight = weight / weight.sum(-1, keepdim=True)
        # Make a separate row for each memory of each row, as long as the longest.
        row = chosen + memories * torch.arange(batch)[:, None, None]
        row, order = row.flatten().sort(stable=True)
        count = row.bincount(minlength=batch * memories)
        longest = int(count.max())
        place = torch.arange(len(row)) - (count.cumsum(0) - count)[row]
        slot = row * longest + place
        token = torch.zeros(len(count) * longest, dtype=torch.long)
        token[slot] = order // top_k % time
        filled = torch.zeros(len(token))
        filled[slot] = 1.0
        source = torch.arange(len(count)).repeat_interleave(longest)
        of_all = source // memories * time + token
        of_own = source * time + token

        def gather(a: torch.Tensor, index: torch.Tensor, axes: int) -> torch.Tensor:
            picked = a.flatten(0, axes).index_select(0, index)
            return picked.unflatten(0, (len(count), longest))

        gates = {
            name: gather(x[name], of_own, 2) * filled.view(-1, longest, 1)
            for name in ("write_strength", "log_decay")
        }
        moved = {name: gather(x[name], of_own, 2) for name in ("k", "v")}
        read = rule({"q": gather(x["q"], of_all, 1), **moved, **gates})
        back = torch.empty_like(slot)
        back[order] = slot
        read = read.flatten(0, 1).index_select(0, back)
        read = read.view(batch, time, top_k, *read.shape[1:])
        return (read * weight[..., None, None]).sum(2)

    return Function(function)


def transformers_scalar_decay(options: Options) -> Function:
    from transformers.models.mamba2 import modeling_mamba2

    public = modeling_mamba2.mamba2_chunk_scan
    plain = getattr(public, "__wrapped__", public)
    # The layer's default, 256, takes twice as long on a CPU.
    chunk_size = 64

    def function(x: Tensors) -> torch.Tensor:
        rate = -torch.ones(x["q"].shape[2])
        o = plain(x["v"], x["time_step"], rate, x["k"], x["q"], chunk_size=chunk_size)
        return o[0] if isinstance(o, tuple) else o

    return Function(function)


def fla_delta(options: Options) -> Function:
    from fla.ops.delta_rule.naive import delta_rule_chunkwise

    def function(x: Tensors) -> torch.Tensor:
        return delta_rule_chunkwise(x["q"], x["k"], x["v"], x["write_strength"])[0]

    return Function(function, heads_first=True)


def fla_titans_linear(options: Options) -> Function:
    from fla.ops.titans import naive

    # The default is a Python loop over pairs of tokens, nine times slower.
    naive.combine_params_log = naive.combine_params

    def function(x: Tensors) -> torch.Tensor:
        gates = (x[name][..., None] for name in ("learning_rate", "forget", "momentum"))
        writes = x["k"], x["v"], x["norm"], x["norm_bias"], *gates
        size = options["update_every"]
        return naive.chunk_titans_linear_ref(x["q"], *writes, chunk_size=size)[0]

    return Function(function)


def fla_ttt_linear(options: Options) -> Function:
    from fla.ops.ttt.naive import chunk_ttt_linear_ref

    def function(x: Tensors) -> torch.Tensor:
        # The peer scales its queries in place, which a leaf does not allow.
        q, step = x["q"] * 1.0, x["step"][..., None]
        writes = x["k"], x["v"], x["norm"], x["norm_bias"], step
        size = options["update_every"]
        return chunk_ttt_linear_ref(q, *writes, mini_batch_size=size)[0]

    return Function(function)


def titans_layer(options: Options) -> Function:
    from titans_pytorch import NeuralMemory

    modules: list[NeuralMemory] = []

    def adopt(x: Tensors) -> Tensors:
        heads, head_size = x["memory_norm"].shape
        # With the peer's default step of up to 1 and decay of a half it diverges.
        module = NeuralMemory(
            dim=x["x"].shape[-1],
            dim_head=head_size,
            heads=heads,
            chunk_size=options["update_every"],
            batch_size=128,
            default_step_transform_max_lr=0.01,
            init_decay_bias=-6.0,
        )
        norm, up, down = module.memory_model_parameters
        own = {
            "store_norm": module.store_norm.weight,
            "retrieve_norm": module.retrieve_norm.weight,
            "query": module.to_queries.weight,
            "key": module.to_keys.weight,
            "value": module.to_values.weight,
            "step": module.to_adaptive_step[0].weight,
            "step_bias": module.to_adaptive_step[0].bias,
            "momentum": module.to_momentum[0].weight,
            "momentum_bias": module.to_momentum[0].bias,
            "decay": module.to_decay_factor[0].weight,
            "decay_bias": module.to_decay_factor[0].bias,
            "memory_norm": norm,
            "memory_up": up,
            "memory_down": down,
            "gate": module.retrieve_gate[0].weight,
            "output": module.combine_heads.weight,
        }
        for name, parameter in own.items():
            turned = x[name].ndim == 2 and name != "memory_norm"
            # Replace .data: the memory's parameters are views of one tensor, expanded
            # over the heads, which cannot be written in place.
            parameter.data = (x[name].T if turned else x[name]).clone()
        modules.append(module)
        return own | {"x": x["x"].requires_grad_()}

    def function(x: Tensors) -> torch.Tensor:
        return modules[0](x["x"])[0]

    return Function(function, adopt=adopt)


def torch_attention(options: Options) -> Function:
    def function(x: Tensors) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            x["q"], x["k"], x["v"], is_causal=True
        )

    return Function(function, heads_first=True)


def kernel_gated_delta(options: Options) -> Function:
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    def function(x: Tensors) -> torch.Tensor:
        gates = {"g": x["log_decay"], "beta": x["write_strength"]}
        return chunk_gated_delta_rule(x["q"], x["k"], x["v"], **gates)[0]

    return Function(function)


def kernel_delta(options: Options) -> Function:
    from fla.ops.delta_rule import chunk_delta_rule

    def function(x: Tensors) -> torch.Tensor:
        return chunk_delta_rule(x["q"], x["k"], x["v"], x["write_strength"])[0]

    return Function(function)


def kernel_retention(options: Options) -> Function:
    from fla.ops.simple_gla import chunk_simple_gla

    @cache
    def decay(heads: int) -> torch.Tensor:
        return torch.log1p(-(2.0 ** (-5 - torch.arange(heads, dtype=torch.float32))))

    def function(x: Tensors) -> torch.Tensor:
        g = decay(x["q"].shape[2])
        return chunk_simple_gla(x["q"], x["k"], x["v"], g_gamma=g)[0]

    return Function(function)


def kernel_ttt(options: Options) -> Function:
    from fla.ops.ttt import chunk_ttt_linear

    def function(x: Tensors) -> torch.Tensor:
        writes = x["k"], x["v"], x["norm"], x["norm_bias"], x["step"][..., None]
        size = options["update_every"]
        return chunk_ttt_linear(x["q"], *writes, chunk_size=size)[0]

    return Function(function)


def torch_prompt(options: Options) -> Function:
    def function(x: Tensors) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            x["q_attention"], x["k_attention"], x["v"], is_causal=True
        )

    return Function(function, heads_first=True)


def torch_block(options: Options) -> Function:
    """Return x + attention(norm(x)), then x + SwiGLU(norm(x)), twice as wide inside."""
    from torch.nn.functional import linear, rms_norm, silu

    heads = options["num_heads"]
    width = heads * options["head_size"]
    shapes = dict.fromkeys(("query", "key", "value", "output"), (width, width))
    shapes |= {"gate": (2 * width, width), "up": (2 * width, width)}
    shapes |= {"down": (width, 2 * width)}
    dtype = getattr(torch, options["dtype"])
    weights = {
        name: (torch.randn(shape) * shape[1] ** -0.5).to(dtype)
        for name, shape in shapes.items()
    }

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    def function(inputs: Tensors) -> torch.Tensor:
        x = inputs["x"]
        h = rms_norm(x, (width,))
        q, k, v = (split(linear(h, weights[n])) for n in ("query", "key", "value"))
        o = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + linear(o.transpose(1, 2).flatten(-2), weights["output"])
        h = rms_norm(x, (width,))
        h = silu(linear(h, weights["gate"])) * linear(h, weights["up"])
        return x + linear(h, weights["down"])

    return Function(function)


OPERATIONS = {
    ("transformers", "gated_delta"): transformers_gated_delta,
    ("transformers", "mixture"): transformers_mixture,
    ("transformers", "scalar_decay"): transformers_scalar_decay,
    ("fla", "delta"): fla_delta,
    ("fla", "titans"): fla_titans_linear,
    ("fla", "ttt"): fla_ttt_linear,
    ("titans", "titans_lmm"): titans_layer,
    ("torch", "attention"): torch_attention,
}
# Replacements of the functions above on a GPU.
KERNELS = {
    ("fla", "gated_delta"): kernel_gated_delta,
    ("fla", "delta"): kernel_delta,
    ("fla", "retention"): kernel_retention,
    ("fla", "ttt"): kernel_ttt,
}
# Long prompts; only PyTorch's attention reads them.
PROMPTS = {"prompt": torch_prompt, "block": torch_block}


def function_of(peer: str, options: Options) -> Function:
    """Return the peer's function for a case."""
    if options["kind"] in PROMPTS:
        return PROMPTS[options["kind"]](options)
    known = OPERATIONS | (KERNELS if options["device"] == "gpu" else {})
    return known[peer, options["operation"]](options)
