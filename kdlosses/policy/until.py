from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kdlosses.reduce import nothing
from kdlosses.registry import build, register


@register(match="inner")
class Until(nn.Module):
    r"""Any loss until a point of the training, exactly 0 afterwards.

    $$ L = \begin{cases} \ell(s, t) & \mathrm{progress} < \mathrm{stop} \\ 0 & \text{else} \end{cases} $$

    Distillation helps early in training and can hurt later. After the stop the teacher's forward pass is skipped, see
    `Loss.active`. The stop is a fixed point of the training, as in the paper.

    The paper's alignment is two entries with the same stop and weights of 0.5. Features: `until` around `cosine`, with
    a projector (theirs has three layers). Attention: `until` around `attention_rows` of densekd, head by head. Where a
    model does not yield its attention, `hybrid` compares relations of its tokens.

    Args:
        loss: what `kdlosses.build` takes.
        stop: share of the training at which the loss is switched off (paper: 250,000 steps on ImageNet 256).

    `forward`:
        student: as the loss inside wants it.
        teacher: likewise.
        progress: share of the training that is done, 0 to 1.
        context: what the loss inside names.

    Raises:
        ValueError: `stop` is not in [0, 1].

    Paper: Wang et al., "REPA Works Until It Doesn't: Early-Stopped, Holistic Alignment Supercharges Diffusion
    Training", 2025. Factor 1.

    >>> import torch
    >>> loss, s, t = build(dict(type="until", loss="mse", stop=0.5)), torch.zeros(1, 2), torch.ones(1, 2)
    >>> loss(s, t, progress=0.49).item(), loss(s, t, progress=0.5).item()
    (1.0, 0.0)
    """

    def __init__(self, loss: Any = "kl", stop: float = 0.5) -> None:
        super().__init__()
        if not 0 <= stop <= 1:
            raise ValueError(f"until: stop must be a share of the training, 0 to 1, got {stop}")
        self.loss = build(loss)
        self.stop = stop

    def forward(self, student: Tensor, teacher: Tensor, progress: float, **context: Any) -> Tensor:
        if progress >= self.stop:
            return nothing(student)
        return self.loss(student, teacher, progress=progress, **context)

    def active(self, progress: float, **context: Any) -> bool:
        """Whether the stop is not yet reached and the loss inside is active."""
        return progress < self.stop and self.loss.active(progress=progress, **context)
