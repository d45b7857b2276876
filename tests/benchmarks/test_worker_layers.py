import numpy as np

from memzoo.benchmarks.worker_layers import prepare


def test_a_registered_layer_runs_forward_and_backward():
    x = np.random.default_rng(0).standard_normal((1, 8, 16), np.float32)
    prepared = prepare("linear_attention", {"x": x, "cotangent": x}, {})
    prepared.call()
    results = prepared.results()
    assert results["output"].shape == results["gradient_x"].shape == x.shape
    assert np.abs(results["gradient_x"]).max() > 0
