"""The language model over recurrent, attention and hybrid stacks."""

import copy
import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.errors import InputError
from memzoo.models.attention import AttentionConfig
from memzoo.models.block import Group
from memzoo.models.delta_net import DeltaNet, DeltaNetConfig
from memzoo.models.interface import AuxiliaryLoss, Metric, SequenceInfo, TokenInfo
from memzoo.models.language_model import (
    LanguageModel,
    LanguageModelConfig,
    abstract_model,
    num_parameters,
)
from memzoo.models.linear_attention import LinearAttentionConfig
from memzoo.models.sliding_window_attention import SlidingWindowAttentionConfig

BATCH, TIME, VOCAB, WIDTH = 2, 8, 23, 8

RECURRENT = LinearAttentionConfig(num_heads=2, chunk_size=4, convolution_size=4)
ATTENTION = AttentionConfig(num_heads=2)
WINDOWED = SlidingWindowAttentionConfig(num_heads=2, window=3)
SMALL = LanguageModelConfig(
    vocab_size=3, width=8, pattern=(Group(layers=(RECURRENT,)),)
)
PATTERNS = {
    "recurrent": (Group(layers=(RECURRENT,), repeats=2),),
    "attention": (Group(layers=(ATTENTION,), repeats=2),),
    "hybrid": (
        Group(layers=(RECURRENT, WINDOWED)),
        Group(layers=(ATTENTION,), repeats=2),
    ),
}


def _config(pattern, **options):
    options = {"vocab_size": VOCAB, "width": WIDTH, "mlp_width": 12} | options
    return LanguageModelConfig(pattern=pattern, **options)


def _model(pattern, **options):
    model = _config(pattern, **options).build(nnx.Rngs(0))
    # Larger embeddings make the logits of tokens differ.
    model.embedding[...] = 30 * model.embedding[...]
    return model


def _tokens(shape=(BATCH, TIME), seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, VOCAB, shape))


@pytest.fixture(
    scope="module",
    params=[
        name if name == "hybrid" else pytest.param(name, marks=pytest.mark.slow)
        for name in PATTERNS
    ],
)
def model(request):
    return _model(PATTERNS[request.param])


def test_prefill_and_steps_put_out_the_logits_of_the_whole(model):
    tokens = _tokens()
    hidden, _ = jax.jit(lambda t: model.hidden(t, model.init_state(BATCH, 0)))(tokens)
    whole = model.logits(hidden)
    state = model.init_state(BATCH, TIME)
    model.check_capacity(state, TIME)
    logits, state = jax.jit(lambda t, s: model.prefill(t, s))(tokens[:, :4], state)
    np.testing.assert_allclose(logits, whole[:, 3], rtol=1e-4, atol=1e-4)
    step = jax.jit(lambda t, s: model.step(t, s))
    for t in range(4, TIME):
        logits, state = step(tokens[:, t], state)
        np.testing.assert_allclose(logits, whole[:, t], rtol=1e-4, atol=1e-4)
    assert logits.dtype == jnp.float32
    assert np.ptp(np.asarray(whole)) > 1


def test_packed_documents_lose_what_separate_ones_do(model):
    tokens, targets = _tokens(), _tokens(seed=1)
    reset = jnp.zeros((BATCH, TIME), bool).at[:, 4].set(True)
    loss = jax.jit(lambda *a: model.loss_sums(*a[:2], info=SequenceInfo(reset=a[2])))
    packed = loss(tokens, targets, reset)
    nowhere = jnp.zeros_like(reset)
    parts = [
        loss(tokens[:, part], targets[:, part], nowhere[:, part])
        for part in (np.s_[:4], np.s_[4:])
    ]
    for got, wanted in zip(packed, jax.tree.map(jnp.add, *parts), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    unmarked = loss(tokens, targets, nowhere)
    assert abs(unmarked.cross_entropy - packed.cross_entropy) > 1e-3


def test_what_a_state_has_no_room_for_is_refused_or_no_number(model):
    tokens, state = _tokens(), model.init_state(BATCH, TIME)
    if model.stack.capacity(state) is None:
        return
    full = jax.tree_util.tree_map_with_path(
        lambda path, a: a + TIME if "position" in jax.tree_util.keystr(path) else a,
        state,
    )
    for run in (
        lambda state: model.prefill(tokens[:, :4], state),
        lambda state: model.step(tokens[:, 0], state),
    ):
        with pytest.raises(ValueError, match="Stack: the document would reach"):
            run(full)
        logits, _ = jax.jit(run)(full)
        assert np.all(np.isnan(logits))


@pytest.fixture(scope="module")
def recurrent():
    return _model(PATTERNS["recurrent"])


def test_prefill_reads_the_logits_of_the_last_real_token(recurrent):
    tokens = _tokens()
    state = recurrent.init_state(BATCH, 0)
    valid = jnp.arange(TIME)[None] >= jnp.array([[0], [3]])
    valid = valid & (jnp.arange(TIME)[None] < jnp.array([[5], [TIME]]))
    logits, after = jax.jit(
        lambda t, s: recurrent.prefill(t, s, SequenceInfo(valid=valid))
    )(tokens, state)
    prefill = jax.jit(lambda t, s: recurrent.prefill(t, s))
    start = recurrent.init_state(1, 0)
    for row, part in ((0, np.s_[:5]), (1, np.s_[3:])):
        alone, state = prefill(tokens[row : row + 1, part], start)
        np.testing.assert_allclose(logits[row], alone[0], rtol=1e-4, atol=1e-4)
        jax.tree.map(
            lambda a, b, row=row: np.testing.assert_allclose(
                a[:, row], b[:, 0], rtol=1e-4, atol=1e-5
            ),
            after,
            state,
        )


def test_a_step_may_skip_rows(recurrent):
    state = recurrent.init_state(BATCH, 0)
    info = TokenInfo(valid=jnp.array([True, False]))
    _, after = jax.jit(lambda t, s: recurrent.step(t, s, info))(_tokens()[:, 0], state)
    np.testing.assert_array_equal(after[0][0].position, [[1, 0], [1, 0]])


def test_weights_and_positions_choose_the_targets(recurrent):
    tokens, targets = _tokens(), _tokens((BATCH, 3), seed=1)
    positions = jnp.array([[0, 4, 7], [2, 2, 6]])
    weights = jnp.array([[1.0, 0.0, 2.0], [0.5, 1.0, 0.0]])
    sums = jax.jit(
        lambda: recurrent.loss_sums(
            tokens, targets, target_positions=positions, target_weights=weights
        )
    )()
    logits, _ = recurrent(tokens, recurrent.init_state(BATCH, 0))
    log_probability = jax.nn.log_softmax(logits)
    wanted = -sum(
        weights[b, i] * log_probability[b, positions[b, i], targets[b, i]]
        for b, i in np.ndindex(BATCH, 3)
    )
    np.testing.assert_allclose(sums.cross_entropy, wanted, rtol=1e-5)
    assert sums.weight == 4.5


def test_the_piece_of_the_loss_does_not_change_it(recurrent):
    tokens, targets = _tokens(), _tokens(seed=1)
    other = _config(PATTERNS["recurrent"], loss_chunk_tokens=4).build(nnx.Rngs(0))
    nnx.update(other, nnx.state(recurrent))
    found = jax.jit(lambda: other.loss_sums(tokens, targets))()
    wanted = jax.jit(lambda: recurrent.loss_sums(tokens, targets))()
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    for got, expected in pairs:
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert wanted.weight == BATCH * TIME


def test_bfloat16_is_close_to_float32(recurrent):
    tokens, targets = _tokens(), _tokens(seed=1)
    half = _config(PATTERNS["recurrent"], dtype="bfloat16").build(nnx.Rngs(0))
    nnx.update(half, nnx.state(recurrent))
    params = jax.tree.leaves(nnx.state(half, nnx.Param))
    assert all(leaf.dtype == jnp.float32 for leaf in params)

    def loss(model):
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def value(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            return model.loss_sums(tokens, targets).mean

        return jax.jit(jax.value_and_grad(value))(params)

    (found, gradients), (wanted, _) = loss(half), loss(recurrent)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, rtol=2e-2)
    for leaf in jax.tree.leaves(gradients):
        assert leaf.dtype == jnp.float32
        assert jnp.all(jnp.isfinite(leaf))


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_tied_or_its_own(tied):
    config = _config(PATTERNS["attention"], tie_embeddings=tied, mlp_width=0)
    model = config.build(nnx.Rngs(0))
    blocks = 2 * (4 * WIDTH**2 + WIDTH)
    embeddings = VOCAB * WIDTH * (1 if tied else 2)
    assert num_parameters(model) == blocks + embeddings + WIDTH
    assert num_parameters(abstract_model(config)) == num_parameters(model)
    hidden = jnp.asarray(np.random.default_rng(0).standard_normal((3, WIDTH)))
    head = model.embedding if tied else model.head
    assert tied == (model.head is None)
    np.testing.assert_allclose(
        model.logits(hidden), hidden @ head[...].T, rtol=1e-4, atol=1e-5
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostlyConfig(DeltaNetConfig):
    """A delta net in which every layer adds a loss of 0.25 and reports it."""

    def build(self, width, rngs, *, layer_index, depth):
        del layer_index
        return Costly(self, width, rngs, depth)


class Costly(DeltaNet):
    def sequence(self, x, state, layout):
        self.cost = AuxiliaryLoss(jnp.full((), 0.25))
        self.cost_of_layer = Metric(jnp.full((), 0.25))
        return super().sequence(x, state, layout)


def test_what_layers_add_enters_the_mean_loss_once():
    pattern = (Group(layers=(CostlyConfig(num_heads=2, chunk_size=4),), repeats=3),)
    model = _model(pattern)
    for _ in range(2):
        sums = model.loss_sums(_tokens(), _tokens(seed=1))
        np.testing.assert_allclose(sums.auxiliary, 0.75)
        np.testing.assert_allclose(
            sums.mean, sums.cross_entropy / (BATCH * TIME) + 0.75, rtol=1e-6
        )
    reported = model.metrics.get_value()
    np.testing.assert_array_equal(
        reported["groups/0/blocks/0/mixer/cost_of_layer"], [0.25] * 3
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 0}, "vocab_size is 0; give 1 or more"),
        ({"vocab_size": 2**24 + 1}, "vocab_size is 16777217; give 16777216 or less"),
        ({"width": 2**30}, "width is 1073741824; give 16777216 or less"),
        ({"width": 0}, "width is 0; give 1 or more"),
        ({"loss_chunk_tokens": 0}, "loss_chunk_tokens is 0; give 1 or more"),
        ({"mlp_width": -1}, "mlp_width is -1"),
        ({"pattern": ()}, "pattern is empty"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    options = {"pattern": PATTERNS["recurrent"]} | options
    with pytest.raises(ValueError, match=message):
        _config(**options)


def test_an_unknown_type_is_refused():
    config = _config(PATTERNS["recurrent"])
    # The tests' type checks would catch it first; users have none.
    object.__setattr__(config, "dtype", "float16")
    with pytest.raises(ValueError, match="'float16' is not known; choose float32 or"):
        config.__post_init__()


def test_the_mean_loss_is_that_of_the_next_tokens(recurrent):
    tokens = _tokens()
    reset = jnp.zeros(tokens.shape, bool).at[0, 3].set(True)
    valid = jnp.ones(tokens.shape, bool).at[1, 5:].set(False)
    info = SequenceInfo(reset=reset, valid=valid)
    logits, _ = recurrent(tokens, None, info)
    nats = -jax.nn.log_softmax(logits)
    # The first token of a document and padding are not predicted.
    targets = [
        nats[row, place - 1, tokens[row, place]]
        for row, place in np.ndindex(tokens.shape)
        if place and not reset[row, place] and valid[row, place]
    ]
    found = jax.jit(recurrent.loss)(tokens, info)
    np.testing.assert_allclose(found, np.mean(targets), rtol=1e-5)
    assert len(targets) < tokens[:, 1:].size


def test_a_model_is_made_of_names_and_goes_on_exactly():
    model = LanguageModel(
        vocab_size=11, width=8, layers=["retnet"] * 2, mlp_width=4, rngs=nnx.Rngs(0)
    )
    assert model.config.pattern[0].repeats == 2 and model.config.mlp_width == 4
    tokens = jnp.asarray([[3, 1, 4, 1, 5, 9]])
    whole, _ = model(tokens)
    assert whole.shape == (1, 6, 11) and whole.dtype == jnp.float32
    first, state = model(tokens[:, :2])
    second, _ = model(tokens[:, 2:], state)
    joined = jnp.concatenate([first, second], axis=1)
    np.testing.assert_allclose(joined, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"vocab_size": 3, "width": 8}, "layers is missing; give it or a config"),
        (
            {"vocab_size": 3, "width": 8, "layers": ["retnet"], "depth": 3},
            "no field 'depth'; give layers, a list with one layer for e",
        ),
        ({"zzz": 3}, "no field 'zzz'; choose one of layers, dtype, loss_chunk_to"),
        ({"mlp": 3, "rngs": None}, "no field 'mlp'; it is called mlp_width here"),
        ({"d_model": 3}, "no field 'd_model'; it is called width here"),
        ({"widht": 3}, "no field 'widht'; did you mean width?"),
        ({"config": SMALL, "width": 8}, "width is given with a config; use data"),
        ({"config": SMALL, "rngs": None}, "needs rngs; give rngs=nnx.Rngs"),
    ],
)
def test_a_model_that_cannot_be_made_is_refused(fields, line):
    with pytest.raises(InputError, match=line):
        LanguageModel(**{"rngs": nnx.Rngs(0)} | fields)


@pytest.mark.parametrize(
    ("tokens", "line"),
    [
        ([[1, 99]], "token 99 is not in the vocabulary; give whole numbers from 0 to"),
        ([[-1, 1]], "token -1 is not in the vocabulary"),
    ],
)
def test_tokens_outside_the_vocabulary_are_refused(recurrent, tokens, line):
    with pytest.raises(InputError, match=line):
        recurrent(jnp.asarray(tokens))


def test_rows_of_one_token_have_no_loss(recurrent):
    with pytest.raises(InputError, match=r"tokens have shape \(2, 1\); give 2 tok"):
        recurrent.loss(_tokens()[:, :1])


def test_a_state_of_another_model_is_refused():
    model, longer = (_model((Group(layers=(RECURRENT,) * n),)) for n in (1, 2))
    other = _model((Group(layers=(ATTENTION,)),))
    tokens = _tokens()
    with pytest.raises(ValueError, match=r"groups of \[2\] layers, and the model of"):
        model(tokens, longer.init_state(BATCH, TIME))
    with pytest.raises(ValueError, match="LinearAttention: the state is an AttentionS"):
        model(tokens, other.init_state(BATCH, TIME))


def test_wrong_types_are_refused():
    # As without the type checks of the tests.
    model = _model(PATTERNS["recurrent"])
    hidden = inspect.unwrap(type(model).hidden)
    with pytest.raises(ValueError, match=r"tokens have shape \(8,\); give them the ax"):
        hidden(model, _tokens((TIME,)))
    with pytest.raises(ValueError, match="tokens are a list; give an array of whole"):
        inspect.unwrap(type(model).loss)(model, [[1, 2]])
    with pytest.raises(ValueError, match="tokens are float32; give whole numbers"):
        inspect.unwrap(type(model).loss)(model, jnp.ones((BATCH, TIME)))
    step = inspect.unwrap(type(model).step)
    with pytest.raises(ValueError, match=r"have shape .*; give them the axes `b`"):
        step(model, _tokens(), model.init_state(BATCH, TIME))
    info = SequenceInfo(reset=jnp.zeros((BATCH, TIME - 1), bool))
    with pytest.raises(ValueError, match="reset has shape"):
        inspect.unwrap(type(model).loss)(model, _tokens(), info)
    init = inspect.unwrap(type(model).__init__)
    with pytest.raises(ValueError, match=r"rngs is 0; give rngs=nnx.Rngs\(0\)"):
        init(model, rngs=0)
    with pytest.raises(ValueError, match="config is 'x'; give a LanguageModelConfig"):
        init(model, "x", nnx.Rngs(0))
    config = _config(PATTERNS["recurrent"])
    for field, value in (("mlp_width", "4"), ("norm_epsilon", "1"), ("pattern", "x")):
        other = copy.copy(config)
        object.__setattr__(other, field, value)
        with pytest.raises(ValueError, match=f"^{field} is .*; it must be"):
            other.__post_init__()
    for width in ("8", 8.0):
        object.__setattr__(config, "width", width)
        with pytest.raises(ValueError, match=r"width is .*; give a whole number"):
            config.__post_init__()
