"""Tasks and the pipeline that feeds them to a training loop."""

from .mqar import MqarConfig
from .needle import NeedleConfig
from .prefix import PrefixConfig
from .repeat import RepeatConfig
from .set_disjointness import SetDisjointnessConfig
from .text import FolderConfig, TextConfig
from .tfds import TfdsConfig

# The whole registry.
TASKS: dict[str, type] = {
    "mqar": MqarConfig,
    "needle": NeedleConfig,
    "set_disjointness": SetDisjointnessConfig,
    "text": TextConfig,
    "folder": FolderConfig,
    "tfds": TfdsConfig,
    "repeat": RepeatConfig,
    "prefix": PrefixConfig,
}
TaskConfig = (
    MqarConfig
    | NeedleConfig
    | SetDisjointnessConfig
    | TextConfig
    | FolderConfig
    | TfdsConfig
    | RepeatConfig
    | PrefixConfig
)
