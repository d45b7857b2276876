"""Worker of a peer in PyTorch, run by the interpreter of its environment.

    python -I worker_torch.py PEER THREADS DEVICE

It cannot import memzoo, so it uses only files in this folder.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parent))

from serving import EXACT, Prepared, serve
from torch_models import MODEL_KINDS
from torch_operations import Options, Tensors, function_of

DEVICES = {"cpu": "cpu", "gpu": "cuda"}
DISTRIBUTIONS = {
    "transformers": "transformers",
    "fla": "fla-core",
    "torch": "torch",
    "titans": "titans-pytorch",
}


def prepare(peer: str, arrays: dict[str, np.ndarray], options: Options) -> Prepared:
    """Prepare the peer's case on the given inputs, in the peer's layout."""
    if options["kind"] in MODEL_KINDS:
        return MODEL_KINDS[options["kind"]](arrays, options)
    return _passes(peer, arrays, options)


def _passes(peer: str, arrays: dict[str, np.ndarray], options: Options) -> Prepared:
    """Prepare a forward pass, or forward and backward by all inputs."""
    function, heads_first, adopt = function_of(peer, options)
    device, backward = DEVICES[options["device"]], options["passes"] == "both"

    def relayout(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2).contiguous() if heads_first else x

    def place(name: str, x: np.ndarray) -> torch.Tensor:
        dtype = torch.float32 if name in EXACT else getattr(torch, options["dtype"])
        return relayout(torch.from_numpy(x).to(device, dtype))

    x = {name: place(name, a) for name, a in arrays.items()}
    cotangent = x.pop("cotangent", None)
    if adopt is not None:
        leaves = adopt(x)
    else:
        leaves = {name: a.requires_grad_(backward) for name, a in x.items()}
    last: list[Any] = []

    def call() -> None:
        # Free the last results before the next pass allocates its own.
        last.clear()
        last[:] = _run(function, leaves, cotangent if backward else None)

    def results() -> dict[str, np.ndarray]:
        if not last:
            call()
        o, gradients = last
        named = {f"gradient_{n}": g for n, g in zip(leaves, gradients, strict=False)}
        named["output"] = o.detach()
        return {n: relayout(a).float().cpu().numpy() for n, a in named.items()}

    if device == "cuda":
        peak = partial(_device_peak, call)
        return Prepared(call, results, finish, peak, last.clear)
    return Prepared(call, results, release=last.clear)


def _run(function: Any, leaves: Tensors, cotangent: torch.Tensor | None) -> Any:
    """Return the output, and the gradients if there is a cotangent."""
    if cotangent is None:
        with torch.no_grad():
            return function(leaves), ()
    o = function(leaves)
    return o, torch.autograd.grad(o, list(leaves.values()), cotangent)


def finish() -> None:
    """Wait for all started passes."""
    torch.cuda.synchronize()


def _device_peak(call: Any) -> int:
    finish()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    finish()
    return torch.cuda.max_memory_allocated() - before


def versions(peer: str, device: str) -> dict[str, str]:
    """Return the versions of the peer and of torch, by distribution.

    Raises:
        RuntimeError: `device` is gpu, and PyTorch finds none.
    """
    from importlib.metadata import version

    names = {"torch", DISTRIBUTIONS[peer]}
    if device == "gpu":
        if not torch.cuda.is_available():
            raise RuntimeError(f"PyTorch {torch.__version__} of {peer} finds no GPU")
        names.add("triton")
    return {name: version(name) for name in names}


def main() -> None:
    """Serve a peer with the number of threads and the device from the command line."""
    peer, threads, device = sys.argv[1:]
    torch.set_num_threads(int(threads))
    if device == "gpu" and torch.cuda.is_available():
        # For tensors that a module creates.
        torch.set_default_device("cuda")
        # TF32 products, as in JAX.
        torch.set_float32_matmul_precision("high")
    serve(lambda *case: prepare(peer, *case), lambda: versions(peer, device))


if __name__ == "__main__":
    main()
