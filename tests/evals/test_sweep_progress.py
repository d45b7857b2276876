"""Progress of a sweep."""

from memzoo.evals.sweep_progress import Announcer

ROWS = [{"metric": "accuracy", "value": value} for value in (0.991, 1.0, 0.5)]


def test_time_left_is_that_of_the_trainings_so_far(capsys):
    now = [100.0]
    announcer = Announcer(6, 4, 10, shown=True, clock=lambda: now[0])
    assert announcer.time_left(0) == ""
    with announcer:
        announcer.begin("first")
        now[0] += 30
        announcer.step({"step": 5})
        assert announcer.time_left(0.5) == "about 4 min left"
        announcer.end("first", ROWS, 60.0)
    now[0] = 100.0 + 20
    assert announcer.time_left(2) == "about 20 s left"
    now[0] = 100.0 + 7200
    assert announcer.time_left(1) == "about 6.0 h left"
    said = capsys.readouterr().err
    assert "2 of 6 trainings are done already" in said
    assert "3/6    60 s  first: 0.991, 1.000, 0.500  (about" in said


def test_nothing_is_said_where_nothing_is_shown(capsys):
    with Announcer(2, 1, 10, shown=False) as announcer:
        announcer.end("only", ROWS, 1.0)
    assert capsys.readouterr().err == ""
