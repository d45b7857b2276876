"""RWKV-7's time mixing against its equation, token by token."""

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.models.layout import Layout
from memzoo.models.rwkv7 import RWKV7Config

NAMES = ("query", "decay", "key", "value", "write_strength", "gate")


def _low_rank(params, name, x, act):
    y = act(x @ params[f"{name}/down/kernel"]) @ params[f"{name}/up/kernel"]
    return y + params.get(f"{name}/up/bias", 0)


def _loop(plain, config, params, x):
    """S = S diag(w) - (S kappa) (a kappa)^T + v k^T, with S transposed as published."""
    heads = config.num_heads
    previous = np.concatenate([np.zeros_like(x[:1]), x[:-1]])
    mixed = {
        name: x + m * (previous - x)
        for name, m in zip(NAMES, params["token_shift"], strict=False)
    }

    def split(a):
        return np.reshape(a, (len(x), heads, -1))

    r, k, v = (
        mixed[name] @ params[f"{name}/kernel"] for name in ("query", "key", "value")
    )
    decay = plain.sigmoid(_low_rank(params, "decay", mixed["decay"], np.tanh))
    w = split(np.exp(-decay / np.e**0.5))
    a = plain.sigmoid(
        _low_rank(params, "write_strength", mixed["write_strength"], lambda u: u)
    )
    kappa = split(k * params["removal_scale"])
    k = k + k * (a - 1) * params["write_scale"]
    if config.negative_eigenvalues:
        a = a * (1 + w.reshape(len(x), -1))
    weighted = split(r * k * params["bonus"])
    r, k, v, a = map(split, (r, k, v, a))
    size = k.shape[-1]
    memory, outputs = np.zeros((heads, size, size)), []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            kk = plain.unit(kappa[t, h])
            s = memory[h]
            s = (
                s * w[t, h]
                - np.outer(s @ kk, kk * a[t, h])
                + np.outer(v[t, h], k[t, h])
            )
            memory[h] = s
            o = s @ r[t, h]
            reads.append((o - o.mean()) / np.sqrt(o.var() + config.norm_epsilon))
        y = np.concatenate(reads) * params["read_out/norm/scale"]
        y = y + params["read_out/norm/bias"]
        y = y + (np.sum(weighted[t], axis=-1, keepdims=True) * v[t]).reshape(-1)
        if config.output_gate:
            gate = _low_rank(params, "read_out/gate", mixed["gate"][t], plain.sigmoid)
            y = y * gate
        outputs.append(y @ params["read_out/projection/kernel"])
    return np.stack(outputs), np.swapaxes(memory, 1, 2)


VARIED = {
    "head_size": 3,
    "output_gate": False,
    "decay_rank": 2,
    "rate_rank": 5,
    "negative_eigenvalues": True,
    "norm_epsilon": 0.01,
}


@pytest.mark.parametrize("options", [{}, VARIED], ids=["published", "varied"])
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = RWKV7Config(num_heads=2, chunk_size=4, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


@pytest.mark.parametrize("negative", [False, True])
def test_eigenvalues_of_the_transition_stay_within_their_bounds(subject, negative):
    """Check tokens with extreme rates and decays: none lets the memory grow."""
    config = RWKV7Config(num_heads=2, negative_eigenvalues=negative)
    layer, _, x = subject(config)
    inputs, _ = layer.inputs(30 * x, layer.init_state(2, 0), Layout())
    tokens = jax.tree.map(lambda a: np.asarray(a, np.float64), inputs.tokens)
    diagonal = np.exp(tokens.log_decay)[..., None] * np.eye(4)
    low_rank = tokens.write_key[..., :, None] * tokens.read_key[..., None, :]
    found = np.linalg.eigvals(diagonal + low_rank)
    assert np.max(np.abs(found.imag)) < 1e-5
    assert np.max(found.real) <= 1 + 1e-5
    least = np.min(found.real)
    assert -1 - 1e-5 < least < -0.9 if negative else -0.46 < least < -0.1


@pytest.mark.parametrize("index", [0, 2])
def test_parameters_start_as_published(index):
    width, heads, depth = 8, 2, 3
    config = RWKV7Config(num_heads=heads)
    layer = config.build(width, nnx.Rngs(0), layer_index=index, depth=depth)
    power = 1 - index / depth
    for row, factor in enumerate((0.2, 0.9, 0.7, 0.7, 0.9, 0.2)):
        wanted = [1 - (n / width) ** (factor * power) for n in range(width)]
        np.testing.assert_allclose(layer.token_shift[...][row], wanted, atol=1e-6)
    size = width // heads
    curve = 1 + (index / (depth - 1)) ** 0.3
    for n in range(width):
        line = n / (width - 1) - 0.5
        zigzag = ((n % size) - (size - 1) / 2) / ((size - 1) / 2)
        zigzag = zigzag * abs(zigzag)
        decay = -6 + 6 * (n / (width - 1)) ** curve + 0.5 + 2.5 * zigzag
        rate = -0.19 + 0.3 * zigzag + 0.4 * line
        for found, wanted in (
            (layer.decay.up.bias, decay),
            (layer.write_strength.up.bias, rate),
            (layer.removal_scale, 0.71 - 0.1 * line),
            (layer.write_scale, 1.02),
            (layer.bonus, -0.04),
            (layer.read_out.norm.scale, ((index + 1) / depth) ** 0.7),
        ):
            np.testing.assert_allclose(found[...][n], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("width", "ranks"), [(32, (32, 32, 32)), (2048, (128, 128, 224))]
)
def test_ranks_are_the_published_ones(width, ranks):
    layer = nnx.eval_shape(
        lambda: RWKV7Config().build(width, nnx.Rngs(0), layer_index=0, depth=2)
    )
    maps = (layer.decay, layer.write_strength, layer.read_out.gate)
    assert tuple(each.down.kernel.shape[1] for each in maps) == ranks


@pytest.mark.parametrize("name", ["decay_rank", "rate_rank", "gate_rank"])
def test_senseless_ranks_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0; give a number above 0"):
        RWKV7Config(**{name: 0})


def test_a_norm_without_an_epsilon_is_refused():
    with pytest.raises(ValueError, match=r"norm_epsilon is 0.0; give a number above"):
        RWKV7Config(norm_epsilon=0.0)
