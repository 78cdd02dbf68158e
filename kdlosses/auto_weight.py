"""Gradients of a distillation loss beside those of the task: a weight that fits, and what is wrong with one."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from numbers import Real
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kdlosses.options import check_known

P = ParamSpec("P")
R = TypeVar("R")

RATIO, STEPS = 1.0, 50
SCALE = 2.0**16
"""Losses are multiplied by it before their gradients of half precision are taken, which would underflow."""


class Pull(NamedTuple):
    """How two losses pull at what they share.

    Attributes:
        task: norm of the gradient of the task.
        term: norm of the gradient of the distillation loss.
        cosine: of the angle between both.
    """

    task: Tensor
    term: Tensor
    cosine: Tensor


class AutoWeight(nn.Module):
    r"""The weight at which a loss pulls as hard as the task.

    $$ w = \rho \, \operatorname*{median}_{t \le T}
           \frac{\lVert \partial L_\mathrm{task} / \partial s \rVert_2}{\lVert \partial \ell / \partial s \rVert_2} $$

    s is what both losses share: the student's tensors at the tap, or, where the task does not depend on them, the
    student's parameters. The ratio is measured in the first T steps in which the loss is active; until then the weight
    is the median so far, and afterwards it stays. Steps in which a gradient is 0 or not finite do not count; before the
    first one that does, the weight is 0. Processes measure together.

    The ratios are buffers: a resumed run goes on with the same weight.

    Args:
        ratio: how hard the loss pulls, the task being 1.
        steps: T.

    Raises:
        TypeError, ValueError: an option out of range.

    Paper: ours; the idea to compare gradient norms is that of Chen et al., "GradNorm: Gradient Normalization for
    Adaptive Loss Balancing in Deep Multitask Networks", ICML 2018.

    >>> auto, s = AutoWeight(ratio=0.5), torch.ones(2, requires_grad=True)
    >>> auto.measure(Task(3 * s.sum()).pull(0.1 * s.sum(), "s", [s]))
    >>> round(auto.weight.item(), 4)
    15.0
    """

    ratio: float
    ratios: Tensor
    _done: bool

    def __init__(self, ratio: float = RATIO, steps: int = STEPS) -> None:
        super().__init__()
        if isinstance(ratio, bool) or not isinstance(ratio, Real) or not 0 < ratio < math.inf:
            raise ValueError(f"weight 'auto': ratio must be a positive number, got {ratio!r}")
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"weight 'auto': steps must be an integer of at least 1, got {steps!r}")
        self.ratio = float(ratio)
        self._done = False  # known on the host: to look at the ratios waits for the device, and breaks compiled graphs
        self.register_buffer("ratios", torch.full((steps,), math.nan))

    @classmethod
    def parse(cls, weight: Any) -> AutoWeight | None:
        """A weight for `'auto'` or `dict(type='auto', ratio=..., steps=...)`, None for anything else.

        >>> AutoWeight.parse("auto").ratio, AutoWeight.parse(dict(type="auto", ratio=2)).ratio, AutoWeight.parse(3.0)
        (1.0, 2.0, None)
        """
        if isinstance(weight, str) and weight == "auto":
            return cls()
        if not isinstance(weight, Mapping):
            return None
        options = {key: value for key, value in weight.items() if key != "type"}
        if weight.get("type") != "auto":
            raise ValueError(
                f"a weight is a number, 'auto', or dict(type='auto', ratio=..., steps=...), got {weight!r}"
            )
        check_known("weight 'auto'", options, ("ratio", "steps"))
        return cls(**options)

    @property
    def measuring(self) -> bool:
        """Whether steps are still wanted."""
        return not self._done

    @property
    def weight(self) -> Tensor:
        """The weight so far, without axes."""
        return self.ratio * torch.nan_to_num(self.ratios.nanmedian(), nan=0.0)

    @torch.no_grad()
    def measure(self, pull: Pull | None) -> None:
        """Take the ratio of one step; of several processes the geometric mean."""
        found = self.ratios.new_tensor(math.nan) if pull is None else pull.task / pull.term
        found = torch.where((found > 0) & found.isfinite(), found, math.nan).to(self.ratios)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            every = [torch.empty_like(found) for _ in range(dist.get_world_size())]
            dist.all_gather(every, found)
            found = torch.stack(every).log().nanmean().exp()
        if not found.isnan():
            self.ratios[self.ratios.isnan().nonzero()[0]] = found
            self._done = self._is_full()

    def _is_full(self) -> bool:
        return not self.ratios.is_meta and not bool(self.ratios[-1].isnan())

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._done = self._is_full()

    def extra_repr(self) -> str:
        return f"ratio={self.ratio}, steps={len(self.ratios)}"


def entry_weight(name: str, weight: Any) -> tuple[float, AutoWeight | None]:
    """The weight of an entry, 1 for one that is still to be measured, and what measures it.

    Args:
        name: of the entry, for messages.
        weight: as the user gave it.

    Raises:
        TypeError, ValueError: it is no weight; the message says what would be.

    >>> entry_weight("kl", 3), entry_weight("kl", "auto")
    ((3.0, None), (1.0, AutoWeight(ratio=1.0, steps=50)))
    """
    try:
        auto = AutoWeight.parse(weight)
    except (TypeError, ValueError) as error:
        raise type(error)(f"distills entry {name!r}: {error}") from error
    if auto is not None:
        return 1.0, auto
    if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight):
        raise TypeError(f"distills entry {name!r}: weight must be a finite number, or 'auto', got {weight!r}")
    if weight < 0:
        raise ValueError(f"distills entry {name!r}: weight must be at least 0, got {weight!r}")
    return float(weight), None


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that runs outside of what torch compiles, with all that it calls, compiled modules too.

    To import the compiler takes seconds; here that waits for the first call, as in torch's optimisers.

    >>> uncompiled(torch.compiler.is_compiling)()
    False
    """

    def eager(*args: P.args, **kwargs: P.kwargs) -> R:
        stance = getattr(torch.compiler, "set_stance", nullcontext)  # before torch 2.6 what is called stays compiled
        with stance("force_eager"):
            return function(*args, **kwargs)

    ready: list[Callable[P, R]] = []

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        if not ready:
            ready.append(torch.compiler.disable(eager))
        return ready[0](*args, **kwargs)

    return called


class Task:
    """The loss of the task of one step, whose gradients are taken once for each tap; its graph stays for the training.

    Args:
        loss: without axes.
        parameters: of the student, for taps that the task does not depend on.
    """

    def __init__(self, loss: Tensor, parameters: Sequence[Tensor] = ()) -> None:
        self.loss = loss
        self.parameters = [each for each in parameters if each.requires_grad]
        self._found: dict[str | None, list[Tensor | None]] = {}

    def pull(self, term: Tensor, tap: str, shared: Sequence[Tensor]) -> Pull | None:
        """Compare the gradient of another loss with the task's.

        Args:
            term: the other loss, without axes.
            tap: name of what is shared.
            shared: tensors that both losses may depend on, such as the levels of the tap. If the task does not depend
                on any of them, those of the student's parameters that both reach stand in.

        Returns:
            None if there is nothing that both depend on.

        >>> s = torch.ones(2, requires_grad=True)
        >>> [round(each.item(), 4) for each in Task(3 * s.sum()).pull(s[0], "s", [s])]
        [4.2426, 1.0, 0.7071]
        """
        if not (self.loss.requires_grad and term.requires_grad):
            return None
        places = [each for each in shared if each.requires_grad]
        mine = self._gradient(tap, places)
        if all(each is None for each in mine):
            places = self.parameters
            mine = self._gradient(None, places)
            its = _gradient(term, places)
            both = [(a, b) for a, b in zip(mine, its) if a is not None and b is not None]
        else:
            its = _gradient(term, places)
            both = [(_or_zero(a, place), _or_zero(b, place)) for a, b, place in zip(mine, its, places)]
        if not both:
            return None
        one, other = (torch.stack([each.norm() for each in side]).norm() for side in zip(*both))
        dot = torch.stack([(a * b).sum() for a, b in both]).sum()
        return Pull(one, other, dot / (one * other).clamp_min(torch.finfo(dot.dtype).tiny))

    def _gradient(self, tap: str | None, places: list[Tensor]) -> list[Tensor | None]:
        """The gradient of the task, of the parameters where there is no tap."""
        if tap not in self._found:
            self._found[tap] = _gradient(self.loss, places)
        return self._found[tap]


def _or_zero(gradient: Tensor | None, place: Tensor) -> Tensor:
    return torch.zeros_like(place) if gradient is None else gradient


def _gradient(loss: Tensor, places: list[Tensor]) -> list[Tensor | None]:
    """Gradients in float32; where half precision overflows under the scale, without it."""
    if not places:
        return []
    found: list[Tensor | None] = []
    for scale in (SCALE, 1.0) if _is_half(places) else (1.0,):
        raw = torch.autograd.grad(scale * loss.float(), places, retain_graph=True, allow_unused=True)
        found = [None if each is None else each.float() / scale for each in raw]
        if scale == 1 or all(each is None or bool(each.isfinite().all()) for each in found):
            break
    return found


def _is_half(places: list[Tensor]) -> bool:
    """Whether gradients pass through float16: places of float32 may lie before layers under autocast."""
    device = places[0].device.type
    under = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    return under or any(each.dtype == torch.float16 for each in places)
