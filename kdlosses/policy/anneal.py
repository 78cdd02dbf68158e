from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kdlosses.registry import build, nearest, register
from kdlosses.schedule import along, check_way


@register(match="inner", least={"start": -math.inf, "end": -math.inf})
class Anneal(nn.Module):
    r"""Any loss with one option, such as the temperature, annealed from one value to another.

    $$ L = \ell(s, t; \theta), \quad \theta = (1 - g(u)) \, \theta_0 + g(u) \, \theta_1 $$

    with u and g of `ramp`. From the end of the stretch on the option is exactly $\theta_1$. It moves with the step. The
    loss is a function with an option that is a float; a module keeps what it was built with, and a policy has no such
    option: this one stands right around the loss, and policies around this one.

    Args:
        loss: what `kdlosses.build` takes, without that option.
        option: name of the option.
        start: value $\theta_0$ up to the beginning of the stretch.
        end: value $\theta_1$ from its end on.
        over: the stretch, as shares of the training.
        shape: `linear` or `cosine`.

    `forward`:
        student: as the loss inside wants it.
        teacher: likewise.
        progress: share of the training that is done, 0 to 1.
        context: what the loss inside names.

    Raises:
        TypeError: the loss has no such option, it is no float, or the loss is a module.
        ValueError: the option is set in `loss` already, the loss does not take one of the two values, or a stretch or
            shape is wrong.

    Paper: Cui et al., "Sinkhorn Distance Minimization for Knowledge Distillation", COLING 2024: tau of the `kd` that
    stands beside `sinkd` goes from 3 to 1 in a straight line. Factor 1.

    >>> import torch
    >>> loss, s, t = build(dict(type="anneal", loss="kd")), torch.eye(3), torch.zeros(3, 3)
    >>> loss(s, t, progress=0.5) == build(dict(type="kd", tau=2.0))(s, t)
    tensor(True)
    """

    def __init__(
        self,
        loss: Any = "kl",
        option: str = "tau",
        start: float = 3.0,
        end: float = 1.0,
        over: Sequence[float] = (0.0, 1.0),
        shape: str = "linear",
    ) -> None:
        super().__init__()
        check_way("anneal", over, shape)
        plain = build(loss)
        known = {} if isinstance(plain.loss, nn.Module) else inspect.signature(plain.loss).parameters
        floats = [name for name, argument in known.items() if type(argument.default) is float]
        if isinstance(plain.loss, nn.Module):
            raise TypeError(f"anneal: loss {plain.name!r} is a module, whose options are fixed when it is built")
        if option not in floats:
            raise TypeError(
                f"anneal: loss {plain.name!r} has no option {option!r} that is a float; {nearest(option, floats)}"
            )
        if option in plain.options:
            raise ValueError(f"anneal: {option} of loss {plain.name!r} is set to {plain.options[option]}; remove that")
        spec = dict(loss) if isinstance(loss, Mapping) else {"type": loss}
        self.option, self.start, self.end, self.over, self.shape = option, start, end, tuple(over), shape
        build({**spec, option: end})  # raises where the loss does not take the value
        self.loss = build({**spec, option: start})

    def forward(self, student: Tensor, teacher: Tensor, progress: float, **context: Any) -> Tensor:
        context["progress"] = progress
        taken = {key: context[key] for key in self.loss.needs if key in context}
        return self.loss.loss(student, teacher, **{**self.loss.options, self.option: self.value(progress), **taken})

    def value(self, progress: float) -> float:
        """Value of the option at this point of the training."""
        return along(progress, self.start, self.end, self.over, self.shape)
