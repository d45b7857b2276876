"""Shared fixtures of the layer tests: moved parameters, and formulas in plain numpy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

WIDTH, BATCH, TIME = 8, 2, 11


class Subject(NamedTuple):
    """A layer, its parameters by path in float64, and an input."""

    layer: Any
    params: dict[str, np.ndarray]
    x: jax.Array


@pytest.fixture(scope="session")
def subject() -> Callable[..., Subject]:
    """Builds the layer of a config and moves every parameter off its initial value."""

    def build(config: Any, *, width: int = WIDTH, time: int = TIME) -> Subject:
        layer = config.build(width, nnx.Rngs(0), layer_index=0, depth=2)
        rng = np.random.default_rng(1)
        state = jax.tree.map(
            # Use numpy: JAX would compile a sum for every shape.
            lambda a: jnp.asarray(
                np.asarray(a) + 0.2 * rng.standard_normal(a.shape).astype(np.float32)
            ),
            nnx.state(layer, nnx.Param),
        )
        nnx.update(layer, state)
        params = {
            "/".join(str(key.key) for key in path[:-1]): np.asarray(leaf, np.float64)
            for path, leaf in jax.tree.leaves_with_path(state)
        }
        x = rng.standard_normal((BATCH, time, width)).astype(np.float32)
        return Subject(layer, params, jnp.asarray(x))

    return build


@pytest.fixture(scope="session")
def assert_loop() -> Callable[..., None]:
    """Compares a layer, whole and in two parts, with a numpy loop over one row."""

    def compare(subject: Subject, loop: Callable[..., tuple], *, rtol=2e-5) -> None:
        layer, params, x = subject
        run = jax.jit(lambda x, state: layer(x, state))
        y, state = run(x, layer.init_state(BATCH, 0))
        for row in range(BATCH):
            wanted, memory = loop(params, np.asarray(x[row], np.float64))
            scale = np.max(np.abs(wanted))
            np.testing.assert_allclose(y[row], wanted, rtol=rtol, atol=rtol * scale)
            if memory is not None:
                np.testing.assert_allclose(
                    state.memory[row], memory, rtol=rtol, atol=rtol * np.max(memory)
                )
        np.testing.assert_array_equal(state.position, [x.shape[1]] * BATCH)

    return compare


class Plain:
    """Textbook forms in numpy, one row at a time."""

    @staticmethod
    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    @staticmethod
    def silu(x):
        return x / (1 + np.exp(-x))

    @staticmethod
    def softplus(x):
        return np.log(1 + np.exp(x))

    @staticmethod
    def convolve(x, kernel, bias=0.0):
        """y_t = sum over taps j of kernel[w - 1 - j] x_(t - j)."""
        taps = len(kernel)
        y = np.zeros_like(x)
        for t in range(len(x)):
            for j in range(min(taps, t + 1)):
                y[t] += kernel[taps - 1 - j] * x[t - j]
        return y + bias

    @staticmethod
    def rms_norm(x, scale, epsilon=1e-5):
        return x / np.sqrt(np.mean(x**2) + epsilon) * scale

    @staticmethod
    def unit(x):
        return x / np.sqrt(np.sum(x**2) + 1e-6)

    @staticmethod
    def rotate(x, place, base=10000.0):
        """Turn the pairs (i, i + k/2) as complex numbers."""
        half = len(x) // 2
        pairs = x[:half] + 1j * x[half:]
        pairs = pairs * np.exp(1j * place * base ** (-np.arange(half) / half))
        return np.concatenate([pairs.real, pairs.imag])

    @staticmethod
    def softmax(x):
        weight = np.exp(x - np.max(x))
        return weight / np.sum(weight)


@pytest.fixture(scope="session")
def plain() -> type[Plain]:
    return Plain


class Segments:
    """Inner blocks of attention with two heads, on one segment, in numpy."""

    def __init__(self, plain: type[Plain], params: dict[str, np.ndarray], depth: int):
        self.plain, self.params, self.depth = plain, params, depth

    def attend(self, x: np.ndarray, path: str) -> np.ndarray:
        """Return causal attention with rotary positions from 0; x of one row, t d."""
        q, k, v = (
            (x @ self.params[f"{path}/{name}/kernel"]).reshape(len(x), 2, -1)
            for name in ("query", "key", "value")
        )
        y = np.zeros_like(v)
        for head in range(2):
            turned = [
                np.stack([self.plain.rotate(a[t, head], t) for t in range(len(x))])
                for a in (q, k)
            ]
            for t in range(len(x)):
                scores = turned[1][: t + 1] @ turned[0][t] / np.sqrt(q.shape[-1])
                y[t, head] = self.plain.softmax(scores) @ v[: t + 1, head]
        y = y.reshape(len(x), -1)
        return y @ self.params[f"{path}/read_out/projection/kernel"]

    def block(self, h: np.ndarray, index: int) -> np.ndarray:
        scale = self.params[f"blocks/{index}/norm/scale"]
        normed = np.stack([self.plain.rms_norm(each, scale) for each in h])
        return h + self.attend(normed, f"blocks/{index}/mixer")

    def blocks(self, h: np.ndarray) -> np.ndarray:
        for index in range(self.depth):
            h = self.block(h, index)
        return h

    def norm(self, tokens: np.ndarray) -> np.ndarray:
        scale = self.params["memory_norm/scale"]
        return np.stack([self.plain.rms_norm(each, scale) for each in tokens])


@pytest.fixture(scope="session")
def segments(plain: type[Plain]) -> Callable[..., Segments]:
    return lambda params, depth: Segments(plain, params, depth)
