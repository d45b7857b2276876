"""Sentences on how a sweep was made."""

import dataclasses

from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.recall_page import details
from memzoo.evals.tasks.mqar import MqarRecall
from memzoo.evals.tasks.needle import NeedleRecall
from memzoo.evals.tasks.set_disjointness import SetDisjointnessRecall

PAIRS = RecallConfig(task=MqarRecall(num_pairs=(4, 16)), layers=("attention",))
SETS = RecallConfig(task=SetDisjointnessRecall(), layers=("attention",))
NEEDLE = RecallConfig(task=NeedleRecall(length=64), layers=("attention",))


def test_the_details_say_what_was_trained_and_read():
    first, *_, last = details(PAIRS)
    assert "vocabulary 1024, sequences of 64 tokens with blank filler" in first
    assert last.endswith("A model is trained for each number of pairs.")
    growing = details(dataclasses.replace(PAIRS, task=MqarRecall(tokens_per_pair=4)))
    assert "sequences of 4 tokens a pair with blank filler" in growing[0]
    mixed = details(dataclasses.replace(PAIRS, task=MqarRecall(mixture=True)))
    assert "One model is trained on all numbers of pairs" in mixed[-1]
    assert "Layers that accept a prefix read the context non-causally." in mixed
    twice = details(dataclasses.replace(PAIRS, repeat_context=(1, 2), prefix=False))
    assert twice[1] == (
        "Sequences are read 1, 2 times before they are answered, question included."
    )
    assert not any("non-causally" in sentence for sentence in twice)
    whole = {"layers": RecallConfig.layers, "ablate": "titans_lmm"}
    ablated = details(dataclasses.replace(PAIRS, **whole))
    assert ablated[2].startswith("titans_lmm-whole has memory_depth 2")
    first, *_, last = details(SETS)
    assert "trained on sets of 1 and 2, 2 and 4" in first
    assert "Read on 512 test sequences of each size" in last
    first, *_, last = details(NEEDLE)
    assert "vocabulary 128, trained on sequences of 64 tokens" in first
    assert "Read at 256, 512" in last and "depths 0, 0.25, 0.5, 0.75, 1" in last
