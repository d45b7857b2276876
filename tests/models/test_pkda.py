"""Preconditioned KDA against its equation, token by token."""

import numpy as np
import pytest

from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig
from memzoo.models.pkda import PKDAConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """kda with z = k 1.5^(-r / (1 + |r|)), r = log(A + 1e-6) - u, where it writes."""
    heads, streams = config.num_heads, {}

    def split(stream):
        return stream.reshape(len(x), heads, -1)

    for name in ("query", "key", "value"):
        kernel = params[f"{name}/convolution/kernel"]
        stream = plain.convolve(x @ params[f"{name}/kernel"], kernel)
        streams[name] = split(plain.silu(stream))
    strength = plain.sigmoid(x @ params["write_strength/kernel"])
    time = x @ params["decay/time/down/kernel"] @ params["decay/time/up/kernel"]
    time = split(plain.softplus(time + params["decay/time_bias"]))
    alpha = np.exp(-np.exp(params["decay/log_a"])[None, :, None] * time)
    own = {name.split("/", 1)[1]: p for name, p in params.items() if "precond" in name}
    added = plain.sigmoid(x @ own["write_strength/kernel"])
    time = plain.softplus(x @ own["decay/kernel"] + own["decay/time_bias"])
    kept = np.exp(-np.exp(own["decay/log_a"]) * time)
    size = streams["key"].shape[-1]
    memory, covariance = np.zeros((heads, size, size)), np.zeros((heads, size))
    outputs = []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            query, key = (plain.unit(streams[n][t, h]) for n in ("query", "key"))
            covariance[h] = kept[t, h] * covariance[h] + added[t, h] * key**2
            r = np.log(covariance[h] + 1e-6) - own["centre"][h]
            write = key * 1.5 ** (-r / (1 + np.abs(r)))
            memory[h] = alpha[t, h][:, None] * memory[h]
            error = streams["value"][t, h] - memory[h].T @ key
            memory[h] += strength[t, h] * np.outer(write, error)
            read = memory[h].T @ query / np.sqrt(size)
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        outputs.append(np.concatenate(reads) @ params["read_out/projection/kernel"])
    return np.stack(outputs), None


def test_layer_is_the_published_loop(subject, assert_loop, plain):
    config = PKDAConfig(num_heads=2, chunk_size=4, output_gate=False)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


@pytest.mark.slow
def test_a_mixture_of_it_obeys_the_laws():
    memory = PKDAConfig(num_heads=2, chunk_size=4)
    check_layer(MixtureOfMemoriesConfig(memory=memory), width=8)
