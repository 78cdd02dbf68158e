"""Ground truth in place of a teacher: what a term whose source is `truth` learns from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from kdlosses.reduce import labelled
from kdlosses.registry import Loss

TRUTH = "truth"
"""Name of the ground truth among the sources of an entry, so that no teacher may have it."""
SURE = 1e4
"""Logit of a class that is certain; minus that of one that is excluded. A softmax or a sigmoid of it is exactly 1."""


def check_names(teachers: Any) -> None:
    """Raise `ValueError` if a teacher has the name of the truth.

    >>> check_names(["tough", "tolerant"])
    """
    if TRUTH in teachers:
        raise ValueError(
            f"no teacher may be called {TRUTH!r}: in source= that is the ground truth; give the teacher another name"
        )


def listed(source: Any) -> list[Any]:
    """The sources of an entry, which names one or several.

    >>> listed("truth"), listed(("teacher", "truth"))
    (['truth'], ['teacher', 'truth'])
    """
    return list(source) if isinstance(source, list | tuple) else [source]


def place_of(sources: Sequence[Any]) -> dict[str, str]:
    """The option `truth` of losses that must know where among the teacher's channels the truth is; none if it is not.

    Where it is not the first of the sources, `check_sources` refuses such a loss.

    >>> place_of(["truth", "tough", "tolerant"]), place_of(["tough"])
    ({'truth': 'first'}, {})
    """
    return {"truth": "first"} if TRUTH in sources else {}


def check_sources(entry: str, loss: Loss, sources: Sequence[Any]) -> None:
    """Raise `ValueError` if the truth is not where a loss that must know its place looks for it, or is there twice."""
    if sources.count(TRUTH) > 1:
        raise ValueError(f"distills entry {entry!r}: source names {TRUTH!r} twice, got {[*sources]}")
    parts = [part for part in loss.modules() if isinstance(part, Loss)]
    if TRUTH in sources[1:] and any("truth" in {*part.options, *part.filled} for part in parts):
        raise ValueError(f"distills entry {entry!r}: its loss takes {TRUTH!r} first, got source={[*sources]}")


def check_smoothing(entry: str, smoothing: Any, truth: bool) -> float:
    """Return the share of label smoothing as a plain float.

    Raises:
        TypeError, ValueError: it is no share of at least 0 and less than 1, or there is no truth to smooth.
    """
    if isinstance(smoothing, bool) or not isinstance(smoothing, Real):
        raise TypeError(f"distills entry {entry!r}: smoothing must be a number, got {smoothing!r}")
    share = float(smoothing)
    if not 0 <= share < 1:
        raise ValueError(f"distills entry {entry!r}: smoothing must be from 0 to less than 1, got {smoothing!r}")
    if share and not truth:
        raise ValueError(f"distills entry {entry!r}: smoothing is of the labels, but its source is not {TRUTH!r}")
    return share


def check_loss(loss: Loss) -> None:
    """Raise `ValueError` if a loss cannot learn from the truth, whatever it says.

    It must take a weight of positions, for some have no label, and must not ask the teacher for more than its tap.
    """
    if "weight" not in loss.needs:
        raise ValueError(
            f"source {TRUTH!r} gives no target where there is no label, but loss {loss.name!r} takes no weight of "
            "positions: choose one that has"
        )
    if "teacher_logits" in loss.needs:
        raise ValueError(f"loss {loss.name!r} asks the teacher for logits beside its tap, {TRUTH!r} has none")


def reads_logits(loss: Loss) -> bool:
    """Whether a loss, or one inside of it, takes a softmax or a sigmoid: its truth is logits, else the targets.

    >>> from kdlosses import build
    >>> reads_logits(build("ramp")), reads_logits(build("mse"))
    (True, False)
    """
    parts = [part for part in loss.modules() if isinstance(part, Loss)]
    return any(
        getattr(getattr(part.loss, "ground", None), "over_classes", False) or part.name == "binary_kl" for part in parts
    )


def one_hot(labels: Tensor, classes: int, ignore_index: int = -1) -> Tensor:
    """Targets `(N, classes, *)` of labels `(N, *)`: 1 for the class, 0 for the others; of no label any, to be left out.

    Raises:
        ValueError: a label that counts is no class; on a GPU, where each look would wait for the device, unseen.

    >>> one_hot(torch.tensor([1, -1]), 2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    safe, _ = labelled(labels, None, ignore_index, classes)
    return torch.zeros((*safe.shape, classes), device=safe.device).scatter_(-1, safe[..., None], 1).movedim(-1, 1)


def smoothed(targets: Tensor, smoothing: float, binary: bool = False) -> Tensor:
    r"""Targets moved towards the mean of the classes, $(1 - \epsilon) y + \epsilon / K$; K is 2 where each is binary.

    >>> smoothed(torch.tensor([[1.0, 0.0]]), 0.2)
    tensor([[0.9000, 0.1000]])
    """
    return (1 - smoothing) * targets + smoothing / (2 if binary else targets.shape[1])


def logits_of(targets: Tensor, smoothing: float = 0.0, binary: bool = False) -> Tensor:
    r"""Logits whose softmax over axis 1, or sigmoid where `binary`, is the targets, smoothed.

    Unsmoothed they are $\pm$ `SURE`, so that any temperature leaves them certain; smoothed ones a temperature softens
    as it does those of a teacher.

    >>> logits_of(torch.tensor([[1.0, 0.0]]), smoothing=0.2).softmax(1)
    tensor([[0.9000, 0.1000]])
    >>> logits_of(torch.tensor([[1.0, 0.0]])).softmax(1)
    tensor([[1., 0.]])
    """
    if not smoothing:
        return SURE * (2 * targets - 1)
    likely = smoothed(targets, smoothing, binary)
    return likely.logit() if binary else likely.log()


@torch.no_grad()
def check_certain(loss: Loss, student: Tensor, teacher: Tensor, context: Mapping[str, Any]) -> None:
    """Raise `ValueError` if a loss has no limit where a class is certain, as a reverse divergence has none.

    A copy of the loss is called, with the truth as it is, then with logits twice as large: they say the same.
    """
    values = []
    for factor in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            values.append(copy.deepcopy(loss)(student, factor * teacher, **context))
    one, other = values
    if not torch.isclose(one, other, rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"loss {loss.name!r} has no finite value where a class is certain, as in source {TRUTH!r}: give "
            "smoothing=, such as 0.1, or another loss, such as 'kl'"
        )
