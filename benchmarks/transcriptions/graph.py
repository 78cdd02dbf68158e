"""The losses that need edges as a reader of their paper types them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def ffg2m_low(student: Tensor, teacher: Tensor, edge_index: Tensor) -> Tensor:
    loops = torch.arange(len(student)).expand(2, -1)
    source, target = torch.cat([edge_index[:, edge_index[0] != edge_index[1]], loops], dim=1)
    p, log_q = F.softmax(teacher[source], dim=1), F.log_softmax(student[target], dim=1)
    return F.kl_div(log_q, p, reduction="none").sum(1).mean()


def ffg2m_high(student: Tensor, teacher: Tensor, edge_index: Tensor, tau: float = 1.3) -> Tensor:
    source, target = edge_index[:, edge_index[0] != edge_index[1]]
    p = F.softmax((teacher[source] - teacher[target]).abs() / tau, dim=1)
    log_q = F.log_softmax((student[source] - student[target]).abs() / tau, dim=1)
    return F.kl_div(log_q, p, reduction="none").sum(1).mean()


def caw_w2(student: Tensor, teacher: Tensor, edge_index: Tensor, eps: float = 1e-6) -> Tensor:
    loops = torch.arange(len(student)).expand(2, -1)
    source, target = torch.cat([edge_index[:, edge_index[0] != edge_index[1]], loops], dim=1)

    def moments(z: Tensor) -> tuple[Tensor, Tensor]:
        members = torch.bincount(target).unsqueeze(1)
        mean = torch.zeros_like(z).index_add(0, target, z[source]) / members
        apart = (z[source] - mean[target]).square()
        return mean, torch.zeros_like(z).index_add(0, target, apart) / members

    (mean_s, var_s), (mean_t, var_t) = moments(student), moments(teacher)
    spread = ((var_t + eps).sqrt() - (var_s + eps).sqrt()).square()
    return ((mean_t - mean_s).square() + spread).sum(1).mean()


def llp_dist(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    p, log_q = F.softmax(teacher / tau, dim=1), F.log_softmax(student / tau, dim=1)
    return F.kl_div(log_q, p, reduction="none").sum(1).mean()


def llp_rank(student: Tensor, teacher: Tensor, delta: float = 0.1) -> Tensor:
    first, second = torch.triu_indices(student.shape[1], student.shape[1], 1)
    s, t = (scores[:, first] - scores[:, second] for scores in (student, teacher))
    sign = torch.where(t.abs() > delta, t.sign(), 0.0)
    return (sign.abs() * (delta - sign * s).clamp_min(0)).mean(1).mean()
