"""Places of the layers on the map of test-time regression."""

from typing import get_args, get_type_hints

import pytest

from memzoo.models import LAYERS
from memzoo.models.regression import Regression


@pytest.mark.parametrize("name", [n for n, k in LAYERS.items() if k.regression])
def test_places_use_the_names_of_the_choices(name):
    for field, kind in get_type_hints(Regression).items():
        choices = {value for part in (kind, *get_args(kind)) for value in _values(part)}
        assert getattr(LAYERS[name].regression, field) in choices


def _values(kind):
    return [value for value in get_args(kind) if isinstance(value, str)]


def test_related_layers_share_two_choices():
    place = {name: kind.regression for name, kind in LAYERS.items()}
    gated = place["gated_delta_net"]
    assert place["delta_net"]._replace(weights="scalar_decay") == gated
    assert place["retnet"]._replace(solver="online") == gated
    assert place["delta_net"]._replace(solver="implicit") == place["longhorn"]
    local = place["attention"]._replace(regressor="linear")
    assert local == place["local_linear_attention"]
