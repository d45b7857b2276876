"""Fields that gated neural memories share."""

import pytest

from memzoo.errors import InputError
from memzoo.models.moneta import MonetaConfig
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.models.yaad import YaadConfig


@pytest.mark.parametrize("kind", [TitansLMMConfig, YaadConfig])
@pytest.mark.parametrize(
    ("field", "value"),
    [("max_learning_rate", 0.0), ("update_every", 0), ("persistent_tokens", -1)],
)
def test_senseless_fields_are_refused_by_name(kind, field, value):
    with pytest.raises(InputError, match=f"{field} is {value}"):
        kind(**{field: value})


def test_the_step_of_repeated_keys_grows_with_the_window():
    config = TitansLMMConfig(update_every=8, max_learning_rate=0.1)
    assert config.step_of_repeated_keys == pytest.approx(2 * 0.1 * 8)
    half = TitansLMMConfig(update_every=8, max_learning_rate=0.1, loss="half")
    assert half.step_of_repeated_keys == pytest.approx(0.1 * 8)
    # A rule whose used weights are not sums of gradients has no such bound.
    assert MonetaConfig().step_of_repeated_keys == 0
