"""Softmax attention as a layer: its equation, its cache, its documents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.attention import AttentionConfig
from memzoo.models.interface import SequenceInfo
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """o_t = sum_s softmax_s(q_t . k_s / sqrt(k)) v_s over s <= t, head by head."""
    heads, groups = config.num_heads, config.key_value_heads or config.num_heads
    streams = {}
    for name, count in (("query", heads), ("key", groups), ("value", groups)):
        stream = x @ params[f"{name}/kernel"] + params.get(f"{name}/bias", 0)
        if config.convolution_size:
            kernel = params[f"{name}/convolution/kernel"]
            stream = plain.convolve(stream, kernel)
        streams[name] = stream.reshape(len(x), count, -1)

    def place(name, t, h):
        vector = streams[name][t, h]
        if config.normalise_query_key:
            scale = params[f"{name}/norm/scale"] + config.zero_centred_norm
            vector = plain.rms_norm(vector, scale, config.norm_epsilon)
        if config.rotary_base is not None:
            count = int(len(vector) * config.rotary_fraction)
            place = t / config.rotary_factor
            turned = plain.rotate(vector[:count], place, config.rotary_base)
            vector = np.concatenate([turned, vector[count:]])
        return vector

    outputs = []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            group = h // (heads // groups)
            query = place("query", t, h)
            logits = [query @ place("key", s, group) for s in range(t + 1)]
            values = streams["value"][: t + 1, group]
            if config.persistent_tokens:
                # Persistent scores have no position: the query is not rotated.
                persistent = params["persistent_key"][:, group]
                logits += list(persistent @ streams["query"][t, h])
                values = np.concatenate([values, params["persistent_value"][:, group]])
            weight = plain.softmax(np.array(logits) / np.sqrt(len(query)))
            reads.append(weight @ values)
        read = np.concatenate(reads)
        if config.output_gate:
            read = read * plain.sigmoid(x[t] @ params["read_out/gate/kernel"])
        last = read @ params["read_out/projection/kernel"]
        outputs.append(last + params.get("read_out/projection/bias", 0))
    return np.stack(outputs), None


VARIED = {
    "key_value_heads": 1,
    "normalise_query_key": True,
    "convolution_size": 3,
    "rotary_base": 100.0,
    "head_size": 6,
}

OF_CHECKPOINTS = {
    "bias": True,
    "output_bias": True,
    "output_gate": True,
    "normalise_query_key": True,
    "zero_centred_norm": True,
    "norm_epsilon": 0.01,
    "head_size": 8,
    "rotary_fraction": 0.5,
    "rotary_factor": 4.0,
    "rotary_base": 3.0,
}


@pytest.mark.parametrize(
    "options",
    [
        {},
        VARIED,
        OF_CHECKPOINTS,
        {"rotary_base": None, "head_size": 3, "implementation": "reference"},
        {"persistent_tokens": 2, "key_value_heads": 1, "rotary_base": 3.0},
    ],
    ids=["published", "varied", "of checkpoints", "no positions", "persistent"],
)
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = AttentionConfig(num_heads=2, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_parameters_by_formula(subject):
    _, params, _ = subject(AttentionConfig(num_heads=2))
    assert sum(p.size for p in params.values()) == 4 * 8**2
    _, params, _ = subject(AttentionConfig(num_heads=2, **VARIED))
    projections = 8 * (12 + 6 + 6) + 12 * 8
    assert sum(p.size for p in params.values()) == projections + 3 * 24 + 2 * 6


@pytest.fixture(scope="module")
def built(subject):
    return subject(AttentionConfig(num_heads=2, convolution_size=2))


@pytest.fixture(scope="module")
def run(built):
    return jax.jit(lambda x, state, info: built.layer(x, state, info))


@pytest.fixture(scope="module")
def step(built):
    return jax.jit(lambda x, state: built.layer.step(x, state))


@pytest.mark.parametrize("slots", [11, 14])
def test_prefill_then_steps_equals_whole(built, run, step, slots):
    layer, _, x = built
    whole, _ = run(x, layer.init_state(2, 0), None)
    parts, state = run(x[:, :6], layer.init_state(2, slots), None)
    outputs = [parts]
    for t in range(6, x.shape[1]):
        y, state = step(x[:, t], state)
        outputs.append(y[:, None])
    np.testing.assert_allclose(jnp.concatenate(outputs, axis=1), whole, atol=2e-5)
    assert state.cache.key.shape == (2, slots, 2, 4)
    np.testing.assert_array_equal(state.cache.key[:, x.shape[1] :], 0)


def test_packed_documents_equal_separate_ones(built, run):
    layer, _, x = built
    reset = np.zeros(x.shape[:2], bool)
    reset[0, [0, 4]] = reset[1, [0, 7]] = True
    packed, state = run(x, layer.init_state(2, 11), SequenceInfo(reset=reset))
    for row, start in ((0, 4), (1, 7)):
        for part in (slice(0, start), slice(start, None)):
            alone, _ = run(x[row : row + 1, part], layer.init_state(1, 0), None)
            np.testing.assert_allclose(packed[row, part], alone[0], atol=2e-5)
    np.testing.assert_array_equal(state.position, [7, 4])


def test_a_document_that_does_not_fit_is_refused(built):
    layer, _, _ = built
    state = layer.init_state(2, 8)._replace(position=jnp.array([2, 5]))
    layer.check_capacity(state, 3, "attention")
    with pytest.raises(
        ValueError, match=r"mine: the document would reach 9 tokens.*allocated for 8"
    ):
        layer.check_capacity(state, 4, "mine")


@pytest.mark.parametrize("slots, number", [(0, 0), (8, 2), (11, 5)])
def test_what_a_state_has_no_room_for_is_not_put_out(built, run, slots, number):
    """Read six tokens, then five more; `number` of them fit."""
    layer, _, x = built
    _, state = run(x[:, :6], layer.init_state(2, slots), None)
    y, _ = run(x[:, 6:], state, None)
    whole, _ = run(x, layer.init_state(2, 11), None)
    np.testing.assert_allclose(y[:, :number], whole[:, 6 : 6 + number], atol=2e-5)
    assert np.all(np.isnan(y[:, number:]))
    if number < 5:
        with pytest.raises(ValueError, match=r"^Attention: .* give max_length=11"):
            layer(x[:, 6:], state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"rotary_base": 0.0}, "rotary_base is 0.0; give a finite number"),
        ({"rotary_fraction": 0.0}, "rotary_fraction is 0.0; give a number above 0, up"),
        ({"rotary_fraction": 1.5}, "rotary_fraction is 1.5; give a number above 0, up"),
        ({"rotary_factor": 0.0}, "rotary_factor is 0.0; give a number above 0"),
        ({"rotary_original_length": 0}, "rotary_original_length is 0; give a number"),
        ({"norm_epsilon": -1.0}, "norm_epsilon is -1.0; give a number above 0"),
        ({"zero_centred_norm": True}, "zero_centred_norm is True but there is no norm"),
        ({"key_value_heads": 0}, "key_value_heads is 0; give a number above 0"),
        ({"key_value_heads": 3}, "key_value_heads 3 does not divide num_heads 4"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AttentionConfig(**options)


def test_odd_heads_are_refused_with_positions_alone():
    config = AttentionConfig(num_heads=2, head_size=3)
    with pytest.raises(ValueError, match="head_size is 3, which is odd; make it"):
        config.build(8, nnx.Rngs(0), layer_index=0, depth=1)


def test_an_odd_part_of_a_head_cannot_be_rotated():
    config = AttentionConfig(num_heads=1, head_size=6, rotary_fraction=0.5)
    with pytest.raises(ValueError, match="rotary_fraction x head_size is 3, which is"):
        config.build(8, nnx.Rngs(0), layer_index=0, depth=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"key_value_heads": 1},
        OF_CHECKPOINTS,
        {"normalise_query_key": True},
        {"convolution_size": 4},
        {"rotary_base": None},
    ],
    ids=str,
)
def test_variants_obey_the_laws(options):
    check_layer(AttentionConfig(num_heads=2, **options), width=8)
