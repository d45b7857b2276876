"""Both forms of a mixture compute what a plain loop over the tokens does."""

import numpy as np
import pytest

from memzoo.benchmarks.cases import Case
from memzoo.benchmarks.inputs import make_inputs
from memzoo.benchmarks.runner import options_of
from memzoo.benchmarks.worker_jax import prepare


def case_of(preferred="none", form=None):
    return Case(
        operation="mixture",
        time=11,
        num_heads=2,
        head_size=4,
        num_memories=3,
        preferred=preferred,
        form=form,
    )


def results(case):
    arrays = dict(make_inputs(case, seed=0))
    prepared = prepare(arrays, options_of(case, chunk_size=4))
    prepared.call()
    return prepared.results()


def by_a_loop(x):
    _, count, time, heads, size = x["k"].shape
    memories = np.zeros((count, heads, size, size))
    read = np.zeros((1, time, heads, size))
    for t in range(time):
        logits = x["logits"][0, t]
        chosen = np.argsort(-logits)[:2]
        share = np.exp(logits[chosen]) / np.exp(logits[chosen]).sum()
        for m, weight in zip(chosen, share, strict=True):
            for h in range(heads):
                k, v = x["k"][0, m, t, h], x["v"][0, m, t, h]
                memory = memories[m, h] * np.exp(x["log_decay"][0, m, t, h])
                error = v - k @ memory
                memory += x["write_strength"][0, m, t, h] * np.outer(k, error)
                memories[m, h] = memory
                read[0, t, h] += weight * (x["q"][0, t, h] @ memory) * size**-0.5
    return read


@pytest.mark.parametrize("preferred", ["none", "two"])
def test_the_packed_form_is_the_loop_over_tokens(preferred):
    case = case_of(preferred)
    x, found = make_inputs(case, seed=0), results(case)
    np.testing.assert_allclose(found["output"], by_a_loop(x), atol=1e-5)


def test_both_forms_agree_in_outputs_and_gradients():
    ours, peer = results(case_of()), results(case_of(form="dense"))
    assert set(ours) == set(peer)
    for name, expected in peer.items():
        scale = np.abs(expected).max()
        assert scale > 0
        np.testing.assert_allclose(ours[name], expected, atol=2e-5 * scale, rtol=0)
