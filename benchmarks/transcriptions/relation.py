"""The losses on relations between positions as a reader of their papers types them: every pair in one matrix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rkd(student: Tensor, teacher: Tensor, distance: float = 25.0) -> Tensor:
    """Distances alone: angles among so many points are what the loss refuses."""
    n = len(student)

    def distances(points: Tensor) -> Tensor:
        square = points.square().sum(1)
        d = (square.unsqueeze(1) + square.unsqueeze(0) - 2 * points @ points.T).clamp(min=1e-12).sqrt()
        return d.masked_fill(torch.eye(n, dtype=torch.bool), 0.0)

    with torch.no_grad():
        t = distances(teacher)
        t = t / t[t > 0].mean()
    s = distances(student)
    s = s / s[s > 0].mean()
    return distance * F.smooth_l1_loss(s, t, reduction="sum") / (n * (n - 1))


def sp(student: Tensor, teacher: Tensor) -> Tensor:
    gram_s, gram_t = F.normalize(student @ student.T, dim=1), F.normalize(teacher @ teacher.T, dim=1)
    return ((gram_s - gram_t) ** 2).sum() / len(student) ** 2


def cka(student: Tensor, teacher: Tensor) -> Tensor:
    x, y = student - student.mean(0), teacher - teacher.mean(0)
    gram_x, gram_y = x @ x.T, y @ y.T
    return 1 - (gram_x * gram_y).sum() / (gram_x.norm() * gram_y.norm())


def pkt(student: Tensor, teacher: Tensor, eps: float = 1e-7) -> Tensor:
    s, t = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    s, t = (s @ s.T + 1) / 2, (t @ t.T + 1) / 2
    s, t = s / s.sum(1, keepdim=True), t / t.sum(1, keepdim=True)
    return (t * torch.log((t + eps / len(t)) / (s + eps / len(s)))).sum(1).mean()


def hybrid(student: Tensor, teacher: Tensor, tau: float = 0.1) -> Tensor:
    s, t = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    p, log_q = F.softmax(t @ t.T / tau, dim=1), F.log_softmax(s @ s.T / tau, dim=1)
    return F.kl_div(log_q, p, reduction="none").sum(1).mean()


def trg(student: Tensor, teacher: Tensor, tau: float = 0.1, k: int = 16, context: float = 1.0) -> Tensor:
    s, t = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    cosine_s, cosine_t = s @ s.T, (t @ t.T).fill_diagonal_(-float("inf"))
    near, neighbours = cosine_t.topk(k, dim=1)
    p = F.softmax(near / tau, dim=1)
    log_q = F.log_softmax(cosine_s.gather(1, neighbours) / tau, dim=1)
    graph = F.kl_div(log_q, p, reduction="none").sum(1).mean()
    share_s = F.log_softmax(F.cosine_similarity(student, student.mean(0, keepdim=True)) / tau, dim=0)
    share_t = F.softmax(F.cosine_similarity(teacher, teacher.mean(0, keepdim=True)) / tau, dim=0)
    return graph + context * F.kl_div(share_s, share_t, reduction="sum")


def rsd_gram(student: Tensor, teacher: Tensor) -> Tensor:
    s, t = (z.movedim(1, -1).flatten(0, -2) for z in (student, teacher))
    return (s @ s.mT - t @ t.mT).square().mean()


def ifvd(student: Tensor, teacher: Tensor, labels: Tensor, classes: int) -> Tensor:
    """One sample; maps are samples of their own, class by class."""

    def variation(features: Tensor) -> Tensor:
        maps = features.T.unsqueeze(0) if features.ndim == 2 else features.flatten(2)
        centres = torch.zeros_like(maps)
        for n, c in ((n, c) for n in range(len(maps)) for c in range(classes)):
            mine = labels.view(len(maps), -1)[n] == c
            if mine.any():
                centres[n, :, mine] = maps[n, :, mine].mean(1, keepdim=True)
        return F.cosine_similarity(maps, centres, dim=1)

    return (variation(student) - variation(teacher)).square().mean()
