"""The form that keeps all weights computes what the dual form does."""

import numpy as np
import pytest

from memzoo.benchmarks.cases import Case
from memzoo.benchmarks.inputs import make_inputs
from memzoo.benchmarks.materialised import CONTESTANTS
from memzoo.benchmarks.worker_jax import prepare

CASE = Case(operation="titans_mlp", time=12, batch_size=2, num_heads=2, head_size=4)


def results(options, **other):
    inputs = dict(make_inputs(CASE, seed=0))
    return prepare("titans_mlp", inputs, options, **other).results()


@pytest.mark.parametrize("update_every", [1, 4])
def test_both_forms_agree_in_outputs_and_gradients(update_every):
    options = {"chunk_size": None, "update_every": update_every}
    ours = results(options)
    peer = results(options, contestants=CONTESTANTS)
    assert set(ours) == set(peer)
    for name, expected in peer.items():
        scale = np.abs(expected).max()
        assert scale > 0
        np.testing.assert_allclose(ours[name], expected, atol=2e-5 * scale, rtol=0)


def test_a_length_that_is_no_multiple_of_the_window_is_refused():
    with pytest.raises(ValueError, match="12 tokens are no multiple of the window, 5"):
        results({"chunk_size": None, "update_every": 5}, contestants=CONTESTANTS)
