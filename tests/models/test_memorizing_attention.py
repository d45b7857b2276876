"""Memorizing attention against its equations: a loop over tokens in numpy."""

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.models.interface import state_bytes
from memzoo.models.memorizing_attention import MemorizingAttentionConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    heads = config.num_heads
    streams = []
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            stream = plain.convolve(stream, params[f"{name}/convolution/kernel"])
        streams.append(stream.reshape(len(x), heads, -1))
    gate = plain.sigmoid(params["memory_share"])
    outputs = []
    for t in range(len(x)):
        first = max(0, t - config.window + 1)
        reads = []
        for h in range(heads):
            q, k, v = (stream[:, h] for stream in streams)
            q, k = plain.unit(q[t]), np.stack([plain.unit(key) for key in k])
            q = q * params["attention_scale"][h]
            turned, keys = q, k
            if config.rotary_base is not None:
                turned = plain.rotate(q, t, config.rotary_base)
                keys = [plain.rotate(k[s], s, config.rotary_base) for s in range(t + 1)]
                keys = np.stack(keys)
            weight = plain.softmax(keys[first : t + 1] @ turned)
            local = weight @ v[first : t + 1]
            oldest = max(0, first - config.memory_size)
            best = np.argsort(-(k[oldest:first] @ q))[: config.top_k] + oldest
            recalled = np.zeros_like(local)
            if len(best):
                recalled = plain.softmax(k[best] @ q) @ v[best]
            reads.append((1 - gate[h]) * local + gate[h] * recalled)
        outputs.append(np.concatenate(reads) @ params["read_out/projection/kernel"])
    return np.stack(outputs), None


SMALL = MemorizingAttentionConfig(
    num_heads=2,
    window=3,
    memory_size=6,
    top_k=2,
    initial_scale=4.0,
    convolution_size=2,
)
VARIED = MemorizingAttentionConfig(
    num_heads=2,
    head_size=3,
    window=2,
    memory_size=4,
    top_k=9,
    stop_gradient=False,
    rotary_base=None,
)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(SMALL, id="positions"),
        pytest.param(VARIED, id="no positions", marks=pytest.mark.slow),
    ],
)
def test_layer_is_its_equations(subject, assert_loop, plain, config):
    made = subject(config, time=12)
    assert_loop(made, lambda p, x: _loop(plain, config, p, x))


@pytest.mark.parametrize(
    "stop_gradient", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_the_memory_passes_a_gradient_only_if_it_may(subject, stop_gradient):
    config = MemorizingAttentionConfig(
        num_heads=2, window=3, memory_size=6, top_k=9, stop_gradient=stop_gradient
    )
    layer, _, x = subject(config)
    slope = jax.jit(jax.grad(lambda x: layer(x)[0][:, -1].sum()))(x)
    found = np.any(np.asarray(slope), axis=(0, 2))
    wanted = np.zeros(x.shape[1], bool)
    wanted[-9 if not stop_gradient else -3 :] = True
    np.testing.assert_array_equal(found, wanted)


def test_the_state_is_bounded_by_window_and_memory():
    layer = SMALL.build(8, nnx.Rngs(0), layer_index=0, depth=1)
    # Keys and values, and one token for each of the three convolutions.
    wanted = [4 * (2 * 8 * n + 3 * 8) for n in (2, 9, 9)]
    assert [state_bytes(layer, n) for n in (2, 9, 1000)] == wanted
    capacities = [layer.capacity(layer.init_state(1, n)) for n in (0, 8, 9)]
    assert capacities == [0, 8, None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"window": 0}, "window is 0; give a number above 0"),
        ({"memory_size": 0}, "memory_size is 0; give a number above 0"),
        ({"top_k": 0}, "top_k is 0; give a number above 0"),
        ({"initial_scale": 0.0}, "initial_scale is 0.0; give a number above 0"),
        ({"rotary_base": 1.0}, "rotary_base is 1.0; give a finite number above 1"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MemorizingAttentionConfig(**options)


def test_odd_heads_are_refused():
    with pytest.raises(ValueError, match="head_size is 3, which is odd"):
        MemorizingAttentionConfig(head_size=3).build(
            8, nnx.Rngs(0), layer_index=0, depth=1
        )


@pytest.mark.slow
def test_variants_obey_the_laws():
    check_layer(VARIED, width=8)
