"""Mean IoU of the pixels near the edge of a class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from densekd.edges import WIDTH, boundary_counts, class_iou
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
        TypeError: a width that is no number.
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
        width: float = WIDTH,
        per_class: bool = False,
        ignore_index: int = 255,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        number: Any = width  # of NumPy, too
        if isinstance(number, bool) or not isinstance(number, Real) or not math.isfinite(number):
            raise TypeError(f"width is a number of pixels, got {width!r}")
        if width < 1:
            raise ValueError(f"the pixels on both sides of an edge are 1 apart: width must be at least 1, got {width}")
        self.width, self.per_class, self.ignore_index = width, per_class, ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Count for each image and class the pixels of the intersection and of the union."""
        classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            guess = sample["pred_sem_seg"]["data"].squeeze(0)
            truth = sample["gt_sem_seg"]["data"].squeeze(0).to(guess.device)
            self.results.append(boundary_counts(guess, truth, classes, self.width, self.ignore_index).cpu())

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        """Divide the sums over all images."""
        print_log(f"bIoU is the mean IoU of the pixels within {self.width:g} of an edge of the labels", "current")
        iou = 100 * class_iou(torch.stack(results).sum(0))
        metrics = {"bIoU": round(float(iou.nanmean()), 2)}
        if self.per_class:
            names = self.dataset_meta["classes"]
            metrics |= {f"bIoU.{name}": round(float(value), 2) for name, value in zip(names, iou)}
        return metrics


def beside_iou(evaluators: Any) -> Any:
    """The evaluators of a config with a `BoundaryIoU` beside each `IoUMetric`; as they are where one is there already.

    It ignores what the `IoUMetric` ignores. One that only formats results has no labels, and gets none.

    >>> beside_iou(dict(type="IoUMetric"))
    [{'type': 'IoUMetric'}, {'type': 'densekd.BoundaryIoU'}]
    >>> beside_iou(dict(type="CocoMetric"))
    {'type': 'CocoMetric'}
    """
    listed = list(evaluators) if isinstance(evaluators, list | tuple) else [evaluators]
    if any(_kind(each) == "BoundaryIoU" for each in listed):
        return evaluators
    found = [
        {"type": "densekd.BoundaryIoU", **{key: each[key] for key in SHARED if key in each}}
        for each in listed
        if _kind(each) == "IoUMetric" and not each.get("format_only")
    ]
    return [*listed, *found] if found else evaluators


SHARED = ("ignore_index", "collect_device", "prefix")
"""Options that `BoundaryIoU` takes from the `IoUMetric` that it stands beside."""


def _kind(evaluator: Any) -> str:
    """The name of the class of an evaluator in a config, which may be the class itself."""
    kind = evaluator.get("type") if isinstance(evaluator, Mapping) else type(evaluator)
    return getattr(kind, "__name__", str(kind)).rpartition(".")[2]
