"""Average precision of attributes against scikit-learn's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData
from sklearn.metrics import average_precision_score

from densekd.metrics import AttributeMAP
from densekd.metrics.attribute_map import average_precision

NAMES = ("red", "blue", "small", "large")


def samples(seed: int = 0, images: int = 6, ties: bool = False) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(images):
        count = rng.integers(0, 5)
        scores = rng.random((count, 4))
        truth = rng.choice([1, 0, -1], (count, 4), p=[0.3, 0.5, 0.2])
        objects = {"attributes": truth, "attribute_scores": scores.round(1) if ties else scores}
        found.append({"attribute_names": NAMES, "gt_instances": objects})
    return found


def score(given: list[dict[str, Any]], **options: Any) -> dict[str, float]:
    metric = AttributeMAP(**options)
    for each in given:
        metric.process({}, [each])
    return metric.evaluate(size=len(given))


@pytest.mark.parametrize("ties", [False, True])
def test_it_is_that_of_scikit_learn(ties: bool) -> None:
    given = samples(images=30, ties=ties)
    truth, scores = (
        np.concatenate([each["gt_instances"][key] for each in given]) for key in ("attributes", "attribute_scores")
    )
    each = []
    for a in range(4):
        known = truth[:, a] >= 0
        each.append(average_precision_score(truth[known, a], scores[known, a]))
        assert average_precision(truth[known, a], scores[known, a]) == pytest.approx(each[-1], abs=1e-12)
    found = score(given, novel=["small", "blue"], per_attribute=True)
    assert found["attributes/mAP"] == pytest.approx(np.mean(each), abs=6e-5)
    assert found["attributes/mAP_base"] == pytest.approx((each[0] + each[3]) / 2, abs=6e-5)
    assert found["attributes/mAP_novel"] == pytest.approx((each[1] + each[2]) / 2, abs=6e-5)
    assert found["attributes/AP.large"] == pytest.approx(each[3], abs=6e-5)


def test_what_is_not_known_does_not_count() -> None:
    given = samples()
    for each in given:
        unknown = each["gt_instances"]["attributes"] == -1
        each["gt_instances"]["attribute_scores"][unknown] = np.nan
    assert score(given) == score(samples())


def test_an_attribute_that_nothing_has_is_left_out() -> None:
    given = samples()
    for each in given:
        each["gt_instances"]["attributes"][:, 2] = 0
    found = score(given, per_attribute=True, novel=["small"])
    assert math.isnan(found["attributes/AP.small"])
    assert math.isnan(found["attributes/mAP_novel"])
    assert found["attributes/mAP"] == found["attributes/mAP_base"] > 0


def test_it_reads_samples_of_mmdet() -> None:
    evaluator = Evaluator({"type": "densekd.AttributeMAP", "novel": ["large"]})
    given = samples()
    for each in given:
        objects = {key: torch.from_numpy(value) for key, value in each["gt_instances"].items()}
        sample = DetDataSample(metainfo={"attribute_names": NAMES}, gt_instances=InstanceData(**objects))
        evaluator.process([sample])
    assert evaluator.evaluate(len(given)) == score(given, novel=["large"])


def test_wrong_samples_are_named() -> None:
    (one, other) = samples(images=2)
    with pytest.raises(ValueError, match=r"samples have no attributes: end the pipeline .* densekd\.PackAttributes"):
        score([{"gt_instances": {}}])
    with pytest.raises(ValueError, match="the model has not scored the attributes"):
        score([{**one, "gt_instances": {"attributes": np.zeros((1, 4))}}])
    with pytest.raises(ValueError, match="samples have unlike attributes"):
        score([one, {**other, "attribute_names": NAMES[::-1]}])
    with pytest.raises(ValueError, match="no attribute 'smal'; did you mean 'small'"):
        score([one], novel=["smal"])
