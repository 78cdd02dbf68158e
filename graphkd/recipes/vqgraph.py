from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.networks.codebook import k_means
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import Matrix, rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.space import Range


@recipe(space=dict(beta=Range(0.1, 10.0, log=True)))
def vqgraph(
    model: MLP,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    tau: float = 4.0,
    beta: float = 1.0,
    codes: int | None = None,
) -> History:
    r"""VQGraph: match soft labels and soft assignments to the codes of the teacher's codebook.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i) + (1 - \lambda) \Big(
           \frac{1}{N} \sum_i \mathrm{KL}(p^t_i \,\|\, p^s_i) + \beta \, L_\mathrm{code} \Big), $$

    $L_\mathrm{code}$ the loss `vq_code_kl` between $W h^s_i$ and the teacher's row $r_i$; $h^s$ is the student's last
    hidden layer and W is learnt beside the student, and thrown away. The teacher is a `vqsage`, which gives `code`, its
    rows, and `codebook`.

    Args:
        model: the student, trained in place, with at least one hidden layer.
        lesson: with the teacher's logits, its rows and its codebook.
        lam: weight of the labels; 1 is `supervised`.
        tau: temperature of the assignment to codes.
        beta: weight of the codes.
        codes: size of a codebook that is fitted by k-means to the last hidden layer of any teacher, in place of one
            that the teacher gives: our own form.

    Raises:
        ValueError: the teacher has no codebook and `codes` is not set, or the student has no hidden layer.

    Paper: Yang et al., "VQGraph: Rethinking Graph Representation Space for Bridging GNNs and MLPs", ICLR 2024. The
    paper adds the three terms with a weight for each of the last two; W and one step on the sum are our own form. The
    authors' code takes three steps an epoch, and its weight of the codes is 1e-8.
    """
    check_lam("vqgraph", lam)
    if lam == 1:
        return supervised(model, lesson)
    if len(model.layers) < 2:
        raise ValueError("vqgraph: the student needs a hidden layer to compare with codes")
    teacher, nothing = lesson.teacher_logits(), torch.zeros(())
    code, codebook = _codebook(lesson, codes)
    kl, code_kl = kdlosses.build("kl"), kdlosses.build(dict(type="vq_code_kl", codebook=codebook, tau=tau))
    last = cast(nn.Linear, model.layers[-1])
    projection = nn.Linear(last.in_features, codebook.shape[1], dtype=last.weight.dtype)

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        *_, h, logits = model.outputs(rows(lesson.x, nodes))
        soft = kl(logits, rows(teacher, nodes)) + beta * code_kl(projection(h), rows(code, nodes))
        return lam * hard + (1 - lam) * soft

    return lesson.train(nn.ModuleList([model, projection]), loss, len(lesson))


def _codebook(lesson: Lesson, codes: int | None) -> tuple[Matrix, Tensor]:
    """The teacher's rows and its codes."""
    if codes is None:
        if "codebook" not in lesson.params or "code" not in lesson.more:
            raise ValueError(
                "vqgraph: the teacher has no 'code' and 'codebook'; use teacher='vqsage', or codes=256 to fit a "
                "codebook to the last hidden layer of this one"
            )
        return lesson.more["code"], lesson.params["codebook"]
    if not lesson.hidden:
        raise ValueError("vqgraph: codes are fitted to the teacher's last hidden layer, but it has none")
    last = lesson.hidden[-1]
    some = torch.randperm(len(lesson), generator=lesson.generator)[: 64 * codes]
    return last, k_means(rows(last, some), codes, lesson.generator)
