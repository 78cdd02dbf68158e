"""MST-Distill: several teachers, each masked inside for the student."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run, mean_over_processes
from densekd.taps.defaults import tap
from kdlosses.pointwise import Pointwise
from kdlosses.policy.mst_distill import MSTDistill as Fused
from kdlosses.taps import Tap, find


@policy("mst_distill")
class MSTDistill(Policy):
    r"""Mask a stage inside of each teacher for the student, beside the loss `mst_distill` of `kdlosses`.

    $$ L = \frac1E \sum_e \Big( \ell(\tilde z_e, z^s) + r \, \frac{\|\tilde h_e - h_e\|^2}{\|h_e\|^2} \Big), \qquad
       \tilde h_e = \sigma(M_e(h_e)) \odot h_e, \quad \tilde z_e = U_e(\tilde h_e) $$

    with $h_e$ what a teacher yields at the stage, at each position, $U_e$ its own layers above that, frozen, and
    $\ell$ the loss inside of the entry. The masks learn by L in a step of their own before each step of the student: to
    let through what it can follow, and to rebuild the teacher's features. No gradient reaches student, gate or teacher.
    From `start` on the student hears the masked teachers; before that it is no measure of what it can follow.

    It is the recipe `mst_distill` of graphkd on pixels. Use it with one entry of several frozen teachers that run,
    `dict(loss=dict(type='mst_distill', teachers=2, mask=0), student=<logits>, source=['a', 'b'])`: the gate is there,
    and no mask on logits beside those in here.

    Args:
        stage: tap of the teachers, one for all or one for each, such as 'backbone:3'; the input of their logits if not
            given.
        rebuild: r.
        hidden: width of a mask.
        lr: learning rate of the masks, by Adam.
        start: share of the training before the student hears the masked teachers.

    Raises:
        KeyError: a teacher has no such stage.
        TypeError: the stage yields several tensors, or has no such item.
        ValueError: an option is out of range, or there is no such entry, or more than one.

    Paper: Li et al., "MST-Distill: Mixture of Specialized Teachers for Cross-Modal Knowledge Distillation", 2025, with
    attention over channels for a mask, in a phase before the student learns. Two linear layers at each position, that
    they learn beside the student, and the weights are ours.
    """

    taught = True

    def __init__(
        self,
        stage: str | Sequence[str] | None = None,
        rebuild: float = 1.0,
        hidden: int = 32,
        lr: float = 0.01,
        start: float = 0.1,
    ) -> None:
        listed = isinstance(stage, list | tuple) and all(isinstance(each, str) for each in stage)
        if not (stage is None or isinstance(stage, str) or listed):
            raise TypeError(f"policy 'mst_distill': stage is a tap, or a list with one for each teacher, got {stage!r}")
        if rebuild < 0 or hidden < 1 or not lr > 0 or not 0 <= start <= 1:
            raise ValueError(
                "policy 'mst_distill': rebuild is not negative, hidden counts from 1, lr is positive and start a share "
                f"of the training; got {rebuild}, {hidden}, {lr} and {start}"
            )
        self.stage, self.rebuild, self.hidden, self.lr, self.begin = stage, rebuild, hidden, lr, start
        self.on = False  # before the first step the teachers are as they were
        self.handles: list[Any] = []

    def start(self, run: Run) -> None:
        found = [(term, part) for term in run.terms for part in term.loss.modules() if isinstance(part, Fused)]
        if len(found) != 1 or found[0][1].mask:
            raise ValueError(
                "policy 'mst_distill' masks the teachers of one entry, dict(loss=dict(type='mst_distill', mask=0, "
                f"...)), whose own masks are off; there are {len(found)}"
            )
        self.term, fused = found[0]
        self.loss, self.names = fused.loss, list(self.term.sources)
        if self.loss.requires:
            raise ValueError(f"policy 'mst_distill': the loss inside asks for {self.loss.requires[0]!r}, beside logits")
        stages = [self.stage] * len(self.names) if self.stage is None or isinstance(self.stage, str) else self.stage
        if len(stages) != len(self.names):
            raise ValueError(f"policy 'mst_distill': {len(self.names)} teachers, but {len(stages)} stages")
        if len(self.names) < 2 or not {*self.names} <= {*run.guides}:
            raise ValueError(f"policy 'mst_distill' masks several teachers: source= names them; got {self.names}")
        run.check_frozen("mst_distill", self.names)
        self.apart, self.masks = dict[str, Tensor](), nn.ModuleDict()
        with run.undisturbed():
            torch.manual_seed(run.seed)
            for name, stage in zip(self.names, stages):
                self._put(run, name, stage or f"{tap(run.teachers[name], 'logits')}:in")
        self.optimiser = torch.optim.Adam(self.masks.parameters(), self.lr)

    def _put(self, run: Run, name: str, stage: str) -> None:
        """Put a mask into a teacher, at the width that it has there."""
        where, model = Tap.parse(stage), run.teachers[name]
        if where.key or where.copied:
            raise ValueError(f"policy 'mst_distill': a stage is 'path', 'path:i' or 'path:in', got {stage!r}")
        module, widths = find(model, where.path), list[tuple[int, torch.device]]()

        def measure(h: Tensor) -> Tensor:
            if not isinstance(h, Tensor) or h.ndim < 2:
                raise TypeError(
                    f"policy 'mst_distill': {stage!r} of teacher {name!r} yields a {type(h).__name__}, no features "
                    f"(N, C, *): name an item, '{where.path}:0'"
                )
            widths.append((h.shape[1], h.device))
            return h

        probing = put(module, where, measure)
        try:
            with run.aside():
                run.told(name, run.batch([0]))
        finally:
            probing.remove()
        if not widths:
            raise ValueError(f"policy 'mst_distill': teacher {name!r} does not run {stage!r}")
        channels, device = widths[0]
        last = Pointwise(self.hidden, channels)
        nn.init.constant_(last.bias, 3.0)  # at first nearly all goes through
        self.masks[name] = nn.Sequential(Pointwise(channels, self.hidden), nn.ReLU(), last).to(device)
        self.handles.append(put(module, where, lambda h: self._masked(name, h)))

    def _masked(self, name: str, h: Tensor) -> Tensor:
        if not self.on:
            return h
        masked = self.masks[name](h.float()).sigmoid() * h
        self.apart[name] = (masked - h).square().sum() / h.square().sum().clamp_min(1e-12)
        return masked.to(h.dtype)

    def step(self, run: Run, batch: Any) -> None:
        self.on = True
        with run.aside(gradients=True):
            seen = run.seen(batch, self.names, through=True)
            weight = run.weight(self.term, seen.labels)
            losses = [
                self.loss(seen.teachers[name], seen.student.detach(), weight=weight) + self.rebuild * self.apart[name]
                for name in self.names
            ]
            weights = list(self.masks.parameters())
            slopes = torch.autograd.grad(torch.stack(losses).mean(), weights)
        for each, slope in zip(weights, slopes):
            each.grad = mean_over_processes(slope)
        self.optimiser.step()
        self.on = run.step >= self.begin * run.steps

    def leave(self, run: Run) -> None:
        for handle in self.handles:
            handle.remove()

    def state(self) -> dict[str, Any]:
        return {"masks": self.masks.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        self.masks.load_state_dict(state["masks"])
        self.optimiser.load_state_dict(state["optimiser"])


def put(module: nn.Module, where: Tap, change: Callable[[Any], Any]) -> Any:
    """Have a function stand behind what a tap reads of a module, or before its input; `remove()` of the handle ends it.

    >>> layer = nn.Identity()
    >>> handle = put(layer, Tap.parse("layer"), lambda h: h + 1)
    >>> layer(torch.zeros(1)), handle.remove(), layer(torch.zeros(1))
    (tensor([1.]), None, tensor([0.]))
    """

    def of_input(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (change(args[0]), *args[1:])

    def of_output(_: nn.Module, args: Any, output: Any) -> Any:
        if where.item is None:
            return change(output)
        if not isinstance(output, list | tuple) or not -len(output) <= where.item < len(output):
            got = f"{len(output)} items" if isinstance(output, list | tuple) else f"a {type(output).__name__}"
            raise TypeError(f"policy 'mst_distill': stage '{where.path}:{where.item}' is an item of {got}")
        items = list(output)
        items[where.item] = change(items[where.item])
        return type(output)(items)

    return module.register_forward_pre_hook(of_input) if where.of_input else module.register_forward_hook(of_output)
