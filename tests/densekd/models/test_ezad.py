"""EZAD: classes by their names, some without a box, taught by an image-text model on regions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from densekd.datasets.digits import draw
from densekd.hub.image_text import image_text
from densekd.mmlab.config import read_config
from densekd.models.ezad import NO_PART, TextClassifier, TextRegression, region_loss
from densekd.regions import Regions, write_regions
from densekd.registry import MODELS
from densekd.texts import write

from .. import small_clip
from . import semi
from .learned import learned

NAMES = small_clip.NAMES
BASE, NOVEL = NAMES[:5], NAMES[5:]
WIDTH = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of 64 x 64 pixels with regions, `0` and `1`; the last one of `1` lies at its right edge."""
    draw = torch.Generator().manual_seed(0)
    texts = dict(zip(NAMES, torch.randn(10, WIDTH, generator=draw)))
    boxes = torch.tensor([[4.0, 4, 30, 40], [10, 20, 50, 60], [50, 10, 64, 30]])

    def images() -> Iterable[Any]:
        for key, count in ((0, 2), (1, 3)):
            weights = torch.rand(count, generator=draw) + 0.1
            yield key, (64, 64), Regions(boxes[:count], torch.randn(count, WIDTH, generator=draw), weights)

    write_regions(tmp_path / "regions", texts, images())
    return tmp_path / "regions"


def built(**options: Any) -> Any:
    """A small detector with the head."""
    config = semi.detector()
    config.roi_head.bbox_head.pop("num_classes")
    config.roi_head.update(type="densekd.EZADRoIHead", **{"base": BASE, "novel": NOVEL, **options})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config)
    model.init_weights()
    return model.train()


def sample(key: int, labels: list[int], matrix: np.ndarray | None = None, **meta: Any) -> DetDataSample:
    found = semi.sample(matrix)
    found.set_metainfo({"img_id": key, **meta})
    boxes = torch.tensor([[8.0, 8, 30, 30], [30, 20, 60, 50]])[: len(labels)]
    found.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor(labels, dtype=torch.long))
    return found


def test_logits_are_cosines_with_texts(folder: Path) -> None:
    options = dict(texts=folder / "texts.safetensors", classes=NAMES, novel=3, scale=50.0)
    layer = TextClassifier(7, 11, **options).eval()
    x = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    f = x.numpy() @ layer.embed.weight.detach().numpy().T + layer.embed.bias.detach().numpy()
    f /= np.linalg.norm(f, axis=1, keepdims=True)
    texts = layer.texts.numpy()
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-5)
    expected = 50 * np.concatenate([f @ texts.T, f @ layer.background.weight.detach().numpy().T], 1)
    np.testing.assert_allclose(layer(x).detach(), expected, rtol=1e-4, atol=1e-4)
    logits = layer.train()(x)
    np.testing.assert_allclose(logits[:, :7].detach(), expected[:, :7], rtol=1e-4, atol=1e-4)
    assert logits[:, 7:10].eq(NO_PART).all()  # novel classes do not compete while it trains
    np.testing.assert_allclose(logits[:, 10].detach(), expected[:, 10], rtol=1e-4, atol=1e-4)
    assert set(layer.state_dict()) == {
        "embed.weight",
        "embed.bias",
        "background.weight",
    }  # texts are frozen, and no part
    learned = TextClassifier(7, 11, **options, learned_scale=True)
    assert learned.exponent.exp().item() == pytest.approx(50)
    for wrong, message in (
        ({"scale": 0}, "scale must be a positive"),
        ({"classes": NAMES[:4]}, "have 5 logits, not 11"),
        ({"novel": 10}, "novel must be less than the 10 classes"),
    ):
        with pytest.raises(ValueError, match=message):
            TextClassifier(7, 11, **{**options, **wrong})
    with pytest.raises(KeyError, match="no embedding of 'digit x'"):
        TextClassifier(7, 2, texts=options["texts"], classes=["digit x"])


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_does_not_round_logits(half: torch.dtype, folder: Path) -> None:
    layer = TextClassifier(WIDTH, 11, folder / "texts.safetensors", NAMES).eval()
    with torch.no_grad():
        layer.embed.weight.copy_(torch.eye(WIDTH))
        layer.embed.bias.zero_()
    x = layer.texts.to(half).float()  # logits of 100, between which numbers of half precision are a half apart
    expected = layer(x)
    with torch.autocast("cpu", half):
        found = layer(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    texts = layer.texts.clone()
    layer.to(half)  # the weights themselves: features, texts and the scale are rounded once
    torch.testing.assert_close(layer(x.to(half)).argmax(1), torch.arange(len(texts)))


def test_boxes_are_those_of_one_layer_on_feature_and_text(folder: Path) -> None:
    layer = TextRegression(7, 40, folder / "texts.safetensors", NAMES)
    x = torch.randn(3, 7, generator=torch.Generator().manual_seed(1))
    joint = torch.cat([layer.of_feature.weight, layer.of_text.weight], 1)
    found = layer(x).unflatten(1, (10, 4))
    for c in range(10):
        both = torch.cat([x, layer.texts[c].expand(3, -1)], 1)
        torch.testing.assert_close(found[:, c], both @ joint.T + layer.of_feature.bias)
    with pytest.raises(ValueError, match="10 classes have 40 deltas, not 4"):
        TextRegression(7, 4, folder / "texts.safetensors", NAMES)


def test_the_loss_is_that_of_numpy() -> None:
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 6, generator=draw, dtype=torch.double) for _ in range(2))
    weights = torch.rand(5, generator=draw, dtype=torch.double)
    s, t = (each.numpy() / np.linalg.norm(each.numpy(), axis=1, keepdims=True) for each in (student, teacher))
    # the authors': a mean over all elements, times the number of channels
    expected = (np.abs(s - t) * weights.numpy()[:, None]).mean() * 6
    np.testing.assert_allclose(region_loss(student, teacher, weights), expected, rtol=1e-10)
    assert region_loss(3 * teacher, teacher, weights).abs() < 1e-12
    nothing = region_loss(student[:0].requires_grad_(True), teacher[:0], weights[:0])
    assert nothing == 0
    assert nothing.requires_grad


def test_the_loss_of_a_batch_is_that_of_its_regions(folder: Path) -> None:
    model = built(regions=folder, weight=2.0)
    images = semi.images(2)
    samples = [sample(0, [1]), sample(1, [])]
    losses = model(images, samples, mode="loss")
    expected, levels = [], model.extract_feat(images)
    for image, each in enumerate(samples):
        found = model.roi_head.store(each.img_id, (64, 64))
        rois = torch.cat([torch.full((len(found.boxes), 1), float(image)), found.boxes], 1)
        s = model.roi_head.embeddings(levels, rois).detach().double().numpy()
        s, t = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (s, found.embeddings.double().numpy()))
        weights = found.weights.numpy() / found.weights.numpy().mean()
        expected += [w * np.abs(a - b).sum() for w, a, b in zip(weights, s, t)]
    assert losses["loss_regions"].item() == pytest.approx(2 * np.mean(expected), rel=1e-4)
    model.zero_grad()
    losses["loss_regions"].backward()
    head = model.roi_head.bbox_head
    assert head.fc_cls.embed.weight.grad.abs().sum() > 0
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    assert head.fc_cls.background.weight.grad is None  # it is no embedding
    assert "loss_regions" not in built(texts=folder / "texts.safetensors")(images, samples, mode="loss")


def test_regions_are_moved_to_the_view(folder: Path) -> None:
    model = built(regions=folder)
    flip = np.array([[-1, 0, 64], [0, 1, 0], [0, 0, 1]], np.float32)
    moved = model.roi_head._seen(sample(1, [], flip), torch.device("cpu"))[0]
    assert moved.tolist() == [[34, 4, 60, 40], [14, 20, 54, 60], [0, 10, 14, 30]]
    right = np.array([[1, 0, 8], [0, 1, 0], [0, 0, 1]], np.float32)  # the last region is cut to 6 of 14 columns
    boxes, _, weights = model.roi_head._seen(sample(1, [], right), torch.device("cpu"))
    assert boxes.tolist() == [[12, 4, 38, 40], [18, 20, 58, 60]]
    assert weights.mean().item() == pytest.approx(1)
    away = np.array([[1, 0, 90], [0, 1, 0], [0, 0, 1]], np.float32)
    losses = model(semi.images(1), [sample(0, [1], away)], mode="loss")
    assert losses["loss_regions"] == 0
    sum(torch.stack(list(each)).sum() if isinstance(each, list) else each for each in losses.values()).backward()
    with pytest.raises(ValueError, match=r"a flipped view .* list 'homography_matrix' in the meta_keys"):
        model.roi_head._seen(sample(0, [], flip=True), torch.device("cpu"))


def test_novel_labels_and_unknown_images_are_refused(folder: Path) -> None:
    model = built(regions=folder)
    with pytest.raises(ValueError, match="image 0 has a label 5, but the base classes are labels 0 to 4"):
        model(semi.images(1), [sample(0, [1, 5])], mode="loss")
    with pytest.raises(KeyError, match="no regions of image '9'"):
        model(semi.images(1), [sample(9, [1])], mode="loss")
    with pytest.raises(ValueError, match="are of 64 x 64 pixels, the image has 80 x 64"):
        model(semi.images(1), [sample(0, [1], np.eye(3, dtype=np.float32), ori_shape=(80, 64))], mode="loss")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(novel=["digit 0"]), "must be distinct names"),
        (dict(base=[], novel=NAMES), "base not empty"),
        (dict(regions=None), "give texts="),
        (dict(weight=-1), "weight must be a number from 0"),
        (dict(num_classes=3), "are 10 classes, num_classes of its box head is 3"),
        (dict(reg_class_agnostic=True), "sets reg_class_agnostic of its box head itself"),
        (dict(texts="other"), "are 12 wide, texts in .* 5: they must be of one encoder"),
    ],
)
def test_what_cannot_be_is_named(wrong: dict[str, Any], message: str, folder: Path, tmp_path: Path) -> None:
    if "texts" in wrong:
        write(tmp_path / "other.safetensors", {name: torch.ones(5) for name in NAMES})
        wrong = {"texts": tmp_path / "other.safetensors"}
    head = {key: wrong[key] for key in ("num_classes", "reg_class_agnostic") if key in wrong}
    given = {"regions": folder, **{key: value for key, value in wrong.items() if key not in head}}
    if head:
        given["bbox_head"] = {**semi.detector().roi_head.bbox_head, **{"num_classes": 10}, **head}
    with pytest.raises(ValueError, match=message):
        built(**given)


def test_the_same_weights_tell_other_classes(folder: Path) -> None:
    model = built(regions=folder).eval()
    other = built(texts=folder / "texts.safetensors", base=BASE[:2], novel=[NOVEL[3]]).eval()
    other.load_state_dict(model.state_dict())
    levels = model.extract_feat(semi.images(1))
    rois = torch.tensor([[0.0, 4, 4, 40, 40]])
    with torch.no_grad():
        whole, some = (each.roi_head._bbox_forward(levels, rois) for each in (model, other))
    chosen = [0, 1, 8, 10]
    torch.testing.assert_close(some["cls_score"], whole["cls_score"][:, chosen])
    torch.testing.assert_close(some["bbox_pred"].view(3, 4), whole["bbox_pred"].view(10, 4)[chosen[:3]])


def test_regions_teach_classes_without_a_box(digits_clip: str, tmp_path: Path) -> None:
    """Five digits have boxes. The others are told by their names, if an image-text model has taught their regions."""
    encoder = image_text(digits_clip)

    def images() -> Iterable[Any]:
        for index in range(200):
            scene = draw(index, "train", 64)
            boxes = torch.from_numpy(scene.boxes)  # of all objects, whatever they are
            yield index, (64, 64), Regions(boxes, encoder.regions(scene.image, boxes), torch.ones(len(boxes)))

    write_regions(tmp_path / "regions", dict(zip(NAMES, encoder.names(NAMES))), images())
    base, novel = {}, {}
    for weight in (0.0, 8.0):
        model = trained(tmp_path / "regions", weight)
        base[weight], novel[weight] = right(model)
    chance = 1 / len(NOVEL)
    assert min(base.values()) > 0.7
    assert novel[8.0] > 0.6 > 2 * chance
    assert novel[8.0] > novel[0.0] + 0.2


def trained(regions: Path, weight: float, steps: int = 240) -> Any:
    config = read_config("det/ezad/digits")
    config.model.roi_head.update(base=BASE, novel=NOVEL, regions=str(regions), weight=weight, scale=15.0)
    config.train_dataloader.update(batch_size=4)
    config.train_dataloader.dataset.update(count=200, metainfo=dict(classes=BASE))
    return learned(config, steps)


@torch.no_grad()
def right(model: Any) -> tuple[float, float]:
    """Shares of true boxes in other scenes that are told right, of base classes among these, of novel ones likewise."""
    found: tuple[list[bool], list[bool]] = [], []
    for index in range(100):
        scene = draw(index, "val", 64)
        image = torch.from_numpy(scene.image[..., ::-1].copy()).permute(2, 0, 1)
        levels = model.extract_feat(model.data_preprocessor({"inputs": [image], "data_samples": None})["inputs"])
        logits = model.roi_head._bbox_forward(levels, bbox2roi([torch.from_numpy(scene.boxes)]))["cls_score"]
        for row, digit in zip(logits, scene.digits.tolist()):
            start = 0 if digit < 5 else 5
            found[digit >= 5].append(int(row[start : start + 5].argmax()) + start == digit)
    return float(np.mean(found[0])), float(np.mean(found[1]))
