"""The feature losses as a reader of their papers types them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    return F.mse_loss(student, teacher)


def linear(layer: Any, features: Tensor) -> Tensor:
    """A learned linear map of the channels: a linear layer for nodes, a 1x1 convolution for maps."""
    if features.ndim == 2:
        return F.linear(features, layer.weight, layer.bias)
    return F.conv2d(features, layer.weight[:, :, None, None], layer.bias)


def hint(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    return F.mse_loss(linear(own.regressor, student), teacher)


def leaf(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    return F.mse_loss(linear(own.output, student), teacher)


def dmae(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    student = F.normalize(linear(own.projection, student), dim=1)
    return F.l1_loss(student, F.normalize(teacher, dim=1))


def vid(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    first, _, second, _, third = own.regressor
    mean = linear(third, F.relu(linear(second, F.relu(linear(first, student)))))
    variance = (F.softplus(own.raw_variance) + own.eps).view(1, -1, *[1] * (teacher.ndim - 2))
    return (0.5 * ((mean - teacher) ** 2 / variance + torch.log(variance))).mean()


def talking(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    def coder(layers: Any, features: Tensor) -> Tensor:
        first, _, second = layers
        return linear(second, F.relu(linear(first, features)))

    said, heard = coder(own.student_encoder, student), coder(own.teacher_encoder, teacher)
    return (
        F.mse_loss(said, heard)
        + F.mse_loss(coder(own.student_decoder, said), student)
        + F.mse_loss(coder(own.teacher_decoder, heard), teacher)
    )


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    return (1 - F.cosine_similarity(student, teacher, dim=1)).mean()


def patient(student: Tensor, teacher: Tensor) -> Tensor:
    return ((F.normalize(student, dim=1) - F.normalize(teacher, dim=1)) ** 2).sum(1).mean()


def nd(student: Tensor, teacher: Tensor, labels: Tensor, own: Any) -> Tensor:
    means = F.normalize(own.teacher.mean, dim=1)
    direction = means[labels].movedim(-1, 1)
    length = torch.maximum(student.norm(dim=1), teacher.norm(dim=1))
    return (1 - (student * direction).sum(1) / length).mean()


def norm_feature(student: Tensor, teacher: Tensor) -> Tensor:
    return ((student - teacher) ** 2).sum() / (teacher**2).sum()


def g2sd(student: Tensor, teacher: Tensor, beta: float = 2.0, eps: float = 1e-6) -> Tensor:
    mean, variance = teacher.mean(1, keepdim=True), teacher.var(1, unbiased=False, keepdim=True)
    return F.smooth_l1_loss(student, (teacher - mean) / (variance + eps).sqrt(), beta=beta)


def at(student: Tensor, teacher: Tensor) -> Tensor:
    def attention(features: Tensor) -> Tensor:
        features = features.flatten(2) if features.ndim > 2 else features.T.unsqueeze(0)
        return F.normalize((features**2).mean(1), dim=1)

    return ((attention(student) - attention(teacher)) ** 2).mean()


def cwd(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    if student.ndim == 2:
        student, teacher = student.T.unsqueeze(0), teacher.T.unsqueeze(0)
    p = F.softmax(teacher.flatten(2) / tau, dim=2)
    log_q = F.log_softmax(student.flatten(2) / tau, dim=2)
    return tau**2 * F.kl_div(log_q, p, reduction="none").sum(2).mean()


def pkd(student: Tensor, teacher: Tensor, eps: float = 1e-6) -> Tensor:
    axes = (0, *range(2, student.ndim))

    def standardised(features: Tensor) -> Tensor:
        mean, deviation = features.mean(axes, keepdim=True), features.std(axes, keepdim=True)
        return (features - mean) / (deviation + eps)

    return F.mse_loss(standardised(student), standardised(teacher)) / 2


def hcl(student: Tensor, teacher: Tensor, levels: tuple[int, ...] = (4, 2, 1)) -> Tensor:
    loss, norm, factor = F.mse_loss(student, teacher), 1.0, 1.0
    if student.ndim == 2:
        return loss
    for level in levels:
        if level >= student.shape[2]:
            continue
        factor /= 2
        norm += factor
        pooled = F.adaptive_avg_pool2d(student, level), F.adaptive_avg_pool2d(teacher, level)
        loss = loss + factor * F.mse_loss(*pooled)
    return loss / norm


def vq_code_kl(student: Tensor, teacher: Tensor, own: Any) -> Tensor:
    def log_shares(features: Tensor) -> Tensor:
        rows = features.movedim(1, -1).flatten(0, -2)
        return F.log_softmax(-torch.cdist(rows, own.codebook.to(rows)) / own.tau, dim=1)

    log_q, log_p = log_shares(student), log_shares(teacher)
    return own.tau**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
