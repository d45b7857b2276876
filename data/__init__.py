"""Tasks and the pipeline that feeds them to a training loop."""

from .ballet import BalletConfig
from .gist_and_detail import GistAndDetailConfig
from .mqar import MqarConfig
from .needle import NeedleConfig
from .prefix import PrefixConfig
from .repeat import RepeatConfig
from .set_disjointness import SetDisjointnessConfig
from .state_tracking import StateTrackingConfig
from .task import Config as TaskConfig
from .text import FolderConfig, TextConfig
from .tfds import TfdsConfig

# The registry: one entry per task, by name.
TASKS: dict[str, type[TaskConfig]] = {
    "mqar": MqarConfig,
    "needle": NeedleConfig,
    "set_disjointness": SetDisjointnessConfig,
    "state_tracking": StateTrackingConfig,
    "ballet": BalletConfig,
    "gist_and_detail": GistAndDetailConfig,
    "text": TextConfig,
    "folder": FolderConfig,
    "tfds": TfdsConfig,
    "repeat": RepeatConfig,
    "prefix": PrefixConfig,
}
