"""The materialised form computes the same as the dual form."""

from dataclasses import replace

import numpy as np
import pytest

from memzoo.benchmarks.cases import Case
from memzoo.benchmarks.inputs import make_inputs
from memzoo.benchmarks.runner import options_of
from memzoo.benchmarks.worker_jax import prepare

CASE = Case(operation="titans_mlp", time=12, batch_size=2, num_heads=2, head_size=4)


def results(**changes):
    case = replace(CASE, **changes)
    prepared = prepare(dict(make_inputs(case, seed=0)), options_of(case))
    prepared.call()
    return prepared.results()


@pytest.mark.parametrize("update_every", [1, 4])
def test_both_forms_agree_in_outputs_and_gradients(update_every):
    ours = results(update_every=update_every)
    peer = results(update_every=update_every, form="materialised")
    assert set(ours) == set(peer)
    for name, expected in peer.items():
        scale = np.abs(expected).max()
        assert scale > 0
        np.testing.assert_allclose(ours[name], expected, atol=2e-5 * scale, rtol=0)
        # The two forms really differ.
        assert name == "output" or np.any(ours[name] != expected)


def test_a_length_that_is_no_multiple_of_the_window_is_refused():
    with pytest.raises(ValueError, match="12 tokens are not a multiple of the window"):
        results(update_every=5, form="materialised")
