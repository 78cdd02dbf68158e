"""Attention over views and times, and over what may be said: by NumPy, in the detector, taught by sentences."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import MethodContract
from mmengine.config import Config
from mmengine.registry import DefaultScope
from scipy.special import expit, softmax
from torch import Tensor

from densekd import Distiller, build_model, read_config
from densekd.bev import world
from densekd.bev.dataset import SyntheticWorld
from densekd.bev.detector import BEVDetector
from densekd.bev.fusion import HierarchicalFusion, TextFusion, ViewAttention
from densekd.bev.sentences import Sentences
from densekd.bev.texts import at_centres, describe, sentences
from densekd.methods import method_entries
from densekd.sensors.geometry import Extent, on_the_ground
from densekd.texts import TextTable

from .test_omniscene import written
from .test_unidistill import CONFIGS, first_batch, seen_by

VIEWS = CONFIGS / "omniscene_views" / "views_world.py"


def config(table: Path) -> Config:
    found = read_config(VIEWS)
    found.model.student.semantics.table = found.model.teacher.texts.table = str(table)
    return found


def models() -> dict[str, Any]:
    """A student of three views, and one detector for both of its teachers: it has what either is asked for."""
    batch = first_batch(read_config(VIEWS))
    with tempfile.TemporaryDirectory() as folder, DefaultScope.overwrite_default_scope("mmdet3d"):
        student = build_model(config(written(Path(folder))).model.student)[0]
        said = Sentences(Path(folder) / "texts.safetensors", world.CLASSES)
    teacher = build_model(read_config(CONFIGS / "plain" / "views_world.py"))[0]
    teacher.__class__ = Speaking
    teacher.sentences, teacher.said = said, torch.nn.Identity()
    return dict(scope="mmdet3d", student=student, teacher=teacher, batch=lambda model: seen_by(model, batch))


class Speaking(BEVDetector):
    """A detector that says what the sentences say, too."""

    def forward(self, inputs: Any, data_samples: Any = None, **kwargs: Any) -> Any:
        self.said(self.sentences({}, data_samples))
        return super().forward(inputs, data_samples, **kwargs)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return written(tmp_path)


def numbers(part: torch.nn.Module) -> tuple[np.ndarray, np.ndarray]:
    return part.weight.detach().numpy().reshape(len(part.weight), -1), part.bias.detach().numpy()


def pointwise(part: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    """A 1x1 convolution on `(..., C, h, w)`."""
    weight, bias = numbers(part)
    return np.einsum("dc,...chw->...dhw", weight, x) + bias[:, None, None]


def test_attention_over_views_by_its_formula() -> None:
    torch.manual_seed(0)
    attend = ViewAttention([4, 6], 8).double().eval()
    attend.leave = torch.nn.Identity()
    lidar, cameras = torch.randn(2, 2, 4, 3, 5).double(), torch.randn(2, 3, 6, 3, 5).double()
    maps = [pointwise(enter, each.numpy()) for enter, each in zip(attend.enter, (lidar, cameras))]
    x = np.concatenate(maps, 1)
    query, key, value = pointwise(attend.query, x.mean(1)), pointwise(attend.key, x), pointwise(attend.value, x)
    shares = softmax((query[:, None] * key).sum(2) / np.sqrt(8), axis=1)
    expected = (shares[:, :, None] * value).sum(1)
    np.testing.assert_allclose(attend([lidar, cameras]).detach().numpy(), expected, rtol=1e-9)
    turned = attend([lidar.flip(1), cameras[:, [2, 0, 1]]])  # neither has an order
    torch.testing.assert_close(turned, attend([lidar, cameras]))
    doubled = attend([lidar.repeat(1, 2, 1, 1, 1), cameras.repeat(1, 2, 1, 1, 1)])
    torch.testing.assert_close(doubled, attend([lidar, cameras]))


def test_what_is_seen_is_weighed_against_what_may_be_said() -> None:
    torch.manual_seed(0)
    texts = torch.randn(7, 3)
    fusion = TextFusion(8, texts, tau=0.2).double()
    maps = torch.randn(2, 8, 4, 5).double().requires_grad_()
    t = texts.double().numpy()
    t /= np.linalg.norm(t.astype(np.float32).astype(np.float64), axis=1, keepdims=True)
    f = maps.detach().numpy()
    q = pointwise(fusion.query, f)
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    shares = softmax(np.einsum("bdhw,kd->bkhw", q, t) / 0.2, axis=1)
    weight, bias = numbers(fusion.value)
    spoken = np.einsum("bkhw,kc->bchw", shares, t @ weight.T + bias)
    (first, one), (last, other) = numbers(fusion.gate[0]), numbers(fusion.gate[2])
    both = np.concatenate([f.mean((2, 3)), spoken.mean((2, 3))], 1)
    gate = expit(np.maximum(both @ first.T + one, 0) @ last.T + other)[:, :, None, None]
    np.testing.assert_allclose(fusion(maps).detach().numpy(), gate * f + (1 - gate) * spoken, rtol=1e-5)
    (found,) = torch.autograd.grad(fusion.said(maps)[0, 2, 1, 1].log(), maps)
    closer = maps + 1e-3 * found
    assert fusion.said(closer)[0, 2, 1, 1] > fusion.said(maps)[0, 2, 1, 1]
    assert not found[1].any()  # a cell says what it sees itself
    assert not found[0, :, 0].any()


def test_a_table_of_any_width(tmp_path: Path) -> None:
    fusion = HierarchicalFusion([4, 6], written(tmp_path))
    shapes = [tuple(each.shape) for each in fusion([torch.rand(1, 4, 8, 8), torch.rand(1, 6, 4, 4)])]
    assert shapes == [(1, 4, 8, 8), (1, 6, 4, 4)]
    assert fusion[0].texts.shape == (len(sentences(world.CLASSES)), 12)
    assert {"0.texts", "1.texts"} <= {*fusion.state_dict()}  # an exported student needs no file
    with pytest.raises(FileNotFoundError, match="no file of text embeddings at"):
        HierarchicalFusion([4], tmp_path / "other.safetensors")


def test_what_was_seen_before_moves_as_the_objects_do() -> None:
    moving = 0
    for index in range(8):
        scene, past = world.draw_moving(index, "train", age=0.5)
        assert all(np.array_equal(one, other) for one, other in zip(scene, world.draw(index, "train")))
        for box, velocity in zip(scene.boxes, past.velocities):
            speed = np.hypot(*velocity)
            moving += speed > 0
            if speed:
                direction = [np.cos(box[6]), np.sin(box[6])]
                np.testing.assert_allclose(velocity / speed, direction, atol=1e-5)  # along its length
                assert 2 <= speed <= 8
            before = box[:2] - 0.5 * velocity
            x = past.points[:, :2] - before
            along, across = x @ [np.cos(box[6]), np.sin(box[6])], x @ [-np.sin(box[6]), np.cos(box[6])]
            inside = (np.abs(along) < box[3] / 2 + 0.1) & (np.abs(across) < box[4] / 2 + 0.1)
            assert (past.points[inside, 2] > world.GROUND + 0.1).any() or np.hypot(*before) > 25
    assert moving > 5
    item = SyntheticWorld(split="train", count=8, past=0.5, pipeline=[])[3]
    scene, past = world.draw_moving(3, "train")
    points = item["points"].tensor.numpy()
    assert np.array_equal(points[points[:, 4] == 0, :4], scene.points)
    assert np.array_equal(points[points[:, 4] == 0.5, :4], past.points)
    boxes = item["ann_info"]["gt_bboxes_3d"].tensor
    np.testing.assert_allclose(boxes[:, 7:].numpy(), past.velocities)
    words = describe(boxes, torch.from_numpy(scene.labels), world.CLASSES)
    assert ["moving" in each for each in words] == (np.hypot(*past.velocities.T) >= 0.5).tolist()


def taught(table: Path) -> Any:
    found = config(table)
    fields = {key: value for key, value in found.model.items() if key != "type"}
    with DefaultScope.overwrite_default_scope(found.default_scope):
        torch.manual_seed(0)
        return Distiller(**fields, checkpoint={"views": "random"})


def test_sentences_and_a_larger_detector_teach_a_student_of_views(table: Path, at: Callable[[float], None]) -> None:
    """It learns to say what an object is, at each level, and which view to trust; the control says anything."""
    at(0.5)
    model, batch = taught(table), first_batch(config(table))
    teacher = model.teachers["views"].model
    teacher.fusion_layer.key.weight.data.mul_(30)  # one that has learned which view counts
    names = ["texts", "texts_0", "texts_1", "views"]
    assert [*model.distill] == names
    assert [model.distill[name].weight for name in names] == [0.1, 0.05, 0.05, 0.1]
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    values: list[dict[str, float]] = []
    said = [right(model, batch, table)]
    for _ in range(50):
        losses = model(**seen_by(model, batch), mode="loss")
        terms = {name: losses[f"distill.loss_{name}"] for name in names}
        optimiser.zero_grad()
        (10 * sum(terms.values())).backward()
        optimiser.step()
        values.append({name: value.item() for name, value in terms.items()})
    said.append(right(model, batch, table))
    assert all(values[-1][name] < 0.9 * values[0][name] for name in names), (values[0], values[-1])
    assert said[1] > said[0] + 0.3, said
    for parts in (model.pts_voxel_encoder, model.img_backbone, model.fusion_layer.key, model.semantics[0].query):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parts.parameters())
    assert all(p.grad is None for p in teacher.parameters())


@torch.no_grad()
def right(model: Any, batch: dict[str, Any], table: Path) -> float:
    """Share of the objects whose sentence is the likeliest in their cell, of the first level."""
    seen = seen_by(model, batch)
    found: list[Tensor] = []
    hook = model.semantics[0].register_forward_hook(lambda part, args, out: found.append(part.said(args[0])))
    mode = model.training
    model.eval()(seen["inputs"], seen["data_samples"], mode="tensor")
    model.train(mode)
    hook.remove()
    boxes = [each.gt_instances_3d.bboxes_3d for each in seen["data_samples"]]
    labels = [each.gt_instances_3d.labels_3d for each in seen["data_samples"]]
    words = [describe(b.tensor, k, world.CLASSES) for b, k in zip(boxes, labels)]
    places = TextTable(table).place
    truth = torch.tensor([places[word] for each in words for word in each])
    shares, on_map = at_centres(found[0], [on_the_ground(b) for b in boxes], Extent(0, -16, 32, 16))
    return float((shares.argmax(1) == truth[on_map]).float().mean())


def test_times_are_views_of_their_own(table: Path) -> None:
    batch = first_batch(config(table))
    torch.manual_seed(0)
    model = build_model(read_config(CONFIGS / "plain" / "views_world.py"))[0].eval()
    shares: list[Tensor] = []
    model.fusion_layer.logits.register_forward_hook(lambda part, args, out: shares.append(out.softmax(1)))

    def run(change: Callable[[Tensor], Tensor]) -> Tensor:
        changed = copy.deepcopy(batch)
        changed["inputs"]["points"] = [change(points) for points in changed["inputs"]["points"]]
        seen = seen_by(model, changed)
        with torch.no_grad():
            return model.extract_feat(seen["inputs"], [each.metainfo for each in seen["data_samples"]])[1][0]

    def without_past(points: Tensor) -> Tensor:
        return points[points[:, 4] == 0]

    plain = run(lambda points: points)
    assert shares[0].shape == (2, 3, 64, 64)
    assert not torch.equal(run(without_past), plain)  # a frame without a past has an empty view
    torch.testing.assert_close(run(lambda points: points[torch.argsort(points[:, 4], stable=True)]), plain)

    def measured(points: Tensor) -> Tensor:
        """Ages as sweeps have them, near those of the views and not the same."""
        changed = points.clone()
        changed[:, 4] = (changed[:, 4] - 0.03).abs()
        return changed

    of_age: list[int] = []
    voxelize = model.data_preprocessor.voxelize

    def counted(clouds: list[Tensor], samples: Any) -> Any:
        of_age.append(sum(map(len, clouds)))
        return voxelize(clouds, samples)

    model.data_preprocessor.voxelize = counted
    run(measured)
    ages = torch.cat([points[:, 4] for points in batch["inputs"]["points"]])
    assert of_age[-2:] == [int((ages == age).sum()) for age in (0.0, 0.5)]  # no point is in neither


def test_what_cannot_be(table: Path) -> None:
    def built(name: str, **changes: Any) -> Any:
        with DefaultScope.overwrite_default_scope("mmdet3d"):
            return build_model({**read_config(CONFIGS / "plain" / f"{name}.py").model, **changes})[0]

    with pytest.raises(ValueError, match="a BEVDetector with them needs attention=True"):
        built("views_world", attention=False)
    with pytest.raises(ValueError, match="or attention, needs fusion_channels"):
        built("lidar_world", attention=True)
    views, late = built("views_world"), built("views_world", ages=(0.0, 1.0))
    with pytest.raises(
        ValueError, match=r"the student fuses LiDAR at the ages \(0\.0, 0\.5\) and cameras, the teacher"
    ):
        method_entries("omniscene_views", views, {"texts": Sentences(table, world.CLASSES), "views": late})
    with pytest.raises(ValueError, match="a ViewAttention of 2 kinds of views got 1"):
        ViewAttention([4, 6], 8)([torch.rand(2, 1, 4, 5, 5)])
    with pytest.raises(ValueError, match="a HierarchicalFusion of 1 levels got 2"):
        HierarchicalFusion([4], table)([torch.rand(1, 4, 8, 8), torch.rand(1, 6, 4, 4)])
    with pytest.raises(ValueError, match="tau must be positive, got 0"):
        TextFusion(4, torch.rand(3, 2), tau=0)
    plain, said = built("lidar_world"), Sentences(table, world.CLASSES)
    with pytest.raises(ValueError, match=r"the student, BEVDetector, has none; use a densekd\.BEVDetector with"):
        method_entries("omniscene_views", plain, {"texts": said, "views": plain})


CONTRACT = MethodContract("omniscene_views", models=models, no_twin="one of its teachers reads sentences")
