"""Fields of a config as documentation."""

import dataclasses
from typing import Literal

from memzoo.field_docs import described_fields, field_meanings


@dataclasses.dataclass(frozen=True, kw_only=True)
class First:
    """A config.

    With an equation.
    """

    size: int
    """How large
    it is."""
    kind: Literal["a", "b"] = "a"
    """Which one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Second(First):
    """Another."""

    kind: Literal["a", "b"] = "b"
    """Which of the two."""
    bare: float | None = None
    first: First = dataclasses.field(default_factory=lambda: First(size=3))
    """A config inside."""


def test_meanings_are_the_strings_below_the_fields():
    assert field_meanings(First) == {"size": "How large it is.", "kind": "Which one."}
    assert field_meanings(Second) == {
        "size": "How large it is.",
        "kind": "Which of the two.",
        "first": "A config inside.",
    }


def test_every_field_has_type_default_and_meaning():
    text = described_fields(Second)
    assert text.startswith("Another.\n\nArgs:\n    width: ")
    assert "    size (int, required): How large it is.\n" in text
    assert "    kind (Literal['a', 'b'], 'b'): Which of the two.\n" in text
    assert "    bare (float | None, None):\n" in text
    assert "    first (First, First(...)): A config inside.\n" in text
