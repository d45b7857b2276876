import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.memory_network import MemoryNetwork
from memzoo.models.ops.write_rule import (
    WriteRule,
    memory_type,
    new_memory,
    norms_of,
    open_window,
)

NETWORK = MemoryNetwork(depth=1, key_size=3, value_size=2, hidden_size=1)


def memory_of(rule, value, momentum=True):
    weights = {"kernel_0": jnp.full((2, 1, 3, 2), value)}
    return new_memory(weights, NETWORK, rule, momentum=momentum)


def test_a_new_memory_holds_what_its_rule_needs():
    memory = memory_of(WriteRule(update_every=1, loss_window=3), 1.0, momentum=False)
    assert memory.momentum is None
    assert memory.anchor is None
    assert memory.recent.key.shape == (2, 1, 2, 3)
    assert memory_type(memory) == jnp.float32
    memory = memory_of(WriteRule(update_every=4, schedule="window"), 1.0)
    assert memory.anchor["kernel_0"].shape == (2, 1, 3, 2)
    assert memory.recent is None
    assert not np.any(memory.momentum["kernel_0"])


def test_a_window_opens_in_its_rows_alone():
    rule = WriteRule(update_every=4, schedule="window", keep_row_norms=True)
    memory = memory_of(rule, 1.0)
    moved = memory._replace(
        weights={"kernel_0": 3 * memory.weights["kernel_0"]},
        momentum={"kernel_0": 1 + memory.momentum["kernel_0"]},
    )
    first = jnp.zeros((2,), jnp.int32)
    opened = open_window(moved, jnp.array([True, False]), rule, memory.weights, first)
    np.testing.assert_allclose(opened.weights["kernel_0"][0], 1.0, rtol=1e-6)
    np.testing.assert_allclose(opened.anchor["kernel_0"][0], 1.0, rtol=1e-6)
    assert not np.any(opened.momentum["kernel_0"][0])
    for part in ("weights", "momentum", "anchor"):
        was, now = (getattr(m, part)["kernel_0"][1] for m in (moved, opened))
        np.testing.assert_array_equal(now, was)


def test_rows_get_the_norms_of_others():
    rng = np.random.default_rng(0)
    one, two = ({"a": jnp.asarray(rng.standard_normal((1, 1, 3, 4)))} for _ in range(2))
    given = norms_of(one, two, -1)["a"]
    wanted = np.linalg.norm(two["a"], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(given, axis=-1), wanted, rtol=1e-5)
    direction = np.asarray(one["a"]) / np.linalg.norm(one["a"], axis=-1, keepdims=True)
    np.testing.assert_allclose(given, direction * wanted[..., None], rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"update_every": 0}, "update_every is 0; give at least 1"),
        ({"loss_window": 0}, "loss_window is 0; give at least 1"),
        ({"clip": -1.0}, "clip is -1.0; give a positive norm, or None"),
        ({"loss": "huber", "loss_window": 2}, "loss_window is 2, but a huber loss has"),
        ({"schedule": "lagged", "link": "softmax"}, "the schedule lagged has neither"),
        ({"schedule": "window", "link": "softmax"}, "the schedule window has neither"),
    ],
)
def test_what_cannot_be_a_rule_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        WriteRule(**fields)
