"""HCAM against its equations: loops over tokens and segments in numpy."""

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.models.hcam import HCAMConfig, countdown
from memzoo.models.interface import state_bytes
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    size, heads = config.segment_size, config.num_heads
    streams = {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            stream = plain.convolve(stream, params[f"{name}/convolution/kernel"])
        streams[name] = stream
    width = x.shape[1]
    for t in range(len(x)):
        after = size - 1 - t % size
        angle = after / 10000 ** (2 * np.arange(width // 2) / width)
        place = np.concatenate([np.sin(angle), np.cos(angle)])
        for name in ("key", "value"):
            streams[name][t] += place @ params[f"{name}/kernel"]
    q, k, v = (streams[name].reshape(len(x), heads, -1) for name in streams)
    outputs = []
    for t in range(len(x)):
        ended = range(t // size)[-config.num_segments :]
        relevance = []
        for n in ended:
            summary = np.mean(x[n * size : (n + 1) * size], axis=0)
            left = x[t] @ params["relevance/query/kernel"]
            right = summary @ params["relevance/key/kernel"]
            relevance.append(left @ right / np.sqrt(len(left)))
        chosen = np.argsort(relevance)[::-1][: config.top_k]
        read = np.zeros(q.shape[1:])
        if len(chosen):
            weight = plain.softmax(np.array(relevance)[chosen])
            for w, n in zip(weight, np.array(ended)[chosen], strict=True):
                inside = slice(n * size, (n + 1) * size)
                for h in range(heads):
                    logits = k[inside, h] @ q[t, h] / np.sqrt(q.shape[2])
                    read[h] += w * plain.softmax(logits) @ v[inside, h]
        outputs.append(read.ravel() @ params["read_out/projection/kernel"])
    return np.stack(outputs), None


SMALL = HCAMConfig(num_heads=2, segment_size=2, num_segments=4, top_k=2)
VARIED = HCAMConfig(
    num_heads=2, head_size=3, segment_size=3, num_segments=2, convolution_size=2
)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(VARIED, id="convolution"),
        pytest.param(SMALL, id="plain", marks=pytest.mark.slow),
    ],
)
def test_layer_is_its_equations(subject, assert_loop, plain, config):
    made = subject(config, time=17)
    assert_loop(made, lambda p, x: _loop(plain, config, p, x))


def test_stored_tokens_get_no_gradient_if_it_is_stopped(subject):
    config = HCAMConfig(num_heads=2, segment_size=2, top_k=2, stop_gradient=True)
    graph, params = nnx.split(subject(config).layer)

    @jax.jit
    def slopes(params, x):
        def last(params, x):
            return nnx.merge(graph, params)(x)[0][:, -1].sum()

        return jax.grad(last, (0, 1))(params, x)

    by_params, by_x = slopes(params, subject(config).x)
    assert not np.any(by_x[:, :-1]) and np.any(by_x[:, -1])
    assert all(np.any(leaf) for leaf in jax.tree.leaves(by_params))


def test_the_state_is_bounded_by_the_segments():
    layer = SMALL.build(8, nnx.Rngs(0), layer_index=0, depth=1)
    # One segment more, for the tokens of the unfinished one.
    full = 4 * 5 * (2 * 2 * 8 + 8)
    assert [state_bytes(layer, n) for n in (2, 10, 1000)] == [full // 5, full, full]
    capacities = [layer.capacity(layer.init_state(1, n)) for n in (0, 3, 8, 9)]
    assert capacities == [0, 4, 8, None]


def test_the_last_token_of_a_segment_has_position_zero():
    np.testing.assert_array_equal(countdown(3, 5)[-1], [0, 0, 0, 1, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"segment_size": 0}, "segment_size is 0; give a number above 0"),
        ({"num_segments": 0}, "num_segments is 0; give a number above 0"),
        ({"top_k": 0}, "top_k is 0; give a number above 0"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HCAMConfig(**options)


@pytest.mark.slow
def test_variants_obey_the_laws():
    check_layer(VARIED, width=8)
