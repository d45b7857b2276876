"""Memo against its equations in numpy."""

import numpy as np
import pytest

from memzoo.models.attention import AttentionConfig
from memzoo.models.memo import MemoConfig

SEGMENT, SUMMARY = 2, 2


@pytest.mark.parametrize("kept", [3, 8], ids=["the oldest leave", "all stay"])
def test_the_equations_by_hand(kept, subject, segments, assert_loop):
    def loop(params, x):
        inner, outputs, summaries = segments(params, 1), [], []
        for start in range(0, len(x), SEGMENT):
            part = x[start : start + SEGMENT]
            seen = np.concatenate([*summaries[-kept:], np.zeros((0, x.shape[1]))])
            tokens = np.concatenate([seen, part, params["learned_queries"]])
            h = inner.blocks(tokens)
            outputs.append(h[len(seen) : len(seen) + len(part)] - part)
            if len(part) == SEGMENT:
                summaries.append(inner.norm(h[-SUMMARY:]))
        assert len(summaries) == 5
        empty = [np.zeros((SUMMARY, x.shape[1]))] * (kept - 5)
        return np.concatenate(outputs), np.concatenate([*empty, *summaries[-kept:]])

    config = MemoConfig(
        layers=(AttentionConfig(num_heads=2),),
        segment_size=SEGMENT,
        summary_tokens=SUMMARY,
        kept_segments=kept,
    )
    assert_loop(subject(config), loop)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"summary_tokens": -1}, r"summary_tokens is -1; give 0 \(none\) or more"),
        ({"kept_segments": 0}, "kept_segments is 0; give a number above 0"),
    ],
)
def test_what_cannot_work_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        MemoConfig(**fields)
