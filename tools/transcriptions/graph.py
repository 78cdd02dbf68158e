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
