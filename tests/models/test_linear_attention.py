"""Linear attention against its equation, token by token."""

import typing

import numpy as np
import pytest

from memzoo.models.linear_attention import FeatureMap, LinearAttentionConfig
from memzoo.testing import check_layer


def _kernel(name, query, key):
    """phi(q) . phi(k), by its closed form."""
    size = len(query)
    if name == "identity":
        return query @ key / np.sqrt(size)
    if name == "relu":
        return np.maximum(query, 0) @ np.maximum(key, 0) / np.sqrt(size)
    if name == "elu_plus_one":
        query, key = (np.where(a > 0, a + 1, np.exp(a)) for a in (query, key))
        return query @ key / np.sqrt(size)
    similarity = query @ key / np.sqrt(size)
    return 1 + similarity + similarity**2 / 2


def _loop(plain, config, params, x):
    """o_t = sum_s phi(q_t) . phi(k_s) v_s, over the sum of the weights."""
    heads = config.num_heads
    streams = {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            kernel = params[f"{name}/convolution/kernel"]
            stream = plain.convolve(stream, kernel)
        streams[name] = stream.reshape(len(x), heads, -1)
    query, key, value = streams.values()
    outputs = []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            weights = np.array(
                [
                    _kernel(config.feature_map, query[t, h], key[s, h])
                    for s in range(t + 1)
                ]
            )
            read = weights @ value[: t + 1, h]
            if config.normaliser:
                read = read / max(np.sum(weights), 1e-6)
            else:
                read = plain.rms_norm(read, params["read_out/norm/scale"])
            reads.append(read)
        outputs.append(np.concatenate(reads) @ params["read_out/projection/kernel"])
    return np.stack(outputs), None


VARIANTS = [
    {"feature_map": name, "normaliser": normaliser}
    for name in typing.get_args(FeatureMap)
    for normaliser in (True, False)
    if not (normaliser and name == "identity")
]


@pytest.mark.parametrize(
    "options", VARIANTS, ids=lambda o: "-".join(map(str, o.values()))
)
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    # One variant has the convolution, so that both paths are tested.
    taps = 4 if options["normaliser"] else 0
    config = LinearAttentionConfig(
        num_heads=2, chunk_size=4, convolution_size=taps, **options
    )
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "features"),
    [("identity", 4), ("elu_plus_one", 4), ("relu", 4), ("taylor", 15)],
)
def test_memory_holds_the_features(subject, name, features):
    config = LinearAttentionConfig(num_heads=2, feature_map=name, normaliser=False)
    layer, _, _ = subject(config)
    assert layer.init_state(3, 0).memory.shape == (3, 2, features, 4)


@pytest.mark.parametrize("normaliser", [True, False])
def test_parameters_by_formula(subject, normaliser):
    config = LinearAttentionConfig(num_heads=2, normaliser=normaliser)
    _, params, _ = subject(config)
    width, heads, taps = 8, 2, 4
    wanted = 4 * width**2 + 3 * taps * width
    wanted += 0 if normaliser else width // heads
    assert sum(p.size for p in params.values()) == wanted


def test_one_tap_is_refused():
    with pytest.raises(ValueError, match="convolution_size is 1"):
        LinearAttentionConfig(convolution_size=1)


def test_an_unknown_feature_map_is_refused():
    config = LinearAttentionConfig()
    # The tests' type checks would catch it first; users have none.
    object.__setattr__(config, "feature_map", "exp")
    message = "feature_map is 'exp'; choose one of identity, elu_plus_one, relu, tay"
    with pytest.raises(ValueError, match=message):
        config.__post_init__()


def test_a_normaliser_that_can_be_zero_is_refused():
    with pytest.raises(ValueError, match="feature_map is 'identity', whose normal"):
        LinearAttentionConfig(feature_map="identity")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", VARIANTS, ids=lambda o: "-".join(map(str, o.values()))
)
def test_variants_obey_the_laws(options):
    check_layer(LinearAttentionConfig(num_heads=2, **options), width=8)
