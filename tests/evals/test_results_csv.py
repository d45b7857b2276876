"""Results as a flat table."""

from memzoo.evals.results_csv import csv_text, flat_rows

ROWS = [
    {"layer": "a", "setting": {"num_pairs": 4, "length": 64}, "value": 0.5},
    {"layer": "b, c", "setting": {"num_pairs": 8, "split": "test"}, "value": None},
]


def test_settings_are_columns():
    first, second = flat_rows(ROWS)
    assert first == {
        "layer": "a",
        "num_pairs": 4,
        "length": 64,
        "split": None,
        "value": 0.5,
    }
    assert second["split"] == "test" and second["length"] is None
    columns = "layer num_pairs length split value"
    assert list(flat_rows(ROWS)[0]) == columns.split()


def test_text_is_comma_separated():
    assert csv_text(ROWS) == (
        'layer,num_pairs,length,split,value\na,4,64,,0.5\n"b, c",8,,test,\n'
    )
    assert csv_text([]) == "\n"
