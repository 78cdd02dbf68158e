"""The logit losses as a reader of their papers types them, in the order of the formulas in their docstrings."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transcriptions.feature import linear


def kl(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    p = F.softmax(teacher / tau, dim=1)
    log_q = F.log_softmax(student / tau, dim=1)
    return tau**2 * F.kl_div(log_q, p, reduction="none").sum(1).mean()


def kd(student: Tensor, teacher: Tensor) -> Tensor:
    return kl(student, teacher, tau=4.0)


def rkl(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    log_p = F.log_softmax(teacher / tau, dim=1)
    q = F.softmax(student / tau, dim=1)
    return tau**2 * (q * (q.log() - log_p)).sum(1).mean()


def jeffreys(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    p, q = F.softmax(teacher / tau, dim=1), F.softmax(student / tau, dim=1)
    return tau**2 * ((p - q) * (p / q).log()).sum(1).mean()


def js(student: Tensor, teacher: Tensor, beta: float = 0.1, tau: float = 1.0) -> Tensor:
    p, q = F.softmax(teacher / tau, dim=1), F.softmax(student / tau, dim=1)
    m = beta * p + (1 - beta) * q
    kl_p = (p * (p / m).log()).sum(1)
    kl_q = (q * (q / m).log()).sum(1)
    return tau**2 * (beta * kl_p + (1 - beta) * kl_q).mean()


def ssld(student: Tensor, teacher: Tensor) -> Tensor:
    return js(student, teacher, beta=0.5)


def skew_kl(student: Tensor, teacher: Tensor, lam: float = 0.1, tau: float = 1.0) -> Tensor:
    p, q = F.softmax(teacher / tau, dim=1), F.softmax(student / tau, dim=1)
    m = lam * p + (1 - lam) * q
    return tau**2 * (p * (p / m).log()).sum(1).mean()


def skew_rkl(student: Tensor, teacher: Tensor, lam: float = 0.1, tau: float = 1.0) -> Tensor:
    p, q = F.softmax(teacher / tau, dim=1), F.softmax(student / tau, dim=1)
    m = (1 - lam) * p + lam * q
    return tau**2 * (q * (q / m).log()).sum(1).mean()


def tvd(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    p, q = F.softmax(teacher / tau, dim=1), F.softmax(student / tau, dim=1)
    return tau**2 * (0.5 * (p - q).abs().sum(1)).mean()


def alpha_div(student: Tensor, teacher: Tensor, alpha: float = 0.5, tau: float = 1.0) -> Tensor:
    p, q = F.softmax(teacher / tau, dim=1), F.softmax(student / tau, dim=1)
    overlap = (p**alpha * q ** (1 - alpha)).sum(1)
    return tau**2 / (alpha * (alpha - 1)) * (overlap - 1).mean()


def bd_kd(student: Tensor, teacher: Tensor, tau: float = 4.0) -> Tensor:
    p, q = F.softmax(teacher / tau, dim=1), F.softmax(student / tau, dim=1)
    forward, reverse = (p * (p / q).log()).sum(1), (q * (q / p).log()).sum(1)
    with torch.no_grad():
        entropy_p, entropy_q = -(p * p.log()).sum(1), -(q * q.log()).sum(1)
        d = entropy_p / (entropy_p + entropy_q)
    return tau**2 * (d * forward + (1 - d) * reverse).mean()


def topk_kl(student: Tensor, teacher: Tensor, k: int = 10, tau: float = 1.0) -> Tensor:
    p, q = F.softmax(teacher / tau, dim=1), F.softmax(student / tau, dim=1)
    likeliest = torch.zeros_like(p).scatter(1, teacher.topk(k, dim=1).indices, 1.0)
    rest = 1 - likeliest
    mass_p, mass_q = (p * likeliest).sum(1, keepdim=True), (q * likeliest).sum(1, keepdim=True)
    covered = (likeliest * p * (p / mass_p / (q / mass_q)).log()).sum(1)
    sought = (rest * q * (q / (1 - mass_q) / (p / (1 - mass_p))).log()).sum(1)
    split = mass_p * (mass_p / mass_q).log() + (1 - mass_p) * ((1 - mass_p) / (1 - mass_q)).log()
    return tau**2 * (covered + sought + split.squeeze(1)).mean()


def dkd(
    student: Tensor, teacher: Tensor, labels: Tensor, alpha: float = 1.0, beta: float = 8.0, tau: float = 4.0
) -> Tensor:
    target = torch.zeros_like(student).scatter(1, labels.unsqueeze(1), 1.0)
    p, q = F.softmax(teacher / tau, dim=1), F.softmax(student / tau, dim=1)
    p_y, q_y = (p * target).sum(1), (q * target).sum(1)
    of_label = p_y * (p_y / q_y).log() + (1 - p_y) * ((1 - p_y) / (1 - q_y)).log()
    p_hat = F.softmax(teacher / tau - 1000 * target, dim=1)
    log_q_hat = F.log_softmax(student / tau - 1000 * target, dim=1)
    others = F.kl_div(log_q_hat, p_hat, reduction="none").sum(1)
    return tau**2 * (alpha * of_label + beta * others).mean()


def nkd(student: Tensor, teacher: Tensor, labels: Tensor, gamma: float = 1.5, tau: float = 1.0) -> Tensor:
    y = labels.unsqueeze(1)
    target = torch.zeros_like(student).scatter(1, y, 1.0)
    log_q, p = F.log_softmax(student, dim=1), F.softmax(teacher, dim=1)
    of_label = -(p.gather(1, y) * log_q.gather(1, y)).squeeze(1)
    p_hat = F.softmax(teacher / tau - 1000 * target, dim=1)
    log_q_hat = F.log_softmax(student / tau - 1000 * target, dim=1)
    others = -(p_hat * log_q_hat).sum(1)
    return (of_label + gamma * tau**2 * others).mean()


def uskd(student: Tensor, teacher: Tensor, labels: Tensor, student_logits: Tensor, own: Any) -> Tensor:
    weak = linear(own.head, student)
    teacher, student = weak.detach(), student_logits
    y = labels.unsqueeze(1)
    target = torch.zeros_like(student).scatter(1, y, 1.0)
    log_q_y = F.log_softmax(student, dim=1).gather(1, y).squeeze(1)
    square = log_q_y.detach().exp() ** 2
    of_label = (1 + square - square.mean()) * log_q_y
    log_q_hat = F.log_softmax(student - 1000 * target, dim=1)
    w_hat = F.softmax(teacher - 1000 * target, dim=1)
    score = log_q_hat.detach().exp() + w_hat - target  # the label comes last
    rank = score.argsort(dim=1, descending=True).argsort(dim=1) + 1
    zipf = (1 - target) / rank
    zipf = zipf / zipf.sum(1, keepdim=True)
    others = (zipf * log_q_hat).sum(1)
    known = F.cross_entropy(weak, labels, label_smoothing=0.1)
    return own.mu * known - (own.alpha * of_label + own.beta * others).mean()


def ofa(student: Tensor, teacher: Tensor, labels: Tensor, gamma: float = 1.0, tau: float = 1.0) -> Tensor:
    p = F.softmax(teacher / tau, dim=1)
    target = torch.zeros_like(p).scatter(1, labels.unsqueeze(1), 1.0)
    return -(((p + target) ** gamma - target) * F.log_softmax(student / tau, dim=1)).sum(1).mean()


def crkd(student: Tensor, teacher: Tensor, tau: float = 4.0) -> Tensor:
    known = teacher.shape[1]
    p, log_q = F.softmax(teacher / tau, dim=1), F.log_softmax(student[:, :known] / tau, dim=1)
    k = F.softmax(student / tau, dim=1)[:, :known].sum(1)
    return -(tau**2) * (k / k.mean() * (p * log_q).sum(1)).mean()


def sce(student: Tensor, teacher: Tensor, alpha: float = 0.5) -> Tensor:
    p, q = F.softmax(teacher, dim=1), F.softmax(student, dim=1)
    forward, reverse = -(p * q.log()).sum(1), -(q * p.log()).sum(1)
    return ((1 - alpha) * forward + alpha * reverse).mean()


def meal(student: Tensor, teacher: Tensor) -> Tensor:
    teachers = teacher.split(student.shape[1], dim=1)
    p = torch.stack([F.softmax(each, dim=1) for each in teachers]).mean(0)
    return -(p * F.log_softmax(student, dim=1)).sum(1).mean()


def dhkd(student: Tensor, teacher: Tensor, tau: float = 2.0) -> Tensor:
    return tau**2 * torch.log(torch.cosh((student - teacher) / (2 * tau))).sum(1).mean()


def dse(student: Tensor, teacher: Tensor) -> Tensor:
    return ((student - teacher) ** 2).sum(1).mean()


def label_smoothing(student: Tensor, teacher: Tensor, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    rest = smoothing / (student.shape[1] - 1)
    target = torch.full_like(student, rest).scatter(1, labels.unsqueeze(1), 1 - smoothing)
    return -(target * F.log_softmax(student, dim=1)).sum(1).mean()


def tfkd_reg(student: Tensor, teacher: Tensor, labels: Tensor, confidence: float = 0.99, tau: float = 20.0) -> Tensor:
    rest = (1 - confidence) / (student.shape[1] - 1)
    virtual = torch.full_like(student, rest).scatter(1, labels.unsqueeze(1), confidence)
    p = F.softmax(virtual / tau, dim=1)
    return F.kl_div(F.log_softmax(student, dim=1), p, reduction="none").sum(1).mean()


def ferkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    low: float = 0.1,
    medium: float = 0.3,
    high: float = 1.0,
    smoothing: float = 0.1,
) -> Tensor:
    p, log_q = F.softmax(teacher, dim=1), F.log_softmax(student, dim=1)
    rest = smoothing / (student.shape[1] - 1)
    true = torch.full_like(p, rest).scatter(1, labels.unsqueeze(1), 1 - smoothing)
    sure = p.max(1).values
    target = torch.where((sure < medium).unsqueeze(1), true, p)
    counts = ((sure >= low) & (sure <= high)).float()
    return (counts * -(target * log_q).sum(1)).sum() / counts.sum()


def swing(student: Tensor, teacher: Tensor, private: tuple[int, ...] = (1, 3)) -> Tensor:
    privacy = F.softmax(teacher, dim=1)[:, list(private)].sum(1, keepdim=True)
    p = F.softmax(teacher / (1.0 + (100.0 - 1.0) * privacy), dim=1)
    return F.kl_div(F.log_softmax(student, dim=1), p, reduction="none").sum(1).mean()


def std_kd(student: Tensor, teacher: Tensor) -> Tensor:
    p = F.softmax(teacher / teacher.std(1, keepdim=True), dim=1)
    log_q = F.log_softmax(student / student.std(1, keepdim=True), dim=1)
    return F.kl_div(log_q, p, reduction="none").sum(1).mean()


def dist(
    student: Tensor, teacher: Tensor, tau: float = 1.0, beta: float = 1.0, gamma: float = 1.0, eps: float = 1e-8
) -> Tensor:
    q, p = (F.softmax(z / tau, dim=1).movedim(1, -1).flatten(0, -2) for z in (student, teacher))

    def pearson(a: Tensor, b: Tensor) -> Tensor:  # of rows
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + eps)

    return tau**2 * (beta * (1 - pearson(q, p)).mean() + gamma * (1 - pearson(q.T, p.T)).mean())


def taid(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    t = own.t
    target = F.softmax((1 - t) * student.detach() + t * teacher, dim=1)
    return -(target * F.log_softmax(student, dim=1)).sum(1).mean()


def assistive(
    student: Tensor,
    teacher: Tensor,
    beyond: tuple[float, ...] = (1.9, 1.8),
    within: tuple[float, ...] = (-0.45, -0.4),
) -> Tensor:
    truth, *teachers = teacher.split(student.shape[1], dim=1)
    e = (student - truth).abs()
    tolerant = (teachers[-1] - truth).abs()
    loss = torch.where(e <= tolerant, 3 * e, e**2 + 3 * tolerant - tolerant**2)
    for t, plus, minus in zip(teachers, beyond, within):
        d = (t - truth).abs()
        phi = torch.where((e > d) & (d > 0), plus, torch.where((e >= 0.15 * d) & (e <= d), minus, 0.0))
        loss = loss + phi * (e - d).abs()
    return loss.mean()


def lelp(student: Tensor, teacher: Tensor, teacher_logits: Tensor, own: Any) -> Tensor:
    h, z = (x.movedim(1, -1).flatten(0, -2) for x in (teacher, teacher_logits))
    log_q = F.log_softmax(student.movedim(1, -1).flatten(0, -2), dim=1)
    p = F.softmax(z, dim=1)
    score = (h @ own.directions.T - own.offsets).reshape(len(h), -1, own.subclasses)
    target = p.unsqueeze(2) * F.softmax(score, dim=2)
    return -(target.flatten(1) * log_q).sum(1).mean()


def dac_kl(student: Tensor, teacher: Tensor, own: Any, eps: float = 0.02, pair_weight: float = 0.1) -> Tensor:
    p, q = F.softmax(teacher, dim=1), F.softmax(student, dim=1)
    ranked, order = p.sort(dim=1, descending=True)
    low, high = own.bounds(ranked)
    place = ranked.cumsum(1) - ranked / 2
    mask = torch.sigmoid((place - low) / eps) * torch.sigmoid((high - place) / eps)
    mask = torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], dim=1)
    mask = torch.zeros_like(mask).scatter(1, order, mask)
    density = 1 - (p * mask).sum(1) + 0.1 / p.shape[1] * mask.sum(1)
    loss = (density - density.detach()).mean()
    mask = mask.detach()
    rest_p, rest_q = ((1 - mask) * p).sum(1), ((1 - mask) * q).sum(1)
    loss = loss + ((mask * p * torch.log(p / q)).sum(1) + rest_p * torch.log(rest_p / rest_q)).mean()
    if student.ndim == 4:
        below = (p[:, :, 1:] * p[:, :, :-1] - q[:, :, 1:] * q[:, :, :-1]).abs().mean(1)
        beside = (p[..., 1:] * p[..., :-1] - q[..., 1:] * q[..., :-1]).abs().mean(1)
        loss = loss + pair_weight * torch.cat([below.flatten(), beside.flatten()]).mean()
    return loss


def sinkd(student: Tensor, teacher: Tensor, tau: float = 2.0, eps: float = 0.1, iterations: int = 20) -> Tensor:
    a, b = F.softmax(student / tau, dim=1), F.softmax(teacher / tau, dim=1)
    cost = torch.cdist(a, b, p=1)
    plan = torch.exp(-cost / eps)
    for _ in range(iterations):
        plan = plan / plan.sum(1, keepdim=True)
        plan = plan / plan.sum(0, keepdim=True)
    return (plan * cost).sum() / len(cost)


def pseudo(student: Tensor, teacher: Tensor) -> Tensor:
    return F.cross_entropy(student, teacher.argmax(1))


def bsd_pixel(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    better = F.cross_entropy(teacher, labels, reduction="none") <= F.cross_entropy(student, labels, reduction="none")
    divergence = F.kl_div(F.log_softmax(student, dim=1), F.softmax(teacher, dim=1), reduction="none").sum(1)
    return (better * divergence).mean()
