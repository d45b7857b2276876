"""Tasks of `memzoo recall` by name, one file each."""

from ..recall_task import RecallTask
from .ballet import BalletRecall
from .gist_and_detail import GistAndDetailRecall
from .mqar import MqarRecall
from .needle import NeedleRecall
from .set_disjointness import SetDisjointnessRecall

RECALL_TASKS: dict[str, type[RecallTask]] = {
    "mqar": MqarRecall,
    "needle": NeedleRecall,
    "set_disjointness": SetDisjointnessRecall,
    "ballet": BalletRecall,
    "gist_and_detail": GistAndDetailRecall,
}
