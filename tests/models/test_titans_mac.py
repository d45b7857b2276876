"""Memory as context: equations by hand, and the leaks of the printed ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.interface import Layout
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.models.titans_mac import TitansMACConfig, plain_memory

WIDTH, SEGMENT, TIME = 8, 3, 8
MEMORY = TitansLMMConfig(
    num_heads=1, memory_depth=1, update_every=1, persistent_tokens=0, chunk_size=4
)


PRINTED = {"residual": False, "add_memory": False}


def build(**fields):
    config = TitansMACConfig(
        memory=MEMORY, segment_size=SEGMENT, num_heads=1, rotary_base=None, **fields
    )
    return config.build(WIDTH, nnx.Rngs(0), layer_index=0, depth=2)


def norm(x):
    return x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + 1e-5)


def silu(x):
    return x / (1 + np.exp(-x))


def softmax(x):
    x = np.exp(x - x.max())
    return x / x.sum()


def by_hand(layer, x, *, printed=False):
    """Equations 21 to 25, one token after the other; x of one row, t d.

    As printed, every h of the segment is visible, and the memory is read after it holds
    the whole segment.
    """
    kernel = {
        name: np.asarray(getattr(layer, name).kernel[...])
        for name in ("query", "key", "value", "retrieval", "retrieved")
    }
    kernel["out"] = np.asarray(layer.read_out.projection.kernel[...])
    memory = layer.memory.init_state(1, 0)
    step = jax.jit(lambda y, memory: layer.memory.token(y, memory))
    persistent = np.asarray(layer.persistent[...])
    out = []
    for start in range(0, len(x), SEGMENT):
        segment = x[start : start + SEGMENT]
        weight = np.asarray(memory.memory.weights["kernel_0"])[0, 0]
        q = silu(segment @ kernel["retrieval"])
        q = q / np.sqrt(np.sum(q**2, axis=-1, keepdims=True) + 1e-6)
        h = norm(q @ weight) @ kernel["retrieved"]
        ys = []
        for i in range(len(segment)):
            seen = len(segment) if printed else i + 1
            context = np.concatenate([persistent, h[:seen], segment[: i + 1]])
            scores = (context @ kernel["key"]) @ (segment[i] @ kernel["query"])
            share = softmax(scores / np.sqrt(WIDTH))
            y = share @ (context @ kernel["value"]) @ kernel["out"]
            ys.append(y + segment[i] if layer.config.residual else y)
        answers = []
        for y in ys:
            m, memory = step(jnp.asarray(y)[None], memory)
            answers.append(np.asarray(m)[0])
        if printed:
            state, read = memory, []
            for y in ys:
                inputs, _ = layer.memory.inputs(
                    jnp.asarray(y)[None, None], state, Layout()
                )
                held = layer.memory.read(inputs.query, state.memory)
                y = jnp.asarray(y, jnp.float32)[None, None]
                read.append(np.asarray(layer.memory.output(held, y))[0, 0])
            answers = read
        for y, m in zip(ys, answers, strict=True):
            if layer.config.add_memory:
                m = 0.5 * norm(m)
                out.append(norm(y) * 0.5 * silu(m) + m)
            else:
                out.append(norm(y) * 0.5 * silu(norm(m)))
    return np.stack(out)


@pytest.mark.parametrize("fields", [{}, PRINTED], ids=["residual", "printed"])
def test_the_equations_by_hand(fields):
    layer = build(persistent_tokens=2, **fields)
    x = jax.random.normal(jax.random.key(0), (1, TIME, WIDTH))
    run = jax.jit(lambda x, state: layer.sequence(x, state, Layout()))
    o, state = run(x, layer.init_state(1, 0))
    np.testing.assert_allclose(
        o[0], by_hand(layer, np.asarray(x)[0]), rtol=2e-3, atol=1e-4
    )
    np.testing.assert_array_equal(state.position, [TIME])


def test_the_printed_equations_read_the_future_and_ours_do_not():
    layer = build(persistent_tokens=1)
    x = np.array(jax.random.normal(jax.random.key(0), (1, SEGMENT, WIDTH)))
    other = x.copy()
    other[:, -1] *= -1
    run = jax.jit(lambda x, state: layer.sequence(x, state, Layout()))
    start = layer.init_state(1, 0)
    ours = [np.asarray(run(jnp.asarray(a), start)[0])[0, :-1] for a in (x, other)]
    np.testing.assert_array_equal(*ours)
    # Not jitted op by op: the test asks only whether it leaks.
    printed = [by_hand(layer, a[0], printed=True)[:-1] for a in (x, other)]
    assert np.abs(printed[0] - printed[1]).max() > 1e-3


def test_learned_queries_are_seen_by_the_whole_segment():
    """The memory from before a segment reaches the segment's first token."""
    layer = build(memory_tokens=2, persistent_tokens=0)
    assert layer.retrieval is None
    x = jax.random.normal(jax.random.key(0), (1, TIME, WIDTH))
    run = jax.jit(lambda x, state: layer.sequence(x, state, Layout()))
    token = jax.jit(layer.token)
    o, _ = run(x, layer.init_state(1, 0))
    other, _ = run(x.at[:, 0].multiply(-1.0), layer.init_state(1, 0))
    assert np.abs(np.asarray(o - other))[0, SEGMENT:].max() > 0
    state, looped = layer.init_state(1, 0), []
    for t in range(TIME):
        y, state = token(x[:, t], state)
        looped.append(y)
    np.testing.assert_allclose(jnp.stack(looped, axis=1), o, rtol=1e-3, atol=1e-5)


def test_no_tokens_change_nothing():
    layer = build()
    state = layer.init_state(2, 0)
    o, after = layer.sequence(jnp.zeros((2, 0, WIDTH)), state, Layout())
    assert o.shape == (2, 0, WIDTH)
    assert after is state


def test_the_usual_memory_has_no_persistent_tokens():
    assert plain_memory().persistent_tokens == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"segment_size": 0}, "segment_size is 0; give a number above 0"),
        ({"memory_tokens": 0}, "memory_tokens is 0; give a number above 0"),
        ({"persistent_tokens": -1}, "persistent_tokens is -1; give 0"),
        (
            {"memory": TitansLMMConfig(prefix=True)},
            "memory.prefix is True, but titans_mac",
        ),
        (
            {"memory": TitansLMMConfig(update_every=9), "segment_size": 8},
            "memory.update_every is 9, more than segment_size 8; lower update_every "
            "to 8, or raise segment_size to 9",
        ),
    ],
)
def test_what_cannot_work_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        TitansMACConfig(**fields)


def test_a_window_of_writes_may_fill_a_segment():
    memory = TitansLMMConfig(update_every=8)
    assert TitansMACConfig(memory=memory, segment_size=8).segment_size == 8


def test_an_odd_head_is_refused():
    with pytest.raises(ValueError, match="head_size is 3, which is odd"):
        TitansMACConfig(head_size=3).build(8, nnx.Rngs(0), layer_index=0, depth=1)
