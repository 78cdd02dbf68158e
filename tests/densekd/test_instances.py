"""Instance masks and bands along their outlines choose positions: against NumPy and SciPy, on detectors of mmdet."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from scipy import ndimage
from torch import nn

from densekd import Distillation, Distiller, control, prepare, read_config, train
from densekd.context import alike
from densekd.edges import near_outline
from densekd.mmlab.building import build_model
from densekd.mmlab.samples import Context
from densekd.plain.given import Given
from densekd.runs.comparison import check
from densekd.term import Term

from .conftest import det_batch

SIZE = 32, 48
"""Of the images: whole cells of 4 and 8 pixels."""


def blobs(seed: int, n: int = 4, shape: tuple[int, int] = SIZE) -> np.ndarray:
    """Instances that overlap, touch and end at the border, and one of a single pixel."""
    draw = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(draw.normal(size=(n, *shape)), (0, 4, 4))
    masks = fields > 0.6 * fields.max((1, 2), keepdims=True)
    left = np.zeros((3, *shape), bool)
    left[0, 4:14, :6] = left[1, 4:14, 6:13] = left[2, 20, 36] = True  # the first two touch
    return np.concatenate([masks, left])


def band_of(masks: np.ndarray, width: float, void: np.ndarray | None = None) -> np.ndarray:
    """Of each instance the pixels within reach of the outside, and those of the outside within reach of it."""
    valid = np.ones(masks.shape[1:], bool) if void is None else ~void
    found = np.zeros(masks.shape[1:], bool)
    for mask in masks:
        for here, there in ((mask & valid, ~mask & valid), (~mask & valid, mask & valid)):
            if there.any():
                found |= here & (ndimage.distance_transform_edt(~there) <= width)
    return found


def pooled(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    cells = pixels.reshape(height, pixels.shape[0] // height, width, pixels.shape[1] // width)
    return cells.mean((1, 3), dtype=np.float64)


def sample(masks: Any, size: tuple[int, int] = SIZE, **more: Any) -> DetDataSample:
    found = DetDataSample(metainfo={"img_path": "a.png", "img_shape": size})
    n = len(masks)
    found.gt_instances = InstanceData(
        bboxes=torch.tensor([[0.0, 0.0, 8.0, 8.0]] * n).view(n, 4), labels=torch.zeros(n).long(), masks=masks
    )
    for key, value in more.items():
        setattr(found, key, value)
    return found


def bitmaps(masks: np.ndarray) -> BitmapMasks:
    return BitmapMasks(masks.astype(np.uint8), *masks.shape[1:])


def chosen(context: Any, where: str, size: tuple[int, int], **options: Any) -> np.ndarray:
    return context.gather(["weight"], size, where, rows=1, **options)["weight"].double().numpy()


@pytest.mark.parametrize("width", [1, 2, 3.5])
@pytest.mark.parametrize("seed", range(3))
def test_the_band_is_that_of_scipy(seed: int, width: float) -> None:
    masks = blobs(seed)
    found = near_outline(torch.from_numpy(masks), width).numpy()
    np.testing.assert_array_equal(found, band_of(masks, width))
    assert 0 < found.sum() < found.size
    void = np.zeros(SIZE, bool)
    void[:, 44:] = void[8:12, 2:9] = True
    found = near_outline(torch.from_numpy(masks), width, torch.from_numpy(void)).numpy()
    np.testing.assert_array_equal(found, band_of(masks, width, void))
    assert not found[void].any()


def test_more_instances_than_an_integer_has_bits() -> None:
    masks = np.zeros((150, *SIZE), bool)
    places = np.random.default_rng(0).permutation(masks[0].size)[:150]
    masks[np.arange(150), places // SIZE[1], places % SIZE[1]] = True
    masks[149] = False
    masks[149, 10:20, 10:30] = True
    np.testing.assert_array_equal(near_outline(torch.from_numpy(masks), 1).numpy(), band_of(masks, 1))


def test_touching_instances_have_an_outline_between_them_and_one_whole_has_none() -> None:
    halves = torch.zeros(2, 6, 8, dtype=torch.bool)
    halves[0, :, :4] = halves[1, :, 4:] = True
    assert near_outline(halves, 1)[:, 3:5].all()
    assert near_outline(halves, 1).sum() == 12  # the border of the image is no outline
    assert not near_outline(halves.any(0, keepdim=True), 1).any()
    assert not near_outline(halves[:0], 1).any()


@pytest.mark.parametrize("size", [(8, 12), (4, 6), SIZE])
def test_positions_on_the_grid_of_a_tap(size: tuple[int, int]) -> None:
    """By the share of the pixels of each, in a batch that is padded and has an empty image."""
    first, second = blobs(0), blobs(1, shape=(24, 40))
    context = Context([sample(bitmaps(first)), sample(bitmaps(second), (24, 40)), sample(bitmaps(first[:0]))], SIZE)
    padded = np.zeros((len(second), *SIZE), bool)
    padded[:, :24, :40] = second
    void = np.ones(SIZE, bool)
    void[:24, :40] = False
    bands = band_of(first, 2), band_of(padded, 2, void)
    covered = first.any(0), padded.any(0)
    for where, expected in (
        ("masks", covered),
        ("boundary", bands),
        ("body", [inner & ~band for inner, band in zip(covered, bands)]),
    ):
        found = chosen(context, where, size, width=2)
        assert found.shape == (3, *size)
        for image, pixels in enumerate(expected):
            np.testing.assert_allclose(found[image], pooled(pixels, size), atol=1e-6)
            assert pixels.any()
        assert not found[2].any()
    whole = chosen(context, "body", size, width=2) + chosen(context, "boundary", size, width=2)
    assert (whole + 1e-6 >= chosen(context, "masks", size)).all()


@pytest.mark.parametrize("size", [(8, 12), SIZE])
def test_each_instance_counts_alike(size: tuple[int, int]) -> None:
    """However large; one outside of the image counts nothing, and what all count together is their area."""
    masks = np.zeros((3, *SIZE), bool)
    masks[0, :16, :24] = masks[1, 20, 40] = True
    context = Context([sample(bitmaps(masks)), sample(bitmaps(masks[:1] | masks[1:2]))], SIZE)
    found = chosen(context, "instances", size) * (SIZE[0] // size[0]) ** 2
    areas = np.array([384, 1, 385])
    np.testing.assert_allclose(found[0][: size[0] // 2].sum(), areas.mean(), rtol=1e-5)
    np.testing.assert_allclose(found[0][size[0] // 2 :].sum(), areas.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.sum(), areas.sum(), rtol=1e-5)
    assert alike([torch.zeros(0, 4, 4).bool(), torch.zeros(2, 4, 4).bool()])[1].eq(0).all()


def test_polygons_outside_of_the_image_and_padding_below_an_instance() -> None:
    """An instance that ends where the image does has no outline there, whatever padding follows."""
    inside, outside = ([0.0, 16.0, 48.0, 16.0, 48.0, 24.0, 0.0, 24.0], [60.0, 40.0, 70.0, 40.0, 70.0, 50.0])
    masks = PolygonMasks([[np.array(each)] for each in (inside, outside)], 24, 48)
    context = Context([sample(masks, (24, 48))], SIZE)
    expected = np.zeros(SIZE)
    expected[16:24] = 1
    np.testing.assert_array_equal(chosen(context, "masks", SIZE)[0], expected)
    np.testing.assert_array_equal(chosen(context, "instances", SIZE)[0], expected)
    band = chosen(context, "boundary", SIZE, width=2)[0]
    assert band[14:18].all()
    assert band.sum() == 4 * 48


def test_a_crowd_is_no_background() -> None:
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 8:16, 8:16] = masks[1, 8:16, 16:24] = True
    crowd = InstanceData(bboxes=torch.zeros(1, 4), masks=bitmaps(masks[1:]))
    alone = chosen(Context([sample(bitmaps(masks[:1]))], SIZE), "boundary", SIZE, width=1)[0]
    beside = chosen(Context([sample(bitmaps(masks[:1]), ignored_instances=crowd)], SIZE), "boundary", SIZE, width=1)[0]
    assert alone[8:16, 15:17].all()
    assert not beside[9:15, 15:17].any()
    np.testing.assert_array_equal(beside[:, :15], alone[:, :15])


@pytest.mark.parametrize("where", ["masks", "instances", "boundary", "body"])
def test_a_flipped_image_has_the_flipped_selection(where: str) -> None:
    masks = bitmaps(blobs(2))
    straight, flipped = (
        chosen(Context([sample(each)], SIZE), where, (8, 12), **({"width": 2} if where in ("boundary", "body") else {}))
        for each in (masks, masks.flip())
    )
    assert straight.any()
    np.testing.assert_allclose(straight[..., ::-1], flipped, atol=1e-6)
    assert not np.allclose(straight, flipped)


@pytest.mark.parametrize("loss", ["at", "cosine", "cwd", "hcl", "hint", "mse", "norm_feature", "nst", "pkd"])
@pytest.mark.parametrize("where", ["masks", "instances", "boundary", "body"])
def test_the_gradient_is_zero_outside_and_moves_what_is_inside(where: str, loss: str) -> None:
    torch.manual_seed(0)
    levels = [torch.randn(2, 5, 16, 24, requires_grad=True), torch.randn(2, 5, 8, 12, requires_grad=True)]
    guide = [torch.randn_like(each) for each in levels]
    term = Term(loss, "neck", where=where, width=2 if where in ("boundary", "body") else None)
    term.fit(levels, [guide], SIZE)
    context = Context([sample(bitmaps(blobs(0))), sample(bitmaps(blobs(0)[:0]))], SIZE)
    term(levels, [guide], context).backward()
    for each in levels:
        weight = chosen(context, where, tuple(each.shape[2:]), width=2)
        assert each.grad is not None
        moved = each.grad.abs().sum(1).numpy()
        assert (moved[weight == 0] == 0).all()
        assert (moved[weight > 0] > 0).all()
        assert not moved[1].any()


def test_the_term_is_the_weighted_mean_over_the_band() -> None:
    torch.manual_seed(0)
    mine, its = torch.randn(1, 3, 8, 12), torch.randn(1, 3, 8, 12)
    masks = blobs(1)
    term = Term("mse", "neck", where="boundary", width=1.5, weight=2.0)
    term.fit([mine], [[its]], SIZE)
    found = term([mine], [[its]], Context([sample(bitmaps(masks))], SIZE))
    share = pooled(band_of(masks, 1.5), (8, 12))
    error = ((mine - its).double().numpy()[0] ** 2).mean(0)
    assert found.item() == pytest.approx(2 * (share * error).sum() / share.sum(), rel=1e-5)


def test_edges_of_a_label_map_where_there_are_no_masks() -> None:
    """Band and body part the labelled area; instances go before the label map of a semantic branch."""
    labels = np.random.default_rng(0).integers(0, 3, (4, 6)).repeat(8, 0).repeat(8, 1)
    labels[:4] = 255
    one = DetDataSample(metainfo={"img_shape": SIZE})
    one.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(labels)[None])
    band = band_of(np.stack([labels == c for c in range(3)]), 2, labels == 255)
    context = Context([one], SIZE)
    np.testing.assert_allclose(chosen(context, "boundary", (8, 12), width=2)[0], pooled(band, (8, 12)), atol=1e-6)
    both = sum(chosen(context, where, SIZE, width=2) for where in ("boundary", "body"))
    np.testing.assert_array_equal(both[0], labels != 255)
    for names in (dict(labels=torch.from_numpy(labels)[None]), dict(label_map=torch.from_numpy(labels)[None])):
        given = chosen(Given(names, SIZE), "boundary", SIZE, width=2)
        np.testing.assert_array_equal(given[0], band)
    one.gt_instances = sample(bitmaps(blobs(0))).gt_instances
    np.testing.assert_array_equal(chosen(Context([one], SIZE), "boundary", SIZE, width=2)[0], band_of(blobs(0), 2))


def test_masks_of_any_pytorch_model() -> None:
    """Of numbers or bools, and with as many instances as each image has."""
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1)) for _ in range(2))
    images, masks = torch.randn(2, 3, *SIZE), [torch.from_numpy(blobs(0)), torch.zeros(0, *SIZE)]
    entries = [dict(loss="mse", student="0", where=where, name=where) for where in ("masks", "boundary")]
    taught = Distillation(student, teacher, entries, example=images)
    losses = taught(images, context=dict(masks=masks))[1]
    error = (student(images)[0] - teacher(images)[0]).detach().double().square().mean(0).numpy()
    for where, pixels in (("masks", blobs(0).any(0)), ("boundary", band_of(blobs(0), 3))):
        share = pooled(pixels, (16, 24))
        assert losses[where].item() == pytest.approx((share * error).sum() / share.sum(), rel=1e-4)
    floats = taught(images, context=dict(masks=[each.float() for each in masks]))[1]
    assert floats == losses
    bytes_of = [255 * each.byte() for each in masks]
    assert taught(images, context=dict(masks=bytes_of))[1] == losses
    (shares, _), (same, _) = (Given(dict(masks=each), SIZE).masks((16, 24)) for each in (masks, bytes_of))
    assert torch.equal(shares, same)
    assert 0 < shares.max() <= 1
    with pytest.raises(ValueError, match="masks must be a list with a tensor for each image, got none"):
        taught(images, context=dict(masks=[]))
    with pytest.raises(ValueError, match="where='masks' needs masks, which this batch does not have"):
        taught(images, context=dict(boxes=[torch.zeros(0, 4)] * 2))
    with pytest.raises(ValueError, match="where='boundary' needs masks, or labels; this batch has neither"):
        Distillation(student, teacher, entries[1:], example=images)(images)


@pytest.mark.parametrize("where", ["masks", "instances", "boundary", "body"])
def test_boxes_without_masks_are_named_in_the_first_batch(det: Config, where: str) -> None:
    model = Distiller(det, "ema", [dict(loss="mse", student="neck", where=where)])
    with pytest.raises(ValueError, match=rf"where='{where}' needs gt_instances with masks \(LoadAnnotations with_mask"):
        model(**det_batch(model), mode="loss")
    batch = det_batch(model)
    batch["data_samples"][0].gt_instances.masks = bitmaps(np.ones((2, 96, 96), bool))
    with pytest.raises(ValueError, match="the instances in a batch have no masks, but others of the batch have"):
        model(**batch, mode="loss")
    for each in batch["data_samples"]:
        each.gt_instances.masks = bitmaps(np.ones((2, 128, 96), bool))
    with pytest.raises(ValueError, match="the masks in a batch have 128 x 96 pixels, its image 96 x 96 after padding"):
        model(**batch, mode="loss")


def test_a_detector_of_boxes_learns_where_the_masks_are(det: Config) -> None:
    entries = [dict(loss="mse", student="neck", where=where, name=where) for where in ("masks", "boundary")]
    model = Distiller(build_model(det)[0], build_model(det)[0], entries)
    batch = det_batch(model)
    for each in batch["data_samples"]:
        each.gt_instances.masks = bitmaps(blobs(0, n=0, shape=(96, 96))[:2])
    losses = model(**batch, mode="loss")
    assert all(losses[f"distill.loss_{where}"] > 0 for where in ("masks", "boundary"))
    for each in batch["data_samples"]:
        each.gt_instances = each.gt_instances[:0]
    losses = model(**batch, mode="loss")
    assert all(losses[f"distill.loss_{where}"] == 0 for where in ("masks", "boundary"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (dict(where="masks", width=2), "width is that of a band, of where='boundary' or 'body'"),
        (dict(width=2), "width is that of a band"),
        (dict(where="boundary", width=0.5), "width must be a number of at least 1, got 0.5"),
        (dict(where="body", width="3"), "width must be a number of at least 1, got '3'"),
        (dict(where="boundary", width=float("inf")), "width must be a number of at least 1, got inf"),
        (dict(where="boundary", width=True), "width must be a number of at least 1, got True"),
        (dict(where="mask"), "where must be one of"),
    ],
    ids=str,
)
def test_wrong_entries(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Term.parse(dict(loss="mse", student="neck", **entry))


@pytest.fixture
def digits() -> Config:
    config = read_config("det/instance_edges/digits")
    for split in ("train", "val", "test"):
        config[f"{split}_dataloader"].dataset.count = 4
    config.train_dataloader.batch_size = 2
    config.model.checkpoint = "random"
    return config


def test_data_without_masks_are_found_before_anything_is_trained(digits: Config, tmp_path: Path) -> None:
    check(digits)
    steps = digits.train_dataloader.dataset.pipeline
    steps[0].pop("with_mask")
    message = "where='boundary' of an entry of distills needs instance masks, but the training pipeline loads none"
    with pytest.raises(ValueError, match=message):
        check(digits)
    with pytest.raises(ValueError, match=message):
        prepare(copy.deepcopy(digits), work_dir=tmp_path)
    wrapped = copy.deepcopy(digits)
    wrapped.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=digits.train_dataloader.dataset)
    with pytest.raises(ValueError, match=message):
        check(wrapped)
    mapped = copy.deepcopy(digits)
    mapped.train_dataloader.dataset.pipeline[0].with_seg = True
    check(mapped)  # its label maps have edges
    mapped.model.distills[0].pop("width")
    mapped.model.distills[0].where = "masks"
    with pytest.raises(ValueError, match="where='masks'"):
        check(mapped)
    digits.train_dataloader.dataset.pipeline = [steps[0], dict(type="MasksOfMyOwn"), steps[1]]
    check(digits)  # which may make them
    digits.train_dataloader.dataset.pipeline = steps
    for entry in digits.model.distills:
        entry.pop("width")
        entry.where = "boxes"
    check(digits)


def test_a_run_of_two_steps_leaves_a_plain_mask_rcnn(digits: Config, tmp_path: Path) -> None:
    digits.train_cfg = dict(type="IterBasedTrainLoop", max_iters=2, val_interval=2)
    digits.default_hooks.checkpoint.interval = 2
    digits.val_dataloader.dataset.count = 2
    plain = control(copy.deepcopy(digits))
    runner = train(prepare(digits, work_dir=tmp_path, seed=0))
    assert type(runner.model).__name__ == "DistilledMaskRCNN"
    assert {"val/coco/bbox_mAP", "val/coco/segm_mAP"} <= {*runner.message_hub.log_scalars}
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(plain.model).eval()
        data = pseudo_collate([DATASETS.build(plain.test_dataloader.dataset)[0]])
    assert type(model).__name__ == "MaskRCNN"
    weights = torch.load(tmp_path / "iter_2.pth", weights_only=False)["state_dict"]
    model.load_state_dict({key: value for key, value in weights.items() if not key.startswith("distill.")})
    with torch.no_grad():
        (found,) = model.test_step(data)
    assert found.pred_instances.masks.shape[1:] == (64, 64)
