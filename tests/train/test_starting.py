"""Parameters from another run."""

import jax
import jax.numpy as jnp
import pytest

from memzoo.errors import InputError
from memzoo.train.starting import check_parameters

WANTED = {
    "a": jax.ShapeDtypeStruct((2, 3), jnp.float32),
    "b": jax.ShapeDtypeStruct((4,), jnp.float32),
}


def test_equal_names_and_shapes_pass():
    check_parameters("runs/x", {"b": jnp.zeros(4), "a": jnp.zeros((2, 3))}, WANTED)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"a": jnp.zeros((2, 3))}, r"its model has b absent \(here 4\); give a run of"),
        (
            {"a": jnp.zeros((3, 2)), "b": jnp.zeros(4)},
            r"start_from runs/x: its model has a 3x2 \(here 2x3\); give a run",
        ),
        (
            dict.fromkeys("bcdef", jnp.zeros(4)),
            r"a absent \(here 2x3\), c 4 \(here absent\), d 4 .* and 2 more; give",
        ),
    ],
)
def test_other_parameters_are_refused(given, line):
    with pytest.raises(InputError, match=line):
        check_parameters("runs/x", given, WANTED)
