"""Local linear attention against its equation, token by token."""

import numpy as np
import pytest

from memzoo.models.local_linear_attention import LocalLinearAttentionConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """o = sum p (1 + u . (k - k_bar)) v, head by head."""
    heads = config.num_heads
    streams = {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            stream = plain.convolve(stream, params[f"{name}/convolution/kernel"])
        streams[name] = stream.reshape(len(x), heads, -1)
    if config.solver == "amortised":
        slopes = (x @ params["slope/kernel"]).reshape(len(x), heads, -1)
    size = streams["key"].shape[-1]

    def placed(name, t, h):
        vector = streams[name][t, h]
        if config.normalise_query_key:
            vector = plain.rms_norm(vector, params[f"{name}/norm/scale"])
        return plain.rotate(vector, t)

    outputs = []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            q = placed("query", t, h)
            k = np.stack([placed("key", s, h) for s in range(t + 1)])
            v = streams["value"][: t + 1, h]
            p = plain.softmax(k @ q / np.sqrt(size))
            apart = k - p @ k
            if config.solver == "amortised":
                u = -plain.rotate(slopes[t, h], t)
            else:
                r = config.ridge_floor + plain.softplus(params["ridge/unbounded"][h])
                sigma = (apart * p[:, None]).T @ apart
                u = np.linalg.solve(sigma + r * np.eye(size), q - p @ k)
            reads.append((p * (1 + apart @ u)) @ v)
        outputs.append(np.concatenate(reads) @ params["read_out/projection/kernel"])
    return np.stack(outputs), None


AMORTISED = {
    "solver": "amortised",
    "normalise_query_key": False,
    "convolution_size": 3,
    "head_size": 2,
}


@pytest.mark.parametrize("options", [{}, AMORTISED], ids=["exact", "amortised"])
def test_layer_is_the_line_at_every_query(subject, assert_loop, plain, options):
    config = LocalLinearAttentionConfig(num_heads=2, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"ridge_floor": 0.0}, "ridge_floor is 0.0; give a number above 0"),
        ({"persistent_tokens": 2}, "persistent_tokens is 2, but they have no place"),
        ({"implementation": "cudnn"}, "implementation is 'cudnn', but local linear"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LocalLinearAttentionConfig(**options)


def test_an_unknown_solver_is_refused():
    config = LocalLinearAttentionConfig()
    # The field's type refuses other words before the check does.
    object.__setattr__(config, "solver", "none")
    message = "solver is 'none'; choose one of exact, amortised"
    with pytest.raises(ValueError, match=message):
        config.__post_init__()


@pytest.mark.slow
def test_variants_obey_the_laws():
    options = {"solver": "amortised", "key_value_heads": 1}
    check_layer(LocalLinearAttentionConfig(num_heads=2, **options), width=8)
