"""Numbers that `memzoo train` refuses, and a missing evaluation."""

from pathlib import Path

from memzoo import commands
from memzoo.__main__ import main
from memzoo.train.session import TrainResult


def test_a_run_that_was_not_evaluated_is_not_sent_to_eval(capsys):
    result = TrainResult(step=4, status="done", evaluation=None)
    commands._say_result(result, Path("runs/tiny"), False, False)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "runs/tiny: done at step 4",
        "not evaluated: the task has no validation split",
    ]


def test_betas_of_1_are_refused(capsys):
    words = ["train", "mqar-linear-attention", "--steps", "1"]
    assert main([*words, "--optimizer.beta2", "1.0"]) == 2
    said = capsys.readouterr()
    message = "memzoo: optimizer: beta2 is 1.0; give a number from 0 to 0.9999999\n"
    assert (said.out, said.err) == ("", message)
