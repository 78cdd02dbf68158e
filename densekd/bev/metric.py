"""Average precision of boxes on the ground."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmcv.ops import box_iou_rotated
from mmengine.evaluator import BaseMetric
from torch import Tensor

from densekd.registry import METRICS
from densekd.sensors.geometry import on_the_ground


class _Frame(NamedTuple):
    """One sample: boxes of prediction and truth, and their overlaps."""

    scores: Tensor
    labels: Tensor
    truth: Tensor
    overlaps: Tensor


@METRICS.register_module()
class BEVAP(BaseMetric):
    r"""Mean average precision of rotated boxes on the ground, in per cent.

    Predictions are matched by falling score, over all samples, each to the free box of its class and sample that it
    overlaps most, if the rotated IoU on the ground is at least t. With the precision p at recall r, interpolated,

    $$ \mathrm{AP} = \int_0^1 \max_{r' \ge r} p(r') \, dr, $$

    averaged over the classes that occur. Height and velocity do not count. It runs wherever mmcv's `box_iou_rotated`
    does, on a CPU too; mmdet3d's KITTI metric needs CUDA for the same overlap.

    In a config: `val_evaluator = dict(type='densekd.BEVAP')`.

    Args:
        thresholds: IoU to match at, each reported as `BEV_AP<100 t>`.
        per_class: report each class as well, as `BEV_AP50.car`.
        collect_device: where the results of several processes are gathered, 'cpu' or 'gpu'.
        prefix: of the names, see mmengine's `BaseMetric`.

    Raises:
        ValueError: a threshold that is not an IoU.
        KeyError: the data set provides no boxes: it needs `test_mode=True`, and `load_eval_anns` as it is.

    >>> box = torch.tensor([[10.0, 0.0, 0.0, 4.0, 2.0, 1.5, 0.3]])
    >>> truth = {"gt_bboxes_3d": box, "gt_labels_3d": torch.tensor([0])}
    >>> guess = {"bboxes_3d": box + 0.1, "scores_3d": torch.tensor([0.9]), "labels_3d": torch.tensor([0])}
    >>> metric = BEVAP(thresholds=[0.5])
    >>> metric.dataset_meta = {"classes": ("car", "truck")}
    >>> metric.process({}, [{"eval_ann_info": truth, "pred_instances_3d": guess}])
    >>> metric.evaluate(size=1)
    {'BEV_AP50': 100.0}
    """

    def __init__(
        self,
        thresholds: Sequence[float] = (0.5, 0.25),
        per_class: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        for t in thresholds:
            if not 0 < t <= 1:
                raise ValueError(f"a threshold is an IoU in (0, 1], got {t}")
        self.thresholds, self.per_class = tuple(thresholds), per_class

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Collect scores, classes and overlaps of each sample."""
        for sample in data_samples:
            if not sample.get("eval_ann_info"):
                raise KeyError("a sample has no eval_ann_info: the data set of an evaluation needs test_mode=True")
            guess, truth = sample["pred_instances_3d"], sample["eval_ann_info"]
            boxes, its = (on_the_ground(each).float() for each in (guess["bboxes_3d"], truth["gt_bboxes_3d"]))
            labels = torch.as_tensor(truth["gt_labels_3d"])
            overlaps = box_iou_rotated(boxes, its.to(boxes)).cpu()
            known = labels >= 0
            self.results.append(
                _Frame(guess["scores_3d"].cpu(), guess["labels_3d"].cpu(), labels[known], overlaps[:, known])
            )

    def compute_metrics(self, results: list[tuple[Tensor, ...]]) -> dict[str, float]:
        """Average over classes."""
        frames = [_Frame(*each) for each in results]  # mmengine hands them back as plain tuples
        metrics: dict[str, float] = {}
        for t in self.thresholds:
            name = f"BEV_AP{round(100 * t)}"
            found = [average_precision(frames, c, t) for c in range(len(self.dataset_meta["classes"]))]
            metrics[name] = round(float(np.nanmean(found)) if not np.isnan(found).all() else np.nan, 2)
            if self.per_class:
                each = zip(self.dataset_meta["classes"], found)
                metrics |= {f"{name}.{c}": round(ap, 2) for c, ap in each}
        return metrics


def average_precision(frames: Sequence[_Frame], label: int, threshold: float) -> float:
    """AP of one class in per cent, NaN where it never occurs."""
    count = sum(int((frame.truth == label).sum()) for frame in frames)
    if count == 0:
        return float("nan")
    scores, right = [], []
    for frame in frames:
        mine, its = frame.labels == label, frame.truth == label
        order = frame.scores[mine].argsort(descending=True, stable=True)
        overlaps = frame.overlaps[mine][:, its][order].clone()
        for overlap in overlaps:
            best = overlap.argmax() if len(overlap) else 0
            match = bool(len(overlap) and overlap[best] >= threshold)
            if match:
                overlaps[:, best] = -1  # taken; rows before this one are done with
            right.append(match)
        scores += frame.scores[mine][order].tolist()
    if not scores:
        return 0.0
    hits = np.array(right)[np.argsort(-np.array(scores), kind="stable")].cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = hits / count
    return float(100 * (np.diff(recall, prepend=0.0) * precision).sum())
