"""Mean average precision of attributes, of those that were annotated in the training and of the others apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from densekd.registry import METRICS
from kdlosses import nearest


@METRICS.register_module()
class AttributeMAP(BaseMetric):
    r"""Mean over attributes of the average precision with which objects that have one rank before those that lack it.

    $$\mathrm{AP}_a = \sum_k (R_k - R_{k-1})\, P_k, \qquad \mathrm{mAP} = \mathrm{mean}_a\, \mathrm{AP}_a$$

    with precision P and recall R over the true boxes of all images, at each score k that occurs, the highest first. The
    boxes are given ("box given"): detection does not count. Objects of which an attribute is not known do not count for
    it, and an attribute that none of them has is left out of the mean.

    A model writes its scores of the true boxes to `gt_instances.attribute_scores` of a sample, see
    `densekd.OvarNetRoIHead`; the truth is `gt_instances.attributes`, which `densekd.PackAttributes` packs.

    Args:
        novel: names of the attributes of which there is no label in the training; the others are base.
        per_attribute: report each attribute as well, as `AP.<name>`.
        collect_device: where the results of several processes are gathered, 'cpu' or 'gpu'.
        prefix: of the names, `attributes` if not given.

    Raises:
        ValueError: samples without attributes or without scores of them, samples of unlike attributes, or a name among
            `novel` that they lack.

    Paper: Pham et al., "Learning to Predict Visual Attributes in the Wild", CVPR 2021, whose mAP this is; Chen et al.,
    "OvarNet: Towards Open-vocabulary Object Attribute Recognition", CVPR 2023, tell base and novel attributes apart.

    >>> metric = AttributeMAP(novel=["small"])
    >>> truth, scores = [[1, 0], [0, 1], [1, -1]], [[0.9, 0.8], [0.3, 0.2], [0.4, 0.9]]
    >>> objects = {"attributes": np.array(truth), "attribute_scores": np.array(scores)}
    >>> metric.process({}, [{"attribute_names": ("red", "small"), "gt_instances": objects}])
    >>> metric.evaluate(size=1)
    {'attributes/mAP': 0.75, 'attributes/mAP_base': 1.0, 'attributes/mAP_novel': 0.5}
    """

    default_prefix = "attributes"

    def __init__(
        self,
        novel: Sequence[str] = (),
        per_attribute: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.novel, self.per_attribute = tuple(novel), per_attribute

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Keep truth and scores of each image."""
        for sample in data_samples:
            objects = sample["gt_instances"]
            if "attributes" not in objects or "attribute_names" not in sample:
                raise ValueError(
                    "AttributeMAP: samples have no attributes: end the pipeline of the test data with "
                    "densekd.PackAttributes"
                )
            if "attribute_scores" not in objects:
                raise ValueError(
                    "AttributeMAP: the model has not scored the attributes of true boxes: densekd.OvarNetRoIHead does"
                )
            truth, scores = (np.asarray(_there(objects[key])) for key in ("attributes", "attribute_scores"))
            self.results.append((tuple(sample["attribute_names"]), truth, scores))

    def compute_metrics(self, results: list[tuple[tuple[str, ...], np.ndarray, np.ndarray]]) -> dict[str, float]:
        """Rank the objects of all images."""
        names = results[0][0]
        if any(each[0] != names for each in results):
            raise ValueError("AttributeMAP: samples have unlike attributes: test one data set at a time")
        for name in self.novel:
            if name not in names:
                raise ValueError(f"AttributeMAP: samples have no attribute {name!r}; {nearest(name, names)}")
        truth, scores = (np.concatenate([each[k] for each in results]) for k in (1, 2))
        found = {
            name: average_precision(truth[:, a][truth[:, a] >= 0], scores[:, a][truth[:, a] >= 0])
            for a, name in enumerate(names)
        }
        base = [value for name, value in found.items() if name not in self.novel]
        novel = [value for name, value in found.items() if name in self.novel]
        metrics = {"mAP": _mean([*base, *novel])}
        if novel:
            metrics |= {"mAP_base": _mean(base), "mAP_novel": _mean(novel)}
        if self.per_attribute:
            metrics |= {f"AP.{name}": round(value, 4) for name, value in found.items()}
        return metrics


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the steps of precision over recall; NaN if there is nothing to find.

    Args:
        truth: 1 or 0, `(n,)`.
        scores: `(n,)`; equal ones rank together.

    >>> average_precision(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.8])).__round__(4)
    0.8333
    """
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth, scores)) if (truth == 1).any() else math.nan


def _mean(values: list[float]) -> float:
    there = [value for value in values if not math.isnan(value)]
    return round(float(np.mean(there)), 4) if there else math.nan


def _there(values: Any) -> Any:
    return values.detach().cpu() if hasattr(values, "detach") else values
