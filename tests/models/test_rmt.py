"""Recurrent Memory Transformer against its equations in numpy."""

import numpy as np

from memzoo.models.attention import AttentionConfig
from memzoo.models.rmt import RMTConfig

SEGMENT, MEMORY = 4, 2


def test_the_equations_by_hand(subject, segments, assert_loop):
    layers = (AttentionConfig(num_heads=2),) * 2

    def loop(params, x):
        inner, outputs = segments(params, 2), []
        memory = params["initial_memory"]
        for start in range(0, len(x), SEGMENT):
            part = x[start : start + SEGMENT]
            h = inner.blocks(np.concatenate([memory, part, memory]))
            outputs.append(h[MEMORY : MEMORY + len(part)] - part)
            if len(part) == SEGMENT:
                memory = inner.norm(h[-MEMORY:])
        return np.concatenate(outputs), memory

    config = RMTConfig(layers=layers, segment_size=SEGMENT, memory_tokens=MEMORY)
    assert_loop(subject(config), loop)
