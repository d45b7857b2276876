"""What a person sees where there is no terminal."""

from memzoo.train.progress import Screen

LINE = {"step": 5, "loss": 1.25, "accuracy": 0.5, "tokens_per_second": 1234.5}


def test_lines_instead_of_a_bar(capsys):
    with Screen("run", 10, shown=True) as screen:
        screen.at(5)
        screen.numbers(LINE)
        screen.numbers(LINE | {"step": 6})
        screen.numbers(LINE | {"step": 10})
    shown = capsys.readouterr()
    assert shown.out == ""
    numbers = "loss 1.2500  accuracy 0.500  1,234 tokens/s"
    assert shown.err.splitlines() == [f"step {n}/10  {numbers}" for n in (5, 10)]


def test_quiet_but_for_what_is_said(capsys):
    with Screen("run", 10, shown=False) as screen:
        screen.numbers(LINE)
        screen.say("checkpoint 3 is [damaged]")
    assert capsys.readouterr().err == "checkpoint 3 is [damaged]\n"
