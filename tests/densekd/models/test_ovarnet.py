"""OvarNet: classes and attributes by their names, some without a label, taught by CLIP-Attr on regions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from densekd.datasets import DigitScenesDet
from densekd.hub.clip_attr import Prompts, Told, learn
from densekd.hub.image_text import image_text
from densekd.metrics import AttributeMAP
from densekd.mmlab.config import read_config
from densekd.regions import Regions, write_regions
from densekd.registry import MODELS
from densekd.texts import attribute_key, write

from .. import small_clip
from . import semi
from .learned import learned

NAMES = small_clip.NAMES
BASE, NOVEL = NAMES[:8], NAMES[8:]
ATTRIBUTES = {"color": ["red", "green"], "size": ["small"]}
NOVEL_ATTRIBUTES = {"color": ["blue", "orange"]}
ALL = ["red", "green", "small", "blue", "orange"]
WIDTH = 12
SCALE, OFFSET = 7.0, -1.5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of 64 x 64 pixels with regions."""
    draw = torch.Generator().manual_seed(0)
    names = [*NAMES, *map(attribute_key, ALL)]
    texts = dict(zip(names, torch.randn(len(names), WIDTH, generator=draw)))
    boxes = torch.tensor([[4.0, 4, 30, 40], [10, 20, 50, 60], [40, 10, 64, 30]])

    def images() -> Iterable[Any]:
        for key, count in ((0, 2), (1, 3)):
            weights = torch.rand(count, generator=draw) + 0.1
            yield key, (64, 64), Regions(boxes[:count], torch.randn(count, WIDTH, generator=draw), weights)

    write_regions(tmp_path / "regions", texts, images())
    return tmp_path / "regions"


def built(**options: Any) -> Any:
    config = semi.detector()
    config.roi_head.bbox_head.pop("num_classes")
    given = dict(base=BASE, novel=NOVEL, attributes=ATTRIBUTES, novel_attributes=NOVEL_ATTRIBUTES)
    config.roi_head.update(type="densekd.OvarNetRoIHead", **{**given, "scale": SCALE, "offset": OFFSET, **options})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config)
    model.init_weights()
    return model.train()


def sample(key: int, said: Any = ((1, 0, -1), (0, -1, 1)), names: Any = ("red", "green", "small")) -> DetDataSample:
    found = semi.sample(None)
    found.set_metainfo({"img_id": key, "attribute_names": tuple(names)})
    boxes = torch.tensor([[8.0, 8, 30, 30], [30, 20, 60, 50]])[: len(said)]
    found.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.ones(len(said), dtype=torch.long),
        attributes=torch.tensor(said).reshape(-1, len(names)),
    )
    return found


def logits_of(model: Any, embeddings: np.ndarray, names: list[str]) -> np.ndarray:
    from densekd.texts import TextTable

    texts = TextTable(model.roi_head.texts_file)(names).double().numpy()
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    f = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return SCALE * f @ texts.T


def test_attributes_are_told_by_their_texts_one_by_one(folder: Path) -> None:
    model = built(texts=folder / "texts.safetensors")
    f = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(1))
    head = model.roi_head
    expected = logits_of(model, f.double().numpy(), [attribute_key(name) for name in ALL]) + OFFSET
    np.testing.assert_allclose(head.attribute_logits(f), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(head.class_logits(f), logits_of(model, f.double().numpy(), NAMES), rtol=1e-4, atol=1e-4)
    assert head.attribute_names == tuple(ALL)
    fewer = built(texts=folder / "texts.safetensors", novel_attributes=["orange"])
    fewer.load_state_dict(model.state_dict())  # texts are no part of the weights
    torch.testing.assert_close(fewer.roi_head.attribute_logits(f), head.attribute_logits(f)[:, [0, 1, 2, 4]])


def test_the_loss_on_regions_is_that_of_numpy(folder: Path) -> None:
    head = built(regions=folder).roi_head
    draw = torch.Generator().manual_seed(3)
    s, t = (torch.randn(6, WIDTH, generator=draw, dtype=torch.double) for _ in range(2))
    weights = torch.rand(6, generator=draw, dtype=torch.double)

    def probabilities(embeddings: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        a = logits_of(head_model, embeddings.numpy(), [attribute_key(name) for name in ALL]) + OFFSET
        c = np.exp(logits_of(head_model, embeddings.numpy(), NAMES))
        return 1 / (1 + np.exp(-a)), c / c.sum(1, keepdims=True)

    head_model = type("Model", (), {"roi_head": head})
    (qa, qc), (pa, pc) = probabilities(s), probabilities(t)
    bernoulli = pa * np.log(pa / qa) + (1 - pa) * np.log((1 - pa) / (1 - qa))
    each = 0.5 * bernoulli.sum(1) + (pc * np.log(pc / qc)).sum(1)
    w = weights.numpy()
    np.testing.assert_allclose(head.region_loss(s, t, weights), 2 * (w * each).sum() / w.sum(), rtol=1e-5)
    assert head.region_loss(3 * t, t, weights).abs() < 1e-6
    assert head.region_loss(s[:0].requires_grad_(True), t[:0], weights[:0]) == 0


def test_a_batch_has_the_losses_of_its_regions_and_labels(folder: Path) -> None:
    model = built(regions=folder, weight=0.7, attribute_weight=2.0, unknown=0.2)
    images, samples = semi.images(2), [sample(0), sample(1, [[1, 1, 0]])]
    losses = model(images, samples, mode="loss")
    head, levels = model.roi_head, model.extract_feat(images)
    found = [head.store(key, (64, 64)) for key in (0, 1)]
    rois = torch.cat([torch.cat([torch.full((len(r.boxes), 1), float(k)), r.boxes], 1) for k, r in enumerate(found)])
    weights = torch.cat([each.weights / each.weights.mean() for each in found])
    taught = torch.cat([each.embeddings for each in found])
    expected = 0.7 * head.region_loss(head.embeddings(levels, rois), taught, weights)
    torch.testing.assert_close(losses["loss_regions"], expected, rtol=1e-4, atol=1e-5)
    boxes = torch.tensor([[0, 8.0, 8, 30, 30], [0, 30, 20, 60, 50], [1, 8, 8, 30, 30]])
    z = head.attribute_logits(head.embeddings(levels, boxes)).detach().double().numpy()[:, :3]
    y = np.array([[1, 0, -1], [0, -1, 1], [1, 1, 0]])
    bce = np.log1p(np.exp(-np.where(y == 1, z, -z)))
    by_hand = 2 * (bce[y >= 0].mean() + 0.2 * bce[y < 0].mean())
    assert losses["loss_attributes"].item() == pytest.approx(by_hand, rel=1e-4)
    model.zero_grad()
    (losses["loss_regions"] + losses["loss_attributes"]).backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    control = built(texts=folder / "texts.safetensors")(images, samples, mode="loss")
    assert "loss_regions" not in control
    assert control["loss_attributes"] > 0


def test_data_sets_may_annotate_some_attributes_each(folder: Path) -> None:
    """Federated: names in another order, and without some; what is not annotated carries no loss."""
    model = built(texts=folder / "texts.safetensors")
    images = semi.images(1)
    whole = model(images, [sample(0, [[-1, 0, 1]])], mode="loss")["loss_attributes"]
    part = model(images, [sample(0, [[1, 0]], ["small", "green"])], mode="loss")["loss_attributes"]
    torch.testing.assert_close(whole, part)
    for nothing in ([[-1, -1, -1]], []):
        losses = model(images, [sample(0, nothing)], mode="loss")
        assert losses["loss_attributes"] == 0
        assert losses["loss_attributes"].requires_grad


def test_boxes_come_with_attributes(folder: Path) -> None:
    model = built(texts=folder / "texts.safetensors").eval()
    model.test_cfg.rcnn.score_thr = 0.0
    model.roi_head.test_cfg.score_thr = 0.0
    images = semi.images(2)
    samples = [sample(0, [[1, 0, 1]], ["orange", "red", "small"]), semi.sample(None)]
    for each in samples:  # views twice as wide as their images
        each.set_metainfo({"scale_factor": (2.0, 1.0), "ori_shape": (64, 32)})
    with torch.no_grad():
        found = model(images, samples, mode="predict")
        levels = model.extract_feat(images)
        for index, each in enumerate(found):
            boxes = each.pred_instances.bboxes * torch.tensor([2.0, 1, 2, 1])
            assert len(boxes)
            rois = torch.cat([torch.full((len(boxes), 1), float(index)), boxes], 1)
            expected = model.roi_head.attribute_logits(model.roi_head.embeddings(levels, rois)).sigmoid()
            torch.testing.assert_close(each.pred_instances.attributes, expected, rtol=1e-3, atol=1e-3)
        true = torch.tensor([[0, 16.0, 8, 60, 30]])
        expected = model.roi_head.attribute_logits(model.roi_head.embeddings(levels, true)).sigmoid()[:, [4, 0, 2]]
    torch.testing.assert_close(found[0].gt_instances.attribute_scores, expected, rtol=1e-3, atol=1e-3)
    assert "gt_instances" not in found[1] or "attribute_scores" not in found[1].gt_instances
    model.roi_head.test_cfg.score_thr = 1.0
    with torch.no_grad():
        (none,) = model(images[:1], samples[1:], mode="predict")
    assert none.pred_instances.attributes.shape == (0, 5)


def test_wrong_labels_are_named(folder: Path) -> None:
    model = built(regions=folder)
    images = semi.images(1)
    bare = sample(0)
    del bare.gt_instances.attributes
    for wrong, message in (
        (bare, "image 0 comes without attributes: list densekd.LoadAttributes"),
        (sample(0, [[1]], ["rad"]), "attribute 'rad', which is not among those of the roi_head; did you mean 'red'"),
        (sample(0, [[1]], ["blue"]), "attribute 'blue', which is novel: it has no label in training"),
    ):
        with pytest.raises(ValueError, match=message):
            model(images, [wrong], mode="loss")
    with pytest.raises(ValueError, match="attribute 'rad', which the head lacks; did you mean 'red'"):
        model.eval()(images, [sample(0, [[1]], ["rad"])], mode="predict")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(attributes=[]), "attributes not empty"),
        (dict(novel_attributes=["red"]), "must be distinct names"),
        (dict(attributes={"a": ["red"], "b": ["red"]}), "names must be distinct"),
        (dict(attributes={"color": "red"}), "got the text 'red': put it in brackets"),
        (dict(novel="digit 8"), "got the text 'digit 8': put it in brackets"),
        (dict(unknown=-1), "unknown must be a number from 0"),
        (dict(offset="1"), "offset must be a number"),
        (dict(attribute_weight=None), "attribute_weight must be a number from 0"),
        (dict(semantic=True), "has no option semantic"),
        (dict(novel=["digit 0"]), "OvarNetRoIHead: base and novel must be distinct"),
        (dict(texts="other"), "are 12 wide, texts in .* 5: they must be of one encoder"),
    ],
)
def test_what_cannot_be_is_named(wrong: dict[str, Any], message: str, folder: Path, tmp_path: Path) -> None:
    if "texts" in wrong:
        names = [*NAMES, *map(attribute_key, ALL)]
        write(tmp_path / "other.safetensors", {name: torch.ones(5) for name in names})
        wrong = {"texts": tmp_path / "other.safetensors"}
    with pytest.raises(ValueError, match=message):
        built(**{"regions": folder, **wrong})


def test_files_that_lack_something_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no embedding of 'attribute: shiny'"):
        built(regions=folder, novel_attributes=["shiny"])
    with pytest.raises(FileNotFoundError, match="there are no regions in"):
        built(regions=tmp_path)


COLORS, SIZES, NEW = ["red", "green", "blue", "cyan"], ["small", "large"], ["yellow", "purple"]


def test_regions_teach_attributes_without_a_label(attributes_clip: str, tmp_path: Path) -> None:
    """Four colours have labels. Two are told by their names, if CLIP-Attr has taught the regions."""
    encoder = image_text(attributes_clip)
    base = {**dict.fromkeys(COLORS, "color"), **dict.fromkeys(SIZES, "size")}
    attributes = {**base, **dict.fromkeys(NEW, "color")}
    digits = dict.fromkeys(NAMES, "")
    scenes = DigitScenesDet(count=200, size=64, with_attributes=True)
    infos = [scenes.get_data_info(index) for index in range(200)]

    def regions() -> Iterable[Any]:
        for info in infos:
            boxes = torch.tensor([each["bbox"] for each in info["instances"]])  # of all objects, whatever they are
            pixels = np.ascontiguousarray(info["img"][..., ::-1])
            yield info["img_id"], (64, 64), Regions(boxes, encoder.regions(pixels, boxes), torch.ones(len(boxes)))

    seen = list(regions())
    objects = [each for info in infos for each in info["instances"]]
    known = torch.tensor([each["attributes"] for each in objects])[
        :, [scenes.metainfo["attributes"].index(a) for a in base]
    ]
    labels = torch.tensor([each["bbox_label"] for each in objects])
    told = Told(
        torch.cat([each.embeddings for _, _, each in seen]),
        torch.cat([known, torch.full((len(known), len(NEW)), -1)], 1),
        torch.where(labels < len(BASE), labels, -1),
    )
    prompts = Prompts(encoder, 6)
    learn(prompts, told, attributes, dict.fromkeys(BASE, ""), 200, 15.0, rate=1e-2)
    with torch.no_grad():
        texts = dict(zip(NAMES, prompts(digits))) | dict(zip(map(attribute_key, attributes), prompts(attributes)))
    write_regions(tmp_path / "regions", texts, seen)
    found = {weight: scored(trained(tmp_path / "regions", weight)) for weight in (0.0, 0.5)}
    assert found[0.0]["attributes/mAP_base"] > 0.6
    assert found[0.5]["attributes/mAP_base"] > 0.6
    assert found[0.5]["attributes/mAP_novel"] > found[0.0]["attributes/mAP_novel"] + 0.2


def trained(regions: Path, weight: float, steps: int = 160) -> Any:
    config = read_config("det/ovarnet/digits")
    config.model.roi_head.update(regions=str(regions), weight=weight, scale=15.0)
    config.train_dataloader.update(batch_size=4)
    config.train_dataloader.dataset.update(count=200)
    return learned(config, steps)


@torch.no_grad()
def scored(model: Any) -> dict[str, float]:
    """Average precision of base and novel attributes of the true boxes in other scenes."""
    config = read_config("det/ovarnet/digits").val_dataloader
    config.dataset.update(count=100)
    with DefaultScope.overwrite_default_scope("mmdet"):
        batches = Runner.build_dataloader(config, seed=0)
    metric = AttributeMAP(novel=NEW)
    for batch in batches:
        found = model(**model.data_preprocessor(batch, False), mode="predict")
        metric.process({}, [each.to_dict() for each in found])
    return metric.evaluate(size=len(batches.dataset))
