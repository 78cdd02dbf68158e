"""The contrastive and prototype losses as a reader of their papers types them."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transcriptions.feature import linear


def infonce(student: Tensor, teacher: Tensor, tau: float = 0.1) -> Tensor:
    logits = F.normalize(student, dim=1) @ F.normalize(teacher, dim=1).T / tau
    return F.cross_entropy(logits, torch.arange(len(student)))


def layer_infonce(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    told = own.shared(own.inner(own.norm(F.prelu(own.teacher(teacher), own.slope.weight))))
    logits = F.normalize(student, dim=1) @ F.normalize(told, dim=1).T / own.tau
    return F.cross_entropy(logits, torch.arange(len(student)))


def comodo(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    s, t = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    keys = torch.cat([own.queue.items[own.queue.weight > 0], t])
    a = F.softmax(t @ keys.T / own.teacher_tau, dim=1)
    return -(a * F.log_softmax(s @ keys.T / own.student_tau, dim=1)).sum(1).mean()


def dino(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    centre = own.centre.view(-1, *[1] * (teacher.ndim - 2))
    a = F.softmax((teacher - centre) / own.teacher_tau, dim=1)
    return -(a * F.log_softmax(student / own.student_tau, dim=1)).sum(1).mean()


def cross_modal_mutual(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    s, t = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    taken = own.teacher_queue.weight > 0
    keys_s = torch.cat([own.student_queue.items[taken], s])
    keys_t = torch.cat([own.teacher_queue.items[taken], t])
    cosine_t = t @ keys_t.T
    n = len(t)
    cosine_t[torch.arange(n), len(keys_t) - n + torch.arange(n)] = -float("inf")  # not its own neighbour
    near, neighbours = cosine_t.topk(min(own.k, len(keys_t)), dim=1)
    p = F.softmax(near / own.teacher_tau, dim=1)
    log_q = F.log_softmax((s @ keys_s.T).gather(1, neighbours) / own.student_tau, dim=1)
    return F.kl_div(log_q, p, reduction="none").sum(1).mean()


def cmd(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    """On nodes of one graph without edges: each is a region, and the graph the only whole."""

    def whole(features: Tensor, attention: Any) -> Tensor:
        scores = attention.score(F.normalize(features, dim=1))
        return (F.softmax(scores, dim=0) * features).sum(0, keepdim=True)

    u, v = F.normalize(own.projection(student), dim=1), F.normalize(teacher, dim=1)
    log_p = F.log_softmax(v @ v.T / own.teacher_tau, dim=1)
    loss = F.kl_div(F.log_softmax(u @ v.T / own.student_tau, dim=1), log_p, reduction="batchmean", log_target=True)
    pairs = ((u, own.projection(whole(student, own.student))), (v, whole(teacher, own.teacher)))
    for regions, one in pairs:
        logits = regions @ F.normalize(one, dim=1).T / own.student_tau
        loss = loss + own.within * F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
    return loss


def crd(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    u, v = F.normalize(own.student_embed(student), dim=1), F.normalize(own.teacher_embed(teacher), dim=1)
    past_u, past_v = own.memory.items[:, :-1].chunk(2, dim=1)
    c = len(past_u) / own.samples
    loss: Any = 0.0
    for anchors, partners, past, log_z in ((u, v, past_v, own.log_z[0]), (v, u, past_u, own.log_z[1])):
        positive = torch.exp((anchors * partners).sum(1) / own.tau - log_z)
        negative = torch.exp(anchors @ F.normalize(past, dim=1).T / own.tau - log_z)
        loss = loss - torch.log(positive / (positive + c)) - torch.log(c / (negative + c)).sum(1)
    return loss.mean()


def mi_alpha(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    n = len(student)
    score = own.student_critic(student) @ own.teacher_critic(teacher).T
    others = ~torch.eye(n, dtype=torch.bool)
    mean = torch.exp(score).sum(1, keepdim=True) - torch.exp(score)
    alpha = torch.sigmoid(torch.tensor(own.alpha_logit))
    b = torch.log(alpha * mean / (n - 1) + (1 - alpha) * torch.exp(own.baseline(student)))
    joint = score.diagonal().unsqueeze(1) - b
    marginal = torch.exp(score - b.diagonal().unsqueeze(1))
    return -1 - ((joint - marginal) * others).sum() / (n * (n - 1))


def prockd(student: Tensor, teacher: Tensor, labels: Tensor, own: Any) -> Tensor:
    m = own.prototypes

    def shares(features: Tensor, prototypes: Tensor) -> Tensor:
        rows = F.normalize(features.movedim(1, -1).flatten(0, -2), dim=1)
        return F.log_softmax(rows @ F.normalize(prototypes, dim=1).T / own.tau, dim=1)

    a = shares(teacher, m).exp()
    learn = F.mse_loss(a @ m, teacher.movedim(1, -1).flatten(0, -2))
    spread = -math.log(len(m)) - a.mean(0).log().mean()
    log_b = shares(linear(own.projection, student), m.detach())
    teach = F.kl_div(log_b, a.detach(), reduction="none").sum(1).mean()
    parts = (log_b.exp() @ m.detach()).unflatten(0, (len(student), *student.shape[2:])).movedim(-1, 1)
    answer = linear(own.head, student + linear(own.augmentation, parts))
    return learn + own.balance * spread + teach + own.task * F.cross_entropy(answer, labels)


def prokd(student: Tensor, teacher: Tensor, labels: Tensor, teacher_logits: Tensor, own: Any) -> Tensor:
    rows, y = teacher.movedim(1, -1).flatten(0, -2), labels.flatten()
    rows = rows + own.align(rows)
    classes = torch.where(y < 0, teacher_logits.argmax(1).flatten(), y)
    banks = []
    for bank, here in ((own.labelled, y >= 0), (own.unlabelled, y < 0)):
        means = []
        for c in range(len(bank.seen)):
            mine = rows[here & (classes == c)].mean(0)
            means.append(own.momentum * bank.mean[c] + (1 - own.momentum) * mine)
        banks.append(F.normalize(torch.stack(means), dim=1))
    align = F.cross_entropy(banks[0] @ banks[1].T / own.tau, torch.arange(len(banks[0])))
    log_p = F.log_softmax(F.normalize(rows, dim=1) @ banks[1].T / own.tau, dim=1).detach()
    log_q = F.log_softmax(student, dim=1).movedim(1, -1).flatten(0, -2)
    return align + F.kl_div(log_q[y < 0], log_p[y < 0], reduction="batchmean", log_target=True)
