"""The section of a page about a model on text."""

from memzoo.evals.text_report import text_section


def text_rows():
    base = {"layer": "gated_delta_net", "parameters": 5, "state_bytes": 2048}
    rows = []
    for metric, whole in (("bits_per_byte", 2.345), ("accuracy", 0.5)):
        one = base | {"metric": metric}
        rows.append(one | {"setting": {"length": 16}, "value": whole})
        for first, last in ((1, 8), (9, 16)):
            where = {"length": 16, "context_from": first, "context_to": last}
            rows.append(one | {"setting": where, "value": whole / last})
    return rows


def test_text_has_a_table_and_a_figure_a_metric():
    section = text_section(text_rows(), name="Some text")
    assert section.lead == "Some text, held-out files."
    (table,) = section.tables
    assert table.rows[0][1:] == ("5", "2 KiB", "2.345", "50.0%")
    for text in ("Does it use its context?", "How often is the next byte right?"):
        assert text in section.body
    # One layer needs no legend.
    assert 'class="legend"' not in section.body
