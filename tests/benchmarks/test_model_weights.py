import pytest

from memzoo.benchmarks.model_weights import BLOCKS, WEIGHTS
from memzoo.benchmarks.rows import model_rows


def test_every_model_of_a_row_has_its_weights():
    assert {row.case.operation for row in model_rows("step")} == set(WEIGHTS)


@pytest.mark.parametrize("model", WEIGHTS)
def test_all_but_embedding_and_last_norm_lie_in_blocks(model):
    weights = WEIGHTS[model](64)
    for name, (kind, shape) in weights.items():
        assert kind in ("matrix", "near_one", "near_zero")
        assert (shape[0] == BLOCKS) != (name in ("embedding", "final_norm"))
    assert weights["norm"][1] == (BLOCKS, 64)
    assert ("mlp_up" in weights) == (model != "mamba2")
