"""Rank and search students of maps by a score that needs no training."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from densekd.plain.batches import inputs, labels_of
from densekd.taps.defaults import tap
from densekd.taps.reader import Tap, Taps, at_rest
from kdlosses.resized import labels_at, resized
from kdlosses.rules.diswot import diswot
from kdlosses.rules.evolve import Evolved, evolve

Build = Callable[[], nn.Module]


def rank_students(
    candidates: Mapping[str, Build],
    teacher: Build,
    batch: Any,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    logits: str | None = None,
    ignore_index: int = 255,
) -> dict[str, float]:
    """Score untrained networks against an untrained teacher on one batch, see `kdlosses.rules.diswot`.

    The features are what the classifier reads, a linear layer or a convolution; those of a student are resized to the
    map of the teacher, so that all are compared at as many positions. Networks run in evaluation mode.

    Args:
        candidates: by name a function that makes the untrained network; called under each seed.
        teacher: likewise. Its seeds are others than the students'.
        batch: images and labels, as a data set of `densekd.fit` yields in a batch.
        seeds: initialisations to average over.
        logits: path of the classifier, in all networks; that of the default tap if not given.
        ignore_index: label that does not count.

    Returns:
        the scores, from the best to the worst; at most 0, the score of the teacher itself.

    Raises:
        TypeError: a network in place of a function that makes one.
        ValueError: fewer than two candidates, no seed, or a classifier that is not known or yields no single map.

    Paper: Dong, Li, Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training", CVPR 2023. There an
    image is a sample; here, of maps, a position.

    >>> def made(width):
    ...     return lambda: nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 4, 1))
    >>> batch = torch.rand(2, 3, 8, 8), torch.randint(4, (2, 8, 8))
    >>> list(rank_students({"narrow": made(1), "wide": made(32)}, made(64), batch, logits="2"))
    ['wide', 'narrow']
    """
    if len(candidates) < 2:
        raise ValueError(f"rank_students: at least two candidates, got {len(candidates)}")
    score = of_batch(teacher, batch, seeds, logits, ignore_index)
    scores = {name: score(build) for name, build in candidates.items()}
    return dict(sorted(scores.items(), key=lambda each: -each[1]))


def search_students(
    build: Callable[..., nn.Module],
    space: Mapping[str, Sequence[Any]],
    teacher: Build,
    batch: Any,
    *,
    budget: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    logits: str | None = None,
    ignore_index: int = 255,
    **evolution: Any,
) -> Evolved:
    """Search the network that is most like an untrained teacher, by evolution, before any is trained.

    Args:
        build: makes an untrained network, `build(depth=2, width=16)` for `space=dict(depth=[1, 2], width=[8, 16])`.
        space: by name the choices.
        teacher: see `rank_students`.
        batch: likewise.
        budget: parameters at most.
        seeds: see `rank_students`.
        logits: likewise.
        ignore_index: likewise.
        **evolution: population, generations, parents, mutation and seed, see `kdlosses.rules.evolve`.

    Raises:
        TypeError, ValueError: see `rank_students` and `kdlosses.rules.evolve`; or a budget that no network keeps to.

    Paper: see `rank_students`.

    >>> def net(width, kernel):
    ...     body = nn.Conv2d(3, width, kernel, padding=kernel // 2)
    ...     return nn.Sequential(body, nn.ReLU(), nn.Conv2d(width, 4, 1))
    >>> batch = torch.rand(2, 3, 8, 8), torch.randint(4, (2, 8, 8))
    >>> space = dict(width=[1, 8, 64], kernel=[1, 3])
    >>> found = search_students(net, space, lambda: net(64, 3), batch, budget=500, logits="2")
    >>> found.best["width"]
    8
    """
    return searched(build, space, of_batch(teacher, batch, seeds, logits, ignore_index), budget, **evolution)


def of_batch(
    teacher: Build, batch: Any, seeds: Sequence[int], logits: str | None, ignore_index: int
) -> Callable[[Build], float]:
    """What scores a network of a batch of `densekd.fit`."""
    (args, kwargs), labels = inputs(batch), labels_of(batch)
    return scorer(teacher, lambda model: model(*args, **kwargs), labels, seeds, logits, ignore_index)


def searched(
    build: Callable[..., nn.Module],
    space: Mapping[str, Sequence[Any]],
    score: Callable[[Build], float],
    budget: int | None,
    **evolution: Any,
) -> Evolved:
    """Search networks of a space by a score of what makes them."""

    def allowed(one: dict[str, Any]) -> bool:
        return budget is None or parameters(made(lambda: build(**one), 0)) <= budget

    return evolve(lambda one: score(lambda: build(**one)), space, allowed=allowed, **evolution)


def scorer(
    teacher: Build,
    run: Callable[[nn.Module], Any],
    labels: Tensor,
    seeds: Sequence[int],
    logits: str | None = None,
    ignore_index: int = 255,
) -> Callable[[Build], float]:
    """What scores a network, a mean over the seeds, against the untrained teacher.

    Args:
        teacher: makes it.
        run: runs a network on the batch.
        labels: of the batch.
        seeds: see `rank_students`.
        logits: likewise.
        ignore_index: likewise.
    """
    if not seeds:
        raise ValueError("rank_students: at least one seed, got none")
    known = {seed: _outputs(made(teacher, -1 - seed), run, logits) for seed in seeds}

    def score(build: Build) -> float:
        found = []
        for seed, theirs in known.items():
            mine = _outputs(made(build, seed), run, logits)
            features, classes = (resized("diswot", "the student's map", each, theirs[1]) for each in mine)
            found.append(diswot((features, classes), theirs, labels_at(labels, theirs[1].shape[2:]), ignore_index))
        return statistics.mean(each.item() for each in found)

    return score


def made(build: Build, seed: int) -> nn.Module:
    """The network that a function makes under a seed; torch's generator stays as it was."""
    if isinstance(build, nn.Module):
        raise TypeError(
            f"expected a function that makes the untrained network, got a {type(build).__name__} itself, whose weights "
            "cannot be drawn anew"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def parameters(model: nn.Module) -> int:
    """How many a network has."""
    return sum(each.numel() for each in model.parameters())


def _outputs(model: nn.Module, run: Callable[[nn.Module], Any], logits: str | None) -> tuple[Tensor, Tensor]:
    """What the classifier reads, and the class logits."""
    path = logits or tap(model, "logits")
    if Tap.parse(path) != Tap(path) or not path:
        raise ValueError(f"{path!r} is no path of a classifier, whose input is read as well: give logits='path'")
    with torch.no_grad(), at_rest(model), Taps(model, [f"{path}:in", path]) as taps:
        run(model)
    features, classes = taps[f"{path}:in"], taps[path]
    if len(features) > 1 or len(classes) > 1:
        raise ValueError(
            f"{path!r} yields {len(classes)} tensors of {len(features)}: one map of logits can be compared"
        )
    return features[0], classes[0]
