from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register
def swing(
    student: Tensor,
    teacher: Tensor,
    private: Sequence[int] = (),
    tau_min: float = 1.0,
    tau_max: float = 8.0,
    noise: float = 0.0,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Privacy-aware distillation: temperature and noise rise with the probability of private classes.

    With $\pi_i \in [0, 1]$ the probability that the teacher gives to the `private` classes,

    $$ l_i = \tau_i^2 \, \mathrm{KL}(\tilde p_i \| q_i), \quad
       \tau_i = \tau_{\min} + (\tau_{\max} - \tau_{\min}) \pi_i, \; q = \mathrm{softmax}(z^s / \tau), \;
       \tilde p \propto \max\big(0, \mathrm{softmax}(z^t / \tau) + b \pi \xi\big), \qquad
       L = \sum_i w_i l_i / \sum_i w_i, $$

    with $\xi$ Laplace noise of scale 1, drawn from torch's generator at each call. The paper publishes the idea, a
    temperature per token by the likelihood of private content and noise on the soft targets; the rule is ours. It
    lowers what leaks: it is no formal guarantee of privacy.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        private: classes whose positions are private; without any it is `kl` at `tau_min`.
        tau_min: temperature of a public position.
        tau_max: temperature of a private position.
        noise: $b$; with 0 nothing is drawn.
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: not 0 < tau_min <= tau_max, or noise below 0.

    Paper: Li et al., "Swing Distillation: A Privacy-Preserving Knowledge Distillation Framework", 2022. A mean over
    positions; the factor to the authors' weights is unknown.

    >>> s, t = torch.zeros(1, 2), torch.tensor([[30.0, 0.0]])
    >>> public, hidden = swing(s, t, tau_max=1e4), swing(s, t, private=[0], tau_max=1e4)
    >>> public.item()  # KL((1, 0) || (1/2, 1/2))
    0.6931...
    >>> round(hidden.item() / 1e8, 4)  # at this temperature the two agree
    0.0
    """
    if not 0 < tau_min <= tau_max or noise < 0:
        raise ValueError(f"swing needs 0 < tau_min <= tau_max and noise >= 0, got {tau_min}, {tau_max} and {noise}")
    privacy = F.softmax(teacher, dim=1)[:, list(private)].sum(1, keepdim=True)
    tau = tau_min + (tau_max - tau_min) * privacy
    p, log_q = F.softmax(teacher / tau, dim=1), F.log_softmax(student / tau, dim=1)
    if noise > 0:
        u = 2 * torch.rand_like(p) - 1  # one draw: a compiler may take two alike for the same
        laplace = -u.sign() * torch.log1p((-u.abs()).clamp_min(torch.finfo(p.dtype).eps - 1))
        p = (p + noise * privacy * laplace).clamp_min(torch.finfo(p.dtype).tiny)
        p = p / p.sum(1, keepdim=True)
    return weighted_mean(F.kl_div(log_q, p, reduction="none").sum(1) * tau.squeeze(1) ** 2, weight)
