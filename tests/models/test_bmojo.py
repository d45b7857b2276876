"""B'MOJO-F against one masked softmax over tokens and fading tokens, in numpy."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.models.bmojo import BMojoConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.intention import IntentionConfig
from memzoo.models.interface import state_bytes

CONFIG = BMojoConfig(
    num_heads=2,
    window=3,
    memory=GatedDeltaNetConfig(num_heads=1, value_ratio=1, convolution_size=0),
)


def _loop(plain, config, params, x, faded):
    window, heads = config.window, config.num_heads
    q, k, v, fk, fv = (
        (tokens @ params[f"{name}/kernel"]).reshape(len(x), heads, -1)
        for tokens, name in (
            *((x, name) for name in ("query", "key", "value")),
            (faded, "key"),
            (faded, "value"),
        )
    )
    outputs = []
    for t in range(len(x)):
        recent = range(max(0, t - window + 1), t + 1)
        behind = range(max(0, t - 2 * window + 1), max(0, t - window + 1))
        reads = []
        for h in range(heads):
            query = plain.rotate(q[t, h], t)
            keys = [plain.rotate(k[s, h], s) for s in recent]
            keys += [plain.rotate(fk[s, h], s) for s in behind]
            weight = plain.softmax(np.stack(keys) @ query / np.sqrt(len(query)))
            values = [v[s, h] for s in recent] + [fv[s, h] for s in behind]
            reads.append(weight @ np.stack(values))
        outputs.append(np.concatenate(reads) @ params["read_out/projection/kernel"])
    return np.stack(outputs)


def test_layer_is_one_softmax_over_both(subject, plain):
    layer, params, x = subject(CONFIG, time=10)
    y, faded = jax.jit(lambda x: (layer(x)[0], layer.memory(x)[0]))(x)
    for row in range(len(x)):
        tokens, behind = (np.asarray(a[row], np.float64) for a in (x, faded))
        wanted = _loop(plain, CONFIG, params, tokens, behind)
        np.testing.assert_allclose(y[row], wanted, rtol=1e-4, atol=1e-5)


def _built(config):
    return config.build(8, nnx.Rngs(0), layer_index=0, depth=1)


def test_the_state_is_bounded_unless_the_memory_grows():
    layer = _built(CONFIG)
    fixed = 4 * 8 * 8
    sizes = [state_bytes(layer, n) - fixed for n in (2, 6, 99)]
    assert sizes == [4 * 2 * 8 * n for n in (2 + 2, 3 + 6, 3 + 6)]
    assert [layer.capacity(layer.init_state(1, n)) for n in (5, 6)] == [5, None]
    growing = _built(dataclasses.replace(CONFIG, memory=IntentionConfig(num_heads=2)))
    assert growing.state_growth == "square"
    assert growing.capacity(growing.init_state(1, 20)) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window is 0; give a number above 0"),
        ({"rotary_base": 1.0}, "rotary_base is 1.0; give a finite number above 1"),
        ({"head_size": 3}, "head_size is 3, which is odd"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _built(BMojoConfig(**options))
