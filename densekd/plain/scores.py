"""Metrics of classes, of pixels or of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from densekd.edges import boundary_counts, class_iou
from densekd.plain.batches import inputs, labels_of, moved
from densekd.term import two_classes


def logits_of(output: Any) -> Tensor:
    """Class logits of a model's output: a tensor, the entry `logits` or `out`, or the first item of a tuple.

    A single channel is the logit of a sigmoid, and stands for two classes: $(0, z)$.

    Raises:
        TypeError: it has none of them, or is a list of maps of unlike channels.
    """
    if isinstance(output, Mapping):
        output = next((output[key] for key in ("logits", "out") if key in output), output)
    found = getattr(output, "logits", output)
    maps = [each for each in found if isinstance(each, Tensor) and each.ndim == 4] if isinstance(found, list) else []
    if len({each.shape[1] for each in maps}) > 1:
        raise TypeError(
            f"the model returns a list of {len(maps)} maps of unlike channels, as timm's features_only does, and no "
            "logits: put a classifier behind it, or give loss=fn(output, labels) and metric=fn(model, batches)"
        )
    found = found[0] if isinstance(found, list | tuple) and found else found
    if not isinstance(found, Tensor):
        raise TypeError(
            f"no logits in the model's output, a {type(output).__name__}: give loss=fn(output, labels) and "
            "metric=fn(model, batches)"
        )
    return two_classes(found) if found.ndim > 1 and found.shape[1] == 1 else found


def at_size_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Resize logits `(B, C, h, w)` bilinearly to labels `(B, H, W)`; others are returned unchanged."""
    if labels.ndim != 3 or logits.shape[2:] == labels.shape[1:]:
        return logits
    return F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)


def task_loss(output: Any, labels: Tensor, ignore_index: int = 255) -> Tensor:
    """Cross-entropy of the output's logits, resized to the labels where these are maps; 0 where no label counts.

    Raises:
        ValueError: see `check_labels`.
    """
    check_labels(output, labels, ignore_index)
    logits = at_size_of(logits_of(output), labels).float()
    if not (labels != ignore_index).any():
        return logits.sum() * 0
    return F.cross_entropy(logits, labels.long(), ignore_index=ignore_index)


def confusion(logits: Tensor, labels: Tensor, ignore_index: int = 255) -> Tensor:
    """Count positions by class of the label (rows) and of the prediction (columns).

    >>> confusion(torch.eye(3)[[0, 1, 1]], torch.tensor([0, 1, 2])).tolist()
    [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    """
    classes = logits.shape[1]
    answers = at_size_of(logits, labels).argmax(1)
    counts = labels != ignore_index
    return torch.bincount(labels[counts].long() * classes + answers[counts], minlength=classes**2).view(
        classes, classes
    )


def accuracy(counts: Tensor) -> float:
    """Share of the diagonal.

    >>> accuracy(torch.tensor([[3, 1], [0, 4]]))
    0.875
    """
    return float(counts.diagonal().sum() / counts.sum())


def mean_iou(counts: Tensor) -> float:
    r"""Mean over the classes that occur of $\frac{c_{kk}}{\sum_j c_{kj} + \sum_j c_{jk} - c_{kk}}$.

    >>> mean_iou(torch.tensor([[3, 1], [0, 4]]))
    0.775
    """
    hits = counts.diagonal().double()
    union = counts.sum(0) + counts.sum(1) - hits
    return float((hits / union)[union > 0].mean())


@torch.no_grad()
def measured(model: nn.Module, batches: DataLoader, ignore_index: int = 255) -> dict[str, float]:
    """Measure a model, which is in evaluation mode, over all batches.

    Returns:
        `mIoU` and `bIoU`, the mean IoU of the pixels within `densekd.edges.WIDTH` of an edge of the labels, where
        labels are maps; else `accuracy`. A `bIoU` without an edge in all labels is NaN.
    """
    device = next(model.parameters()).device
    counts: Any = 0
    near: Any = None
    for batch in batches:
        batch = moved(batch, device)
        args, kwargs = inputs(batch)
        output, labels = model(*args, **kwargs), labels_of(batch)
        check_labels(output, labels, ignore_index)
        logits = at_size_of(logits_of(output), labels)
        counts = counts + confusion(logits, labels, ignore_index)
        if labels.ndim == 3:
            found = boundary_counts(logits.argmax(1), labels.long(), logits.shape[1], ignore_index=ignore_index)
            near = found if near is None else near + found
    if near is None:
        return {"accuracy": accuracy(counts)}
    return {"mIoU": mean_iou(counts), "bIoU": float(class_iou(near).nanmean())}


def check_split(name: str, output: Any, batches: DataLoader, ignore_index: int = 255) -> None:
    """Raise `ValueError` if labels of a data set are no classes of a model's output, or none of them counts."""
    counted = False
    for batch in batches:
        labels = labels_of(batch)
        try:
            check_labels(output, labels, ignore_index)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        counted = counted or bool((labels != ignore_index).any())
    if not counted:
        raise ValueError(f"{name}: each label is {ignore_index}, which does not count (ignore_index)")


def check_labels(output: Any, labels: Tensor, ignore_index: int = 255) -> None:
    """Raise `ValueError` if labels are no classes of the model's output, or not where its logits are."""
    logits = logits_of(output)
    if labels.is_floating_point():
        raise ValueError(f"labels must be integers, got {labels.dtype}: give loss= and metric= for other targets")
    if labels.ndim != logits.ndim - 1:
        raise ValueError(
            f"logits {tuple(logits.shape)} need labels of {logits.ndim - 1} axes, got {tuple(labels.shape)}"
        )
    wrong = labels[((labels < 0) | (labels >= logits.shape[1])) & (labels != ignore_index)]
    if wrong.numel():
        raise ValueError(
            f"labels {wrong.unique().tolist()[:5]} are out of range: the model has classes 0 to {logits.shape[1] - 1}, "
            f"and {ignore_index} does not count (ignore_index)"
        )
