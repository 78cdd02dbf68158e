from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.extras import needs_extra
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.spec import resolve
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History


@recipe(reads_edges=True)
def online(
    model: MLP,
    lesson: Lesson,
    *,
    lam: float = 0.5,
    tau: float = 1.0,
    loss: Any = None,
    back: Any = None,
    heard: float = 1.0,
    peer: str | Mapping[str, Any] | Callable[..., nn.Module] = "sage",
) -> History:
    r"""Online distillation: a graph network and the student learn at the same time, each from the other.

    $$ L = \lambda \, \mathrm{CE}(z^s, y) + (1 - \lambda) \, \ell\big(z^s, \bar z^t\big)
         + \mathrm{CE}(z^t, y) + b \, \ell_b\big(z^t, \bar z^s\big), $$

    where a bar stops the gradient: neither is pulled by the other's loss. If not given, $\ell$ is `bd_kd`, with which
    the student balances forward and reverse divergence node by node, and $\ell_b$ the forward divergence, the student
    in the teacher's place. The teacher starts from new parameters, and is dropped in the end; one that was trained
    beforehand is not read. The epoch is chosen by the student's accuracy.

    Args:
        model: the student, trained in place.
        lesson: with the edges.
        lam: weight of the labels in the student's part; 1 is `supervised`.
        tau: temperature of `bd_kd` and `kl`, where these are not given.
        loss: $\ell$, what `kdlosses.build` takes.
        back: $\ell_b$, likewise.
        heard: weight b; at 0 the teacher learns from labels alone.
        peer: the teacher: a builder of `graphkd.teachers`, as name, dict or function.

    Raises:
        ValueError: an option is out of range, or there are no edges.

    Paper: Amara et al., "BD-KD: Balancing the Divergences for Online Knowledge Distillation", 2022; both terms of the
    teacher have weight 1, which is our own form.
    """
    check_lam("online", lam)
    if heard < 0:
        raise ValueError(f"online: heard is the weight of the student for its teacher, not negative, got {heard}")
    if lam == 1:
        return supervised(model, lesson)
    with needs_extra("online"):
        from graphkd.teachers import TEACHERS
        from graphkd.teachers.call import call
    builder, options = resolve("peer", peer, TEACHERS)
    classes = model.widths[-1]
    teacher: Any = builder(lesson.x.shape[1], classes, **options).to(next(model.parameters()).dtype)
    soft = kdlosses.build(dict(type="bd_kd", tau=tau) if loss is None else loss)
    backward = kdlosses.build(dict(type="kl", tau=tau) if back is None else back)
    edges, labels, nothing = lesson.edges(), lesson.labels, torch.zeros(())
    alike = getattr(teacher, "reads_edges", False)

    def asked(nodes: Tensor | slice) -> Tensor:
        if alike:
            return lesson.outputs(teacher, nodes)[-1]
        return call(teacher, rows(lesson.x), edges, classes=classes)[nodes]

    def loss_of(nodes: Tensor | slice) -> Tensor:
        told = lesson.some_labelled()
        mine = model(rows(lesson.x, nodes))
        if isinstance(nodes, slice):
            its = asked(nodes)
            its_told = its[told]
        else:  # one pass of the teacher for both
            its, its_told = _apart(asked, nodes, told)
        context = lesson.context(nodes, {*soft.needs, *backward.needs})
        own = lesson.task.hard(model(rows(lesson.x, told)), labels[told]) if lam > 0 else nothing
        total = lam * own + (1 - lam) * soft(mine, its.detach(), **context) + lesson.task.hard(its_told, labels[told])
        return total + heard * backward(its, mine.detach(), **context) if heard else total

    return lesson.train(nn.ModuleList([model, teacher, soft, backward]), loss_of, len(lesson))


def _apart(asked: Callable[[Tensor], Tensor], nodes: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
    """Answers about two lists of nodes, from one question about both."""
    every, place = torch.cat([nodes, told]).unique(return_inverse=True)
    return asked(every)[place].split([len(nodes), len(told)])
