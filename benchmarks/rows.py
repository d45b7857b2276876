"""Rows that can be measured, and their selection by name."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from memzoo.errors import InputError, MemzooError

from ..configs.comma_list import split_list
from ..configs.variants import layer_from_text
from ..models import LAYERS
from .cases import OURS, Case, Device, Growth, Kind, Row, Side

NEURAL_MEMORY = "NeuralMemory, MLP of depth 2 and expansion 4, batch_size 128"
COARSE = (
    "one momentum and one decay per chunk, reads that lag by a chunk, gradients at the "
    "weights before each 128 tokens"
)
DENSE = "every memory reads every token"
_PADDED = (
    "rows gathered by memory, padded to the longest, around "
    "qwen3_next.torch_chunk_gated_delta_rule"
)
_SOFTMAX = "softmax attention"
_ATTENTION = "nn.functional.scaled_dot_product_attention"


def _rows(
    operation: str,
    peer: Side,
    peer_function: str,
    goals: Mapping[int, tuple[float, float]],
    *,
    form: str | None = None,
    differs: str | None = None,
    **sizes: Any,
) -> tuple[Row, ...]:
    """Return rows of one operation on a CPU, one per length.

    If `form` is given, the peer is this form of our operation.
    """
    rows = []
    for time, (target, aim) in goals.items():
        case = Case(operation=operation, time=time, **sizes)
        rows.append(
            Row(
                case=case,
                peer=peer,
                other=replace(case, form=form) if form else None,
                peer_function=peer_function,
                target=target,
                aim=aim,
                differs=differs,
            )
        )
    return tuple(rows)


def _mixtures() -> tuple[Row, ...]:
    padded: dict[int, tuple[float, float]] = {2048: (1.6, 2.5)}
    rows: list[Row] = []
    for number, target, aim in ((4, 1.4, 2.0), (8, 2.5, 4.0)):
        rows += _rows(
            "mixture", OURS, DENSE, {2048: (target, aim)}, form="dense",
            num_memories=number,
        )  # fmt: skip
        rows += _rows("mixture", "transformers", _PADDED, padded, num_memories=number)
    for preferred in ("one", "two"):
        rows += _rows(
            "mixture", "transformers", _PADDED, padded, num_memories=8,
            preferred=preferred,
        )  # fmt: skip
    return tuple(rows)


_LMM = {1024: (2.0, 3.0), 4096: (2.0, 3.0)}
_FINE = {1024: (3.2, 4.5), 4096: (3.2, 4.5)}
CPU_ROWS: tuple[Row, ...] = (
    *_rows(
        "gated_delta",
        "transformers",
        "qwen3_next.torch_chunk_gated_delta_rule",
        {2048: (2.7, 4.0), 8192: (5.0, 7.0)},
    ),
    *_rows(
        "delta",
        "fla",
        "ops.delta_rule.naive.delta_rule_chunkwise",
        {2048: (3.8, 5.0), 8192: (9.0, 12.0)},
    ),
    *_rows(
        "scalar_decay",
        "transformers",
        "mamba2.mamba2_chunk_scan, chunk_size 64 (its fastest)",
        {2048: (1.8, 2.5)},
    ),
    *_rows("attention", "torch", _ATTENTION, {2048: (0.95, 1.1), 8192: (0.95, 1.1)}),
    *_rows(
        "titans_lmm", "titans", NEURAL_MEMORY, _LMM, update_every=64, differs=COARSE
    ),
    *_rows(
        "titans_lmm", "titans", NEURAL_MEMORY, _FINE, update_every=16, differs=COARSE
    ),
    *_rows(
        "titans",
        "fla",
        "ops.titans.naive.chunk_titans_linear_ref, with combine_params (its faster)",
        {2048: (5.0, 8.0)},
        update_every=16,
        differs="its gradient of the layer norm is wrong",
    ),
    *_rows(
        "ttt",
        "fla",
        "ops.ttt.naive.chunk_ttt_linear_ref",
        {2048: (4.0, 6.0)},
        update_every=16,
        differs="it adds the unnormalised read, and not the query as the authors' code",
    ),
    *_rows(
        "titans_mlp",
        OURS,
        "weights of every token by associative scans, jitted",
        {512: (20.0, 25.0)},
        form="materialised",
        update_every=16,
    ),
    *_mixtures(),
)
"""Operations on one core, forward and backward."""

# The fairest peer, with the same language and compiler. It needs Python 3.12.
_CHUNKED = "ops.chunked, chunks of its default size"
JAX_ROWS: tuple[Row, ...] = (
    *_rows("gated_delta", "jla", _CHUNKED, {2048: (1.2, 2.0), 8192: (1.2, 2.0)}),
    *_rows("delta", "jla", _CHUNKED, {2048: (1.2, 2.0), 8192: (1.2, 2.0)}),
)


def _gpu(
    operation: str, peer: Side, peer_function: str, target: float, **fields: Any
) -> tuple[Row, ...]:
    """Return two rows on a GPU: a batch of short sequences, and one long sequence."""
    differs = fields.pop("differs", None)
    short = Case(
        operation=operation, time=2048, batch_size=8, num_heads=8, device="gpu",
        dtype="bfloat16", **fields,
    )  # fmt: skip
    long = replace(short, time=8192, batch_size=1, num_heads=16, head_size=128)
    return tuple(
        Row(case=case, peer=peer, peer_function=peer_function, target=target,
            differs=differs)
        for case in (short, long)
    )  # fmt: skip


def _gpu_others() -> tuple[Row, ...]:
    rows = []
    for update_every, target in ((64, 2.0), (16, 3.2)):
        for time in (1024, 4096):
            case = Case(
                operation="titans_lmm", time=time, update_every=update_every,
                device="gpu",
            )  # fmt: skip
            rows.append(
                Row(case=case, peer="titans", peer_function=NEURAL_MEMORY,
                    target=target, differs=COARSE)
            )  # fmt: skip
    for number, target in ((4, 1.4), (8, 2.5)):
        case = Case(
            operation="mixture", time=2048, batch_size=4, num_memories=number,
            device="gpu", dtype="bfloat16",
        )  # fmt: skip
        rows.append(
            Row(case=case, peer=OURS, other=replace(case, form="dense"),
                peer_function=DENSE, target=target)
        )  # fmt: skip
    return tuple(rows)


_GATED_DELTA = "ops.gated_delta_rule.chunk_gated_delta_rule"
_DELTA = "ops.delta_rule.chunk_delta_rule"
GPU_ROWS: tuple[Row, ...] = (
    *_gpu("attention", "torch", _ATTENTION, 0.9),
    *_gpu("retention", "fla", "ops.simple_gla.chunk_simple_gla", 1 / 3),
    *_gpu("delta", "fla", _DELTA, 0.25),
    *_gpu("delta", "fla", _DELTA, 0.25, passes="forward"),
    # The peer's backward pass refuses to run on Hopper with Triton before 3.7.1.
    *_gpu("gated_delta", "fla", _GATED_DELTA, 0.25),
    *_gpu("gated_delta", "fla", _GATED_DELTA, 0.25, passes="forward"),
    *_gpu(
        "ttt",
        "fla",
        "ops.ttt.chunk_ttt_linear",
        0.25,
        update_every=16,
        differs="it adds the unnormalised read, and not the query",
    )[:1],
    *_gpu_others(),
)

# The target is the ratio of JRT-RNN to FlashAttention-2 on an H100 (arXiv 2407.05483).
_PREFIX, _PREFIX_TARGET = "prefix_linear_attention", 19.0


def prompt_rows(device: Device) -> tuple[Row, ...]:
    """Return rows of long prompts, forward, at the head sizes of text-jrt-360m.

    They compare prefix linear attention with our attention and PyTorch's, and the two
    attentions with each other: 16 heads, queries and keys of size 16 (153 features),
    values of size 64; in attention queries and keys of size 64. The whole prompt is a
    prefix.
    """
    dtype = "float32" if device == "cpu" else "bfloat16"

    def case(kind: Kind, layer: str, time: int) -> Case:
        return Case(
            kind=kind, operation=layer, time=time, num_heads=16, passes="forward",
            device=device, dtype=dtype,
        )  # fmt: skip

    rows: list[Row] = []
    for kind in ("prompt", "block", "decode"):
        for time in (8192, 32_768) if kind != "decode" else (1024, 8192, 32_768):
            ours, baseline = (case(kind, n, time) for n in (_PREFIX, "attention"))
            target = _PREFIX_TARGET if kind == "prompt" else None
            rows.append(
                Row(case=ours, peer=OURS, other=baseline, peer_function="attention",
                    differs=_SOFTMAX)
            )  # fmt: skip
            if kind == "decode":
                continue
            rows.append(
                Row(case=ours, peer="torch", other=baseline, target=target,
                    peer_function=_ATTENTION, differs=_SOFTMAX)
            )  # fmt: skip
            rows.append(
                Row(case=baseline, peer="torch", peer_function=_ATTENTION,
                    differs="other weights" if kind == "block" else None)
            )  # fmt: skip
    return tuple(rows)


_MODEL_PEERS = {
    "attention": "LlamaForCausalLM",
    "gated_delta": "Qwen3NextForCausalLM, all layers linear attention, dense MLP",
    "mamba2": "Mamba2ForCausalLM, chunk_size 64 (its fastest)",
}


def model_rows(kind: Kind) -> tuple[Row, ...]:
    """Return rows of whole models: vocabulary 320, width 256, 4 blocks.

    See `model_weights`.
    """
    passes = "both" if kind == "step" else "forward"
    return tuple(
        Row(
            case=Case(
                kind=kind, operation=model, time=time, batch_size=batch_size,
                passes=passes,
            ),
            peer="transformers",
            peer_function=function,
            target=1.0,
            aim=1.5,
        )
        for model, function in _MODEL_PEERS.items()
        for time, batch_size in ((512, 8), (2048, 2))
    )  # fmt: skip


_BASELINE = "attention"


def layer_rows(layers: Iterable[str] = tuple(LAYERS)) -> tuple[Row, ...]:
    """Return rows that compare whole layers with our attention."""

    def case(layer: str) -> Case:
        return Case(kind="layer", operation=layer, time=2048)

    return tuple(
        Row(case=case(layer), peer=OURS, other=case(_BASELINE),
            peer_function=_BASELINE, differs="another layer")
        for layer in dict.fromkeys(layers)
        if layer != _BASELINE
    )  # fmt: skip


GROWTH: tuple[Growth, ...] = (
    Growth(operation="gated_delta"),
    Growth(operation="delta"),
    Growth(operation="scalar_decay"),
    Growth(operation="titans", update_every=16),
    Growth(operation="titans_mlp", update_every=16),
    Growth(operation="titans_lmm", update_every=16),
    Growth(operation="titans_lmm", update_every=64),
    Growth(operation="ttt", update_every=16),
)


def all_rows(device: Device) -> tuple[Row, ...]:
    """Return every row that has a name on a device."""
    if device == "gpu":
        return (*GPU_ROWS, *prompt_rows("gpu"))
    models = [row for kind in ("step", "read", "generate") for row in model_rows(kind)]
    return (*CPU_ROWS, *JAX_ROWS, *prompt_rows("cpu"), *models, *layer_rows())


def select_rows(names: str | None, device: Device = "cpu") -> tuple[Row, ...]:
    """Return the rows whose names begin with one of `names`.

    A name is the first words of a case's name, joined by colons, and may end with @ and
    a peer: `delta`, `delta:2048`, `titans_lmm:1024:16`, `step:mamba2`, `delta@jla`.
    `layer:retnet/num_heads=8` names a layer with changed fields. None: all operations
    with the peers that every supported Python runs.

    Raises:
        MemzooError: no row or no layer has the name.
    """
    if names is None:
        return CPU_ROWS if device == "cpu" else GPU_ROWS
    try:
        words = split_list(names)
    except InputError as error:
        raise MemzooError(f"rows {error}") from error
    chosen = dict[Row, None]()
    for word in words:
        chosen |= dict.fromkeys(_named(word, device))
    return tuple(chosen)


def _named(name: str, device: Device) -> tuple[Row, ...]:
    start, _, peer = name.partition("@")
    words = start.split(":")
    rows = all_rows(device)
    if device == "cpu" and words[0] == "layer" and len(words) == 2:
        try:
            layer_from_text(words[1])
        except InputError as error:
            raise MemzooError(str(error)) from error
        # Attention cannot be compared with itself: return all layers instead.
        return layer_rows(words[1:]) or layer_rows()
    found = tuple(
        row
        for row in rows
        if row.case.name.split(":")[: len(words)] == words
        and (row.peer_name == peer if peer else row.peer != "jla")
    )
    if not found:
        known = ", ".join(dict.fromkeys(row.case.name.split(":")[0] for row in rows))
        where = " on a GPU" if device == "gpu" else ""
        raise MemzooError(
            f"no benchmark row{where} is named {name!r}; choose one of {known}, also "
            "with a length, such as delta:2048, or a peer, such as delta@fla"
        )
    return found


def select_growth(rows: tuple[Row, ...]) -> tuple[Growth, ...]:
    """Return the growth fits of the operations on a CPU that appear in `rows`."""
    operations = {
        row.case.operation
        for row in rows
        if row.case.kind == "operation" and row.case.device == "cpu"
    }
    return tuple(growth for growth in GROWTH if growth.operation in operations)


def peers_of(rows: tuple[Row, ...]) -> tuple[Side, ...]:
    """Return the peers that need an environment, without repeats."""
    return tuple(dict.fromkeys(row.peer for row in rows if row.peer != OURS))
