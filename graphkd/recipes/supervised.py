from __future__ import annotations

from torch import nn

from graphkd.recipes.registry import recipe
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from graphkd.training.task import TASKS


@recipe(graph_networks=True, tasks=TASKS)
def supervised(model: nn.Module, lesson: Lesson) -> History:
    r"""Train on labels alone, without a teacher: the control for distilled students.

    $$ L = \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i) $$

    Of several labels CE is the sum of their binary cross-entropies, of numbers the squared error.
    """
    return lesson.train(model, lambda nodes: lesson.hard_loss(model), len(lesson))
