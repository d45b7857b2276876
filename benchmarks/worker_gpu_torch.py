"""A contestant in PyTorch on a GPU, run by the interpreter of a peer's environment.

Like the worker for CPUs beside it, it imports nothing of memzoo but that and the loop.
"""

import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parent))

from serving import Prepared, serve
from worker_torch import (
    Contestant,
    Options,
    Tensors,
    titans_layer,
    torch_attention,
    versions,
)

DEVICE = "cuda"
# As in ours.
EXACT = frozenset(["log_decay"])


def finish() -> None:
    """All passes begun are done."""
    torch.cuda.synchronize()


def fla_gated_delta(options: Options) -> Contestant:
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    def function(x: Tensors) -> torch.Tensor:
        gates = {"g": x["log_decay"], "beta": x["write_strength"]}
        return chunk_gated_delta_rule(x["q"], x["k"], x["v"], **gates)[0]

    return Contestant(function)


def fla_delta(options: Options) -> Contestant:
    from fla.ops.delta_rule import chunk_delta_rule

    def function(x: Tensors) -> torch.Tensor:
        return chunk_delta_rule(x["q"], x["k"], x["v"], x["write_strength"])[0]

    return Contestant(function)


def fla_retention(options: Options) -> Contestant:
    from fla.ops.simple_gla import chunk_simple_gla

    @cache
    def decay(heads: int) -> torch.Tensor:
        return torch.log1p(-(2.0 ** (-5 - torch.arange(heads, dtype=torch.float32))))

    def function(x: Tensors) -> torch.Tensor:
        g = decay(x["q"].shape[2])
        return chunk_simple_gla(x["q"], x["k"], x["v"], g_gamma=g)[0]

    return Contestant(function)


def fla_ttt(options: Options) -> Contestant:
    from fla.ops.ttt import chunk_ttt_linear

    def function(x: Tensors) -> torch.Tensor:
        writes = x["k"], x["v"], x["norm"], x["norm_bias"], x["step"][..., None]
        size = options["update_every"]
        return chunk_ttt_linear(x["q"], *writes, chunk_size=size)[0]

    return Contestant(function)


CONTESTANTS = {
    ("fla", "gated_delta"): fla_gated_delta,
    ("fla", "delta"): fla_delta,
    ("fla", "retention"): fla_retention,
    ("fla", "ttt"): fla_ttt,
    ("titans", "titans_lmm"): titans_layer,
    ("torch", "attention"): torch_attention,
}


def prepare(
    peer: str, operation: str, arrays: dict[str, np.ndarray], options: Any
) -> Prepared:
    """The peer's operation on the given inputs, in the peer's own layout."""
    function, heads_first, adopt = CONTESTANTS[peer, operation](options)

    def relayout(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2).contiguous() if heads_first else x

    def place(name: str, x: np.ndarray) -> torch.Tensor:
        dtype = torch.float32 if name in EXACT else getattr(torch, options["dtype"])
        return relayout(torch.from_numpy(x).to(DEVICE, dtype))

    x = {name: place(name, a) for name, a in arrays.items()}
    cotangent = x.pop("cotangent")
    if adopt is not None:
        leaves = adopt(x)
    else:
        leaves = {name: a.requires_grad_(options["backward"]) for name, a in x.items()}

    def run() -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        if not options["backward"]:
            with torch.no_grad():
                return function(leaves), ()
        o = function(leaves)
        return o, torch.autograd.grad(o, list(leaves.values()), cotangent)

    def call() -> None:
        run()

    def results() -> dict[str, np.ndarray]:
        o, gradients = run()
        named = {f"gradient_{n}": g for n, g in zip(leaves, gradients, strict=False)}
        named["output"] = o.detach()
        return {n: relayout(a).float().cpu().numpy() for n, a in named.items()}

    def peak() -> int:
        finish()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        finish()
        return torch.cuda.max_memory_allocated() - before

    return Prepared(call, results, finish, peak)


def gpu_versions(peer: str) -> dict[str, str]:
    """Versions of the peer and of what compiles its kernels.

    Raises:
        RuntimeError: its PyTorch finds no GPU.
    """
    if not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} of {peer} finds no GPU")
    return versions(peer) | {"triton": version("triton")}


def main() -> None:
    """Serve the peer named by the first argument."""
    peer = sys.argv[1]
    if torch.cuda.is_available():
        # What a module makes for itself.
        torch.set_default_device(DEVICE)
    # As JAX multiplies float32.
    torch.set_float32_matmul_precision("high")
    serve(lambda *case: prepare(peer, *case), lambda: gpu_versions(peer))


if __name__ == "__main__":
    main()
