"""Names and shapes of the weights of whole models, the same on both sides.

Both sides use the weights drawn in `inputs.py`, so that loss and gradients can be
compared. Kernels have the layout input x output, convolutions have the oldest tap
first, and the block is the first axis. The embedding is tied to the output. Every block
is x + mixer(norm(x)) and then, if the model has an MLP, x + SwiGLU(norm(x)).
"""

from collections.abc import Callable, Mapping

VOCABULARY, BLOCKS, HEADS, MLP, TAPS = 320, 4, 4, 512, 4
# Mamba-2: sizes of a head's value and of its key.
MAMBA_HEAD, MAMBA_STATE = 64, 128
# Gated delta: size of a value over the size of a key.
VALUE_RATIO = 2
EPSILON = 1e-5

# Distribution and shape of every weight.
Weights = dict[str, tuple[str, tuple[int, ...]]]


def _common(width: int, *, mlp: bool) -> Weights:
    weights: Weights = {
        "embedding": ("matrix", (VOCABULARY, width)),
        "final_norm": ("near_one", (width,)),
        "norm": ("near_one", (BLOCKS, width)),
    }
    if mlp:
        weights["mlp_norm"] = ("near_one", (BLOCKS, width))
        weights |= _kernels(width, {"mlp_gate": MLP, "mlp_up": MLP})
        weights["mlp_down"] = ("matrix", (BLOCKS, MLP, width))
    return weights


def _kernels(width: int, sizes: Mapping[str, int]) -> Weights:
    return {n: ("matrix", (BLOCKS, width, size)) for n, size in sizes.items()}


def attention_weights(width: int) -> Weights:
    """Return the weights of softmax attention with rotary positions, and SwiGLU."""
    kernels = {"query": width, "key": width, "value": width, "output": width}
    return _common(width, mlp=True) | _kernels(width, kernels)


def gated_delta_weights(width: int) -> Weights:
    """Return the weights of Gated DeltaNet, one value head per key head, and SwiGLU."""
    values = VALUE_RATIO * width
    streams = {"query": width, "key": width, "value": values}
    others = {"gate": values, "decay": HEADS, "write_strength": HEADS}
    return {
        **_common(width, mlp=True),
        **_kernels(width, streams | others),
        **{
            f"{name}_convolution": ("matrix", (BLOCKS, TAPS, size))
            for name, size in streams.items()
        },
        "log_a": ("near_zero", (BLOCKS, HEADS)),
        "time_bias": ("near_zero", (BLOCKS, HEADS)),
        "inner_norm": ("near_one", (BLOCKS, values // HEADS)),
        "output": ("matrix", (BLOCKS, values, width)),
    }


def mamba2_weights(width: int) -> Weights:
    """Return the weights of Mamba-2, twice as wide inside, one group, without MLP."""
    inner = 2 * width
    heads = inner // MAMBA_HEAD
    streams = {"value": inner, "key": MAMBA_STATE, "query": MAMBA_STATE}
    return {
        **_common(width, mlp=False),
        **_kernels(width, streams | {"gate": inner, "time": heads}),
        **{
            f"{name}_convolution": ("matrix", (BLOCKS, TAPS, size))
            for name, size in streams.items()
        },
        **{
            f"{name}_convolution_bias": ("near_zero", (BLOCKS, size))
            for name, size in streams.items()
        },
        "log_a": ("near_zero", (BLOCKS, heads)),
        "time_bias": ("near_zero", (BLOCKS, heads)),
        "skip": ("near_one", (BLOCKS, heads)),
        "inner_norm": ("near_one", (BLOCKS, inner)),
        "output": ("matrix", (BLOCKS, inner, width)),
    }


WEIGHTS: Mapping[str, Callable[[int], Weights]] = {
    "attention": attention_weights,
    "gated_delta": gated_delta_weights,
    "mamba2": mamba2_weights,
}
