"""Writer of the grid in docs/layers/test_time_regression.md.

python -m memzoo.regression_grid docs/layers/test_time_regression.md
"""

import sys
from pathlib import Path
from typing import get_args

from .models.regression import Regressor, Solver, Weights
from .models.test_time_regression import TestTimeRegressionConfig, why_refused

START, END = "<!-- grid -->\n", "<!-- end of grid -->\n"


def grid() -> str:
    """Return the table of all combinations, and the reasons of those refused."""
    solvers = get_args(Solver)
    lines = [
        f"| weights, regressor | {' | '.join(solvers)} |",
        "|---" * (len(solvers) + 1) + "|",
    ]
    reasons: list[str] = []
    for weights in get_args(Weights):
        for regressor in get_args(Regressor):
            cells = [_cell(weights, regressor, solver, reasons) for solver in solvers]
            lines.append(f"| {weights}, {regressor} | {' | '.join(cells)} |")
    lines += ["", "Why a combination is refused:", ""]
    lines += [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join(lines) + "\n"


def _cell(
    weights: Weights, regressor: Regressor, solver: Solver, reasons: list[str]
) -> str:
    reason = why_refused(weights, regressor, solver)
    if reason is None:
        config = TestTimeRegressionConfig(
            weights=weights, regressor=regressor, solver=solver
        )
        return config.engine()
    if reason not in reasons:
        reasons.append(reason)
    return f"({reasons.index(reason) + 1})"


def insert_grid(page: str) -> str:
    """Return the text of the page with the grid between its marks."""
    before, rest = page.split(START)
    return before + START + grid() + END + rest.split(END)[1]


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(insert_grid(path.read_text(encoding="utf-8")), encoding="utf-8")
