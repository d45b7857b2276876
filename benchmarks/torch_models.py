"""Whole models of transformers: train one step, read a prompt, generate tokens.

The interpreter of a peer's environment imports this file, so it cannot import memzoo.
The weights are those of `model_weights`, in the layout of each model.
"""

from typing import Any

import model_weights as sizes
import numpy as np
import torch
from serving import Prepared, resident_peak
from torch.nn.functional import cross_entropy

Arrays = dict[str, np.ndarray]
Tensors = dict[str, torch.Tensor]
Options = dict[str, Any]

LEARNING_RATE = 1e-3


def _llama(width: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=sizes.VOCABULARY,
            hidden_size=width,
            intermediate_size=sizes.MLP,
            num_hidden_layers=sizes.BLOCKS,
            num_attention_heads=sizes.HEADS,
            num_key_value_heads=sizes.HEADS,
            rms_norm_eps=sizes.EPSILON,
            tie_word_embeddings=True,
        )
    )


def _qwen3_next(width: int) -> Any:
    from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

    key = width // sizes.HEADS
    return Qwen3NextForCausalLM(
        Qwen3NextConfig(
            vocab_size=sizes.VOCABULARY,
            hidden_size=width,
            intermediate_size=sizes.MLP,
            num_hidden_layers=sizes.BLOCKS,
            layer_types=["linear_attention"] * sizes.BLOCKS,
            # A dense MLP in every block.
            mlp_only_layers=list(range(sizes.BLOCKS)),
            num_experts=0,
            linear_num_key_heads=sizes.HEADS,
            linear_num_value_heads=sizes.HEADS,
            linear_key_head_dim=key,
            linear_value_head_dim=sizes.VALUE_RATIO * key,
            linear_conv_kernel_dim=sizes.TAPS,
            rms_norm_eps=sizes.EPSILON,
            tie_word_embeddings=True,
        )
    )


def _mamba2(width: int) -> Any:
    from transformers import Mamba2Config, Mamba2ForCausalLM

    return Mamba2ForCausalLM(
        Mamba2Config(
            vocab_size=sizes.VOCABULARY,
            hidden_size=width,
            num_hidden_layers=sizes.BLOCKS,
            state_size=sizes.MAMBA_STATE,
            head_dim=sizes.MAMBA_HEAD,
            num_heads=2 * width // sizes.MAMBA_HEAD,
            expand=2,
            n_groups=1,
            conv_kernel=sizes.TAPS,
            # The default, 256, takes twice as long on a CPU.
            chunk_size=64,
            layer_norm_epsilon=sizes.EPSILON,
            tie_word_embeddings=True,
        )
    )


def _mlp(w: Tensors) -> Tensors:
    kernels = {"gate_proj": "mlp_gate", "up_proj": "mlp_up", "down_proj": "mlp_down"}
    return {f"mlp.{name}.weight": w[ours].mT for name, ours in kernels.items()}


def _llama_weights(w: Tensors) -> Tensors:
    """Return one block's parameters from its weights."""
    kernels = {"q_proj": "query", "k_proj": "key", "v_proj": "value"}
    kernels["o_proj"] = "output"
    return {
        "input_layernorm.weight": w["norm"],
        "post_attention_layernorm.weight": w["mlp_norm"],
        **_mlp(w),
        **{f"self_attn.{name}.weight": w[ours].mT for name, ours in kernels.items()},
    }


def _qwen3_next_weights(w: Tensors) -> Tensors:
    """Return one block's parameters; norms scale by 1 + w, and maps go head by head."""

    def by_head(*names: str) -> torch.Tensor:
        heads = [w[name].mT.unflatten(0, (sizes.HEADS, -1)) for name in names]
        return torch.cat(heads, 1).flatten(0, 1)

    streams = ("query", "key", "value")
    taps = torch.cat([w[f"{name}_convolution"] for name in streams], -1)
    mixer = {
        "in_proj_qkvz.weight": by_head(*streams, "gate"),
        "in_proj_ba.weight": by_head("write_strength", "decay"),
        "conv1d.weight": taps.mT[:, None],
        "A_log": w["log_a"],
        "dt_bias": w["time_bias"],
        "norm.weight": w["inner_norm"],
        "out_proj.weight": w["output"].mT,
    }
    return {
        "input_layernorm.weight": w["norm"] - 1,
        "post_attention_layernorm.weight": w["mlp_norm"] - 1,
        **_mlp(w),
        **{f"linear_attn.{name}": a for name, a in mixer.items()},
    }


def _mamba2_weights(w: Tensors) -> Tensors:
    """Return one block's parameters, with all maps in one matrix."""
    streams = ("value", "key", "query")
    maps = torch.cat([w[name] for name in ("gate", *streams, "time")], -1)
    taps = torch.cat([w[f"{name}_convolution"] for name in streams], -1)
    mixer = {
        "in_proj.weight": maps.mT,
        "conv1d.weight": taps.mT[:, None],
        "conv1d.bias": torch.cat([w[f"{n}_convolution_bias"] for n in streams], -1),
        "A_log": w["log_a"],
        "dt_bias": w["time_bias"],
        "D": w["skip"],
        "norm.weight": w["inner_norm"],
        "out_proj.weight": w["output"].mT,
    }
    return {"norm.weight": w["norm"], **{f"mixer.{n}": a for n, a in mixer.items()}}


# Model, its blocks' parameters, and the paths of embedding, blocks and last norm.
_LLAMA_PLACES = ("model.embed_tokens.weight", "model.layers", "model.norm.weight")
_MODELS = {
    "attention": (_llama, _llama_weights, _LLAMA_PLACES),
    "gated_delta": (_qwen3_next, _qwen3_next_weights, _LLAMA_PLACES),
    "mamba2": (
        _mamba2,
        _mamba2_weights,
        ("backbone.embeddings.weight", "backbone.layers", "backbone.norm_f.weight"),
    ),
}


class _Model:
    """Model of transformers with given weights."""

    def __init__(self, arrays: Arrays, options: Options) -> None:
        self.name = options["operation"]
        width = options["num_heads"] * options["head_size"]
        make, _, _ = _MODELS[self.name]
        self.model = make(width)
        self.weights = {
            name: torch.from_numpy(arrays[name])
            for name in sizes.WEIGHTS[self.name](width)
        }
        given = self.parameters(self.weights)
        found = dict(self.model.named_parameters())
        assert set(given) == set(found), set(given) ^ set(found)
        with torch.no_grad():
            for name, parameter in found.items():
                parameter.copy_(given[name])

    def parameters(self, weights: Tensors) -> Tensors:
        """Return the parameters by name, as functions of the weights."""
        _, block, (embedding, layers, norm) = _MODELS[self.name]
        found = {embedding: weights["embedding"], norm: weights["final_norm"]}
        if self.name == "gated_delta":
            found[norm] = found[norm] - 1
        common = ("embedding", "final_norm")
        for index in range(sizes.BLOCKS):
            own = {n: a[index] for n, a in weights.items() if n not in common}
            found |= {f"{layers}.{index}.{n}": a for n, a in block(own).items()}
        return found

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor, run: Any) -> Any:
        logits = run(input_ids=tokens, use_cache=False).logits
        return cross_entropy(logits.flatten(0, 1), targets.flatten())


def prepare_step(arrays: Arrays, options: Options) -> Prepared:
    """Prepare forward, backward, clipping and AdamW."""
    tokens, targets = (
        torch.from_numpy(arrays[n]).long() for n in ("tokens", "targets")
    )
    held = _Model(arrays, options)
    model = held.model.train()
    parameters = list(model.parameters())
    # As on our side, only matrices and the embedding get weight decay.
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim == 2]},
            {"params": [p for p in parameters if p.ndim != 2], "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
        betas=(0.9, 0.95),
        weight_decay=0.1,
    )

    def call() -> None:
        optimizer.zero_grad()
        held.loss(tokens, targets, model).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    def results() -> Arrays:
        """Return loss and gradients at the given weights, by those weights."""
        leaves = {n: a.clone().requires_grad_() for n, a in held.weights.items()}

        def run(**inputs: Any) -> Any:
            own = held.parameters(leaves)
            return torch.func.functional_call(model, own, kwargs=inputs)

        loss = held.loss(tokens, targets, run)
        found = torch.autograd.grad(loss, list(leaves.values()))
        named = {f"gradient_{n}": g for n, g in zip(leaves, found, strict=True)}
        return {n: a.detach().numpy() for n, a in (named | {"output": loss}).items()}

    return Prepared(call, results, peak=resident_peak)


class _Reader:
    """Reader of a prompt into a new cache, and of tokens after it."""

    def __init__(self, arrays: Arrays, options: Options) -> None:
        self.model = _Model(arrays, options).model.eval()
        self.tokens = torch.from_numpy(arrays["tokens"]).long()
        self.name = "cache_params" if options["operation"] == "mamba2" else None
        # A cache with only linear attention has no length, so positions are passed.
        self.linear = options["operation"] == "gated_delta"

    @torch.no_grad()
    def read(self, tokens: torch.Tensor, cache: Any, position: int) -> torch.Tensor:
        """Return the logits after the last of these tokens."""
        inputs: dict[str, Any] = {self.name or "past_key_values": cache}
        if self.linear:
            place = torch.arange(position, position + tokens.shape[1])
            inputs["position_ids"] = place[None]
            inputs["attention_mask"] = {
                "full_attention": None,
                "linear_attention": None,
            }
        found = self.model(input_ids=tokens, use_cache=True, logits_to_keep=1, **inputs)
        return found.logits[:, -1]

    def prompt(self) -> tuple[torch.Tensor, Any]:
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        return self.read(self.tokens, cache, 0), cache


def prepare_read(arrays: Arrays, options: Options) -> Prepared:
    """Prepare to read a prompt: logits after its last token, and the cache."""
    reader = _Reader(arrays, options)
    last: list[Any] = []

    def call() -> None:
        last[:] = [reader.prompt()]

    def results() -> Arrays:
        return {"output": last[0][0].numpy()}

    return Prepared(call, results, peak=resident_peak)


def prepare_generate(arrays: Arrays, options: Options) -> Prepared:
    """Prepare to read tokens one by one after a prompt."""
    reader = _Reader(arrays, options)
    following = torch.from_numpy(arrays["next"]).long().T[..., None]
    time = reader.tokens.shape[1]
    _, cache = reader.prompt()
    first: list[Any] = []

    def call() -> None:
        for index, token in enumerate(following):
            logits = reader.read(token, cache, time + index)
        # Keep the first pass: a memory of constant size is not reset for later ones.
        if not first:
            first.append(logits)
        if options["operation"] == "attention":
            # Only this cache grows; a memory of constant size takes constant time.
            cache.crop(-len(following))

    def results() -> Arrays:
        return {"output": first[0].numpy()}

    return Prepared(call, results, peak=resident_peak)


MODEL_KINDS = {
    "step": prepare_step,
    "read": prepare_read,
    "generate": prepare_generate,
}
