from __future__ import annotations

import torch
from torch import Tensor, nn

from densekd.losses.frequency_prompts import FrequencyPrompts, haar
from kdlosses import register
from kdlosses.reduce import weighted_mean


@register(name="freekd")
class FreeKD(nn.Module):
    r"""Frequency distillation: match the bands of a wavelet transform where learned prompts look.

    With the bands $F_j$ of the Haar transform of both sides, j = 1 to J, finest first, and the masks $M_{jt}$ of T
    prompts on the teacher's bands, see `densekd.losses.frequency_prompts`,

    $$ L = \sum_j \mathrm{mean}_{n,t,c,o,i} \, M_{jti} \, | F^s_{jcoi} - F^t_{jcoi} | + \mu \, \mathrm{mean}_{n,c,i}
       (f^s_{ci} - f^t_{ci})^2, $$

    o the three orientations. The low pass is left out of the first term, so that a shift of a channel's mean does not
    count in it. It counts in the second, with which the authors' code trains along.

    Where prompts come from: with `learned`, a file of `densekd tokens --frequency`, they are those of the paper,
    learned beforehand with the teacher's task loss, and frozen. Without, every mask is 1/2: the same loss on
    frequencies, without prompts.

    Args:
        channels: C, of both sides: unlike channels are aligned before.
        levels: J; those of `learned` if there are.
        mse: $\mu$, weight of the squared error.
        learned: safetensors file of prompts.

    `forward`:
        student: features `(N, C, h, w)`.
        teacher: features `(N, C, h, w)`.

    Raises:
        ValueError: prompts of other channels.

    Paper: Zhang et al., "FreeKD: Knowledge Distillation via Semantic Frequency Prompt", CVPR 2024. Factor 1, weight 1
    on each level of a neck, as in the authors' code, which leaves out the position-aware relational weights of the
    paper; so does this.

    >>> import torch
    >>> loss = FreeKD(channels=3, mse=0.0)
    >>> f = torch.randint(9, (2, 3, 8, 8)).float()
    >>> round(loss(f + 5.0, f).item(), 6), loss(-f, f).item() > 0
    (0.0, True)
    """

    def __init__(self, channels: int, levels: int = 3, mse: float = 5.0, learned: str | None = None) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"freekd: levels must be at least 1, got {levels}")
        self.mse = mse
        self.prompts = None if learned is None else FrequencyPrompts.load(learned).requires_grad_(False)
        self.levels = levels if self.prompts is None else self.prompts.levels

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        (_, ours), (low, theirs) = haar(student, self.levels), haar(teacher, self.levels)
        errors = [(mine - its).abs().mean((1, 2)) for mine, its in zip(ours, theirs)]
        if self.prompts is None:
            bands = [weighted_mean(error / 2) for error in errors]
        else:
            masks = self.prompts.masks(low, theirs)[1]
            bands = [weighted_mean(error * mask.mean(1)) for error, mask in zip(errors, masks)]
        return torch.stack(bands).sum() + self.mse * weighted_mean((student - teacher).square().mean(1))
