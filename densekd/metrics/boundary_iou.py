"""Mean IoU of the pixels near the edge of a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from densekd.registry import METRICS


@METRICS.register_module()
class BoundaryIoU(BaseMetric):
    r"""Mean IoU over pixels that lie near the edge of a class in the ground truth, beside mmseg's `IoUMetric`.

    $$ \mathrm{bIoU} = \mathrm{mean}_c \frac{|P_c \cap G_c \cap E|}{|(P_c \cup G_c) \cap E|}, \qquad
       E = \{ i : \min_{j:\, G_j \ne G_i} \lVert i - j \rVert_2 \le d \}, $$

    in per cent, summed over all images before the division, over classes of which there is a pixel in E; d is `width`
    in pixels of the ground truth, 1 being the distance of neighbours. Ignored pixels are neither i nor j. Where no
    pixel is near an edge in the whole data set the value is NaN, as `IoUMetric`'s is where all pixels are ignored.

    The band is around the edges of the ground truth alone, a trimap; the measure that Cheng et al. (CVPR 2021) call
    Boundary IoU takes the edges of the prediction, too.

    In a config: `val_evaluator = [dict(type='IoUMetric'), dict(type='densekd.BoundaryIoU')]`. A hook that saves the
    best checkpoint by it needs `save_best='bIoU', rule='greater'`.

    Args:
        width: d, in pixels.
        per_class: report each class as well, as `bIoU.<name of the class>`.
        ignore_index: label that does not count; neither do negative ones.
        collect_device: where the results of several processes are gathered, 'cpu' or 'gpu'.
        prefix: of the names, see mmengine's `BaseMetric`.

    Raises:
        ValueError: a width below 1; a prediction of another size than its ground truth; a label that is not a class.

    Paper: Kohli et al., "Robust Higher Order Potentials for Enforcing Label Consistency", IJCV 2009: the accuracy in a
    band of varied width; the mean IoU in place of it is our choice.

    >>> metric = BoundaryIoU(width=1)
    >>> metric.dataset_meta = {"classes": ("left", "right")}
    >>> truth, guess = torch.tensor([[[0, 0, 0, 1, 1, 1]]]), torch.tensor([[[1, 0, 1, 1, 1, 1]]])
    >>> metric.process({}, [{"gt_sem_seg": {"data": truth}, "pred_sem_seg": {"data": guess}}])
    >>> metric.evaluate(size=1)  # on the two pixels in the middle: 0 of 1, and 1 of 2
    {'bIoU': 25.0}
    """

    def __init__(
        self,
        width: float = 3,
        per_class: bool = False,
        ignore_index: int = 255,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if width < 1:
            raise ValueError(f"the pixels on both sides of an edge are 1 apart: width must be at least 1, got {width}")
        self.width, self.per_class, self.ignore_index = width, per_class, ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Count for each image and class the pixels of the intersection and of the union."""
        classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            guess = sample["pred_sem_seg"]["data"].squeeze(0)
            truth = sample["gt_sem_seg"]["data"].squeeze(0).to(guess.device)
            if guess.shape != truth.shape:
                raise ValueError(f"a prediction has {tuple(guess.shape)} pixels, its ground truth {tuple(truth.shape)}")
            near = near_edge(truth, self.width, self.ignore_index)
            guess, truth = guess[near].long(), truth[near].long()
            if truth.numel() and truth.max() >= classes:
                raise ValueError(f"label {truth.max().item()} is none of the {classes} classes of the data set")
            agree, mine, its = (  # a model may have classes that the data set has not
                torch.bincount(labels, minlength=classes)[:classes] for labels in (guess[guess == truth], guess, truth)
            )
            self.results.append(torch.stack([agree, mine + its - agree]).cpu())

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        """Divide the sums over all images."""
        agree, either = torch.stack(results).sum(0).double().numpy()
        iou = np.divide(100 * agree, either, out=np.full_like(agree, np.nan), where=either > 0)
        mean = iou[either > 0].mean() if either.any() else np.nan
        metrics = {"bIoU": round(float(mean), 2)}
        if self.per_class:
            names = self.dataset_meta["classes"]
            metrics |= {f"bIoU.{name}": round(float(value), 2) for name, value in zip(names, iou)}
        return metrics


def near_edge(labels: Tensor, width: float, ignore_index: int = 255) -> Tensor:
    """Which pixels of a label map `(..., H, W)` have one of another class at a Euclidean distance of `width` or less.

    Ignored and negative labels are no class, and no pixel of theirs is near one.

    >>> near_edge(torch.tensor([[0, 0, 0, 1, 255, 0]]), width=1).int().tolist()
    [[0, 0, 1, 1, 0, 0]]
    """
    valid = (labels >= 0) & (labels != ignore_index)
    near = torch.zeros_like(valid)
    height, length = labels.shape[-2:]
    for down, right in _half_disc(width):
        if down >= height or abs(right) >= length:
            continue
        here = ..., slice(0, height - down), slice(max(0, -right), length - max(0, right))
        there = ..., slice(down, height), slice(max(0, right), length + min(0, right))
        edge = (labels[here] != labels[there]) & valid[here] & valid[there]
        near[here] |= edge
        near[there] |= edge
    return near


def _half_disc(radius: float) -> list[tuple[int, int]]:
    """Steps of at most `radius`, one of each two that are opposite."""
    reach = range(-int(radius), int(radius) + 1)
    return [(y, x) for y in reach for x in reach if (y, x) > (0, 0) and y * y + x * x <= radius * radius]
