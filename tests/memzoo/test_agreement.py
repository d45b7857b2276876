"""Comparison of arrays, and the messages about differences."""

import jax.numpy as jnp
import pytest

from memzoo.agreement import BrokenLaw, equal, near


def test_rounding_is_near_and_nothing_else():
    near({"a": jnp.float32(1e3)}, {"a": 1e3 * (1 + 1e-5)}, "numbers")
    with pytest.raises(BrokenLaw, match=r"numbers\['a'\] differ by 1.0e-04 of their"):
        near({"a": 1.0001}, {"a": 1.0}, "numbers")
    with pytest.raises(BrokenLaw, match="differ by nan"):
        near(jnp.nan, 1.0, "numbers")


def test_equal_is_bit_for_bit():
    equal((jnp.ones(3), 2), (jnp.ones(3), 2), "numbers")
    with pytest.raises(BrokenLaw, match=r"numbers\[1\] are not equal bit for bit"):
        equal((1.0, 2.0), (1.0, 2.0000001), "numbers")
