from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlosses.class_means import ClassMeans, class_means
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import register
from kdlosses.unit import unit


@register(name="prokd", match="positions", categorical=True)
class ProKD(nn.Module):
    r"""Prototypical distillation: align the class prototypes of an unlabelled domain with those of a labelled one.

    Domain A are the positions with a label, B those without, whose class is what the teacher takes it for. With
    $\mu^A_c, \mu^B_c$ the mean features of the student, moving averages over batches,

    $$ L = - \mathrm{mean}_c \log \frac{\exp(\cos(\mu^A_c, \mu^B_c) / \tau)}
                                     {\sum_k \exp(\cos(\mu^A_c, \mu^B_k) / \tau)} $$

    in nats, the mean over classes that the batch has, and that both domains have had. A prototype moves by
    $\mu = m \mu_{old} + (1 - m) \bar f_c$, from the mean of the batch at first, and has 1 - m of the gradient of that
    mean. Changing the order of the classes changes nothing.

    The method's self-training is a `kl` on domain B against the logits of `loss.prototype_logits(features)`.

    Args:
        classes: number of classes.
        channels: C.
        tau: temperature.
        momentum: m.
        ignore_index: label that marks a position as of domain B, beside negative ones.

    `forward`:
        student: features `(N, C, *)`.
        teacher: logits `(N, classes, *)`.
        labels: `(N, *)`, class indices; negative or `ignore_index` means domain B.
        weight: `(N, *)`, positions to count; in domain B it can carry the confidence of the teacher.

    Paper: Ge et al., "ProKD: An Unsupervised Prototypical Knowledge Distillation Network for Zero-Resource
    Cross-Lingual Named Entity Recognition", AAAI 2023, for the idea of aligning prototypes by contrast. The formula is
    our own.

    >>> import torch
    >>> loss = ProKD(classes=2, channels=2, tau=1.0)
    >>> s, teacher = torch.eye(2).repeat(2, 1), 9 * torch.eye(2).repeat(2, 1)
    >>> round(loss(s, teacher, labels=torch.tensor([0, 1, 255, 255])).item(), 4)  # log(1 + 1 / e)
    0.3133
    """

    def __init__(
        self, classes: int, channels: int, tau: float = 0.1, momentum: float = 0.9, ignore_index: int = 255
    ) -> None:
        super().__init__()
        self.labelled = ClassMeans(classes, channels, momentum)
        self.unlabelled = ClassMeans(classes, channels, momentum)
        self.tau, self.momentum, self.ignore_index = tau, momentum, ignore_index

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        count = len(self.labelled.seen)
        if teacher.shape[1] != count:
            raise ValueError(f"prokd: the teacher has {teacher.shape[1]} classes, the loss was built for {count}")
        if student.shape[1] != self.labelled.mean.shape[1]:
            built = self.labelled.mean.shape[1]
            raise ValueError(f"prokd: built for {built} channels of the student, got student {tuple(student.shape)}")
        labels, known = labelled(labels, None, self.ignore_index, count)
        weight = student.new_ones(labels.shape) if weight is None else weight.to(student.dtype)
        rows, weight, known = student.movedim(1, -1).flatten(0, -2), weight.flatten(), known.flatten()
        classes = torch.where(known, labels.flatten(), teacher.argmax(1).flatten())
        new, number = class_means(rows, classes + count * ~known, weight, 2 * count)  # those of A, then those of B
        mu_a, met_a, here_a = self._moved(self.labelled, new[:count], number[:count])
        mu_b, met_b, here_b = self._moved(self.unlabelled, new[count:], number[count:])
        near = unit(mu_a, dim=1) @ unit(mu_b, dim=1).mT / self.tau
        near = near.masked_fill(~met_b, torch.finfo(near.dtype).min / 4)
        return weighted_mean(near.logsumexp(1) - near.diagonal(), met_a & met_b & (here_a | here_b))

    def _moved(self, bank: ClassMeans, new: Tensor, number: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Prototypes, with the gradient of the batch's share; whether each has been met so far; whether it is here."""
        mean, seen = bank.moved(new.detach(), number)
        if self.training:
            bank.keep(mean, seen)
        return mean + (1 - self.momentum) * (new - new.detach()), seen > 0, number > 0

    def prototype_logits(self, features: Tensor, tau: float = 1.0) -> Tensor:
        r"""$-\|f_i - \mu^B_c\|^2 / 	au$, `(N, classes, *)`, of features `(N, C, *)`; their softmax is the target.

        A class that domain B has not had yet takes no part.
        """
        rows, mu = features.movedim(1, -1), self.unlabelled.mean.to(features.dtype)
        square = (rows.unsqueeze(-2) - mu).square().sum(-1)
        absent = self.unlabelled.seen == 0
        return (-square / tau).masked_fill(absent, torch.finfo(square.dtype).min / 4).movedim(-1, 1)
