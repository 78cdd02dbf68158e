from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlosses.logit.smoothed import smoothed_cross_entropy
from kdlosses.pointwise import Pointwise
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register
from kdlosses.resized import resized


@register(name="uskd", match="samples", categorical=False, over_classes=False, middle=True)
class USKD(nn.Module):
    r"""Self-distillation: soft targets from the student's own label probability, and ranks from a middle layer of it.

    With $y$ the label, $q = \mathrm{softmax}(z^s)$, $\hat q$ the same renormalised over all classes but $y$, and
    $r = \mathrm{softmax}(W f^s + b)$, $\hat r$ likewise, of a weak head, linear and learned, on a middle layer,

    $$ l_i = -\alpha P_i \log q_{iy} - \beta \sum_{c \ne y} Z_{ic} \log \hat q_{ic}
             - \mu \sum_c \Big( 0.9 \cdot 1_{c = y} + \frac{0.1}{C} \Big) \log r_{ic}, $$
    $$ P_i = 1 + q_{iy}^2 - \overline{q_y^2}, \quad Z_{ic} = \frac{1 / k_{ic}}{\sum_{k=1}^{C-1} 1 / k}, \qquad
       L = \sum_i w_i l_i / \sum_i w_i, $$

    where $k_{ic}$ is the rank of $\hat q_{ic} + \hat r_{ic}$ among the classes but $y$, 1 for the greatest (Zipf's
    law), and the bar is the (weighted) mean over the positions of the call. No gradient goes through $P$ and $Z$. Use
    it beside the usual cross-entropy. There is no teacher: its tensor is not read. The head is thrown away.

    Args:
        student_channels: width of the middle layer.
        classes: C, at least 2.
        alpha: weight of the target term (paper: 1 on ImageNet, 0.1 on CIFAR).
        beta: weight of the non-target term (paper: 0.1).
        mu: weight of the weak head's own term (paper: 0.005 on ImageNet, 0.1 on CIFAR).
        ignore_index: label that marks a position to leave out.

    `forward`:
        student: features `(N, student_channels, *)` of a middle layer.
        teacher: any tensor `(N, *)`; it is not read.
        labels: `(N, *)`, class indices; negative or `ignore_index` means weight 0.
        student_logits: `(N, C, *)`, the student's, with their gradient; of a map at any size: bilinear interpolation.
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: the logits have another number of classes, or there is but one.

    Paper: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized
    Loss and Customized Soft Labels", ICCV 2023. Factor 1. Probabilities are ranked here, as in the paper; the authors'
    code ranks a sum of probabilities and log-probabilities, with the label among them. Of images they pool the layer.

    >>> loss = USKD(student_channels=4, classes=3, alpha=0.0, beta=1.0, mu=0.0)
    >>> z, y = torch.tensor([[0.0, 9.0, 8.0]]), torch.tensor([0])
    >>> loss(torch.zeros(1, 4), z, labels=y, student_logits=z).item()  # target (2/3, 1/3) against (0.731, 0.269)
    0.6465...
    """

    def __init__(
        self,
        student_channels: int,
        classes: int,
        alpha: float = 1.0,
        beta: float = 0.1,
        mu: float = 0.005,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.head = Pointwise(student_channels, classes)
        self.alpha, self.beta, self.mu, self.ignore_index = alpha, beta, mu, ignore_index

    def forward(
        self, student: Tensor, teacher: Tensor, labels: Tensor, student_logits: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        classes, weak = self.head.out_features, self.head(student)
        if student_logits.shape[1] != classes:
            raise ValueError(
                f"uskd: built for {classes} classes, one a channel, got student_logits {tuple(student_logits.shape)}"
            )
        if classes < 2:
            raise ValueError(f"uskd ranks the classes but the label and needs at least two classes, got {classes}")
        z = resized("uskd", "student_logits", student_logits.to(weak.dtype), weak)
        labels, weight = labelled(labels, weight, self.ignore_index, classes)
        y = labels.unsqueeze(1)
        log_q = z.log_softmax(1).gather(1, y).squeeze(1)
        square = (2 * log_q.detach()).exp()
        target = (1 + square - weighted_mean(square, weight)) * log_q

        none = torch.finfo(z.dtype).min / 4  # finite: the label's share is 0, and 0 times this is 0
        others, apart = (x.scatter(1, y, none) for x in (z, weak.detach()))
        score = others.detach().softmax(1) + apart.softmax(1)
        rank = score.scatter(1, y, -1.0).argsort(dim=1, descending=True).argsort(dim=1) + 1  # the label comes last
        zipf = (1 / rank.to(score.dtype)).scatter(1, y, 0.0)
        zipf = zipf / zipf.sum(1, keepdim=True)
        rest = (zipf * others.log_softmax(1)).sum(1)
        own = smoothed_cross_entropy(weak.log_softmax(1), labels, 0.9 + 0.1 / classes)
        return weighted_mean(self.mu * own - self.alpha * target - self.beta * rest, weight)
