"""Checks that layer configs share."""

import pytest

from memzoo.models.layer_checks import (
    check_choice,
    check_convolution,
    check_even,
    check_positive,
    check_rotary_base,
    resolve_head_size,
)


@pytest.mark.parametrize(
    ("width", "heads", "size", "wanted"),
    [(8, 2, None, 4), (8, 3, 5, 5), (7, 1, None, 7)],
)
def test_head_size_divides_the_width_or_is_given(width, heads, size, wanted):
    assert resolve_head_size(width, heads, size) == wanted


@pytest.mark.parametrize(
    ("heads", "size", "message"),
    [
        (0, None, "num_heads is 0; give 1 or more"),
        (2, 0, "head_size is 0; give 1 or more, or None"),
        (3, None, "num_heads 3 does not divide width 8; choose a divisor or set head"),
    ],
)
def test_heads_that_do_not_fit_are_refused(heads, size, message):
    with pytest.raises(ValueError, match=message):
        resolve_head_size(8, heads, size)


@pytest.mark.parametrize("taps", [0, 2, 4])
def test_convolutions_of_no_or_several_taps_pass(taps):
    check_convolution(taps)


@pytest.mark.parametrize("taps", [-1, 1])
def test_convolutions_of_one_tap_are_refused(taps):
    message = rf"convolution_size is {taps}; give 0 \(none\) or 2 taps or more"
    with pytest.raises(ValueError, match=message):
        check_convolution(taps)


@pytest.mark.parametrize("value", [0, -1, 0.0, float("nan")])
def test_numbers_that_are_not_positive_are_refused(value):
    with pytest.raises(ValueError, match=f"gain is {value}; give a number above 0"):
        check_positive("gain", value)
    check_positive("gain", 1e-9)
    with pytest.raises(ValueError, match="gain is inf; give a finite number above 0"):
        check_positive("gain", float("inf"))


def test_odd_numbers_are_refused_with_their_reason():
    check_even("size", 4, "pairs turn")
    with pytest.raises(ValueError, match="size is 3, which is odd; make it even"):
        check_even("size", 3, "pairs turn")


@pytest.mark.parametrize("base", [1.0, 0.0, -3.0, float("nan"), float("inf")])
def test_positions_turn_at_different_speeds(base):
    check_rotary_base(1.5)
    with pytest.raises(ValueError, match=f"rotary_base is {base}; give a finite"):
        check_rotary_base(base)


def test_words_that_are_no_choice_are_refused():
    check_choice("form", "wide", ("wide", "narrow"))
    with pytest.raises(ValueError, match=r"form is 'w'; .* of wide, narrow$"):
        check_choice("form", "w", ("wide", "narrow"))
