from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import kdlosses
from graphkd.networks.with_output import WithOutput
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.space import Range

_ROWS = 65_536  # nodes at once


@recipe(network=WithOutput, space=dict(subclasses=[2, 4, 8], subclass_tau=Range(0.1, 10.0, log=True)))
def lelp(
    model: WithOutput,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    subclasses: int = 4,
    tau: float = 1.0,
    subclass_tau: float = 1.0,
) -> History:
    r"""Learning embedding linear projections: the student learns subclasses that the teacher's embeddings tell apart.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z_i, y_i) + (1 - \lambda) \, \mathrm{LELP}, \qquad
       z_{ic} = \log \sum_{k=1}^S \exp z_{ick} $$

    The student has S logits for each class. They stay in it; the probability of a class is the sum of those of its
    subclasses, see `kdlosses.outputs.Subclasses`. For few classes, of which the logits of a teacher tell little.

    Args:
        model: the student, trained in place; its last layer becomes one of S logits a class.
        lesson: with the teacher's logits and its last hidden layer, the embeddings, which the directions of
            `kdlosses.LELP` are fitted to before training, on all nodes.
        lam: weight of the labels; 1 is `supervised`.
        subclasses: S.
        tau: temperature of the classes, see `kdlosses.LELP`.
        subclass_tau: temperature of the subclasses.

    Raises:
        ValueError: the teacher has no hidden layer; or S is more than the directions that its classifier leaves.

    Paper: Loo et al., "Linear Projections of Teacher Embeddings for Few-Class Distillation", 2024.
    """
    check_lam("lelp", lam)
    if lam == 1:
        return supervised(model, lesson)
    (hidden, logits), *others = lesson.teachers()
    if others or not hidden:
        raise ValueError(
            f"lelp: it needs the embeddings of one teacher, its last hidden layer; there are {1 + len(others)} teachers"
            f"{'' if hidden else ' without a hidden layer: a linear teacher such as sgc has none'}"
        )
    embeddings, nothing = hidden[-1], torch.zeros(())
    output: Any = model.give(dict(type="subclasses", count=subclasses))
    sizes = dict(student_channels=subclasses * logits.shape[1], teacher_channels=embeddings.shape[1])
    distill: Any = kdlosses.build(
        dict(type="lelp", tau=tau, subclass_tau=subclass_tau), classes=logits.shape[1], **sizes
    ).loss
    for part in torch.arange(len(lesson)).split(_ROWS):
        distill.observe(rows(embeddings, part), rows(logits, part))
    distill.fit()

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        z = output.layer(model.last_features(rows(lesson.x, nodes)))
        return lam * hard + (1 - lam) * distill(z, rows(embeddings, nodes), teacher_logits=rows(logits, nodes))

    return lesson.train(model, loss, len(lesson))
