"""BEV AP against polygons of shapely and a plain loop over predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shapely.geometry import Polygon
from torch import Tensor

from densekd.bev.metric import BEVAP
from densekd.sensors.geometry import nine_points


def frame(generator: torch.Generator, n: int, m: int) -> dict:
    """Random boxes of three classes and predictions, most of them near a box."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    truth = torch.cat([30 * rand(n, 2), rand(n, 1), 2 + 3 * rand(n, 3), 6 * rand(n, 1), rand(n, 2)], 1)
    labels = torch.randint(3, (n,), generator=generator)
    of = torch.randint(n, (m,), generator=generator)
    guess = truth[of] + 0.35 * torch.randn(m, 9, generator=generator)
    wrong = rand(m) < 0.1
    guessed = labels[of].where(~wrong, (labels[of] + 1) % 3)
    return {
        "eval_ann_info": {"gt_bboxes_3d": truth, "gt_labels_3d": labels.numpy()},
        "pred_instances_3d": {"bboxes_3d": guess, "scores_3d": rand(m), "labels_3d": guessed},
    }


def polygon(box: Tensor) -> Polygon:
    return Polygon(nine_points(box[[0, 1, 3, 4, 6]].double())[[0, 2, 8, 6]].numpy())


def expected(frames: list[dict], threshold: float) -> float:
    """Written from the definition, with areas of polygons."""
    per_class = []
    for label in range(3):
        ranked = []
        count = sum(int((f["eval_ann_info"]["gt_labels_3d"] == label).sum()) for f in frames)
        for i, f in enumerate(frames):
            guess = f["pred_instances_3d"]
            ranked += [(s.item(), i, k) for k, s in enumerate(guess["scores_3d"]) if guess["labels_3d"][k] == label]
        taken, hits = set(), []
        for _, i, k in sorted(ranked, reverse=True):
            mine = polygon(frames[i]["pred_instances_3d"]["bboxes_3d"][k])
            overlaps = {}
            for j, box in enumerate(frames[i]["eval_ann_info"]["gt_bboxes_3d"]):
                if frames[i]["eval_ann_info"]["gt_labels_3d"][j] == label and (i, j) not in taken:
                    its = polygon(box)
                    overlaps[j] = mine.intersection(its).area / mine.union(its).area
            best = max(overlaps, key=overlaps.__getitem__, default=None)
            hits.append(best is not None and overlaps[best] >= threshold)
            if hits[-1]:
                taken.add((i, best))
        right = np.cumsum(hits)
        precision, recall = right / np.arange(1, len(hits) + 1), right / count
        grid = np.arange(1, count + 1) / count
        per_class.append(np.mean([precision[recall >= r - 1e-9].max(initial=0) for r in grid]))
    return 100 * float(np.mean(per_class))


@pytest.mark.parametrize("threshold", [0.25, 0.5])
def test_against_polygons(threshold: float) -> None:
    generator = torch.Generator().manual_seed(3)
    frames = [frame(generator, 6, 12) for _ in range(8)]
    metric = BEVAP(thresholds=[threshold])
    metric.dataset_meta = {"classes": ("a", "b", "c")}
    metric.process({}, frames)
    (value,) = metric.evaluate(size=8).values()
    assert 5 < value < 95
    assert value == pytest.approx(expected(frames, threshold), abs=0.02)


def score(frames: list[dict], **options) -> dict[str, float]:
    metric = BEVAP(**options)
    metric.dataset_meta = {"classes": ("a", "b", "c", "absent")}
    metric.process({}, frames)
    return metric.evaluate(size=len(frames))


def test_the_truth_scores_100_and_a_copy_of_it_is_wrong() -> None:
    made = frame(torch.Generator().manual_seed(0), 5, 1)
    truth = made["eval_ann_info"]
    labels = torch.from_numpy(truth["gt_labels_3d"])
    boxes = truth["gt_bboxes_3d"]
    exact = {"bboxes_3d": boxes, "scores_3d": torch.full((5,), 0.5), "labels_3d": labels}
    assert score([{**made, "pred_instances_3d": exact}]) == {"BEV_AP50": 100.0, "BEV_AP25": 100.0}
    twice = {"bboxes_3d": boxes.repeat_interleave(2, 0), "labels_3d": labels.repeat_interleave(2)}
    copies = {**twice, "scores_3d": torch.full((10,), 0.5)}
    found = score([{**made, "pred_instances_3d": copies}], per_class=True)
    assert found["BEV_AP50"] < 100
    assert np.isnan(found["BEV_AP50.absent"])


def test_turned_boxes_do_not_overlap_as_upright_ones_do() -> None:
    """A long box across another one: the overlap of their upright bounds would be far larger."""
    truth = torch.tensor([[0.0, 0, 0, 8, 1, 1, 0.7]])
    made = {"eval_ann_info": {"gt_bboxes_3d": truth, "gt_labels_3d": np.array([0])}}
    guess = {"scores_3d": torch.ones(1), "labels_3d": torch.zeros(1, dtype=torch.long)}
    across = truth.clone()
    across[:, 6] -= 1.4
    assert score([{**made, "pred_instances_3d": {**guess, "bboxes_3d": across}}])["BEV_AP25"] == 0
    about = truth.clone()
    about[:, 6] += torch.pi  # the other way round it is the same box
    assert score([{**made, "pred_instances_3d": {**guess, "bboxes_3d": about}}])["BEV_AP50"] == 100


def test_frames_without_boxes_or_predictions() -> None:
    none = {"bboxes_3d": torch.zeros(0, 9), "scores_3d": torch.zeros(0), "labels_3d": torch.zeros(0, dtype=torch.long)}
    empty = {"gt_bboxes_3d": torch.zeros(0, 9), "gt_labels_3d": np.zeros(0, np.int64)}
    made = frame(torch.Generator().manual_seed(0), 5, 4)
    assert score([{**made, "pred_instances_3d": none}])["BEV_AP50"] == 0
    alone = score([made])["BEV_AP50"]
    assert score([made, {"eval_ann_info": empty, "pred_instances_3d": none}])["BEV_AP50"] == alone
    extra = {"eval_ann_info": empty, "pred_instances_3d": {**made["pred_instances_3d"], "scores_3d": torch.ones(4)}}
    assert score([made, extra])["BEV_AP50"] <= alone
    assert np.isnan(score([{"eval_ann_info": empty, "pred_instances_3d": none}])["BEV_AP50"])


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="a threshold is an IoU"):
        BEVAP(thresholds=[50])
    with pytest.raises(KeyError, match="test_mode=True"):
        score([{"pred_instances_3d": {}, "eval_ann_info": None}])
