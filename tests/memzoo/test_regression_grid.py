"""The grid of combinations on the page of test_time_regression."""

from pathlib import Path

import memzoo.models.ops
from memzoo.models import LAYERS
from memzoo.regression_grid import grid, insert_grid

PAGE = Path(__file__).parents[2] / "docs" / "layers" / "test_time_regression.md"


def test_page_is_up_to_date():
    page = PAGE.read_text(encoding="utf-8")
    assert insert_grid(page) == page


def test_cells_name_a_layer_an_operation_or_a_reason():
    operations = Path(memzoo.models.ops.__file__).parent.glob("*.py")
    named = {*LAYERS, *(path.stem for path in operations)}
    table, reasons = grid().split("\n\nWhy a combination is refused:\n\n")
    numbers = {f"({line.split('.')[0]})" for line in reasons.splitlines()}
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert len(rows) == 16
    cells = {cell for _, *cells in rows for cell in cells}
    assert cells <= named | numbers and numbers <= cells
