from flax import nnx

from memzoo.models.ttt_mlp import TTTMLPConfig


def test_its_memory_is_a_network_four_times_as_wide_inside():
    layer = TTTMLPConfig(num_heads=2).build(16, nnx.Rngs(0), layer_index=0, depth=2)
    shapes = {name: weight[...].shape for name, weight in layer.initial.items()}
    assert shapes == {
        "kernel_0": (2, 8, 32),
        "kernel_1": (2, 32, 8),
        "kernel_0_bias": (2, 32),
        "kernel_1_bias": (2, 8),
    }
    assert TTTMLPConfig().base_learning_rate == 0.1
