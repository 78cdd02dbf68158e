from __future__ import annotations

from torch import nn

from graphkd.links.lesson import LinkLesson
from graphkd.links.recipes.registry import link_recipe
from graphkd.training.loop import History


@link_recipe
def link_supervised(model: nn.Module, lesson: LinkLesson) -> History:
    r"""Train on edges alone, without a teacher: the control for link students.

    $$ L = -\frac{1}{2 |B|} \Bigl(\sum_{(u, v) \in B} \log \sigma(s_{uv})
         + \sum_{(u, v) \in B^-} \log (1 - \sigma(s_{uv}))\Bigr) $$

    with as many sampled non-edges $B^-$ as there are edges B in the step.

    Args:
        model: the student `(x, pairs) -> logits`, trained in place.
        lesson: with the edges.
    """
    return lesson.train(model, lambda batch: lesson.hard_loss(lambda pairs: model(lesson.x, pairs), batch), len(lesson))
