from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import kdlosses
from graphkd.networks.neighbours import WithNeighbour
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from graphkd.training.neighbours import fit_neighbours, generator_options
from graphkd.training.views import disagreement
from kdlosses.space import Range


@recipe(network=WithNeighbour, reads_edges=True, space=dict(consistency=Range(0.1, 10.0, log=True)))
def lagnn(
    model: WithNeighbour,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    samples: int = 2,
    consistency: float = 1.0,
    sharp: float = 2.0,
    generator: Mapping[str, Any] | None = None,
) -> History:
    r"""Local augmentation: the student reads a neighbour that is generated from its own features, in place of edges.

    A generator of $p(x_j \mid x_i)$ is trained on the edges, see `fit_neighbours`, and frozen. The first layer of the
    student is $W x_i + V \hat x_i + b$. In training $\hat x_i$ is drawn anew S times in each step:

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z_i, y_i) + \frac{1}{S} \sum_s \Big( (1 - \lambda)
         \frac{1}{N} \sum_i \mathrm{KL}(p^t_i \,\|\, p_{is}) + c \frac{1}{N} \sum_i \|p_{is} - \bar p_i\|^2 \Big),
       \quad \bar p_i \propto \Big( \frac{1}{S} \sum_s p_{is} \Big)^k $$

    with no gradient to $\bar p$. To predict, $\hat x_i$ is what the generator expects, a mean over few z: the student
    needs the features of a node alone, and one that is new and has no edge has a neighbour all the same. It holds the
    generator, whose decoder is run for each of these z.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits and the edges.
        lam: weight of the labels; 1 is `supervised`, without a neighbour.
        samples: S.
        consistency: c.
        sharp: k.
        generator: options of `fit_neighbours`. What the network of U is told are the teacher's classes.

    Raises:
        ValueError: an option is out of range, or there is no edge.

    Paper: Liu et al., "Local Augmentation for Graph Neural Networks", ICML 2022: there graph networks read the
    generated features, see the teacher `lagnn`. A student without a graph that reads them is our own.
    """
    check_lam("lagnn", lam)
    if samples < 1 or consistency < 0 or sharp <= 0:
        raise ValueError(
            "lagnn: samples is at least 1, consistency is not negative and sharp is positive, got "
            f"{samples}, {consistency} and {sharp}"
        )
    options = generator_options("lagnn", generator)
    if lam == 1:
        return supervised(model, lesson)
    teacher, kl = lesson.teacher_logits(), kdlosses.build("kl")
    told = rows(teacher).argmax(1)
    vae, spent = fit_neighbours(lesson.x, lesson.edges(), told, lesson.generator, **options)
    model.augment(vae)
    nothing = torch.zeros(())

    def loss(nodes: Tensor | slice) -> Tensor:
        x, target = rows(lesson.x, nodes), rows(teacher, nodes)
        each = [model(x) for _ in range(samples)]
        soft = torch.stack([kl(logits, target) for logits in each]).mean()
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        apart = disagreement(torch.stack(each).softmax(2), sharp) if consistency > 0 else nothing
        return lam * hard + (1 - lam) * soft + consistency / samples * apart

    history = lesson.train(model, loss, len(lesson))
    history.seconds[:0] = spent.seconds
    return history
