"""Lists as people write them."""

import pytest

from memzoo.configs.comma_list import split_list


@pytest.mark.parametrize("text", ["a,b,c", "a b c", "a, b, c", " a ,b\tc ", "a,  b\nc"])
def test_commas_and_spaces_are_the_same(text):
    assert split_list(text) == ["a", "b", "c"]


def test_one_item_is_a_list():
    assert split_list("a") == ["a"]


@pytest.mark.parametrize("text", ["a,,b", ",a,b", "a,b,", "a, ,b", "a,b ,", ",,a,b"])
def test_an_empty_item_is_refused(text):
    with pytest.raises(
        ValueError, match=r"^is '.*', and one of its items is empty; write 'a,b', or"
    ):
        split_list(text)


@pytest.mark.parametrize("text", ["", " ", ",", " , ,", "\n"])
def test_an_empty_list_is_refused(text):
    with pytest.raises(ValueError, match=r"^is an empty list; give at least one item"):
        split_list(text)
