"""Tasks and the pipeline that feeds them to a training loop."""

from .mqar import MqarConfig

# The whole registry.
TASKS: dict[str, type] = {"mqar": MqarConfig}
TaskConfig = MqarConfig
