"""`queries`: what the student's queries tell is compared with what their partners tell, in whatever order."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import MethodContract
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from densekd import Distiller, read_config
from densekd.align.matching import Matching, Pairs
from densekd.methods import method_entries
from densekd.mmlab.building import build_model
from densekd.shipped import CONFIGS
from densekd.taps.queries import Layer, query_head

from ..conftest import det_batch, seg_batch
from .teaching import scenes_of_objects, settle

K = 10
ZOO = {
    "detr": "detr/detr_r50_8xb2-150e_coco.py",
    "conditional": "conditional_detr/conditional-detr_r50_8xb2-50e_coco.py",
    "dab": "dab_detr/dab-detr_r50_8xb2-50e_coco.py",
    "deformable": "deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
    "refined": "deformable_detr/deformable-detr-refine_r50_16xb2-50e_coco.py",
    "two-stage": "deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py",
    "dino": "dino/dino-4scale_r50_8xb2-12e_coco.py",
    "maskformer": "maskformer/maskformer_r50_ms-16xb1-75e_coco.py",
    "mask2former": "mask2former/mask2former_r50_8xb2-lsj-50e_coco.py",
}
MASKS = "maskformer", "mask2former"
FIXED = "conditional", "two-stage"
"""Those whose embeddings of positions have 256 channels, whatever a config says."""


def small(value: Any, width: int, layers: int) -> None:
    """Make all parts of a transformer small, in place."""
    sizes = {"embed_dims": width, "feedforward_channels": 2 * width, "num_feats": width // 2, "num_layers": layers}
    sizes |= {"feat_channels": width, "out_channels": width, "num_groups": 4, "num_heads": 4, "num_points": 2}
    for key, each in value.items() if isinstance(value, Mapping) else ():
        if key in sizes:
            value[key] = sizes[key]
        else:
            small(each, width, layers)


def config_of(kind: str, width: int = 16, queries: int = 12, layers: int = 2, classes: int = K) -> Config:
    config = read_config(f"mmdet::{ZOO[kind]}")
    model, width = config.model, 256 if kind in FIXED else width
    model.backbone.update(depth=18, base_channels=8, init_cfg=None, frozen_stages=-1)
    model.backbone.norm_cfg, model.backbone.norm_eval = dict(type="BN"), False
    channels = [8 * 2**i for i in model.backbone.out_indices]
    for part in ("encoder", "decoder", "positional_encoding", "neck", "panoptic_head"):
        small(model.get(part, {}), width, layers)
    if kind in MASKS:
        head = model.panoptic_head
        head.update(in_channels=channels, num_queries=queries, num_things_classes=classes, num_stuff_classes=0)
        head.loss_cls.class_weight = [1.0] * classes + [0.1]
        model.panoptic_fusion_head.update(num_things_classes=classes, num_stuff_classes=0)
        model.data_preprocessor.update(pad_seg=False, batch_augments=None)
        model.train_cfg.update(num_points=64)
        return config
    model.num_queries = queries
    model.neck.in_channels = channels
    model.bbox_head.update(num_classes=classes, embed_dims=width)
    return config


def built(kind: str, width: int = 16, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    model: Any = build_model(config_of(kind, width, **options))[0]
    last = "reg_branches", "fc_reg", "cls_branches", "fc_cls", "cls_embed", "level_embed"
    with torch.no_grad():
        for name, weight in model.named_parameters():  # else boxes and classes hardly differ
            if any(part in name for part in last):
                weight.normal_(std=0.4 if weight.ndim > 1 else 0.1)
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(part, nn.MultiheadAttention):
            part.dropout = 0.0
    return model


def batch_of(model: Any, boxes: Sequence[int] = (2, 2)) -> dict[str, Any]:
    """The batch of `det_batch` with so many of its boxes in each image, and masks as large as they are."""
    batch = det_batch(model, size=64)
    for sample, count in zip(batch["data_samples"], boxes):
        sample.gt_instances = sample.gt_instances[:count]
        masks = np.zeros((count, 64, 64), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, sample.gt_instances.bboxes.int().tolist()):
            mask[y1:y2, x1:x2] = 1
        sample.gt_instances.masks = BitmapMasks(masks, 64, 64)
    return batch


def still(model: Any) -> Any:
    """In training with the running statistics: mmdet's Deformable DETR has no losses in evaluation."""
    model.train()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    return model


def models() -> dict[str, Any]:
    student, teacher = built("detr"), built("detr", 24, seed=1, queries=16)
    return {"scope": "mmdet", "student": student, "teacher": teacher, "batch": batch_of}


CONTRACT = MethodContract("queries", models=models)


def terms_of(losses: Mapping[str, Any]) -> dict[str, Tensor]:
    return {key.removeprefix("distill.loss_"): each for key, each in losses.items() if key.startswith("distill.")}


def parts_of(kind: str) -> set[str]:
    return {"classes", "masks"} if kind in MASKS else {"classes", "boxes", "giou"}


def backward(model: Any, batch: dict[str, Any]) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The values of the terms, and the gradients of their sum."""
    torch.manual_seed(3)  # denoising and points of masks are drawn
    model.zero_grad()
    terms = terms_of(model(**batch, mode="loss"))
    sum(terms.values()).backward()
    own = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    return {name: each.item() for name, each in terms.items()}, own


@pytest.mark.parametrize("kind", ZOO)
def test_a_step_of_each_head_teaches_the_student_alone(kind: str) -> None:
    student, teacher = built(kind), built(kind, 24, seed=1, queries=16)
    before = copy.deepcopy(teacher.state_dict())
    method = dict(type="queries", layers=2, embeddings=1.0, memory=1.0)
    model = Distiller(student=student, teacher=teacher, method=method)
    batch = batch_of(model)
    losses = model(**batch, mode="loss")
    terms = terms_of(losses)
    assert {*terms} == parts_of(kind) | {"embeddings", "memory"}
    assert all(value.isfinite() and value > 0 for value in terms.values())
    total, _ = model.parse_losses(losses)
    total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(each, before[name]) for name, each in teacher.state_dict().items())
    _, gradients = backward(model, batch)
    for part in ("backbone", "transformer_decoder" if kind in MASKS else "decoder"):
        assert sum(each.abs().sum() for name, each in gradients.items() if part in name) > 0


def reordered(teacher: Any, order: Tensor) -> Any:
    """The same network with its queries in another order."""
    other = copy.deepcopy(teacher)
    holder = getattr(other, "panoptic_head", other)
    tables = [part for name, part in holder.named_children() if name.startswith("query_") and "gen" not in name]
    assert tables
    with torch.no_grad():
        for table in tables:
            assert len(table.weight) == len(order)
            table.weight.copy_(table.weight[order])
    return other


@pytest.mark.parametrize("kind", ["detr", "dab", "refined", *MASKS])
def test_the_order_of_the_teachers_queries_changes_neither_value_nor_gradient(kind: str) -> None:
    teacher = built(kind, 24, seed=1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    found = []
    for its in (teacher, reordered(teacher, order)):
        model = still(Distiller(student=built(kind), teacher=its, method="queries"))
        found.append(backward(model, batch_of(model)))
    (values, gradients), (others, moved) = found
    assert values.keys() == parts_of(kind)
    for name, value in values.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-4)
    largest = max(each.abs().max().item() for each in gradients.values())
    for name, each in gradients.items():
        torch.testing.assert_close(moved[name], each, rtol=1e-3, atol=1e-5 * largest)


class ByIndex(Matching):
    """The control: a query and the one of the teacher's with its number."""

    def match(self, student: Layer, teacher: Layer) -> Pairs:
        count = torch.arange(min(student.classes.shape[1], teacher.classes.shape[1]))
        numbers = count.expand(len(student.classes), -1)
        its = self.logits(student, teacher)[1]
        score = its.sigmoid() if self.sigmoid else its.softmax(2)[..., :-1]
        return Pairs(numbers, numbers, score.amax(2).gather(1, numbers))


def by_index(student: Any, teacher: Any, **options: Any) -> list[dict[str, Any]]:
    entries = method_entries({"type": "queries", **options}, student, teacher)
    for entry in entries:
        own = entry["through"].matching
        entry["through"].matching = ByIndex(own.student, own.teacher)
    return entries


@pytest.mark.parametrize("kind", ["detr", "refined", *MASKS])
def test_a_student_that_tells_the_same_in_another_order_pays_nothing(kind: str) -> None:
    student = built(kind)
    teacher = reordered(student, torch.randperm(12, generator=torch.Generator().manual_seed(0)))
    plain = copy.deepcopy(student)
    smooth = {} if kind in MASKS else {"giou": 0.0}  # two equal boxes lie on a kink of their overlap
    method = dict(type="queries", **smooth)
    model = still(Distiller(student=student, teacher=teacher, method=method, task_weight=0.0))
    values, gradients = backward(model, batch_of(model))
    assert all(abs(value) < 1e-4 for value in values.values()), values
    entries = by_index(plain, teacher, **smooth)
    control = still(Distiller(student=plain, teacher=teacher, distills=entries, task_weight=0.0))
    others, pulls = backward(control, batch_of(control))
    assert all(others[name] > 1e-7 and others[name] > 50 * abs(values[name]) for name in values), (values, others)
    norms = [sum(each.square().sum().item() for each in side.values()) ** 0.5 for side in (gradients, pulls)]
    assert norms[0] < 0.05 * norms[1]


def test_values_are_those_of_the_formulas() -> None:
    """All by hand in NumPy, from what the two networks tell, with the pairs of the matching."""
    student, teacher = built("refined"), built("refined", 24, seed=1, queries=16)
    method = dict(type="queries", background=0.25, boxes=3.0, giou=0.5)
    model = still(Distiller(student=student, teacher=teacher, method=method))
    batch = batch_of(model)
    values = {name: each.item() for name, each in terms_of(model(**batch, mode="loss")).items()}
    with torch.no_grad():
        own, its = (each.eval()(**batch, mode="tensor") for each in (model, model.teachers["teacher"].model))
    mine, other = (Layer(classes[-1], boxes[-1], boxes[-1]) for classes, boxes in (own, its))
    heads = [query_head(each) for each in (student, teacher)]
    pairs = Matching(heads[0], heads[1]).match(mine, other)  # type: ignore[arg-type]
    assert pairs.score.shape == (2, 12)

    def rows(told: Tensor, numbers: Tensor) -> np.ndarray:
        return np.concatenate([told[image, numbers[image]].double().numpy() for image in range(2)])

    z, x = rows(mine.classes, pairs.student), rows(other.classes, pairs.teacher)
    q, p = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(-x))
    s = p.max(1)
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    w = s + 0.25 * (1 - s)
    expected = {"classes": (w * divergence.mean(1)).sum() / w.sum()}
    a, b = rows(mine.shapes, pairs.student), rows(other.shapes, pairs.teacher)
    expected["boxes"] = 3 * (s * ((a - b) ** 2 / 2).mean(1)).sum() / s.sum()
    from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_overlaps

    overlaps = bbox_overlaps(
        *(bbox_cxcywh_to_xyxy(torch.from_numpy(each)) for each in (a, b)), mode="giou", is_aligned=True
    )
    expected["giou"] = 0.5 * (s * (1 - overlaps.numpy())).sum() / s.sum()
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-3)


def test_masks_are_compared_pixel_by_pixel_at_the_students_size() -> None:
    student, teacher = built("mask2former"), built("mask2former", 24, seed=1, queries=8)
    model = Distiller(student=student, teacher=teacher, method=dict(type="queries", classes=0.0, masks=2.0)).eval()
    batch = batch_of(model)
    (value,) = terms_of(model(**batch, mode="loss")).values()
    with torch.no_grad():
        own, its = (each(**batch, mode="tensor") for each in (model, teacher))
    mine, other = (Layer(classes[-1], masks[-1], classes[-1]) for classes, masks in (own, its))
    pairs = Matching(query_head(student), query_head(teacher)).match(mine, other)  # type: ignore[arg-type]
    assert pairs.student.shape == (2, 8)
    total = weights = 0.0
    for image in range(2):
        for j, i, s in zip(*(each[image].tolist() for each in pairs)):
            q, p = (
                1 / (1 + np.exp(-each[image, n].double().numpy())) for each, n in ((own[1][-1], j), (its[1][-1], i))
            )
            total += s * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
            weights += s
    np.testing.assert_allclose(value.item(), 2 * total / weights, rtol=1e-3)


def distance(model: Any, batch: dict[str, Any]) -> float:
    """How far the boxes that a student tells are from its teacher's, by the matching of least cost."""
    spied = Distiller(
        student=copy.deepcopy(model), teacher=model.teachers["teacher"].model, method=dict(type="queries", classes=0.0)
    )
    with torch.no_grad():
        return sum(each.item() for each in terms_of(still(spied)(**batch, mode="loss")).values())


def test_matched_queries_come_nearer_to_the_teacher_than_those_of_the_same_number() -> None:
    left, teacher = {}, built("refined", 24, seed=1)
    settle(teacher, scenes_of_objects)
    for name in ("matched", "by index"):
        student = built("refined")
        entries = method_entries("queries", student, teacher) if name == "matched" else by_index(student, teacher)
        model: Any = Distiller(student=student, teacher=teacher, distills=entries)
        optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=4e-3)
        unseen = scenes_of_objects(model, 0, 2, "val")
        start = distance(model, unseen)
        model.train()
        for step in range(8):
            terms = terms_of(model(**scenes_of_objects(model, 2 * step, 2, "train"), mode="loss"))
            optimiser.zero_grad()
            sum(terms.values()).backward()
            optimiser.step()
        left[name] = start - distance(model, unseen)
    assert left["matched"] > max(0.1, 1.5 * left["by index"]), left


def entries_of(student: Any, teacher: Any, specs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of several methods in one list, with names of their own."""
    found = []
    for name, spec in specs.items():
        found += [{**each, "name": f"{name}_{i}"} for i, each in enumerate(method_entries(spec, student, teacher))]
    return found


@pytest.mark.parametrize("kind", ["detr", "refined", "mask2former"])
def test_any_loss_on_maps_runs_on_what_the_decoder_attends_to(kind: str) -> None:
    student, teacher = built(kind), built(kind, 24, seed=1)
    alone = dict(type="queries", classes=0.0, boxes=0.0, giou=0.0, masks=0.0, memory=2.0)
    losses = ("pkd", "cwd", "mgd", "maskd", "fgd", "mse")
    entries = entries_of(student, teacher, {loss: {**alone, "memory_loss": loss} for loss in losses})
    model = Distiller(student=student, teacher=teacher, distills=entries)
    values, gradients = backward(model, batch_of(model))
    assert {*values} == {f"{loss}_0" for loss in losses}
    assert all(value > 0 for value in values.values())
    reached = "pixel_decoder" if kind == "mask2former" else "encoder"
    assert sum(each.abs().sum() for name, each in gradients.items() if reached in name) > 0


def test_memory_of_levels_is_that_of_each() -> None:
    student, teacher = built("refined"), built("refined", seed=1)
    method = dict(type="queries", classes=0.0, boxes=0.0, giou=0.0, memory=1.0, memory_loss="mse")
    model = still(Distiller(student=student, teacher=teacher, method=method))
    batch, seen = batch_of(model), {}

    def look(name: str) -> Any:
        return lambda module, args, output: seen.__setitem__(name, output)

    for name, each in (("student", model), ("teacher", teacher)):
        each.encoder.register_forward_hook(look(name))
    (value,) = terms_of(model(**batch, mode="loss")).values()
    counts = [64, 16, 4, 1]  # of images of 64 pixels, from stride 8 on
    parts = zip(*(seen[name].split(counts, 1) for name in ("student", "teacher")), strict=True)
    torch.testing.assert_close(value, sum((s - t).square().mean() for s, t in parts))


@pytest.mark.parametrize("kind", ["refined", "dino", "mask2former"])
def test_methods_on_features_run_by_name(kind: str) -> None:
    student, teacher = built(kind), built(kind, 24, seed=1)
    names = ("pkd", "cwd", "mgd", "maskd", "fgd")
    model = Distiller(student=student, teacher=teacher, distills=entries_of(student, teacher, {n: n for n in names}))
    values, gradients = backward(model, batch_of(model))
    assert {each.partition("_")[0] for each in values} == {*names}
    assert all(value > 0 for value in values.values())
    assert sum(each.abs().sum() for key, each in gradients.items() if "backbone" in key) > 0


@pytest.mark.parametrize("kind", ["detr", "dino", "mask2former"])
@pytest.mark.parametrize("boxes", [(2, 0), (0, 0)])
def test_images_without_objects(kind: str, boxes: tuple[int, int]) -> None:
    model = Distiller(student=built(kind), teacher=built(kind, 24, seed=1), method="queries")
    losses = model(**batch_of(model, boxes), mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    assert all(value.isfinite() and value > 0 for value in terms_of(losses).values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("student", "teacher"), [("detr", "refined"), ("dino", "detr"), ("conditional", "two-stage")])
def test_detectors_of_other_kinds_teach_each_other(student: str, teacher: str) -> None:
    model = Distiller(student=built(student), teacher=built(teacher, 24, seed=1, queries=9), method="queries")
    values, _ = backward(model, batch_of(model))
    assert all(value > 0 for value in values.values())


@pytest.mark.parametrize("kind", ["detr", "refined"])
def test_any_loss_on_class_logits(kind: str) -> None:
    student, teacher = built(kind), built(kind, 24, seed=1)
    losses = {"kd": "kd", "dist": "dist", "mse": "mse", "hot": dict(type="kl", tau=4.0)}
    specs = {name: dict(type="queries", loss=loss, boxes=0.0, giou=0.0) for name, loss in losses.items()}
    model = Distiller(student=student, teacher=teacher, distills=entries_of(student, teacher, specs))
    values, _ = backward(model, batch_of(model))
    assert {*values} == {f"{name}_0" for name in losses}
    assert all(value > 0 for value in values.values())


def test_labels_are_refused_before_training() -> None:
    student, teacher = built("refined"), built("refined", 24)
    with pytest.raises(ValueError, match="loss 'nkd' of the classes reads 'labels', which pairs of queries have none"):
        method_entries(dict(type="queries", loss="nkd"), student, teacher)


@pytest.mark.parametrize("kind", ["detr", "refined", "mask2former"])
def test_other_classes_by_a_map(kind: str) -> None:
    """A teacher whose classes are the student's in another order, with others between, says the same."""
    order = [2 * (K - 1 - c) for c in range(K)]
    student, teacher = built(kind), built(kind, classes=2 * K)
    for name, weight in student.state_dict().items():
        its = teacher.state_dict()[name]
        if its.shape == weight.shape:
            its.copy_(weight)
        else:
            rows = order if kind == "refined" else [*order, 2 * K]
            its.fill_(-50.0 if its.ndim == 1 else 0.0)[rows] = weight
    with pytest.raises(ValueError, match="the student has 10 classes, the teacher 20: give class_map"):
        method_entries("queries", student, teacher)
    maps = {"right": order, "wrong": order[::-1]}
    entries = entries_of(student, teacher, {n: dict(type="queries", class_map=each) for n, each in maps.items()})
    model = still(Distiller(student=student, teacher=teacher, distills=entries))
    found = terms_of(model(**batch_of(model), mode="loss"))
    assert all(abs(each) < 1e-4 for name, each in found.items() if "right" in name), found
    assert found["wrong_0"] > 1e-3


def test_what_is_wrong_is_refused_before_training(det: Config) -> None:
    student, teacher, retina = built("refined"), built("refined", 24), build_model(det)[0]
    for pair, side in (((retina, teacher), "student"), ((student, retina), "teacher")):
        with pytest.raises(ValueError, match=f"matches queries: .*the {side}, a RetinaNet, has a RetinaHead. 'prop"):
            method_entries("queries", *pair)
    with pytest.raises(ValueError, match="the student tells boxes of its queries, the teacher masks"):
        method_entries("queries", student, built("mask2former"))
    with pytest.raises(ValueError, match="layers must be 1 to 2, which both decoders have, got 3"):
        method_entries(dict(type="queries", layers=3), student, teacher)
    with pytest.raises(ValueError, match="background must be a number from 0 to 1, got 2"):
        method_entries(dict(type="queries", background=2), student, teacher)
    with pytest.raises(ValueError, match="masks has no effect: queries of these models tell boxes"):
        method_entries(dict(type="queries", masks=9.0), student, teacher)
    for name in ("mask_loss", "memory_loss", "embedding_loss"):
        with pytest.raises(ValueError, match=r"a loss of the [a-z]+ has no effect: their weight is 0"):
            method_entries({"type": "queries", name: "mse"}, student, teacher)
    with pytest.raises(ValueError, match="loss 'mgd' of the classes compares maps, but these are rows"):
        method_entries(dict(type="queries", loss="mgd"), student, teacher)
    with pytest.raises(ValueError, match="of the boxes takes no weight, so that pairs without an object would count"):
        method_entries(dict(type="queries", box_loss=nn.MSELoss()), student, teacher)
    with pytest.raises(TypeError, match="'classes': weight must be a finite number"):
        Distiller(student=copy.deepcopy(student), teacher=teacher, method=dict(type="queries", classes=None))
    nothing = dict(type="queries", classes=0.0, boxes=0.0, giou=0.0)
    with pytest.raises(ValueError, match="the weights of all parts are 0"):
        method_entries(nothing, student, teacher)
    other: Any = copy.deepcopy(student)
    other.bbox_head.__class__ = type("DDQDETRHead", (type(other.bbox_head),), {})
    with pytest.raises(ValueError, match="a DDQDETRHead, and its queries are another choice in training"):
        method_entries("queries", other, teacher)


def test_no_cache_of_a_teacher_that_is_asked_about_queries(tmp_path: Any) -> None:
    for method in ("queries", dict(type="queries", classes=0.0, boxes=0.0, giou=0.0, memory=1.0)):
        with pytest.raises(ValueError, match="teacher_cache keeps maps and tokens of images, not"):
            Distiller(student=built("refined"), teacher=built("refined", 24), method=method, teacher_cache=tmp_path)


def test_heads_are_as_they_were_after_a_probe_and_a_step() -> None:
    student, teacher = built("refined"), built("refined", 24)
    model = Distiller(student=student, teacher=teacher, method="queries")
    model(**batch_of(model), mode="loss")
    assert all("forward" not in vars(each.bbox_head) for each in (student, teacher))
    copied = copy.deepcopy(model)  # as a moving average of weights does
    copied(**batch_of(copied), mode="loss")


@pytest.mark.parametrize(
    "name",
    [
        "mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py",
        "maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py",
    ],
)
def test_segmenters_of_mmseg(name: str) -> None:
    def segmenter(width: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        config = read_config(f"mmseg::{name}")
        model = config.model
        model.backbone.update(depth=18, base_channels=8, init_cfg=None, norm_cfg=dict(type="BN"))
        small(model.decode_head, width, 2)
        model.decode_head.update(in_channels=[8, 16, 32, 64], num_queries=10, num_classes=11)
        model.decode_head.loss_cls.class_weight = [1.0] * 11 + [0.1]
        model.decode_head.train_cfg.num_points = 64
        model.data_preprocessor.size = (64, 64)
        return build_model(config)[0]

    with DefaultScope.overwrite_default_scope("mmseg"):
        model = Distiller(student=segmenter(16, 0), teacher=segmenter(24, 1), method=dict(type="queries", memory=1.0))
        values, gradients = backward(model, seg_batch(model))
    assert values.keys() == {"classes", "masks", "memory"}
    assert all(value > 0 for value in values.values())
    assert sum(each.abs().sum() for key, each in gradients.items() if "transformer_decoder" in key) > 0


def test_a_panoptic_fpn_is_taught_at_its_neck_its_boxes_and_its_pixels_by_name() -> None:
    def panoptic(width: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        config = read_config("mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py")
        model = config.model
        model.backbone.update(depth=18, base_channels=8, init_cfg=None, norm_cfg=dict(type="BN"))
        model.neck.update(in_channels=[8, 16, 32, 64], out_channels=width)
        model.rpn_head.update(in_channels=width, feat_channels=width)
        head = model.roi_head
        head.bbox_roi_extractor.out_channels = head.mask_roi_extractor.out_channels = width
        head.bbox_head.update(in_channels=width, fc_out_channels=24, num_classes=K)
        head.mask_head.update(in_channels=width, conv_out_channels=8, num_convs=1, num_classes=K)
        model.semantic_head.update(in_channels=width, inner_channels=16, num_things_classes=K, num_stuff_classes=5)
        model.semantic_head.norm_cfg.num_groups = 4
        model.panoptic_fusion_head.update(num_things_classes=K, num_stuff_classes=5)
        return build_model(config)[0]

    student, teacher = panoptic(16, 0), panoptic(24, 1)
    entries = method_entries("proposals", student, teacher) + method_entries("pkd", student, teacher)
    entries.append(dict(loss="kl", student="semantic_head.conv_logits", name="pixels"))
    model = Distiller(student=student, teacher=teacher, distills=entries)
    batch = batch_of(model)
    for sample in batch["data_samples"]:
        sample.gt_sem_seg = PixelData(sem_seg=torch.randint(0, K + 5, (1, 64, 64)))
    values, gradients = backward(model, batch)
    assert values.keys() == {"classes", "boxes", "masks", "pkd", "pixels"}
    assert all(value > 0 for value in values.values())
    assert gradients["semantic_head.conv_logits.weight"].abs().sum() > 0


@pytest.mark.parametrize("name", ["digits", "digits_masks"])
def test_the_shipped_pairs_differ_in_queries_and_width(name: str) -> None:
    config = read_config(CONFIGS.find(f"det/queries/{name}"))
    with DefaultScope.overwrite_default_scope(config.default_scope):
        mine, its = (query_head(build_model(each)[0]) for each in (config.model.student, config.model.teacher))
    assert mine is not None
    assert its is not None
    assert mine.queries < its.queries
    assert mine.shape == its.shape == ("masks" if "masks" in name else "boxes")


def test_nothing_changes_for_a_model_without_queries(det: Config) -> None:
    assert query_head(build_model(det)[0]) is None
    assert query_head(InstanceData()) is None


def test_embeddings_of_levels_are_drawn_when_a_model_is_built() -> None:
    """Mmdet leaves them as the memory was, so that an untrained teacher may yield NaN."""
    config = read_config(CONFIGS.find("det/plain/deformable_detr_r18_w16_digits"))
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        found.append(build_model(config)[0].level_embed)
    torch.testing.assert_close(*found)
    assert 0.5 < found[0].std() < 1.5
