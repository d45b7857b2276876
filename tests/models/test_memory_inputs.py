"""What a matrix memory takes from the tokens."""

import jax.numpy as jnp
import numpy as np

from memzoo.models.memory_inputs import MemoryInputs


def _inputs(**gates):
    ones = jnp.ones((2, 3, 4, 5))
    return MemoryInputs(ones, 2 * ones, 3 * ones, **gates)


def test_tokens_that_do_not_count_become_identity_tokens():
    gate = jnp.ones((2, 3, 4))
    inputs = _inputs(write_strength=gate, log_decay=-gate, skip=jnp.ones((2, 3, 4, 5)))
    valid = jnp.array([[True, False, True], [False, False, True]])
    for field, kept, given in zip(
        MemoryInputs._fields, inputs.only(valid), inputs, strict=True
    ):
        mask = np.asarray(valid).reshape(2, 3, *(1,) * (given.ndim - 2))
        wanted = np.where(mask, given, 0)
        np.testing.assert_array_equal(kept, wanted, err_msg=field)


def test_what_they_hold_does_not_matter():
    inputs = _inputs()._replace(key=jnp.full((2, 3, 4, 5), jnp.nan))
    kept = inputs.only(jnp.zeros((2, 3), bool))
    np.testing.assert_array_equal(kept.key, 0)


def test_gates_that_are_not_used_stay_none():
    kept = _inputs().only(jnp.ones((2, 3), bool))
    assert kept.write_strength is kept.log_decay is kept.skip is None


def test_without_padding_nothing_is_done():
    inputs = _inputs()
    assert inputs.only(None) is inputs
