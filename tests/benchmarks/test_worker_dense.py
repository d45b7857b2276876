from pathlib import Path

import numpy as np

from memzoo.benchmarks.cases import Case
from memzoo.benchmarks.contestant import Contestant, peer_command, usable_cores
from memzoo.benchmarks.inputs import make_inputs


def test_the_dense_form_is_served_by_our_own_interpreter(tmp_path):
    case = Case(operation="mixture", time=4, num_heads=1, head_size=2, num_memories=2)
    np.savez(tmp_path / "in.npz", **make_inputs(case, seed=0))
    command = peer_command(Path("nowhere"), "dense", threads=1)
    with Contestant("dense", command, usable_cores()) as contestant:
        contestant.ask(
            "prepare",
            name=case.name,
            operation=case.operation,
            inputs=str(tmp_path / "in.npz"),
            outputs=str(tmp_path / "out.npz"),
            options={"chunk_size": None},
        )
    with np.load(tmp_path / "out.npz") as stored:
        assert stored["output"].shape == (1, 4, 1, 2)
