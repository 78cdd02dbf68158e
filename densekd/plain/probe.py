"""How much a frozen network's features tell: a linear classifier on them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from densekd.plain.batches import inputs, labels_of, loader, moved
from densekd.plain.scores import confusion, mean_iou
from densekd.taps.defaults import tap as default_tap
from densekd.taps.reader import Taps, at_rest
from kdlosses.reduce import labelled
from kdlosses.resized import labels_at


def probed(
    model: nn.Module,
    train: Any,
    val: Any,
    *,
    tap: str | None = None,
    classes: int,
    steps: int = 100,
    batch_size: int = 8,
    positions: int = 20_000,
    decay: float = 1e-3,
    seed: int = 0,
    ignore_index: int = 255,
) -> float:
    """Fit a linear classifier to the frozen features of a model, and measure it on other data.

    The features are read in evaluation mode, standardised by the training data, and classified by a logistic
    regression; the model stays as it is. What a student has learned from a random teacher is the difference between its
    probe and the teacher's.

    Args:
        model: any network of images.
        train: a data set or batches, see `densekd.fit`, on which the classifier is fitted.
        val: likewise, on which it is measured.
        tap: of the features, see `densekd.Taps`; the default tap if not given.
        classes: number of classes.
        steps: of L-BFGS.
        batch_size: of data sets.
        positions: of the training data to fit to at most, drawn at random.
        decay: weight of the squared weights of the classifier.
        seed: of the draw.
        ignore_index: label that does not count.

    Returns:
        the mean IoU of positions at the size of the features, or of whole images.

    Raises:
        ValueError: the tap yields several tensors, or nothing is labelled.

    Paper: the probe of Sarnthein et al., "Random Teachers are Good Teachers", ICML 2023.

    >>> images = [(torch.eye(3)[k].view(3, 1, 1).expand(3, 4, 4), torch.full((4, 4), k)) for k in range(3)]
    >>> probed(nn.Sequential(nn.Conv2d(3, 8, 1)), images, images, tap="0", classes=3)
    1.0
    """
    spec = tap or default_tap(model, "features")
    x, y = (torch.cat(each) for each in zip(*_rows(model, loader(train, batch_size), spec, ignore_index)))
    if not len(y):
        raise ValueError("probe: no position of the training data is labelled")
    some = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))[:positions]
    x, y = x[some].double(), y[some]
    mean, std = x.mean(0), x.std(0, correction=0).clamp_min(1e-6)
    x = (x - mean) / std
    with torch.enable_grad():
        head = nn.Linear(x.shape[1], classes).double()
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        optimiser = torch.optim.LBFGS(head.parameters(), max_iter=steps, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = F.cross_entropy(head(x), y) + decay * head.weight.square().sum()
            loss.backward()
            return loss

        optimiser.step(closure)
    counts = torch.zeros(classes, classes, dtype=torch.long)
    with torch.no_grad():
        for features, labels in _rows(model, loader(val, batch_size), spec, ignore_index):
            counts += confusion(head((features.double() - mean) / std), labels, ignore_index=-1)
    return mean_iou(counts)


@torch.no_grad()
def _rows(model: nn.Module, batches: DataLoader, spec: str, ignore_index: int) -> list[tuple[Tensor, Tensor]]:
    """Features `(n, D)` and labels `(n,)` of labelled positions, batch by batch."""
    device = next(model.parameters()).device
    found = []
    for batch in batches:
        batch = moved(batch, device)
        args, kwargs = inputs(batch)
        with at_rest(model), Taps(model, [spec]) as taps:
            model(*args, **kwargs)
        if len(taps[spec]) != 1:
            raise ValueError(f"probe: tap {spec!r} yields {len(taps[spec])} tensors, write 'path:i' for one of them")
        features = taps[spec][0]
        safe, known = labelled(labels_at(labels_of(batch), features.shape[2:]), None, ignore_index)
        found.append((features.movedim(1, -1)[known].cpu(), safe[known].cpu()))
    return found
