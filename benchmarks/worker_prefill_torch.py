"""PyTorch's contestant that reads a long prompt, forward alone.

Run by the interpreter of the peer's environment; it imports nothing of memzoo but the
loop beside it.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu

sys.path.append(str(Path(__file__).parent))

from serving import Prepared, serve

# As in ours: results are compared on this many tokens.
COMPARED = 64
HEADS = 16
DEVICE = sys.argv[2] if len(sys.argv) > 2 else "cpu"

Tensors = dict[str, torch.Tensor]


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal softmax attention, `b h t k`."""
    return scaled_dot_product_attention(q, k, v, is_causal=True)


def heads_first(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).contiguous()


def place(x: np.ndarray, options: dict[str, Any]) -> torch.Tensor:
    return torch.from_numpy(x).to(DEVICE, getattr(torch, options["dtype"]))


def finish() -> None:
    """All work begun is done."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def operation(arrays: dict[str, np.ndarray], options: dict[str, Any]) -> Prepared:
    names = ("q_attention", "k_attention", "v")
    q, k, v = (heads_first(place(arrays[name], options)) for name in names)

    def results() -> dict[str, np.ndarray]:
        o = attend(*(x[:, :, :COMPARED] for x in (q, k, v)))
        return {"output": o.transpose(1, 2).float().cpu().numpy()}

    return Prepared(lambda: attend(q, k, v), results, finish)


def block(arrays: dict[str, np.ndarray], options: dict[str, Any]) -> Prepared:
    """x + attention(norm(x)), then x + SwiGLU(norm(x)), twice as wide inside."""
    x = place(arrays["x"], options)
    width = x.shape[-1]
    shapes = dict.fromkeys(("query", "key", "value", "output"), (width, width))
    shapes |= {"gate": (2 * width, width), "up": (2 * width, width)}
    shapes |= {"down": (width, 2 * width)}
    weights = {
        n: (torch.randn(shape) * shape[1] ** -0.5).to(x) for n, shape in shapes.items()
    }

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    def run(x: torch.Tensor) -> torch.Tensor:
        h = rms_norm(x, (width,))
        q, k, v = (split(linear(h, weights[n])) for n in ("query", "key", "value"))
        o = attend(q, k, v).transpose(1, 2).flatten(-2)
        x = x + linear(o, weights["output"])
        h = rms_norm(x, (width,))
        h = silu(linear(h, weights["gate"])) * linear(h, weights["up"])
        return x + linear(h, weights["down"])

    def results() -> dict[str, np.ndarray]:
        return {"output": run(x[:, :COMPARED]).float().cpu().numpy()}

    return Prepared(lambda: run(x), results, finish)


def prepare(kind: str, arrays: dict[str, np.ndarray], options: dict[str, Any]):
    """`op` or `block`."""
    return {"op": operation, "block": block}[kind](arrays, options)


def main() -> None:
    """Serve on as many threads as the first argument says, on the second's device."""
    torch.set_num_threads(int(sys.argv[1]))
    torch.set_grad_enabled(False)
    serve(prepare, lambda: {"torch": torch.__version__})


if __name__ == "__main__":
    main()
