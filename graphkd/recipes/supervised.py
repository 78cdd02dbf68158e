from __future__ import annotations

from torch import nn

from graphkd.recipes.registry import recipe
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History


@recipe(graph_networks=True)
def supervised(model: nn.Module, lesson: Lesson) -> History:
    r"""Train on labels alone, without a teacher: the control for distilled students.

    $$ L = \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i) $$
    """
    return lesson.train(model, lambda nodes: lesson.hard_loss(model), len(lesson))
