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
    tau_max: float = 100.0,
    noise: float = 0.1,
    privacy: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Privacy-aware distillation: the teacher's answer is softer, and noisier, the more private a position is.

    With $m_i \in [0, 1]$ how private position i is, and $\pi_i$ the greater of $m_i$ and the probability that the
    teacher gives to the `private` classes there,

    $$ l_i = \mathrm{KL}\big(\tilde p_i \,\|\, \mathrm{softmax}(z^s_i)\big), \quad
       \tilde p \propto \max\big(0, \mathrm{softmax}(z^t / \tau) + b \pi \xi\big), \quad
       \tau_i = \tau_{\min} + (\tau_{\max} - \tau_{\min}) \pi_i, \qquad L = \sum_i w_i l_i / \sum_i w_i, $$

    with $\xi$ Laplace noise of scale 1, drawn from torch's generator at each call. The teacher alone is softened: the
    student answers at temperature 1, and no $\tau^2$ makes up for the softening. Were both softened alike, the student
    would end equal to the teacher at every temperature, and nothing would be hidden. A student that meets a position
    often averages the noise away: what then remains of the answer is what `tau_max` leaves of it. No formal guarantee.

    Args:
        student: logits `(N, C, *)`.
        teacher: logits `(N, C, *)`.
        private: classes that are private, wherever the teacher sees them.
        tau_min: temperature of the teacher at a public position; at 1 the loss is `kl` there.
        tau_max: temperature of the teacher at a private position.
        noise: $b$; with 0 nothing is drawn.
        privacy: $m$, `(N, *)`, bool or from 0 to 1: which positions are private.
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: not 0 < tau_min <= tau_max, or noise below 0; there is neither a private class nor a mask; `private`
            names a class that there is not.

    Paper: Li et al., "Swing Distillation: A Privacy-Preserving Knowledge Distillation Framework", 2022, for the idea: a
    temperature by the likelihood of private content, and noise on the soft targets. The rule is ours. A mean over
    positions; the factor to the authors' weights is unknown.

    >>> s, t = torch.zeros(2, 2), torch.tensor([[30.0, 0.0], [30.0, 0.0]])
    >>> hidden = torch.tensor([False, True])
    >>> each = [swing(s, t, privacy=hidden, weight=row) for row in torch.eye(2)]
    >>> each[0].item(), round(swing(s, t, noise=0.0, privacy=hidden, weight=torch.tensor([0, 1])).item(), 3)
    (0.6931..., 0.011)
    """
    if not 0 < tau_min <= tau_max or noise < 0:
        raise ValueError(f"swing needs 0 < tau_min <= tau_max and noise >= 0, got {tau_min}, {tau_max} and {noise}")
    if privacy is None and not len(private):
        raise ValueError(
            "swing hides nothing: name classes, private=[...], or positions, privacy=mask of shape (N, *); without "
            "either use 'kl'"
        )
    classes = teacher.shape[1]
    if wrong := [each for each in private if not 0 <= each < classes]:
        raise ValueError(f"swing: private names class {wrong[0]} where there are {classes}: 0 to {classes - 1}")
    pi = F.softmax(teacher, dim=1)[:, list(private)].sum(1, keepdim=True)
    if privacy is not None:
        pi = torch.maximum(pi, privacy.to(pi.dtype).unsqueeze(1))
    p = F.softmax(teacher / (tau_min + (tau_max - tau_min) * pi), dim=1)
    if noise > 0:
        u = 2 * torch.rand_like(p) - 1  # one draw: a compiler may take two alike for the same
        laplace = -u.sign() * torch.log1p((-u.abs()).clamp_min(torch.finfo(p.dtype).eps - 1))
        p = (p + noise * pi * laplace).clamp_min(torch.finfo(p.dtype).tiny)
        p = p / p.sum(1, keepdim=True)
    return weighted_mean(F.kl_div(F.log_softmax(student, dim=1), p, reduction="none").sum(1), weight)
