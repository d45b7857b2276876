"""Tasks that ask for more than one level of a memory, each with one layer.

The model is that of the recall presets: two blocks without MLP, one head, a memory of
width x width. `memzoo recall --task ballet`, `gist_and_detail` and `needle` compare
layers. Results: seed 0, a 2-core CPU.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from ...data.ballet import BalletConfig
from ...data.gist_and_detail import GistAndDetailConfig
from ...data.needle import NeedleConfig
from ...data.task import Config
from ..experiment import ExperimentConfig
from .mqar import comparable_layer, mqar_experiment

_LAYER = "gated_delta_net"


@dataclass(frozen=True, kw_only=True)
class _Row:
    """Task of a preset, and the preset's result."""

    task: Config
    result: str = "not trained yet"
    batch_size: int = 64


_ROWS = {
    "ballet": _Row(task=BalletConfig()),
    "gist-and-detail": _Row(task=GistAndDetailConfig()),
    "several-needles": _Row(task=NeedleConfig(num_needles=4), batch_size=32),
}


def _preset(row: str) -> Callable[[], ExperimentConfig]:
    """Return the preset of a task; its docstring holds the result."""
    name = f"{row}-{_LAYER.replace('_', '-')}"

    def make() -> ExperimentConfig:
        layer = comparable_layer(_LAYER, 64)
        experiment = mqar_experiment(layer, name, task=_ROWS[row].task)
        return dataclasses.replace(experiment, batch_size=_ROWS[row].batch_size)

    make.__doc__ = f"memzoo train {name}: {_ROWS[row].result}"
    return make


PRESETS = {f"{row}-{_LAYER.replace('_', '-')}": _preset(row) for row in _ROWS}
