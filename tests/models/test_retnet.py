"""RetNet's retention against its equation, token by token."""

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.models.retnet import RetNetConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """S = gamma S + k v^T and o = S^T q / sqrt(k), head by head."""
    heads = config.num_heads
    streams = {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            kernel = params[f"{name}/convolution/kernel"]
            stream = plain.silu(plain.convolve(stream, kernel))
        streams[name] = stream.reshape(len(x), heads, -1)
    sizes = streams["key"].shape[-1], streams["value"].shape[-1]
    memory, outputs = np.zeros((heads, *sizes)), []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            query = plain.rotate(streams["query"][t, h], t, config.rotary_base)
            key = plain.rotate(streams["key"][t, h], t, config.rotary_base)
            gamma = 1 - 2.0 ** (-5 - h)
            memory[h] = gamma * memory[h] + np.outer(key, streams["value"][t, h])
            read = memory[h].T @ query / np.sqrt(sizes[0])
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        read = np.concatenate(reads)
        if config.output_gate:
            read = read * plain.silu(x[t] @ params["read_out/gate/kernel"])
        outputs.append(read @ params["read_out/projection/kernel"])
    return np.stack(outputs), memory


VARIED = {
    "convolution_size": 3,
    "value_ratio": 1,
    "head_size": 6,
    "output_gate": False,
    "rotary_base": 100.0,
}


@pytest.mark.parametrize("options", [{}, VARIED], ids=["published", "varied"])
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = RetNetConfig(num_heads=2, chunk_size=4, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


@pytest.mark.parametrize("place", [1, 10**6, 10**8, 10**9, 2**31 - 12])
def test_what_follows_is_read_the_same_at_every_place(subject, place):
    layer, _, x = subject(RetNetConfig(num_heads=2, chunk_size=4))
    run = jax.jit(lambda x, state: layer(x, state)[0])
    start = layer.init_state(2, 0)
    there = start._replace(position=start.position + place)
    np.testing.assert_allclose(run(x, there), run(x, start), atol=3e-6)


def test_parameters_by_formula(subject):
    _, params, _ = subject(RetNetConfig(num_heads=2))
    width, heads = 8, 2
    wanted = 2 * width**2 + 3 * width * 2 * width + 2 * width // heads
    assert sum(p.size for p in params.values()) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"rotary_base": 0.0}, "rotary_base is 0.0; give a finite number"),
        ({"value_ratio": 0}, "value_ratio is 0; give a number above 0"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RetNetConfig(**options)


def test_odd_heads_are_refused():
    config = RetNetConfig(num_heads=2, head_size=3)
    with pytest.raises(ValueError, match="head_size is 3, which is odd; make it"):
        config.build(8, nnx.Rngs(0), layer_index=0, depth=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"convolution_size": 4}, {"value_ratio": 1}], ids=str
)
def test_variants_obey_the_laws(options):
    check_layer(RetNetConfig(num_heads=2, **options), width=8)
