from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from graphkd.networks.boosted import Boosted
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History


@recipe(network=Boosted)
def adagmlp(
    model: Boosted,
    lesson: Lesson,
    *,
    lam: float = 0.1,
    members: int = 3,
    tau: float = 0.4,
    beta: float = 1.0,
    align: float = 0.9,
    mask: float = 0.1,
) -> History:
    r"""AdaGMLP: boosting of MLPs; each member focuses on nodes that the members before it fit badly.

    $$ L_k = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^k_i, y_i)
         + (1 - \lambda) \Big( \sum_i w_i \mathrm{KL}_\tau(p^t_i \,\|\, p^k_i) + A_k \Big), \quad
       A_k = \gamma \, \mathrm{MSE}(\log p^k, \log \tilde p^k) + (1 - \gamma) \, \mathrm{MSE}(h^k, \tilde h^k) $$

    on all nodes and, the alignment, on the labelled ones, where a tilde stands for features of which a share is left
    out, drawn anew in each step. After a member is trained it gets its weight $\alpha_k$ in the prediction, and the
    nodes theirs for the next one, see `boosted`. The prediction is that of `graphkd.networks.boosted`; it costs as many
    forward passes as there are members.

    The epoch of a member is selected by the ensemble so far, in which the member has the mean weight of those before
    it: its own depends on what it will be. A history holds the epochs of all members, and the last one's score.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits.
        lam: weight of the labels; 1 is `supervised`, with a single member.
        members: number of MLPs.
        tau: temperature; no factor $\tau^2$.
        beta: see `boosted`.
        align: $\gamma$.
        mask: share of the features to leave out; 0 leaves no alignment but that of two draws of dropout.

    Raises:
        ValueError: an option is out of range.

    Paper: Lu et al., "AdaGMLP: AdaBoosting GNN-to-MLP Knowledge Distillation", KDD 2024. Its code does not weigh the
    alignment by $1 - \lambda$. That each entry of the features is drawn, that h is the last hidden layer, and how an
    epoch is selected, are our own.
    """
    check_lam("adagmlp", lam)
    if members < 1 or tau <= 0 or beta <= 0 or not 0 <= align <= 1 or not 0 <= mask < 1:
        raise ValueError(
            "adagmlp: members is at least 1, tau and beta are positive, align is from 0 to 1 and mask below 1, got "
            f"{members}, {tau}, {beta}, {align} and {mask}"
        )
    if lam == 1:
        return supervised(model, lesson)
    teacher, nothing = lesson.teacher_logits(), torch.zeros(())
    told = lesson.labelled
    weight = torch.full((len(lesson),), 1 / len(lesson), dtype=torch.float64)
    joint = History()
    for k in range(members):
        member = model.add() if k else cast(MLP, model.members[0])

        def loss(nodes: Tensor | slice, member: MLP = member, weight: Tensor = weight) -> Tensor:
            hard = lesson.hard_loss(member) if lam > 0 else nothing
            each = divergence(member(rows(lesson.x, nodes)), rows(teacher, nodes), tau)
            soft = (len(lesson) * weight[nodes].to(each.dtype) * each).mean()  # a batch stands for all nodes
            return lam * hard + (1 - lam) * (soft + alignment(member))

        def alignment(member: MLP) -> Tensor:
            some = told[torch.randperm(len(told), generator=lesson.generator)[: lesson.batch_size]]
            if not len(some):
                return nothing
            x = rows(lesson.x, some).to_dense()
            kept = torch.rand(x.shape, generator=lesson.generator, dtype=x.dtype) >= mask
            whole, part = member.outputs(x), member.outputs(x * kept)
            shift = align * F.mse_loss(part[-1].log_softmax(1), whole[-1].log_softmax(1))
            return shift + (1 - align) * F.mse_loss(part[-2], whole[-2]) if len(whole) > 1 else shift

        history = lesson.train(member, loss, len(lesson))
        each = divergence(lesson.predict(member), rows(teacher), tau)
        model.alphas[k], weight = boosted(weight, each, beta)
        joint.best_epoch, joint.score = joint.epochs + history.best_epoch, history.score
        joint.epochs += history.epochs
        joint.seconds += history.seconds
        if history.oracle is not None:
            joint.oracle = max(joint.oracle or 0.0, history.oracle)
    return joint


def divergence(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """Kullback-Leibler divergence of each node at a temperature, `(N,)`, in nats."""
    log_p, log_q = (teacher / tau).log_softmax(1), (student / tau).log_softmax(1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def boosted(weight: Tensor, divergence: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    r"""The weight of a member from its divergences, and the weights of the nodes for the next member.

    $$ e_i = 1 - \exp(-\beta \, \mathrm{KL}_i), \quad \epsilon = \frac{\sum_i w_i e_i}{\sum_i w_i}, \quad
       \alpha = \max\Big(\log \frac{1 - \epsilon}{\epsilon}, 10^{-16}\Big), \quad
       w_i \leftarrow \frac{w_i \exp(\alpha e_i)}{\sum_j w_j \exp(\alpha e_j)} $$

    $\epsilon$ counts as no less than $10^{-12}$, so that a member without error has a finite weight.

    Args:
        weight: of the nodes `(N,)`, not negative.
        divergence: `(N,)`, of the member from the teacher.
        beta: how soon a divergence counts as an error.

    Returns:
        the member's weight, a scalar, and the nodes' new ones, whose sum is 1.

    >>> alpha, weight = boosted(torch.full((4,), 0.25), torch.tensor([0.0, 0.0, 0.0, 0.6931]), beta=1.0)
    >>> alpha.item(), (weight[3] / weight[0]).item()  # e = 1/2 on one of four: eps = 1/8, ln 7, and sqrt 7
    (1.945..., 2.645...)
    """
    error = 1 - torch.exp(-beta * divergence.to(weight.dtype).clamp_min(0))
    mean = ((weight * error).sum() / weight.sum()).clamp(1e-12, 1 - 1e-12)
    alpha = ((1 - mean) / mean).log().clamp_min(1e-16)
    return alpha, (weight.log() + alpha * error).softmax(0)
