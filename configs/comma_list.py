"""Lists on the command line and in the environment: `a,b`, `a b` and `a, b`."""

import re

from memzoo.errors import InputError


def split_list(text: str) -> list[str]:
    """Return the items of a list, separated by commas or white space.

    Raises:
        InputError: the list or one of its items is empty; the message begins with "is",
            to follow the name of the option.
    """
    items = re.split(r"\s*,\s*|\s+", text.strip())
    there = [item for item in items if item]
    if not there:
        raise InputError("is an empty list; give at least one item, or leave it out")
    if len(there) < len(items):
        raise InputError(
            f"is {text!r}, and one of its items is empty; write {','.join(there)!r}, "
            "or fill the gap"
        )
    return items
