"""The reference page matches the docstrings."""

from pathlib import Path

from memzoo import reference


def test_the_page_is_up_to_date():
    """`make reference` writes it."""
    page = Path(__file__).parents[2] / "docs" / "reference.md"
    assert page.read_text() == reference.reference()


def test_sections_of_a_docstring_become_lists():
    text = """Return nothing.

    Args:
        name: of a thing,
            in two lines.
        other: a thing.

    Raises:
        InputError: refused.
    """
    lines = reference._text(text).splitlines()
    assert "- `name`: of a thing," in lines and "  in two lines." in lines
    assert "**Raises:**" in lines and "- `InputError`: refused." in lines
