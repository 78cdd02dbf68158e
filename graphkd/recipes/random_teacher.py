from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History, Schedule, train
from kdlosses.rules.start_near import start_near


@recipe()
def random_teacher(
    model: MLP, lesson: Lesson, *, near: float = 0.3, lr: float = 1e-3, epochs: int = 100, tau: float = 1.0
) -> History:
    r"""Control: distill an untrained teacher, and probe the student's features with a linear classifier.

    $$ L = \frac{1}{N} \sum_i \mathrm{KL}(p^T_i \,\|\, p^s_i), \qquad \theta_T \text{ random and frozen} $$

    The teacher is a second random initialisation of the student's own architecture; the student starts near it and is
    distilled on all nodes without a label and without dropout. Then the last layer is replaced by a logistic
    regression, fitted to the labelled nodes, on the last hidden layer. With `near=0` the student is the teacher and
    stays it: the probe of random features that the others are to be compared with.

    Whatever is gained over that owes nothing to the teacher's knowledge. The control for a graph network is to train it
    for `epochs=0`.

    Args:
        model: the student, changed in place.
        lesson: its labels serve the probe alone; a teacher in it is not looked at.
        near: where the student starts, see `kdlosses.rules.start_near`: 0 at the teacher, 1 anywhere.
        lr: learning rate of Adam.
        epochs: of the distillation; the last is kept.
        tau: temperature.

    Paper: Sarnthein et al., "Random Teachers are Good Teachers", ICML 2023: convolutional encoders with a projection
    head, which gain most from a start as near as 1e-10. For an MLP in float32 that is the teacher to the bit, and what
    rounding leaves of the gradient is too little for Adam to move.
    """
    from sklearn.linear_model import LogisticRegression

    last = cast(nn.Linear, model.layers[-1])
    if len(model.layers) < 2:
        raise ValueError("random_teacher: the student needs a hidden layer, whose features are probed")
    told = lesson.labelled
    if len(lesson.labels[told].unique()) < 2:
        raise ValueError("random_teacher: the probe needs labels of two classes or more")
    teacher = copy.deepcopy(model)
    for layer in teacher.layers:
        layer.reset_parameters()  # type: ignore[operator]
    teacher.requires_grad_(False).eval()
    start_near(model, teacher, near)
    kl = kdlosses.build(dict(type="kl", tau=tau))

    def loss(nodes: Tensor | slice) -> Tensor:
        model.eval()  # no dropout
        x = rows(lesson.x, nodes)
        return kl(model(x), teacher(x))

    schedule = Schedule(lr, 0.0, epochs if near > 0 else 0, batch_size=lesson.batch_size)
    history = train(model, loss, len(lesson), schedule=schedule, generator=lesson.generator)
    model.eval()
    with torch.no_grad():
        features = model.outputs(rows(lesson.x, told))[-2].double().numpy()
        probe = LogisticRegression(max_iter=2000).fit(features, lesson.labels[told].numpy())
        weight, bias = torch.from_numpy(probe.coef_), torch.from_numpy(probe.intercept_)
        if len(weight) == 1:  # of two classes scikit-learn gives the difference
            weight, bias = torch.cat([0 * weight, weight]), torch.cat([0 * bias, bias])
        known = torch.from_numpy(probe.classes_)
        last.weight.zero_().index_copy_(0, known, weight.to(last.weight.dtype))
        last.bias.fill_(-1e6).index_copy_(0, known, bias.to(last.bias.dtype))
    return history
