"""Prefix linear attention against its equation, written in loops."""

import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.interface import SequenceInfo, state_bytes
from memzoo.models.prefix_linear_attention import (
    PrefixFeatureMap,
    PrefixLinearAttentionConfig,
)
from memzoo.testing import check_layer


def _kernel(name, query, key):
    """phi(q) . phi(k), by its closed form."""
    if name == "elu_plus_one":
        query, key = (np.where(a > 0, a + 1, np.exp(a)) for a in (query, key))
        return query @ key
    similarity = query @ key / np.sqrt(len(query))
    return 1 + similarity + similarity**2 / 2


def _loop(plain, config, params, x, length):
    """y_i: sums over j <= i and over the prefix, each with separate keys."""
    streams = {}
    for name in ("query", "key", "value", "encoder/key",
                 "encoder/value"):  # fmt: skip
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            stream = plain.convolve(stream, params[f"{name}/convolution/kernel"])
        streams[name] = stream.reshape(len(x), config.num_heads, -1)
    query, key, value, prefix_key, prefix_value = streams.values()
    outputs = []
    for i in range(len(x)):
        reads = []
        for h in range(config.num_heads):
            numerator, total = 0.0, 1e-12
            for j in range(i + 1):
                weight = _kernel(config.feature_map, query[i, h], key[j, h])
                numerator, total = numerator + weight * value[j, h], total + weight
            for j in range(length):
                weight = _kernel(config.feature_map, query[i, h], prefix_key[j, h])
                numerator = numerator + weight * prefix_value[j, h]
                total = total + weight
            reads.append(numerator / total)
        outputs.append(np.concatenate(reads) @ params["read_out/projection/kernel"])
    return np.stack(outputs)


VARIANTS = [
    {"feature_map": name, "convolution_size": taps}
    for name, taps in zip(typing.get_args(PrefixFeatureMap), (0, 3, 3), strict=True)
]


def _float64(layer):
    return jax.tree.map(lambda a: a.astype(jnp.float64), nnx.state(layer, nnx.Param))


@pytest.mark.parametrize(
    "options", VARIANTS, ids=lambda o: "-".join(map(str, o.values()))
)
def test_layer_is_the_published_sum(subject, plain, options):
    config = PrefixLinearAttentionConfig(
        num_heads=2, feature_size=3, chunk_size=4, **options
    )
    layer, params, x = subject(config)
    with jax.enable_x64(True):
        graphdef, _ = nnx.split(layer)
        wide = nnx.merge(graphdef, _float64(layer))
        state = jax.tree.map(
            lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a,
            wide.init_state(2, 0),
        )
        run = jax.jit(lambda x, state, info: wide(x, state, info))
        x = jnp.asarray(x, jnp.float64)
        time = x.shape[1]
        for lengths in ((0, time), (4, 5)):
            prefix = jnp.arange(time)[None, :] < jnp.array(lengths)[:, None]
            for reset in (None, jnp.zeros((2, time), bool)):
                y, _ = run(x, state, SequenceInfo(reset=reset, prefix=prefix))
                for row, length in enumerate(lengths):
                    wanted = _loop(plain, config, params, np.asarray(x[row]), length)
                    np.testing.assert_allclose(y[row], wanted, rtol=1e-6, atol=1e-7)


def test_both_taylor_sizes_are_one_function(subject):
    small = PrefixLinearAttentionConfig(num_heads=2, feature_size=16)
    large = PrefixLinearAttentionConfig(
        num_heads=2, feature_size=16, feature_map="taylor_full"
    )
    layer, _, x = subject(small)
    other, _, _ = subject(large)
    nnx.update(other, nnx.state(layer, nnx.Param))
    assert layer.init_state(3, 0).memory.shape == (3, 2, 153, 5)
    assert other.init_state(3, 0).memory.shape == (3, 2, 273, 5)
    prefix = jnp.arange(x.shape[1])[None, :] < jnp.array([[3], [7]])
    ys = [
        jax.jit(lambda x, s, p, m=m: m(x, s, SequenceInfo(prefix=p))[0])(
            x, m.init_state(2, 0), prefix
        )
        for m in (layer, other)
    ]
    np.testing.assert_allclose(*ys, rtol=1e-4, atol=1e-5)


def test_padding_adds_nothing_to_the_normaliser(subject):
    """The feature 1 of padding must not count: masks follow the feature map."""
    layer, _, x = subject(PrefixLinearAttentionConfig(num_heads=2, feature_size=3))
    run = jax.jit(lambda x, s, info: layer(x, s, info)[0])
    time = x.shape[1]
    ones = jnp.ones((2, time), bool)
    valid = ones.at[:, :4].set(False)
    padded = run(x, layer.init_state(2, 0), SequenceInfo(valid=valid, prefix=ones))
    alone = run(x[:, 4:], layer.init_state(2, 0), SequenceInfo(prefix=ones[:, 4:]))
    np.testing.assert_allclose(padded[:, 4:], alone, rtol=1e-4, atol=1e-5)


def test_gradients_of_every_input_through_both_ways(subject):
    """Packed documents (inserted prefixes) against one document (initial memory)."""
    layer, _, x = subject(
        PrefixLinearAttentionConfig(num_heads=2, feature_size=3, chunk_size=4)
    )
    graphdef, params = nnx.split(layer, nnx.Param)
    time = x.shape[1]
    prefix = jnp.arange(time)[None, :] < jnp.array([[4], [time]])
    weight = jax.random.normal(jax.random.key(0), x.shape)

    def loss(params, x, reset):
        layer = nnx.merge(graphdef, params)
        y, state = layer(x, layer.init_state(2, 0), SequenceInfo(reset, None, prefix))
        return jnp.sum(y * weight) + jnp.sum(state.memory**2)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    found = gradient(params, x, jnp.zeros((2, time), bool))
    wanted = gradient(params, x, None)
    for got, want in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        scale = np.max(np.abs(want))
        assert scale > 0
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * scale)


def test_parameters_and_state_of_the_published_size():
    config = PrefixLinearAttentionConfig(num_heads=16, feature_map="taylor_full")
    layer = nnx.eval_shape(
        lambda: config.build(1024, nnx.Rngs(0), layer_index=0, depth=26)
    )
    sizes = [leaf.size for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param))]
    assert sum(sizes) == 3 * 1024 * 256 + 3 * 1024 * 1024
    assert state_bytes(layer, 2048) == 4 * 16 * 273 * 65


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"feature_size": 0}, "feature_size is 0; give a number above 0"),
        ({"num_heads": 0}, "num_heads is 0; give 1 or more"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        config = PrefixLinearAttentionConfig(**options)
        config.build(8, nnx.Rngs(0), layer_index=0, depth=1)


def test_an_unknown_feature_map_is_refused():
    config = PrefixLinearAttentionConfig()
    # The tests' type checks would catch it first; users have none.
    object.__setattr__(config, "feature_map", "exp")
    message = "feature_map is 'exp'; choose one of taylor, taylor_full, elu_plus_one"
    with pytest.raises(ValueError, match=message):
        config.__post_init__()


@pytest.mark.slow
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_variants_obey_the_laws(options):
    config = PrefixLinearAttentionConfig(num_heads=2, feature_size=4, **options)
    check_layer(config, width=8)
