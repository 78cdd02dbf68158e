from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from kdlosses.registry import build, register
from kdlosses.schedule import along, check_way, scaled


@register(match="inner")
class Ramp(nn.Module):
    r"""Any loss times a factor that ramps up or down during training.

    $$ L = f \, \ell(s, t), \quad f = (1 - g(u)) \, f_0 + g(u) \, f_1, \quad
       u = \mathrm{clip}\Big(\frac{\mathrm{progress} - a}{b - a}, 0, 1\Big), \quad
       g(u) = u \;\text{ or }\; \frac{1 - \cos \pi u}{2} $$

    From the end of the stretch on the factor is exactly $f_1$. Where the factor is 0 the teacher is not run, see
    `Loss.active`. It follows the step, not the epoch; `warmup` counts epochs.

    Args:
        loss: what `kdlosses.build` takes.
        start: factor $f_0$ up to the beginning of the stretch.
        end: factor $f_1$ from its end on; less than `start` for a ramp down.
        over: the stretch $(a, b)$, as shares of the training.
        shape: `linear` or `cosine`.

    `forward`:
        student: as the loss inside wants it.
        teacher: likewise.
        progress: share of the training that is done, 0 to 1.
        context: what the loss inside names.

    Raises:
        ValueError: a factor below 0, a stretch outside of [0, 1], an unknown shape.

    Paper: common to many; the cosine is that of Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm
    Restarts", ICLR 2017, there for the learning rate. Factor 1.

    >>> import torch
    >>> loss, s, t = build(dict(type="ramp", loss="mse", over=(0.0, 0.2))), torch.zeros(1, 2), torch.ones(1, 2)
    >>> [loss(s, t, progress=p).item() for p in (0.0, 0.1, 0.2, 1.0)]
    [0.0, 0.5, 1.0, 1.0]
    """

    def __init__(
        self,
        loss: Any = "kl",
        start: float = 0.0,
        end: float = 1.0,
        over: Sequence[float] = (0.0, 1.0),
        shape: str = "linear",
    ) -> None:
        super().__init__()
        check_way("ramp", over, shape)
        self.loss = build(loss)
        self.start, self.end, self.over, self.shape = start, end, tuple(over), shape

    def forward(self, student: Tensor, teacher: Tensor, progress: float, **context: Any) -> Tensor:
        context["progress"] = progress
        return scaled(self.factor(progress), self.loss, student, teacher, context)

    def factor(self, progress: float) -> float:
        """Factor at this point of the training."""
        return along(progress, self.start, self.end, self.over, self.shape)

    def active(self, progress: float, **context: Any) -> bool:
        """Whether the factor is not 0 and the loss inside is active."""
        return self.factor(progress) != 0 and self.loss.active(progress=progress, **context)
