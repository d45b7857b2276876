"""One layer recalls only if its keys see the token before (arXiv:2501.12352)."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import memzoo
from memzoo.data.mqar import MqarConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig

PAIRS, BATCH, STEPS = 4, 64, 120
TASK = MqarConfig(vocab_size=32, length=16, num_pairs=PAIRS)


@nnx.jit
def _train(model, optimizer, tokens, targets, places):
    def loss(model):
        logits = jnp.take_along_axis(model(tokens)[0], places[:, :, None], axis=1)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return jnp.mean(losses), jnp.mean(jnp.argmax(logits, axis=-1) == targets)

    (_, accuracy), gradient = nnx.value_and_grad(loss, has_aux=True)(model)
    optimizer.update(model, gradient)
    return accuracy


@pytest.mark.parametrize("taps", [4, 0])
def test_one_layer_needs_short_convolutions(taps):
    layer = GatedDeltaNetConfig(num_heads=1, convolution_size=taps, fastest_decay=0.1)
    model = memzoo.LanguageModel(
        vocab_size=TASK.vocab_size, width=32, layers=[layer], rngs=nnx.Rngs(0)
    )
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    task = TASK.build("train")
    accuracies = []
    for step in range(STEPS):
        batch = task.examples(np.arange(step * BATCH, (step + 1) * BATCH))
        assert np.all(batch.target_weights == 1)
        accuracies.append(
            _train(
                model, optimizer, batch.tokens, batch.targets, batch.target_positions
            )
        )
    accuracy = np.mean(accuracies[-10:])
    if taps:
        assert accuracy > 0.97
    else:
        # Without them a token and its value never meet: any value is as likely.
        assert abs(accuracy - 1 / PAIRS) < 0.05
