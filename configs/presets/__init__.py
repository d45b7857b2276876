"""Experiments ready to run; each docstring gives the command and its result."""

from collections.abc import Callable

from ..experiment import ExperimentConfig
from . import jrt, levels, mqar, needle, published, state_tracking, text, titans

PRESETS: dict[str, Callable[[], ExperimentConfig]] = {
    **mqar.PRESETS,
    **needle.PRESETS,
    **levels.PRESETS,
    **state_tracking.PRESETS,
    **text.PRESETS,
    **jrt.PRESETS,
    **published.PRESETS,
    **titans.PRESETS,
}
