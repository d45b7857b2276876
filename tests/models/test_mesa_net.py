"""MesaNet against its equation, with a solve in numpy for every token."""

import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.mesa_net import MesaNetConfig
from memzoo.models.ops.mesa import MesaMemory
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """o = S^T x with (H + Lambda) x = q, head by head."""
    heads = config.num_heads
    streams = {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if name != "value":
            if config.convolution_size:
                kernel = params[f"{name}/convolution/kernel"]
                stream = plain.convolve(stream, kernel)
            stream = plain.silu(stream)
        streams[name] = stream.reshape(len(x), heads, -1)

    def gate(name):
        return plain.sigmoid(x @ params[f"{name}/kernel"] + params[f"{name}/bias"])

    gamma, beta = gate("decay"), gate("write_strength")
    size = streams["key"].shape[-1]
    square, sums = np.zeros((heads, size, size)), np.zeros((heads, size, size))
    outputs = []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            query, key = (plain.unit(streams[n][t, h]) for n in ("query", "key"))
            value = streams["value"][t, h]
            square[h] = gamma[t, h] * square[h] + beta[t, h] * np.outer(key, key)
            sums[h] = gamma[t, h] * sums[h] + beta[t, h] * np.outer(key, value)
            if config.ridge == "learned":
                ridge = plain.softplus(params["ridge/unbounded"][h])
                ridge = ridge + config.ridge_floor
            else:
                norm = np.sqrt(np.sum(square[h] ** 2))
                ridge = np.full(size, config.frobenius_ratio * norm)
            solution = np.linalg.solve(square[h] + np.diag(ridge), query)
            if config.mixing_gate:
                a = plain.sigmoid(x[t] @ params["mix/kernel"])[h]
                solution = query + a * (solution - query)
            read = sums[h].T @ solution
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        read = np.concatenate(reads)
        if config.output_gate:
            read = read * plain.silu(x[t] @ params["read_out/gate/kernel"])
        outputs.append(read @ params["read_out/projection/kernel"])
    return np.stack(outputs), None


VARIED = {
    "convolution_size": 0,
    "head_size": 3,
    "output_gate": True,
    "ridge": "frobenius",
    "frobenius_ratio": 0.2,
    "mixing_gate": True,
    "solver": "exact",
}


@pytest.mark.parametrize("options", [{}, VARIED], ids=["published", "varied"])
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = MesaNetConfig(num_heads=2, chunk_size=4, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_reading_alone_solves_at_the_memory(subject):
    layer, params, _ = subject(MesaNetConfig(num_heads=2, chunk_size=4))
    rng = np.random.default_rng(0)
    keys, values = rng.standard_normal((2, 1, 2, 6, 4))
    memory = MesaMemory(
        np.swapaxes(keys, -1, -2) @ keys, np.swapaxes(keys, -1, -2) @ values
    )
    query = rng.standard_normal((1, 3, 2, 4))
    ridge = 0.25 + np.log1p(np.exp(params["ridge/unbounded"]))
    narrow = MesaMemory(*(jnp.asarray(x, jnp.float32) for x in memory))
    found = layer.read(jnp.asarray(query, jnp.float32), narrow)
    for h in range(2):
        system = memory.key_key[0, h] + np.diag(ridge[h])
        wanted = query[0, :, h] @ np.linalg.solve(system, memory.key_value[0, h])
        np.testing.assert_allclose(found[0, :, h], wanted, rtol=1e-4, atol=1e-4)


def test_parameters_by_formula(subject):
    _, params, _ = subject(MesaNetConfig(num_heads=2))
    width, heads, taps = 8, 2, 4
    wanted = 4 * width**2 + 2 * (width + 1) * heads + width + 2 * taps * width
    assert sum(p.size for p in params.values()) == wanted + width // heads


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"solver_steps": 0}, "solver_steps is 0; give a number above 0"),
        ({"frobenius_ratio": 0.0}, "frobenius_ratio is 0.0; give a number above 0"),
        ({"ridge_floor": 1.0}, "initial_ridge is 1.0; give a number above ridge_floor"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MesaNetConfig(**options)


@pytest.mark.parametrize(
    ("field", "choices"),
    [("ridge", "learned, frobenius"), ("solver", "conjugate_gradients, exact")],
)
def test_unknown_choices_are_refused(field, choices):
    config = MesaNetConfig()
    # The field's type refuses other words before the check does.
    object.__setattr__(config, field, "none")
    with pytest.raises(ValueError, match=f"{field} is 'none'; choose one of {choices}"):
        config.__post_init__()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"ridge": "frobenius", "mixing_gate": True}, {"solver": "exact"}],
    ids=str,
)
def test_variants_obey_the_laws(options):
    check_layer(MesaNetConfig(num_heads=2, **options), width=8)
