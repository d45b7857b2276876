"""Segment recurrence: reductions to the inner blocks, gradients and refusals."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.attention import AttentionConfig
from memzoo.models.block import Group, Stack, StackConfig
from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.gated_short_convolution import GatedShortConvolutionConfig
from memzoo.models.interface import AuxiliaryLoss
from memzoo.models.memo import MemoConfig
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig
from memzoo.models.rmt import RMTConfig
from memzoo.models.titans_lmm import SMALL_MEMORY
from memzoo.testing import check_layer

ATTENTION = AttentionConfig(num_heads=2)
# It compiles fast.
CONVOLUTION = GatedShortConvolutionConfig()


def run(layer, x):
    return jax.jit(lambda x: layer(x, layer.init_state(x.shape[0], 0))[0])(x)


def test_without_memory_tokens_every_segment_is_attended_alone(subject):
    """The plain attention of the block, on each segment as a document of its own."""
    made = subject(RMTConfig(layers=(ATTENTION,), segment_size=4, memory_tokens=0))
    layer, x = made.layer, made.x
    block = layer.blocks[0]
    alone = jax.jit(lambda x: block.mixer(block.norm(x))[0])
    parts = [x[:, :4], x[:, 4:8], x[:, 8:]]
    parts[2] = jnp.pad(parts[2], ((0, 0), (0, 1), (0, 0)))
    wanted = np.concatenate([alone(part) for part in parts], axis=1)[:, :11]
    np.testing.assert_allclose(run(layer, x), wanted, rtol=2e-5, atol=2e-5)


def test_one_segment_is_the_inner_stack(subject):
    """Outputs are what a stack with the same parameters adds to its input."""
    layers = (CONVOLUTION, CONVOLUTION)
    made = subject(
        RMTConfig(layers=layers, segment_size=16, memory_tokens=0, mlp_width=4)
    )
    stack = Stack(
        StackConfig(pattern=(Group(layers=layers),), mlp_width=4), 8, nnx.Rngs(0)
    )
    inner = nnx.state(made.layer.blocks, nnx.Param)
    one = jax.tree.map(lambda a: a[None], inner)
    nnx.update(stack.groups[0].blocks, one)
    wanted = run(stack, made.x) - made.x
    np.testing.assert_allclose(run(made.layer, made.x), wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "config",
    [
        RMTConfig(layers=(CONVOLUTION,), segment_size=2, memory_tokens=1),
        MemoConfig(layers=(CONVOLUTION,), segment_size=2, summary_tokens=1),
    ],
    ids=["rmt", "memo"],
)
def test_gradients_reach_earlier_segments_unless_they_are_stopped(config, subject):
    sizes = []
    for stop in (False, True):
        made = subject(replace(config, stop_gradient=stop))
        last = jax.jit(
            jax.grad(lambda x, layer=made.layer: jnp.sum(layer(x)[0][:, 4:] ** 2))
        )
        sizes.append(np.abs(np.asarray(last(made.x[:, :6]))).max(axis=(0, 2)))
    assert np.all(sizes[0] > 0)
    np.testing.assert_array_equal(sizes[1][:4], 0)
    assert np.all(sizes[1][4:] > 0)


def test_losses_of_inner_layers_add_up_over_segments(subject):
    """A mixture's loss over three segments is that over all of their tokens."""
    memory = DeltaNetConfig(num_heads=1, convolution_size=0, chunk_size=4)
    mixture = MixtureOfMemoriesConfig(memory=memory, balance_scale=1.0, form="dense")
    made = subject(RMTConfig(layers=(mixture,), segment_size=4, memory_tokens=0))
    graphdef, arrays = nnx.split(made.layer)

    def losses(x):
        layer = nnx.merge(graphdef, arrays, copy=True)
        layer(x)
        reported = layer.inner_loss
        both = reported.get_metadata()["of"](reported.get_value())
        block = layer.blocks[0]
        block.mixer(block.norm(x))
        alone = block.mixer.routing_loss
        return both, alone.get_metadata()["of"](alone.get_value())

    both, alone = jax.jit(losses)(made.x)
    assert alone > 0
    np.testing.assert_allclose(both, alone, rtol=1e-5)
    assert not nnx.to_flat_state(nnx.state(made.layer, AuxiliaryLoss))


@pytest.mark.slow
def test_laws_of_a_hybrid_of_inner_layers():
    layers = (ATTENTION, SMALL_MEMORY, DeltaNetConfig(num_heads=2, chunk_size=8))
    check_layer(RMTConfig(layers=layers, segment_size=6, memory_tokens=2, mlp_width=8))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"layers": ()}, "layers is empty; give at least one layer config"),
        ({"segment_size": 0}, "segment_size is 0; give a number above 0"),
        ({"memory_tokens": -1}, r"memory_tokens is -1; give 0 \(none\) or more"),
        ({"mlp_width": -1}, r"mlp_width is -1; give 0 \(none\) or more"),
        ({"norm_epsilon": 0.0}, "norm_epsilon is 0.0; give a number above 0"),
        ({"layers": ("attention",)}, "layers.0 is 'attention'"),
    ],
)
def test_what_cannot_work_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        RMTConfig(**fields)


def test_a_state_for_one_call_holds_no_caches():
    layer = RMTConfig(layers=(ATTENTION,), segment_size=4, memory_tokens=2).build(
        8, nnx.Rngs(0), layer_index=0, depth=1
    )
    short, long = (
        jax.eval_shape(lambda n=n: layer.init_state(1, n)).blocks[0].cache.key.shape
        for n in (0, 100)
    )
    # Room for two tokens to read, a segment, and two to write.
    assert (short[1], long[1]) == (0, 8)
