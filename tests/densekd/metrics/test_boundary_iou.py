"""The band against SciPy's distance transform and against every pair of pixels; the measure against mmseg's own."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from mmengine.evaluator import Evaluator
from scipy import ndimage
from torch import distributed

from densekd import BoundaryIoU, read_config
from densekd.metrics import near_edge
from densekd.metrics.boundary_iou import beside_iou
from densekd.runs.experiment import measure_boundaries

VOID = 255
CLASSES = ("sky", "road", "tree", "car", "pole")
WIDTHS = (1, 1.5, 2, 3, 4)


def label_map(seed: int, shape: tuple[int, int] = (21, 27), void: bool = True) -> np.ndarray:
    """Blobs of four classes of five, with an ignored border, an ignored hole and single ignored pixels."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(5, *shape)), (0, 3, 3))
    smooth[3] = -np.inf
    labels = smooth.argmax(0)
    if void:
        labels[:2] = labels[10:14, 6:9] = VOID
        labels[rng.random(shape) < 0.05] = VOID
    return labels


def by_distance_transform(labels: np.ndarray, width: float) -> np.ndarray:
    """For each class, how far its pixels are from the nearest pixel of any other valid class."""
    near = np.zeros(labels.shape, bool)
    for c in set(np.unique(labels)) - {VOID}:
        others = (labels != c) & (labels != VOID)
        if others.any():
            near |= (labels == c) & (ndimage.distance_transform_edt(~others) <= width)
    return near


def by_pairs(labels: np.ndarray, width: float) -> np.ndarray:
    near = np.zeros(labels.shape, bool)
    pixels = [p for p in np.ndindex(*labels.shape) if labels[p] != VOID]
    for p, q in itertools.combinations(pixels, 2):
        if labels[p] != labels[q] and math.dist(p, q) <= width:
            near[p] = near[q] = True
    return near


def score(truths: list[np.ndarray], guesses: list[np.ndarray], **options: object) -> dict[str, float]:
    metric = BoundaryIoU(**options)
    metric.dataset_meta = {"classes": CLASSES}
    for sample in samples(truths, guesses):
        metric.process({}, [sample])
    return metric.evaluate(size=len(truths))


def samples(truths: list[np.ndarray], guesses: list[np.ndarray]) -> list[dict[str, dict[str, torch.Tensor]]]:
    pairs = [(torch.from_numpy(np.ascontiguousarray(each)) for each in pair) for pair in zip(truths, guesses)]
    return [{"gt_sem_seg": {"data": truth[None]}, "pred_sem_seg": {"data": guess[None]}} for truth, guess in pairs]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("void", [False, True])
def test_the_band_is_that_of_the_distance_transform(width: float, void: bool) -> None:
    labels = np.stack([label_map(seed, void=void) for seed in range(3)])
    expected = np.stack([by_distance_transform(each, width) for each in labels])
    assert 0.1 < expected.mean() < 0.95
    np.testing.assert_array_equal(near_edge(torch.from_numpy(labels), width).numpy(), expected)


@pytest.mark.parametrize("shape", [(7, 9), (1, 9), (9, 1), (2, 2)])
def test_the_band_is_that_of_all_pairs(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for width in (*WIDTHS, 20):
        labels = rng.choice([0, 0, 0, 1, 2, VOID], size=shape)
        np.testing.assert_array_equal(near_edge(torch.from_numpy(labels), width).numpy(), by_pairs(labels, width))


def test_an_ignored_strip_is_no_edge_and_does_not_hide_one() -> None:
    row = torch.tensor([[0, 0, VOID, -1, 1, 1]])
    assert not near_edge(row, width=2).any()
    assert near_edge(row, width=3).tolist() == [[False, True, False, False, True, False]]
    assert near_edge(torch.tensor([[0, 0, VOID, -1, 0, 0]]), width=5).sum() == 0
    assert near_edge(row, width=1, ignore_index=7).sum() == 2  # 255 is a class like any other then


def test_formula() -> None:
    rng = np.random.default_rng(1)
    truths = [label_map(seed) for seed in range(4)]
    guesses = [np.where(rng.random(t.shape) < 0.3, rng.integers(5, size=t.shape), t % VOID) for t in truths]
    near = [by_distance_transform(truth, 3) for truth in truths]
    iou = []
    for c in range(5):
        both = sum(((g == c) & (t == c) & e).sum() for g, t, e in zip(guesses, truths, near))
        either = sum((((g == c) | (t == c)) & e).sum() for g, t, e in zip(guesses, truths, near))
        iou.append(100 * both / either)
    assert iou[3] == 0  # guessed, and never there
    found = score(truths, guesses, per_class=True)
    assert found["bIoU"] == pytest.approx(np.mean(iou), abs=0.0051)
    assert [found[f"bIoU.{name}"] for name in CLASSES] == pytest.approx(iou, abs=0.0051)


def test_a_band_over_all_is_what_mmseg_computes() -> None:
    from mmseg.evaluation import IoUMetric

    rng = np.random.default_rng(2)
    truths = [label_map(seed) for seed in range(4)]
    guesses = [np.where(rng.random(t.shape) < 0.3, rng.integers(3, size=t.shape), t % VOID) for t in truths]
    mmsegs = IoUMetric()
    mmsegs.dataset_meta = {"classes": CLASSES}
    mmsegs.process({}, samples(truths, guesses))
    expected = mmsegs.evaluate(size=4)["mIoU"]
    assert score(truths, guesses, width=40)["bIoU"] == pytest.approx(expected, abs=0.011)
    assert score(truths, guesses, width=1)["bIoU"] != pytest.approx(expected, abs=0.011)


def test_what_is_far_from_an_edge_or_ignored_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    truths = [label_map(seed) for seed in range(3)]
    guesses = [rng.integers(5, size=truth.shape) for truth in truths]
    others = [np.where(by_distance_transform(t, 2), g, rng.integers(5, size=t.shape)) for t, g in zip(truths, guesses)]
    assert score(truths, others, width=2) == score(truths, guesses, width=2)
    assert score(truths, others, width=3) != score(truths, guesses, width=3)
    assert score(truths, [truth % VOID for truth in truths]) == {"bIoU": 100.0}


def test_images_count_by_their_pixels_in_any_order() -> None:
    truths = [label_map(0), label_map(1, (30, 9)), np.zeros((5, 5), int)]  # the last one has no edge
    guesses = [np.roll(truth, 1, axis=1) % VOID for truth in truths]
    value = score(truths, guesses)
    assert score(truths[::-1], guesses[::-1]) == value
    assert score(truths[:2], guesses[:2]) == value
    assert score(truths + truths, guesses + guesses) == value


@pytest.mark.parametrize("label", [VOID, 2])
def test_no_edge_at_all_is_not_a_number(label: int) -> None:
    truth = np.full((6, 6), label)
    found = score([truth], [np.zeros_like(truth)], per_class=True)
    assert len(found) == 6
    assert all(math.isnan(value) for value in found.values())


def test_beside_mmsegs_metric_from_a_config() -> None:
    import mmseg.evaluation  # noqa: F401  registers IoUMetric
    from mmengine.registry import DefaultScope
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    with DefaultScope.overwrite_default_scope("mmseg"):
        evaluator = Evaluator([{"type": "IoUMetric"}, {"type": "densekd.BoundaryIoU", "width": 2, "per_class": True}])
    evaluator.dataset_meta = {"classes": CLASSES}
    for seed in range(2):
        truth = torch.from_numpy(label_map(seed))[None]
        evaluator.process([SegDataSample(gt_sem_seg=PixelData(data=truth), pred_sem_seg=PixelData(data=truth % VOID))])
    found = evaluator.evaluate(2)
    assert found["mIoU"] == found["bIoU"] == found["bIoU.pole"] == 100
    assert math.isnan(found["bIoU.car"])


@pytest.mark.parametrize(
    "given",
    [
        dict(type="IoUMetric", iou_metrics=["mIoU"]),
        [dict(type="mmseg.IoUMetric", ignore_index=7, prefix="x"), dict(type="CityscapesMetric")],
        [dict(type="IoUMetric", format_only=True)],
        [dict(type="IoUMetric"), dict(type="densekd.BoundaryIoU", width=1)],
        dict(type="CocoMetric"),
    ],
)
def test_what_is_measured_beside_an_evaluator(given: Any) -> None:
    before = copy.deepcopy(given)
    found = beside_iou(given)
    assert given == before
    listed = given if isinstance(given, list) else [given]
    plain = any("IoUMetric" in each["type"] and not each.get("format_only") for each in listed)
    if not plain or any("BoundaryIoU" in each["type"] for each in listed):
        assert found == given
        return
    *others, ours = found
    assert others == listed
    assert ours == {"type": "densekd.BoundaryIoU"} | {
        key: listed[0][key] for key in ("ignore_index", "prefix") if key in listed[0]
    }


def test_every_shipped_segmenter_is_measured_near_edges() -> None:
    """With the evaluators as `prepare` leaves them, at the width that the tables state."""
    paths = sorted((Path(__file__).parents[3] / "configs" / "seg" / "plain").glob("*.py"))
    assert len(paths) > 20
    for path in paths:
        config = read_config(path)
        measure_boundaries(config)
        for split in ("val", "test"):
            evaluator = config.get(f"{split}_evaluator")
            listed = evaluator if isinstance(evaluator, list) else [evaluator]
            (near,) = [each for each in listed if each["type"] == "densekd.BoundaryIoU"]
            assert near.get("width", 3) == 3, path


def test_classes_that_the_data_set_has_not() -> None:
    truth = label_map(0)
    strange, wrong = (np.where(truth == 1, c, truth % VOID) for c in (7, 3))
    assert score([truth], [strange], per_class=True)["bIoU.road"] == 0
    assert math.isnan(score([truth], [strange], per_class=True)["bIoU.car"])
    assert score([truth], [wrong], per_class=True)["bIoU.car"] == 0


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        BoundaryIoU(width=0)
    for width in ("3", math.nan, math.inf):
        with pytest.raises(TypeError, match="width is a number of pixels"):
            BoundaryIoU(width=width)
    with pytest.raises(ValueError, match=r"a prediction has \(4, 5\) pixels, its ground truth \(4, 6\)"):
        score([np.zeros((4, 6), int)], [np.zeros((4, 5), int)])
    with pytest.raises(ValueError, match="label 5 is none of the 5 classes"):
        score([np.array([[0, 5]])], [np.array([[0, 0]])])


def _one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)  # threads do not survive a fork
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    metric = BoundaryIoU(per_class=True)
    metric.dataset_meta = {"classes": CLASSES}
    for seed in ((0, 2, 4), (1, 3, 0))[rank]:  # five images; a sampler fills up the last round from the start
        truth = label_map(seed)
        metric.process({}, samples([truth], [np.roll(truth, 1, axis=0) % VOID]))
    Path(folder, str(rank)).write_text(repr(metric.evaluate(size=5)))
    distributed.destroy_process_group()


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(_one_of_two, (str(tmp_path),), nprocs=2, start_method="fork")
    truths = [label_map(seed) for seed in range(5)]
    alone = score(truths, [np.roll(truth, 1, axis=0) % VOID for truth in truths], per_class=True)
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text() == repr(alone)
