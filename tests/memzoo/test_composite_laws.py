"""The law of several memories holds, and finds a map that is shared by mistake."""

from functools import partial

import numpy as np
import pytest

from memzoo.agreement import BrokenLaw
from memzoo.composite_laws import _check_own, check_maps
from memzoo.models import gated_delta_net
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig
from memzoo.testing import _Subject

MEMORY = GatedDeltaNetConfig(num_heads=2, convolution_size=0)
MIXTURE = MixtureOfMemoriesConfig(memory=MEMORY, num_memories=2, top_k=1)


def test_a_mixture_obeys_it():
    check_maps(_Subject(MIXTURE, 16))


def test_one_memory_passes():
    check_maps(_Subject(MEMORY, 16))


def test_a_map_that_is_shared_by_mistake_is_named(monkeypatch):
    plain = gated_delta_net.projection

    def shared(*args, per_memory=False, **options):
        return plain(*args, **options)

    monkeypatch.setattr(gated_delta_net, "projection", shared)
    said = r"memory/(decay|write_strength)/kernel writes into every memory; make the"
    with pytest.raises(BrokenLaw, match=said):
        check_maps(_Subject(MIXTURE, 16))


def test_a_memory_written_by_the_map_of_another_is_named():
    found = partial(_check_own, "memory/key/kernel")
    found(np.diag([1.0, 2.0]))
    with pytest.raises(BrokenLaw, match="of one memory writes into another"):
        found(np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(BrokenLaw, match="of one memory does not write into it"):
        found(np.array([[1.0, 0.0], [0.0, 0.0]]))
