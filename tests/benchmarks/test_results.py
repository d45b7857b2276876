import pytest

from memzoo.benchmarks.results import Findings, GrowthResult, Measured, RowResult
from memzoo.benchmarks.rows import CPU_ROWS, GROWTH, model_rows


def result(row, peer, ours=1.0):
    """Return a row with different ratios in processor time and wall time."""
    return RowResult(
        row=row,
        theirs=Measured(cpu=[peer], wall=[3 * peer], all_cores=[2 * peer]),
        ours=Measured(cpu=[ours], wall=[ours], all_cores=[ours]),
    )


@pytest.mark.parametrize(
    "ratio, reached", [(2.69, "below"), (2.7, "target"), (4.0, "aim")]
)
def test_a_row_says_which_goal_it_reaches(ratio, reached):
    assert result(CPU_ROWS[0], ratio).reached == reached


def test_the_ratio_is_by_the_clock_of_the_case():
    assert result(CPU_ROWS[0], 2.0).ratio == (2.0, 2.0, 2.0)
    assert result(CPU_ROWS[0], 2.0).wall_ratio == (4.0, 4.0, 4.0)
    assert result(model_rows("step")[0], 2.0).ratio == (6.0, 6.0, 6.0)


def test_what_was_not_measured_has_no_ratio():
    empty = RowResult(row=CPU_ROWS[0], ours=Measured(), theirs=Measured(cpu=[1.0]))
    assert empty.ratio is empty.wall_ratio is empty.reached is None


def test_growth_is_judged_by_its_exponent():
    def grown(power):
        measured = tuple(Measured(cpu=[1e-6 * t**power]) for t in GROWTH[0].times)
        return GrowthResult(growth=GROWTH[0], measured=measured)

    assert grown(1.0).time_exponent == pytest.approx(1.0)
    assert grown(1.0).reached == "target" and grown(1.2).reached == "below"
    assert grown(1.0).memory_exponent is None


def test_a_row_fails_with_either_side():
    row, findings = CPU_ROWS[0], Findings()
    assert findings.of_row(row).failure is None
    findings.failures[row.ours] = "no memory"
    assert findings.of_row(row).failure == "no memory"
