"""Facts of a layer that are stored in its config class."""

from dataclasses import dataclass

import pytest

from memzoo.models import LAYERS
from memzoo.models.layer_config import LayerConfig, RegisteredConfig


@pytest.mark.parametrize("kind", LAYERS.values())
def test_every_registered_config_says_its_family_paper_and_small_sizes(kind):
    assert kind.family
    assert kind.paper().startswith("arXiv:")
    assert isinstance(kind(**kind.small), LayerConfig)


def test_a_config_without_a_family_is_refused_when_it_is_defined():
    with pytest.raises(TypeError, match=r"Nameless has no family; .* delta rule"):

        @dataclass(frozen=True)
        class Nameless(RegisteredConfig):
            pass


def test_a_config_of_a_user_need_not_be_registered():
    @dataclass(frozen=True)
    class Mine:
        def build(self, width, rngs, *, layer_index, depth): ...

    assert isinstance(Mine(), LayerConfig)
    assert not isinstance(object(), LayerConfig)
