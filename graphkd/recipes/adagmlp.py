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
from graphkd.training.parallel import gathered
from kdlosses.space import Range


@recipe(network=Boosted, space=dict(align=Range(0.0, 1.0), mask=Range(0.0, 0.5)))
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
    carry: bool = True,
) -> History:
    r"""AdaGMLP: boosting of MLPs that learn together; each focuses on nodes that those before it fit badly.

    $$ L = \frac{1}{K} \sum_k \Big( \lambda \frac{1}{|B_k|} \sum_{i \in B_k} \mathrm{CE}(z^k_i, y_i)
         + (1 - \lambda) \sum_i w_i \mathrm{KL}_\tau(p^t_i \,\|\, p^k_i) + A_k \Big), \quad
       A_k = \gamma \, \mathrm{MSE}(\log p^k, \log \tilde p^k)
         + (1 - \gamma) \frac{1}{d} \sum_l \mathrm{MSE}(h^k_l, \tilde h^k_l) $$

    All K members take one step together. In each step the labelled nodes are cut into K random parts, and member k is
    told the labels of its part $B_k$ alone. The alignment compares, on the same nodes, what it makes of the features
    with what it makes of them without a share (tilde), drawn anew for each node: log-probabilities, and each of the d
    hidden layers. The nodes' weights w are those that the members before k left, see `boosted`, in this step or, with
    `carry`, in all steps so far.

    The prediction is that of `graphkd.networks.boosted`, with the weights $\alpha$ that the members had in the step
    before the parameters were kept; it costs as many forward passes as there are members.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits.
        lam: weight of the labels; 1 is `supervised`, with a single member.
        members: number of MLPs.
        tau: temperature of the divergence in the loss, without a factor $\tau^2$; that of the errors is 1.
        beta: see `boosted`.
        align: $\gamma$.
        mask: share of the features of a node to leave out; where no feature is negative the others grow so that their
            sum stays. 0 leaves out the alignment.
        carry: whether weights of nodes go on from step to step; else each step starts from equal ones.

    Raises:
        ValueError: an option is out of range.

    Paper: Lu et al., "AdaGMLP: AdaBoosting GNN-to-MLP Knowledge Distillation", KDD 2024. In its code masked features
    are divided by their sum, which is the same where features sum to 1, and a remainder of the labelled nodes is in no
    part; its inductive test scores the first member alone. There the weights carry over all epochs, and so on few nodes
    they end. Training in batches, where the members take their errors and move the weights on the nodes of a batch, is
    our own.
    """
    check_lam("adagmlp", lam)
    if members < 1 or tau <= 0 or beta <= 0 or not 0 <= align <= 1 or not 0 <= mask < 1:
        raise ValueError(
            "adagmlp: members is at least 1, tau and beta are positive, align is from 0 to 1 and mask below 1, got "
            f"{members}, {tau}, {beta}, {align} and {mask}"
        )
    if lam == 1:
        return supervised(model, lesson)
    teacher, nothing, told = lesson.teacher_logits(), torch.zeros(()), lesson.labelled
    equal = torch.full((len(lesson),), 1 / len(lesson), dtype=torch.float64)
    carried = [equal]
    for _ in range(members - len(model.members)):
        model.add()

    def on_labelled(member: MLP, part: Tensor) -> Tensor:
        """What a member pays for the labels of its part, and for features that are left out."""
        part = part[: lesson.batch_size]
        if not len(part) or (lam == 0 and mask == 0):
            return nothing
        x = rows(lesson.x, part)
        whole = member.outputs(x)
        value = lam * F.cross_entropy(whole[-1], lesson.labels[part]) if lam > 0 else nothing
        if mask == 0:
            return value
        less = member.outputs(without_some(x.to_dense(), mask, lesson.generator))
        value = value + align * F.mse_loss(less[-1].log_softmax(1), whole[-1].log_softmax(1))
        hidden = [F.mse_loss(one, other) for one, other in zip(less[:-1], whole[:-1])]
        return value + (1 - align) * torch.stack(hidden).mean() if hidden else value

    def loss(nodes: Tensor | slice) -> Tensor:
        weight = carried[0] if carry else equal
        parts = told[torch.randperm(len(told), generator=lesson.generator)].tensor_split(members)
        x, target, total = rows(lesson.x, nodes), rows(teacher, nodes), nothing
        for k, (member, part) in enumerate(zip(model.members, parts)):
            logits = member(x)
            each = divergence(logits, target, tau)
            soft = (len(lesson) * weight[nodes].to(each.dtype) * each).mean()  # a batch stands for all nodes
            total = total + (1 - lam) * soft + on_labelled(cast(MLP, member), part)
            error, judged = gathered(divergence(logits.detach(), target, 1.0), nodes, len(lesson))
            model.alphas[k], weight = boosted(weight, error, beta, judged)
        carried[0] = weight
        return total / members

    return lesson.train(model, loss, len(lesson))


def without_some(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Set a share of the features of each row, drawn anew, to 0; a row keeps its sum where no feature is negative.

    >>> without_some(torch.tensor([[1.0, 1.0, 1.0, 1.0]]), 0.25, torch.Generator()).sum()
    tensor(4.)
    """
    drawn = torch.rand(x.shape, generator=generator).topk(int(share * x.shape[1]), dim=1).indices
    left = x.scatter(1, drawn, 0)
    if (x < 0).any():
        return left
    whole, rest = x.sum(1, keepdim=True), left.sum(1, keepdim=True)
    return left * torch.where(rest > 0, whole / rest, 1)


def divergence(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """Kullback-Leibler divergence of each node at a temperature, `(N,)`, in nats."""
    log_p, log_q = (teacher / tau).log_softmax(1), (student / tau).log_softmax(1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def boosted(
    weight: Tensor, divergence: Tensor, beta: float, nodes: Tensor | slice = slice(None)
) -> tuple[Tensor, Tensor]:
    r"""The weight of a member from its divergences, and the weights of the nodes for the next member.

    $$ e_i = 1 - \exp(-\beta \, \mathrm{KL}_i), \quad \epsilon = \frac{\sum_i w_i e_i}{\sum_i w_i}, \quad
       \alpha = \max\Big(\log \frac{1 - \epsilon}{\epsilon}, 10^{-16}\Big), \quad
       w_i \leftarrow \frac{w_i \exp(\alpha e_i)}{\sum_j w_j \exp(\alpha e_j)} $$

    $\epsilon$ counts as no less than $10^{-12}$, so that a member without error has a finite weight.

    Args:
        weight: of all nodes `(N,)`, not negative.
        divergence: `(n,)`, of the member from the teacher, on `nodes`.
        beta: how soon a divergence counts as an error.
        nodes: ids of the nodes on which the member is judged; all if not given. The others keep their weight, but for
            the sum below.

    Returns:
        the member's weight, a scalar, and the nodes' new ones `(N,)`, whose sum is 1.

    >>> alpha, weight = boosted(torch.full((4,), 0.25), torch.tensor([0.0, 0.0, 0.0, 0.6931]), beta=1.0)
    >>> alpha.item(), (weight[3] / weight[0]).item()  # e = 1/2 on one of four: eps = 1/8, ln 7, and sqrt 7
    (1.945..., 2.645...)
    """
    error = 1 - torch.exp(-beta * divergence.to(weight.dtype).clamp_min(0))
    here = weight[nodes]
    mean = ((here * error).sum() / here.sum().clamp_min(torch.finfo(here.dtype).tiny)).clamp(1e-12, 1 - 1e-12)
    alpha = ((1 - mean) / mean).log().clamp_min(1e-16)
    after = weight.log()
    after[nodes] += alpha * error
    return alpha, after.softmax(0)
