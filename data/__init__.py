"""Tasks and the pipeline that feeds them to a training loop."""

from .mqar import MqarConfig
from .text import FolderConfig, TextConfig
from .tfds import TfdsConfig

# The whole registry.
TASKS: dict[str, type] = {
    "mqar": MqarConfig,
    "text": TextConfig,
    "folder": FolderConfig,
    "tfds": TfdsConfig,
}
TaskConfig = MqarConfig | TextConfig | FolderConfig | TfdsConfig
