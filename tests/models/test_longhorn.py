"""Longhorn against its proximal problem, solved at every token."""

import numpy as np
import pytest

from memzoo.models.longhorn import LonghornConfig


def _loop(plain, config, params, x):
    """(I + beta k k^T) S = S_(t-1) + beta k v^T and o = S^T q / sqrt(k), by head."""
    heads, streams = config.num_heads, {}
    for name in ("query", "key", "value"):
        stream = plain.convolve(
            x @ params[f"{name}/kernel"], params[f"{name}/convolution/kernel"]
        )
        streams[name] = plain.silu(stream).reshape(len(x), heads, -1)
    size = streams["key"].shape[-1]
    strength = plain.sigmoid(x @ params["write_strength/kernel"])
    memory, outputs = np.zeros((heads, size, size)), []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            query, key = plain.unit(streams["query"][t, h]), streams["key"][t, h]
            left = np.eye(size) + strength[t, h] * np.outer(key, key)
            right = memory[h] + strength[t, h] * np.outer(key, streams["value"][t, h])
            memory[h] = np.linalg.solve(left, right)
            read = memory[h].T @ query / np.sqrt(size)
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        outputs.append(np.concatenate(reads) @ params["read_out/projection/kernel"])
    return np.stack(outputs), memory


def test_layer_solves_its_problem_at_every_token(subject, assert_loop, plain):
    config = LonghornConfig(num_heads=2, chunk_size=4)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_other_step_sizes_are_refused():
    with pytest.raises(ValueError, match="step_size is 'gate', and longhorn is the im"):
        LonghornConfig(step_size="gate")
