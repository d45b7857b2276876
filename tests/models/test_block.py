"""The residual block, and the stack: the scan of a group equals a loop over blocks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.attention import AttentionConfig
from memzoo.models.block import Block, Group, Stack, StackConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.interface import (
    AuxiliaryLoss,
    Layout,
    Metric,
    SequenceInfo,
    TokenInfo,
)
from memzoo.models.linear_attention import LinearAttention, LinearAttentionConfig
from memzoo.models.loss import auxiliary_loss
from memzoo.models.prefix_attention import PrefixAttentionConfig
from memzoo.models.sliding_window_attention import SlidingWindowAttentionConfig
from memzoo.testing import check_layer

WIDTH = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class TalkativeConfig(LinearAttentionConfig):
    """Linear attention that reports the size of its values, and counts its calls."""

    def build(self, width, rngs, *, layer_index, depth):
        layer = Talkative(self, width, rngs, depth)
        layer.index = nnx.Variable(jnp.asarray(layer_index))
        layer.calls = nnx.Variable(jnp.zeros((), jnp.int32))
        return layer


class Talkative(LinearAttention):
    def sequence(self, x, state, layout):
        y, state = super().sequence(x, state, layout)
        self.calls[...] += 1
        self.size = AuxiliaryLoss(jnp.mean(jnp.square(y)))
        self.mean = Metric(jnp.mean(y, axis=(0, 1)))
        if layout.key is not None:
            self.drawn = Metric(jax.random.uniform(layout.key))
        return y, state


TALKATIVE = TalkativeConfig(num_heads=2, convolution_size=0, chunk_size=4)
ATTENTION = AttentionConfig(num_heads=2, implementation="reference")
PATTERN = (
    Group(layers=(TALKATIVE, ATTENTION), repeats=2),
    Group(layers=(TALKATIVE,), repeats=3),
)


def _stack(pattern=PATTERN, **options):
    return Stack(StackConfig(pattern=pattern, **options), WIDTH, nnx.Rngs(0))


def _input(batch=2, time=5):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal((batch, time, WIDTH)), jnp.float32)


def _unrolled(stack, x):
    """Run the blocks in a Python loop, each extracted from its group."""
    total, means, calls = 0.0, [], []
    for group in stack.groups:
        graphdef, arrays = nnx.split(group)
        for repeat in range(jax.tree.leaves(arrays)[0].shape[0]):
            alone = nnx.merge(graphdef, jax.tree.map(lambda a, r=repeat: a[r], arrays))
            for block in alone.blocks:
                state = block.mixer.init_state(x.shape[0], 0)
                y, _ = block.mixer(block.norm(x), state)
                x = x + y
                if block.mlp is not None:
                    h = block.mlp_norm(x)
                    gate, up = block.mlp.gate(h), block.mlp.up(h)
                    x = x + block.mlp.down(nnx.silu(gate) * up)
                if isinstance(block.mixer, Talkative):
                    total = total + block.mixer.size[...]
                    means.append(block.mixer.mean[...])
                    calls.append(block.mixer.calls[...])
    return x, total, jnp.stack(means), jnp.stack(calls)


def _scanned(stack, x):
    y, _ = stack(x, stack.init_state(x.shape[0], 0))
    parts, metrics = stack.pop_said()
    total = auxiliary_loss(parts)
    means = jnp.concatenate(
        [metrics[f"groups/{i}/blocks/0/mixer/mean"] for i in range(len(stack.groups))]
    )
    assert len(metrics) == len(stack.groups)
    calls = [group.blocks[0].mixer.calls[...] for group in stack.groups]
    return y, total, means, jnp.concatenate(calls)


def _value_and_gradients(stack, run):
    graphdef, params, rest = nnx.split(stack, nnx.Param, ...)

    def loss(params):
        model = nnx.merge(graphdef, params, rest, copy=True)
        y, total, means, calls = run(model, _input())
        return jnp.sum(jnp.sin(y)) + total, (y, total, means, calls)

    (_, values), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return values, gradients


def test_a_scan_is_a_loop_over_the_blocks():
    stack = _stack(mlp_width=12)
    values, gradients = _value_and_gradients(stack, _scanned)
    wanted, expected = _value_and_gradients(stack, _unrolled)
    for got, value in zip(values, wanted, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(values[3], np.ones(5))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4),
        gradients,
        expected,
    )


SMALL = (Group(layers=(TALKATIVE,), repeats=2),)


@pytest.fixture(scope="module")
def kept():
    """Return values and gradients of a small stack without rematerialisation."""
    return _value_and_gradients(_stack(SMALL, mlp_width=12), _scanned)


@pytest.mark.parametrize("policy", ["full", "dots", "dots_with_no_batch_dims"])
def test_what_is_kept_does_not_change_the_gradient(kept, policy):
    stack = _stack(SMALL, mlp_width=12, remat=policy)
    values, gradients = _value_and_gradients(stack, _scanned)
    np.testing.assert_allclose(values[0], kept[0][0], rtol=1e-6, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        gradients,
        kept[1],
    )


def test_layers_are_told_which_they_are():
    stack = _stack()
    first, second = (group.blocks[0].mixer.index[...] for group in stack.groups)
    np.testing.assert_array_equal(first, [0, 2])
    np.testing.assert_array_equal(second, [4, 5, 6])


def test_repeats_and_groups_start_with_parameters_of_their_own():
    stack = _stack()
    kernels = [group.blocks[0].mixer.query.kernel[...] for group in stack.groups]
    kernels = np.concatenate(kernels).reshape(5, -1)
    distances = np.abs(kernels[:, None] - kernels[None]).max(axis=-1)
    assert np.all(distances + np.eye(5) > 0.1)


def test_what_was_said_is_popped_once():
    stack = _stack(SMALL)
    state = stack.init_state(2, 0)
    stack(_input(), state)
    stack(2 * _input(), state)
    parts, metrics = stack.pop_said()
    assert len(parts) == 1 and auxiliary_loss(parts) > 0
    assert metrics["groups/0/blocks/0/mixer/mean"].shape == (2, WIDTH)
    np.testing.assert_array_equal(stack.groups[0].blocks[0].mixer.calls[...], [2, 2])
    assert stack.pop_said() == ((), {})


def test_blocks_draw_numbers_of_their_own():
    stack = _stack()
    key = jax.random.key(0)
    stack(_input(), stack.init_state(2, 0), SequenceInfo(key=key))
    _, metrics = stack.pop_said()
    found = np.concatenate(
        [metrics[f"groups/{i}/blocks/0/mixer/drawn"] for i in (0, 1)]
    )
    numbers = [0, 2, 4, 5, 6]  # attention is between the first two
    keys = [jax.random.fold_in(key, number) for number in numbers]
    np.testing.assert_array_equal(found, [jax.random.uniform(key) for key in keys])


def test_a_silent_stack_may_be_closed_over():
    stack = _stack((Group(layers=(ATTENTION,), repeats=2),))
    y = jax.jit(lambda x: stack(x, stack.init_state(2, 0))[0])(_input())
    assert y.shape == _input().shape
    assert stack.pop_said() == ((), {})


def _equations(jaxpr):
    inner = (
        getattr(value, "jaxpr", value)
        for equation in jaxpr.eqns
        for value in equation.params.values()
    )
    nested = sum(_equations(value) for value in inner if hasattr(value, "eqns"))
    return len(jaxpr.eqns) + nested


def test_the_program_does_not_grow_with_the_repeats():
    def count(repeats):
        stack = _stack((Group(layers=(TALKATIVE,), repeats=repeats),))
        graphdef, params, rest = nnx.split(stack, nnx.Param, ...)

        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            y, _ = model(_input(), model.init_state(2, 0))
            return jnp.sum(y) + auxiliary_loss(model.pop_said()[0])

        return _equations(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)

    assert count(2) == count(8)


HYBRID = (
    Group(layers=(SlidingWindowAttentionConfig(num_heads=2, window=3),), repeats=1),
    Group(layers=(GatedDeltaNetConfig(num_heads=2), ATTENTION), repeats=2),
)


def test_rows_of_unlike_groups_are_stepped_reset_and_skipped():
    stack = _stack(HYBRID)
    x = _input(2, 4)
    step = jax.jit(lambda x, state, info: stack.step(x, state, info))
    state = stack.init_state(2, 4)
    everyone = jnp.ones((2,), bool)
    for t in range(3):
        _, state = step(x[:, t], state, TokenInfo(~everyone, everyone))
    info = TokenInfo(jnp.array([True, False]), jnp.array([True, False]))
    y, after = step(x[:, 3], state, info)
    np.testing.assert_array_equal(y[1], 0)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(old[:, 1], new[:, 1])
    fresh, _ = step(x[:, 3], stack.init_state(2, 4), TokenInfo(~everyone, everyone))
    np.testing.assert_allclose(y[0], fresh[0], rtol=1e-5, atol=1e-6)
    for leaf in (after[0][0].position, after[1][0].position, after[1][1].position):
        np.testing.assert_array_equal(leaf, [[1, 3]] * leaf.shape[0])


def test_padding_and_documents_in_a_hybrid():
    stack = _stack(HYBRID)
    run = jax.jit(lambda x, info: stack(x, stack.init_state(1, 0), info)[0])
    x = _input(1, 6)
    reset = jnp.arange(6)[None] == 2
    valid = jnp.arange(6)[None] != 4
    y = run(x, SequenceInfo(reset, valid))
    np.testing.assert_array_equal(y[0, 4], 0)
    first = run(x[:, :2], SequenceInfo())
    second = run(x[:, jnp.array([2, 3, 5])], SequenceInfo())
    np.testing.assert_allclose(y[:, :2], first, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(y[:, jnp.array([2, 3, 5])], second, rtol=1e-4, atol=1e-5)


def test_a_stack_grows_as_its_fastest_layer_and_checks_all():
    stack = _stack(HYBRID)
    assert stack.state_growth == "linear"
    assert _stack(HYBRID[:1]).state_growth == "bounded"
    assert not stack.accepts_prefix
    state = stack.init_state(2, 4)
    stack.check_capacity(state, 4, "model")
    with pytest.raises(ValueError, match=r"model: the document would reach 5 tokens"):
        stack.check_capacity(state, 5, "model")


def test_a_stack_has_room_for_what_each_of_its_layers_has():
    stack = _stack(HYBRID)
    # The ring of three wraps around, the cache of four is full, the rest have room.
    state = stack.init_state(2, 4)
    assert stack.capacity(state) == 4
    assert stack.capacity(stack.init_state(2, 0)) == 0
    assert _stack(HYBRID[:1]).capacity(state[:1]) is None
    run = jax.jit(lambda x, state: stack(x, state))
    y, state = run(_input(2, 3), state)
    assert np.all(np.isfinite(y))
    y, _ = run(_input(2, 3), state)
    np.testing.assert_array_equal(np.isnan(y[0, :, 0]), [False, True, True])
    with pytest.raises(ValueError, match="Stack: the document would reach 6 tokens, b"):
        stack(_input(2, 3), state)
    with pytest.raises(ValueError, match="Stack: the state was made with max_length 0"):
        stack.step(_input(2, 3)[:, 0], stack.init_state(2, 0))


def test_layers_that_accept_a_prefix_read_it_beside_others_that_do_not():
    causal = AttentionConfig(num_heads=2)
    stack = _stack((Group(layers=(causal, PrefixAttentionConfig(num_heads=2))),))
    assert stack.accepts_prefix
    x = _input(1, 6)
    run = jax.jit(lambda x, p: stack(x, stack.init_state(1, 0), p)[0])
    prefix = SequenceInfo(prefix=jnp.arange(6)[None] < 3)
    y, other = (run(x.at[:, at].add(1.0), prefix) for at in (2, 3))
    none = run(x, prefix)
    assert not np.array_equal(y[:, 0], none[:, 0])
    np.testing.assert_array_equal(other[:, :3], none[:, :3])
    block = Block(causal, StackConfig(pattern=PATTERN), WIDTH, nnx.Rngs(0), 0)
    held = block.mixer.init_state(1, 0)
    seen, plain = (
        jax.jit(block.sequence)(x, held, layout)[0]
        for layout in (Layout(prefix=jnp.ones((1, 6), bool)), Layout())
    )
    np.testing.assert_array_equal(seen, plain)


def test_each_block_of_a_group_may_have_an_mlp_of_its_own_width():
    group = Group(layers=(ATTENTION, ATTENTION), repeats=2, mlp_widths=(0, 6))
    stack = _stack((group, Group(layers=(ATTENTION,))), mlp_width=12)
    blocks = [block for group in stack.groups for block in group.blocks]
    assert blocks[0].mlp is None
    shapes = [block.mlp.up.kernel.shape for block in blocks[1:]]
    assert shapes == [(2, WIDTH, 6), (1, WIDTH, 12)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mlp_widths": (1, 2)}, "has 2 numbers and the group has 1 layers; give one"),
        ({"mlp_widths": (-1,)}, r"mlp_widths is \(-1,\); give 0 \(none\) or more for"),
    ],
)
def test_mlp_widths_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Group(layers=(ATTENTION,), **options)


def test_norms_of_the_stream_may_be_centred_at_zero(plain):
    config = StackConfig(pattern=PATTERN, norm_epsilon=0.1, zero_centred_norm=True)
    norm = config.norm(WIDTH)
    np.testing.assert_array_equal(norm.scale[...], 0)
    norm.scale[...] = jnp.arange(WIDTH, dtype=jnp.float32)
    x = np.random.default_rng(0).standard_normal(WIDTH).astype(np.float32)
    wanted = plain.rms_norm(x, 1 + np.arange(WIDTH), 0.1)
    np.testing.assert_allclose(norm(jnp.asarray(x)), wanted, rtol=1e-5)
    block = Block(ATTENTION, config, WIDTH, nnx.Rngs(0), 0, 4)
    for made in (block.norm, block.mlp_norm):
        assert (made.epsilon, made.zero_centred) == (0.1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": ()}, "pattern is empty; give at least one group"),
        ({"norm_epsilon": 0.0}, r"norm_epsilon is 0.0; give a number above 0"),
        ({"mlp_width": -1}, r"mlp_width is -1; give 0 \(none\) or more"),
    ],
)
def test_senseless_stacks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        StackConfig(**({"pattern": PATTERN} | options))


def test_a_misspelt_policy_is_refused():
    config = StackConfig(pattern=PATTERN)
    # The tests' type checks would catch it first; users have none.
    object.__setattr__(config, "remat", "dotz")
    message = "remat 'dotz' is not a policy; choose one of none, full, dots, dots_with"
    with pytest.raises(ValueError, match=message):
        config.__post_init__()


def test_depth_counts_every_block():
    assert StackConfig(pattern=PATTERN).depth == 7


def test_groups_are_of_layers():
    group = Group(layers=PATTERN[0].layers)
    # The tests' type checks would catch it first; users have none.
    object.__setattr__(group, "layers", (*group.layers, 1))
    message = rf"pattern.layers\[{len(group.layers) - 1}\] is 1; give a layer config"
    with pytest.raises(ValueError, match=message):
        group.__post_init__()


def test_senseless_groups_are_refused():
    with pytest.raises(ValueError, match="a group of the pattern has no layers"):
        Group(layers=())
    with pytest.raises(ValueError, match="repeats is 0; give 1 or more"):
        Group(layers=(ATTENTION,), repeats=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackedConfig:
    """A stack as a layer."""

    pattern: tuple[Group, ...]

    def build(self, width, rngs, *, layer_index, depth):
        del layer_index, depth
        return Stack(StackConfig(pattern=self.pattern, mlp_width=12), width, rngs)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [HYBRID[:1], HYBRID], ids=["bounded", "hybrid"])
def test_a_stack_obeys_the_laws(pattern):
    check_layer(StackedConfig(pattern=pattern), width=WIDTH)
