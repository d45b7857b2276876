"""Tasks and the pipeline that feeds them to a training loop."""

from .mqar import MqarConfig
from .needle import NeedleConfig
from .text import FolderConfig, TextConfig
from .tfds import TfdsConfig

# The whole registry.
TASKS: dict[str, type] = {
    "mqar": MqarConfig,
    "needle": NeedleConfig,
    "text": TextConfig,
    "folder": FolderConfig,
    "tfds": TfdsConfig,
}
TaskConfig = MqarConfig | NeedleConfig | TextConfig | FolderConfig | TfdsConfig
