"""Graph unlearning: a trained graph network forgets edges, nodes or classes without being trained anew."""

from graphkd.unlearning.asked import Asked
from graphkd.unlearning.deletion import Bill, Deletion
from graphkd.unlearning.figures import figures, figures_before
from graphkd.unlearning.links import Links
from graphkd.unlearning.membership import Attack, shadow_attack
from graphkd.unlearning.methods import UNLEARNERS, unlearner
from graphkd.unlearning.nodes import Nodes
from graphkd.unlearning.task import Task
from graphkd.unlearning.unlearning import Unlearned, fit, unlearn

__all__ = [
    "UNLEARNERS",
    "Asked",
    "Attack",
    "Bill",
    "Deletion",
    "Links",
    "Nodes",
    "Task",
    "Unlearned",
    "figures",
    "figures_before",
    "fit",
    "shadow_attack",
    "unlearn",
    "unlearner",
]
