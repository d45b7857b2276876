"""A contestant in PyTorch, run by the interpreter of a peer's environment.

It imports nothing of memzoo, which that interpreter does not have: the loop comes from
the file beside this one.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

sys.path.append(str(Path(__file__).parent))

from serving import Prepared, serve

Tensors = dict[str, torch.Tensor]


Options = dict[str, Any]


class Contestant(NamedTuple):
    """A peer's function.

    Attributes:
        function: inputs by name -> output.
        heads_first: arrays are laid out `b h t k`, as the peer wants them.
        adopt: inputs -> the peer's own parameters that took their values; None: the
            inputs themselves are what the output is differentiated by.
    """

    function: Callable[[Tensors], torch.Tensor]
    heads_first: bool = False
    adopt: Callable[[Tensors], Tensors] | None = None


def transformers_gated_delta(options: Options) -> Contestant:
    from transformers.models.qwen3_next import modeling_qwen3_next

    public = modeling_qwen3_next.torch_chunk_gated_delta_rule
    # The public name looks for faster kernels first; the plain form lies under it.
    plain = getattr(public, "__wrapped__", public)

    def function(x: Tensors) -> torch.Tensor:
        return plain(
            x["q"], x["k"], x["v"], g=x["log_decay"], beta=x["write_strength"]
        )[0]

    return Contestant(function)


def transformers_mixture(options: Options) -> Contestant:
    rule = transformers_gated_delta(options).function
    top_k = 2

    def function(x: Tensors) -> torch.Tensor:
        batch, memories, time = x["k"].shape[:3]
        weight, chosen = x["logits"].softmax(-1).topk(top_k)
        weight = weight / weight.sum(-1, keepdim=True)
        # A row of its own for each memory of each row, as long as the longest.
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

    return Contestant(function)


def transformers_scalar_decay(options: Options) -> Contestant:
    from transformers.models.mamba2 import modeling_mamba2

    public = modeling_mamba2.mamba2_chunk_scan
    plain = getattr(public, "__wrapped__", public)
    # The layer's default, 256, takes twice as long on a CPU.
    chunk_size = 64

    def function(x: Tensors) -> torch.Tensor:
        rate = -torch.ones(x["q"].shape[2])
        o = plain(x["v"], x["time_step"], rate, x["k"], x["q"], chunk_size=chunk_size)
        return o[0] if isinstance(o, tuple) else o

    return Contestant(function)


def fla_delta(options: Options) -> Contestant:
    from fla.ops.delta_rule.naive import delta_rule_chunkwise

    def function(x: Tensors) -> torch.Tensor:
        return delta_rule_chunkwise(x["q"], x["k"], x["v"], x["write_strength"])[0]

    return Contestant(function, heads_first=True)


def fla_titans_linear(options: Options) -> Contestant:
    from fla.ops.titans import naive

    # Its default is a Python loop over pairs of tokens, nine times slower.
    naive.combine_params_log = naive.combine_params

    def function(x: Tensors) -> torch.Tensor:
        gates = (x[name][..., None] for name in ("learning_rate", "forget", "momentum"))
        writes = x["k"], x["v"], x["norm"], x["norm_bias"], *gates
        size = options["update_every"]
        return naive.chunk_titans_linear_ref(x["q"], *writes, chunk_size=size)[0]

    return Contestant(function)


def fla_ttt_linear(options: Options) -> Contestant:
    from fla.ops.ttt.naive import chunk_ttt_linear_ref

    def function(x: Tensors) -> torch.Tensor:
        # It scales its queries in place, which a leaf does not allow.
        q, step = x["q"] * 1.0, x["step"][..., None]
        writes = x["k"], x["v"], x["norm"], x["norm_bias"], step
        size = options["update_every"]
        return chunk_ttt_linear_ref(q, *writes, mini_batch_size=size)[0]

    return Contestant(function)


def titans_layer(options: Options) -> Contestant:
    from titans_pytorch import NeuralMemory

    modules: list[NeuralMemory] = []

    def adopt(x: Tensors) -> Tensors:
        heads, head_size = x["memory_norm"].shape
        # With its own step of up to 1 and its own decay of a half it diverges.
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
            # Those of the memory are one tensor seen once a head: not to be written to.
            parameter.data = (x[name].T if turned else x[name]).clone()
        modules.append(module)
        return own | {"x": x["x"].requires_grad_()}

    def function(x: Tensors) -> torch.Tensor:
        return modules[0](x["x"])[0]

    return Contestant(function, adopt=adopt)


def torch_attention(options: Options) -> Contestant:
    def function(x: Tensors) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            x["q"], x["k"], x["v"], is_causal=True
        )

    return Contestant(function, heads_first=True)


CONTESTANTS = {
    ("transformers", "gated_delta"): transformers_gated_delta,
    ("transformers", "mixture"): transformers_mixture,
    ("transformers", "scalar_decay"): transformers_scalar_decay,
    ("fla", "delta"): fla_delta,
    ("fla", "titans"): fla_titans_linear,
    ("fla", "ttt"): fla_ttt_linear,
    ("titans", "titans_lmm"): titans_layer,
    ("torch", "attention"): torch_attention,
}


def prepare(
    peer: str, operation: str, arrays: dict[str, np.ndarray], options: Options
) -> Prepared:
    """The peer's operation on the given inputs, in the peer's own layout.

    Of the options only `update_every` is for peers.
    """
    function, heads_first, adopt = CONTESTANTS[peer, operation](options)

    def relayout(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2).contiguous() if heads_first else x

    tensors = {name: relayout(torch.from_numpy(x)) for name, x in arrays.items()}
    cotangent = tensors.pop("cotangent")
    if adopt is None:
        leaves = {name: x.requires_grad_() for name, x in tensors.items()}
    else:
        leaves = adopt(tensors)

    def forward_backward() -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        o = function(leaves)
        return o, torch.autograd.grad(o, list(leaves.values()), cotangent)

    def call() -> None:
        forward_backward()

    def results() -> dict[str, np.ndarray]:
        o, gradients = forward_backward()
        named = {
            f"gradient_{name}": g for name, g in zip(leaves, gradients, strict=True)
        }
        named["output"] = o.detach()
        return {name: relayout(x).numpy() for name, x in named.items()}

    return Prepared(call, results)


def versions(peer: str) -> dict[str, str]:
    """Versions of the peer and of torch, by distribution."""
    from importlib.metadata import version

    names = {
        "transformers": "transformers",
        "fla": "fla-core",
        "torch": "torch",
        "titans": "titans-pytorch",
    }
    return {name: version(name) for name in {"torch", names[peer]}}


def main() -> None:
    """Serve the peer named by the first argument, on as many threads as the second."""
    peer, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    serve(lambda *case: prepare(peer, *case), lambda: versions(peer))


if __name__ == "__main__":
    main()
