from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.class_means import ClassMeans, class_means
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register
from kdlosses.resized import resized
from kdlosses.unit import unit


@register(name="prokd", match="positions", most={"kappa": 1, "start": 1})
class ProKD(nn.Module):
    r"""Prototypical distillation: align the teacher's class prototypes of two domains, and teach by distances to them.

    Domain A are the positions with a label, B those without, whose class is what the teacher takes it for. The teacher
    was trained in A; a learned linear map G, 0 at first, makes its features $h_i = f^t_i + G f^t_i$. With
    $\mu^A_c, \mu^B_c$ the mean of h over each class, a moving average over batches, G learns by

    $$ L_G = - \mathrm{mean}_c \log \frac{\exp(\cos(\mu^A_c, \mu^B_c) / \tau)}
                                         {\sum_k \exp(\cos(\mu^A_c, \mu^B_k) / \tau)} $$

    in nats, the mean over classes that the batch has, and that both domains have had. The student, in domain B, learns
    not what the teacher says, but which prototype the aligned teacher's feature is near:

    $$ L = L_G + \frac{\sum_{i \in B} w_i \mathrm{KL}(p_i \| \mathrm{softmax}(z^s_i))}{\sum_{i \in B} w_i}, \qquad
       p_i = \mathrm{softmax}_c(\cos(h_i, \mu^B_c) / \tau). $$

    A prototype moves by $\mu = m \mu_{old} + (1 - m) \bar h_c$, from the mean of the batch at first, and has 1 - m of
    the gradient of that mean. No gradient of the second term reaches G, none of the first the student. Domain A has its
    labels: cross-entropy there belongs beside it, and `kl` in domain B may.

    From a point of the training on the student trains itself, too, on labels of its own that the prototypes confirm:
    with $r_i \propto p_i \odot \mathrm{softmax}(z^s_i)$, a constant, and $\hat y_i$ its most probable class,

    $$ L_S = \frac{\sum_{i \in B} w_i \, [\max_c r_{ic} \ge \kappa] \, \mathrm{CE}(z^s_i, \hat y_i)}
                  {\sum_{i \in B} w_i} $$

    is added, times a weight: what the student finds in domain B, and the teacher has not told it.

    Args:
        classes: number of classes.
        teacher_channels: width of the teacher's features.
        tau: temperature.
        momentum: m.
        self_training: weight of $L_S$; 0 is none.
        kappa: $\kappa$, how probable a label must be for the student to learn it.
        start: share of the training that is done before the student trains itself.
        ignore_index: label that marks a position as of domain B, beside negative ones.

    `forward`:
        student: logits `(N, classes, *)`.
        teacher: features `(N, teacher_channels, *)`, of a layer before its logits.
        teacher_logits: `(N, classes, *)`, of a map at any size: bilinear interpolation.
        labels: `(N, *)`, class indices; negative or `ignore_index` means domain B.
        weight: `(N, *)`, positions to count; in domain B it can carry the confidence of the teacher.
        progress: share of the training that is done, for the self-training; 1 where nobody tells.

    Raises:
        ValueError: the student or the teacher's logits have another number of classes.

    Paper: Ge et al., "ProKD: An Unsupervised Prototypical Knowledge Distillation Network for Zero-Resource
    Cross-Lingual Named Entity Recognition", AAAI 2023, for aligning the teacher's prototypes by contrast, and for
    self-training of the student by distances to prototypes. There the whole teacher is trained; here it is frozen but
    for G. The formulas are our own.

    >>> import torch
    >>> loss = ProKD(classes=2, teacher_channels=2, tau=1.0)
    >>> features, logits = torch.eye(2).repeat(2, 1), 9 * torch.eye(2).repeat(2, 1)
    >>> labels, s = torch.tensor([0, 1, 255, 255]), torch.eye(2).repeat(2, 1)
    >>> round(loss(s, features, labels=labels, teacher_logits=logits).item(), 4)  # log(1 + 1 / e); the student agrees
    0.3133
    """

    of_unlabelled = True
    """It teaches positions without a label."""

    def __init__(
        self,
        classes: int,
        teacher_channels: int,
        tau: float = 0.1,
        momentum: float = 0.9,
        self_training: float = 0.0,
        kappa: float = 0.9,
        start: float = 0.5,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.labelled = ClassMeans(classes, teacher_channels, momentum)
        self.unlabelled = ClassMeans(classes, teacher_channels, momentum)
        self.align = nn.Linear(teacher_channels, teacher_channels, bias=False)
        nn.init.zeros_(self.align.weight)
        self.tau, self.momentum, self.ignore_index = tau, momentum, ignore_index
        self.self_training, self.kappa, self.start = self_training, kappa, start

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor,
        teacher_logits: Tensor,
        weight: Tensor | None = None,
        progress: float = 1.0,
    ) -> Tensor:
        count = len(self.labelled.seen)
        for whose, logits in (("student", student), ("teacher_logits", teacher_logits)):
            if logits.shape[1] != count:
                raise ValueError(f"prokd: built for {count} classes, one a channel, got {whose} {tuple(logits.shape)}")
        labels, known = labelled(labels, None, self.ignore_index, count)
        weight = student.new_ones(labels.shape) if weight is None else weight.to(student.dtype)
        believed = resized("prokd", "teacher_logits", teacher_logits.detach(), student).argmax(1)
        weight, known, classes = weight.flatten(), known.flatten(), torch.where(known, labels, believed).flatten()
        rows = self._aligned(teacher).flatten(0, -2)
        new, number = class_means(rows, classes + count * ~known, weight, 2 * count)  # those of A, then those of B
        mu_a, met_a, here_a = self._moved(self.labelled, new[:count], number[:count])
        mu_b, met_b, here_b = self._moved(self.unlabelled, new[count:], number[count:])
        near = unit(mu_a, dim=1) @ unit(mu_b, dim=1).mT / self.tau
        near = near.masked_fill(~met_b, torch.finfo(near.dtype).min / 4)
        align = weighted_mean(near.logsumexp(1) - near.diagonal(), met_a & met_b & (here_a | here_b))
        log_p = self._log_nearness(rows.detach(), mu_b.detach(), met_b)
        log_q = student.log_softmax(1).movedim(1, -1).flatten(0, -2)
        each = (log_p.exp() * (log_p - log_q)).sum(1)
        if self.self_training and progress >= self.start:
            each = each + self.self_training * self._own(log_p, log_q)
        return align + weighted_mean(each, weight * ~known)

    def _own(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Cross-entropy with the student's own labels, as the prototypes confirm them; 0 where they are not sure."""
        sure, label = (log_p + log_q.detach()).softmax(1).max(1)
        hard = F.nll_loss(log_q, label, reduction="none")
        return torch.where(sure >= self.kappa, hard, 0.0)

    def _aligned(self, features: Tensor) -> Tensor:
        """The teacher's features after G, channels last."""
        rows = features.movedim(1, -1)
        return rows + self.align(rows)

    def _moved(self, bank: ClassMeans, new: Tensor, number: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Prototypes, with the gradient of the batch's share; whether each has been met so far; whether it is here."""
        mean, seen = bank.moved(new.detach(), number)
        if self.training:
            bank.keep(mean, seen)
        return mean + (1 - self.momentum) * (new - new.detach()), seen > 0, number > 0

    def _log_nearness(self, rows: Tensor, prototypes: Tensor, met: Tensor) -> Tensor:
        near = unit(rows, dim=-1) @ unit(prototypes, dim=1).mT / self.tau
        return near.masked_fill(~met, torch.finfo(near.dtype).min / 4).log_softmax(-1)

    def targets(self, teacher: Tensor) -> Tensor:
        r"""Logarithm of what the student is taught, $\log p_i$, `(N, classes, *)`, of the teacher's features.

        A class that domain B has not had yet takes no part.
        """
        prototypes = self.unlabelled.mean.to(teacher.dtype)
        return self._log_nearness(self._aligned(teacher), prototypes, self.unlabelled.seen > 0).movedim(-1, 1)
