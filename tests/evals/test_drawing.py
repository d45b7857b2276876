"""Parts of figures."""

import pytest

from memzoo.evals.drawing import SERIES, accuracy_axis, draw_figure, series, ticks


def test_more_layers_than_colours_still_differ():
    looks = {tuple(sorted(series(n).items())) for n in range(3 * SERIES)}
    assert len(looks) == 3 * SERIES


@pytest.fixture(scope="module")
def svg():
    def draw(axes):
        accuracy_axis(axes, "share of something")
        ticks(axes, [0, 1], ["left", "right"])

    return draw_figure(draw, "here", "What is seen")


def test_a_figure_is_named_for_those_who_do_not_see_it(svg):
    assert svg.startswith('<svg role="img" aria-label="What is seen"')


def test_axes_have_their_label_and_these_ticks_alone(svg):
    for text in ("share of something", "left", "right", "0%", "100%"):
        assert f">{text}<" in svg


def test_identifiers_carry_the_name_of_the_figure(svg):
    assert 'id="here-' in svg
    assert svg.count('id="') == svg.count('id="here-')
