"""Self-distillation of any model in several steps, each with the best weight of the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

import kdlosses
from densekd.plain.batches import inputs, labels_of, moved
from densekd.plain.fit import fit
from densekd.plain.outcome import Result
from densekd.plain.scores import at_size_of, logits_of
from densekd.taps.defaults import tap
from kdlosses.reduce import labelled
from kdlosses.rules.selfdistill_steps import selfdistill_steps
from kdlosses.rules.selfdistill_weight import selfdistill_products, weight_of


@dataclass
class Steps:
    """What `selfdistill` returns.

    Attributes:
        student: of the last step.
        weights: of the labels, by step, as they were found: one outside of 0 to 1 was taken as the nearer end.
        results: of the first fit, where there was no teacher, and of each step.
    """

    student: nn.Module
    weights: list[float]
    results: list[Result]


def selfdistill(
    student: Any,
    teacher: nn.Module | None = None,
    *,
    train: Any,
    val: Any,
    steps: int = 2,
    held: float = 0.25,
    weights: list[float] | None = None,
    loss: Any = "kl",
    logits: str | None = None,
    seed: int = 0,
    ignore_index: int = 255,
    **options: Any,
) -> Steps:
    r"""Have a model teach its successor, step by step; the weight of the labels is found in closed form.

    $$ L_t = a_t L_\mathrm{task} + (1 - a_t) \, \ell(f_t, f_{t-1}), $$

    each by `densekd.fit` from the same start, with $a_t$ from two fits without the labels of held-out images, one to
    the labels and one to the teacher, see `kdlosses.rules.selfdistill_steps`: in all 2 + 2 t fits, where a grid would
    take one for each of its points and steps.

    Args:
        student: the model, which is not changed, or a function that makes one.
        teacher: of the first step; a fit to the labels if not given.
        train: a data set, see `densekd.fit`.
        val: likewise; it chooses epochs.
        steps: how many.
        held: share of the training images that is held out to find a weight.
        weights: given weights, one for each step, in place of those that are found.
        loss: $\ell$, what `kdlosses.build` takes, between logits.
        logits: tap of the logits in student and teacher; the default tap if not given.
        seed: see `densekd.fit`; of the held-out images, too.
        ignore_index: label that does not count.
        **options: of `densekd.fit`.

    Raises:
        TypeError: `train` is no data set.
        ValueError: no step, not as many weights, a given weight or `held` is no share, or `held` leaves no image to
            hold out or to learn from.
        KeyError: unknown loss; names the nearest.

    Paper: Borup, Andersen, "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by
    Self-Distillation", NeurIPS 2021.

    >>> draw = torch.Generator().manual_seed(0)
    >>> data = [(torch.rand(3, 8, 8, generator=draw), torch.randint(3, (8, 8), generator=draw)) for _ in range(4)]
    >>> def net():
    ...     return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    >>> found = selfdistill(net, train=data, val=data, steps=1, logits="2", epochs=1, device="cpu", log=str)
    >>> len(found.weights), len(found.results)
    (1, 2)
    """
    if isinstance(train, DataLoader) or not hasattr(train, "__getitem__") or not hasattr(train, "__len__"):
        raise TypeError(f"selfdistill holds images out: train must be a data set, got a {type(train).__name__}")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).tolist()
    kdlosses.build(loss)  # what is wrong with it is said now
    if not 0 < held < 1:
        raise ValueError(f"selfdistill: held is a share of the images, between 0 and 1, got {held}")
    count = round(held * len(train))
    if weights is None and not 0 < count < len(train):
        raise ValueError(f"selfdistill: held={held} of {len(train)} images leaves none to hold out, or to learn from")
    out, part = Subset(train, order[:count]), Subset(train, order[count:])
    shared = dict(val=val, seed=seed, ignore_index=ignore_index, control=False, **options)
    results: list[Result] = []

    def fitted(guide: nn.Module | None, weight: float, whole: bool) -> nn.Module:
        data = train if whole else part
        if guide is None or weight == 1:
            result = fit(student, train=data, **shared)
        else:
            spec = logits or tap(guide, "logits")
            entry = dict(loss=loss, student=spec, teacher=spec, weight=1 - weight)
            result = fit(student, guide, train=data, distills=[entry], task_weight=weight, **shared)
        if whole:
            results.append(result)
        return result.student

    @torch.no_grad()
    def compare(taught: nn.Module, retaught: nn.Module) -> float:
        sums = torch.zeros(2, dtype=torch.float64)
        device = next(taught.parameters()).device
        for batch in DataLoader(out, options.get("batch_size", 8)):
            batch = moved(batch, device)
            (args, kwargs), labels = inputs(batch), labels_of(batch)
            f, g = (_probabilities(model.eval()(*args, **kwargs), labels) for model in (taught, retaught))
            safe, known = labelled(labels, None, ignore_index, f.shape[1])
            target = F.one_hot(safe, f.shape[1]).movedim(-1, 1).to(f)
            sums += selfdistill_products(target, f, g, known).cpu()
        return weight_of(sums).item()

    last, found = selfdistill_steps(fitted, compare, steps, teacher, weights)
    return Steps(last, found, results)


def _probabilities(output: Any, labels: Tensor) -> Tensor:
    """The prediction at each label."""
    return at_size_of(logits_of(output), labels).double().softmax(1)
