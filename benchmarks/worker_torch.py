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


class Contestant(NamedTuple):
    """A peer's function.

    Attributes:
        function: inputs by name -> output.
        heads_first: arrays are laid out `b h t k`, as the peer wants them.
    """

    function: Callable[[Tensors], torch.Tensor]
    heads_first: bool


def transformers_gated_delta() -> Contestant:
    from transformers.models.qwen3_next import modeling_qwen3_next

    public = modeling_qwen3_next.torch_chunk_gated_delta_rule
    # The public name looks for faster kernels first; the plain form lies under it.
    plain = getattr(public, "__wrapped__", public)

    def function(x: Tensors) -> torch.Tensor:
        return plain(
            x["q"], x["k"], x["v"], g=x["log_decay"], beta=x["write_strength"]
        )[0]

    return Contestant(function, heads_first=False)


def transformers_scalar_decay() -> Contestant:
    from transformers.models.mamba2 import modeling_mamba2

    public = modeling_mamba2.mamba2_chunk_scan
    plain = getattr(public, "__wrapped__", public)
    # The layer's default, 256, takes twice as long on a CPU.
    chunk_size = 64

    def function(x: Tensors) -> torch.Tensor:
        rate = -torch.ones(x["q"].shape[2])
        o = plain(x["v"], x["time_step"], rate, x["k"], x["q"], chunk_size=chunk_size)
        return o[0] if isinstance(o, tuple) else o

    return Contestant(function, heads_first=False)


def fla_delta() -> Contestant:
    from fla.ops.delta_rule.naive import delta_rule_chunkwise

    def function(x: Tensors) -> torch.Tensor:
        return delta_rule_chunkwise(x["q"], x["k"], x["v"], x["write_strength"])[0]

    return Contestant(function, heads_first=True)


def torch_attention() -> Contestant:
    def function(x: Tensors) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            x["q"], x["k"], x["v"], is_causal=True
        )

    return Contestant(function, heads_first=True)


CONTESTANTS = {
    ("transformers", "gated_delta"): transformers_gated_delta,
    ("transformers", "scalar_decay"): transformers_scalar_decay,
    ("fla", "delta"): fla_delta,
    ("torch", "attention"): torch_attention,
}


def prepare(
    peer: str, operation: str, arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> Prepared:
    """The peer's operation on the given inputs, in the peer's own layout.

    `options` are for ours.
    """
    function, heads_first = CONTESTANTS[peer, operation]()

    def relayout(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2).contiguous() if heads_first else x

    tensors = {name: relayout(torch.from_numpy(x)) for name, x in arrays.items()}
    cotangent = tensors.pop("cotangent")
    leaves = {name: x.requires_grad_() for name, x in tensors.items()}

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

    names = {"transformers": "transformers", "fla": "fla-core", "torch": "torch"}
    return {name: version(name) for name in {"torch", names[peer]}}


def main() -> None:
    """Serve the peer named by the first argument, on as many threads as the second."""
    peer, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    serve(lambda *case: prepare(peer, *case), lambda: versions(peer))


if __name__ == "__main__":
    main()
