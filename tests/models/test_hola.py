"""HOLA against its equations, and against Gated DeltaNet."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.models.gated_delta_net import GatedDeltaNet
from memzoo.models.hola import Evict, HOLAConfig
from memzoo.models.interface import state_bytes
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """Write S, score every token, and attend to the best and to the segment."""
    heads, streams = config.num_heads, {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"memory/{name}/kernel"]
        if config.convolution_size:
            kernel = params[f"memory/{name}/convolution/kernel"]
            stream = plain.convolve(stream, kernel)
        streams[name] = plain.silu(stream).reshape(len(x), heads, -1)
    q, k, v = streams.values()
    strength = plain.sigmoid(x @ params["memory/write_strength/kernel"])
    time = plain.softplus(
        x @ params["memory/decay/kernel"] + params["memory/time_bias"]
    )
    alpha = np.exp(-np.exp(params["memory/log_a"]) * time)
    gate = plain.sigmoid(params["store_gate"])
    size = q.shape[2]
    memory, score = np.zeros((heads, size, v.shape[2])), np.zeros((len(x), heads))
    outputs = []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            memory[h] *= alpha[t, h]
            key = plain.unit(k[t, h])
            error = v[t, h] - memory[h].T @ key
            memory[h] += strength[t, h] * np.outer(key, error)
            score[t, h] = {
                "surprise": strength[t, h] * np.linalg.norm(error),
                "residual": np.linalg.norm(error),
                "value": strength[t, h] * np.linalg.norm(v[t, h]),
                "recency": t,
            }[config.evict]
            begins = t - t % config.segment_size
            best = np.argsort(-score[:begins, h])[: config.store_size]
            seen = [*best, *range(begins, t + 1)]
            norms = [params[f"store_{name}_norm/scale"] for name in ("query", "key")]
            long = np.sqrt(size)
            query = plain.rms_norm(long * plain.unit(q[t, h]), norms[0]) / long
            keys = [plain.rms_norm(long * plain.unit(k[s, h]), norms[1]) for s in seen]
            logits = np.array([*keys] @ query)
            weight = plain.softmax(np.append(logits, params["store_sink"][h]))[:-1]
            read = memory[h].T @ plain.unit(q[t, h]) / np.sqrt(size)
            read = read + gate[h] * (weight @ v[seen, h])
            scale = params["memory/read_out/norm/scale"]
            reads.append(plain.rms_norm(read, scale, config.norm_epsilon))
        read = np.concatenate(reads)
        read = read * plain.silu(x[t] @ params["memory/read_out/gate/kernel"])
        outputs.append(read @ params["memory/read_out/projection/kernel"])
    return np.stack(outputs), None


def _config(evict: Evict = "surprise", **options: Any) -> HOLAConfig:
    return HOLAConfig(
        num_heads=2, value_ratio=1, store_size=2, segment_size=3, evict=evict, **options
    )


@pytest.mark.parametrize(
    "evict",
    [
        "surprise",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in ("residual", "value", "recency")
        ),
    ],
)
def test_layer_is_its_equations(subject, assert_loop, plain, evict):
    config = _config(evict, convolution_size=2)
    made = subject(config, time=11)
    # The gate begins almost closed: open it, so that the store's read counts.
    made.layer.store_gate[...] = made.params["store_gate"] = np.ones(2, np.float32)
    assert_loop(made, lambda p, x: _loop(plain, config, p, x))


def test_a_closed_gate_leaves_gated_delta_net(subject):
    config = _config(convolution_size=0)
    layer, _, x = subject(config)
    layer.store_gate[...] = np.full(2, -np.inf, np.float32)
    assert isinstance(layer.memory, GatedDeltaNet)
    run = jax.jit(lambda x: (layer(x)[0], layer.memory(x)[0]))
    np.testing.assert_array_equal(*run(x))


def test_the_state_has_a_fixed_size():
    layer = _config(convolution_size=0).build(8, nnx.Rngs(0), layer_index=0, depth=1)
    pairs = (2 + 3) * 2 * (4 + 4 + 1)
    assert state_bytes(layer, 9) == state_bytes(layer, 99) == 4 * (2 * 4 * 4 + pairs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store_size": 0}, "store_size is 0; give a number above 0"),
        ({"segment_size": 0}, "segment_size is 0; give a number above 0"),
        ({"prefix": True}, "prefix is True, but the exact store reads no prefix"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HOLAConfig(**options)


def test_an_unknown_score_is_refused():
    config = HOLAConfig()
    # The field's type refuses other words before the check does.
    object.__setattr__(config, "evict", "age")
    with pytest.raises(ValueError, match="evict is 'age'; choose one of surprise, rec"):
        config.__post_init__()


@pytest.mark.slow
def test_variants_obey_the_laws():
    check_layer(
        HOLAConfig(
            num_heads=1, value_heads=2, store_size=2, segment_size=5, evict="recency"
        ),
        width=8,
    )
