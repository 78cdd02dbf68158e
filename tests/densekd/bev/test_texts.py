"""Texts of objects: what they say, their file, and what features of instances learn from them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import densekd.losses  # noqa: F401  registers instance_text
from densekd.bev import world
from densekd.bev.texts import at_centres, describe
from densekd.sensors.geometry import Extent
from densekd.texts import TextTable, write
from kdlosses import Loss, build

NUSCENES = (
    *("car", "truck", "trailer", "bus", "construction vehicle", "bicycle", "motorcycle", "pedestrian"),
    *("traffic cone", "barrier"),
)
SIDES = ("left", "ahead", "right", "behind")
GROUND = [0, 1, 3, 4, 6]


def table(path: Path, classes: Sequence[str]) -> TextTable:
    """A vector for each sentence, the sum of one for each word: a stand-in for a language model."""
    words = [*classes, "moving", "parked", "near", "far", *SIDES]
    draw = dict(zip(words, torch.randn(len(words), 32, generator=torch.Generator().manual_seed(1))))
    sentences = {
        f"a {k} {motion}, {away}, {side}": draw[k] + draw[motion] + draw[away] + draw[side]
        for k in classes
        for motion in ("moving", "parked")
        for away in ("near", "far")
        for side in SIDES
    }
    write(path, sentences)
    return TextTable(path)


def drawn(points: np.ndarray, extent: Extent, size: int) -> Tensor:
    """A map `(5, size, size)` of points: how many, how high, how bright, and where the cell is."""
    maps = torch.zeros(5, size, size)
    at = extent.shares(torch.from_numpy(points[:, :2]).float())
    inside = ((at >= 0) & (at < 1)).all(1)
    x, y = (at[inside] * size).long().unbind(1)
    z, bright = torch.from_numpy(points[inside.numpy(), 2:4].copy()).float().unbind(1)
    cell, flat = y * size + x, maps.flatten(1)
    flat[0] = torch.bincount(cell, minlength=size * size).float().log1p()
    flat[1] = flat[1].scatter_reduce(0, cell, z + 2, "amax")
    flat[2] = flat[2].scatter_reduce(0, cell, bright / bright.max(), "amax")
    maps[3:] = 2 * extent.centres(maps[None]).movedim(-1, 0) / 32
    return maps


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(5, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, 32, 3, padding=1), nn.ReLU())


def teach(
    student: nn.Module, loss: Loss, batches: Sequence[tuple[Tensor, list[Tensor], Tensor]], extent: Extent
) -> None:
    """Train on (maps, boxes on the ground, embeddings), one after the other."""
    optimiser = torch.optim.Adam([*student.parameters(), *loss.parameters()], lr=5e-3)
    for step, (maps, boxes, texts) in enumerate(batches):
        features, on_map = at_centres(student(maps), boxes, extent)
        value = loss(features, texts, weight=on_map, progress=step / len(batches))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()


def says(
    student: nn.Module, loss: Loss, maps: Tensor, boxes: list[Tensor], extent: Extent, known: TextTable
) -> list[str]:
    """The text nearest to W q of each box."""
    with torch.no_grad():
        z = loss.loss.loss.loss.project(at_centres(student(maps), boxes, extent)[0])
        cosines = nn.functional.normalize(z, dim=1) @ nn.functional.normalize(known.vectors, dim=1).mT
    texts = list(known.place)
    return [texts[i] for i in cosines.argmax(1)]


def right(said: Sequence[str], true: Sequence[str]) -> tuple[float, float]:
    """How often class and side are right."""
    of = [(text.removeprefix("a ").rsplit(" ", 3)[0], text.rsplit(" ", 1)[1]) for text in said]
    to = [(text.removeprefix("a ").rsplit(" ", 3)[0], text.rsplit(" ", 1)[1]) for text in true]
    return tuple(float(np.mean([a[i] == b[i] for a, b in zip(of, to)])) for i in (0, 1))  # type: ignore[return-value]


def ramped() -> Loss:
    torch.manual_seed(0)
    inside = {"type": "instance_text", "student_channels": 32, "teacher_channels": 32}
    return build({"type": "ramp", "loss": inside, "over": (0.0, 0.1)})


def test_instances_of_the_world_learn_class_and_side(tmp_path: Path) -> None:
    known, extent = table(tmp_path / "texts.safetensors", world.CLASSES), Extent.of(world.RANGE)

    def scenes(split: world.Split, count: int) -> tuple[Tensor, list[Tensor], list[list[str]]]:
        found = [world.draw(i, split) for i in range(count)]
        boxes = [torch.from_numpy(scene.boxes) for scene in found]
        texts = [describe(b, torch.from_numpy(s.labels), world.CLASSES) for b, s in zip(boxes, found)]
        return torch.stack([drawn(s.points, extent, 64) for s in found]), [b[:, GROUND] for b in boxes], texts

    maps, boxes, texts = scenes("train", 48)
    parts = [range(i, i + 8) for i in range(0, 48, 8)]
    batches = [(maps[list(p)], [boxes[i] for i in p], known([t for i in p for t in texts[i]])) for p in parts]
    test_maps, test_boxes, test_texts = scenes("test", 25)
    true = [text for each in test_texts for text in each]
    student, loss = network(), ramped()
    before = right(says(student, loss, test_maps, test_boxes, extent, known), true)
    teach(student, loss, batches * 9, extent)
    after = right(says(student, loss, test_maps, test_boxes, extent, known), true)
    commonest = [max(right([text] * len(true), true)[i] for text in known.place) for i in (0, 1)]
    for trained, untrained, constant in zip(after, before, commonest):
        assert trained > max(untrained, constant) + 0.1


@pytest.mark.data
def test_instances_of_a_real_frame_are_overfitted(data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "mmdet3d-demo" / "nuscenes"
    (info,) = pickle.loads(next(folder.glob("*.pkl")).read_bytes())["data_list"]
    points = np.fromfile(next(folder.glob("*LIDAR_TOP*")), np.float32).reshape(-1, 5)
    instances = [each for each in info["instances"] if each["bbox_label_3d"] >= 0]
    boxes = torch.tensor([[*each["bbox_3d"], *each["velocity"]] for each in instances])
    assert len(boxes) == 68
    extent = Extent(-51.2, -51.2, 51.2, 51.2)
    known = table(tmp_path / "texts.safetensors", NUSCENES)
    texts = describe(boxes, torch.tensor([each["bbox_label_3d"] for each in instances]), NUSCENES, front="y")
    assert {text.rsplit(" ", 1)[1] for text in texts} == {*SIDES}
    maps, ground = drawn(points, extent, 128)[None], [boxes[:, GROUND]]
    student, loss = network(), ramped()
    vectors = known(texts)
    on_map = at_centres(student(maps), ground, extent)[1]
    inside = [text for text, on in zip(texts, on_map) if on]

    def fit() -> tuple[float, float]:
        said = says(student, loss, maps, ground, extent, known)
        return right([text for text, on in zip(said, on_map) if on], inside)

    before = fit()
    teach(student, loss, [(maps, ground, vectors)] * 80, extent)
    assert all(a > 0.8 and a > b + 0.3 for a, b in zip(fit(), before))
    features = at_centres(student(maps), ground, extent)[0]
    value = loss(features, vectors, weight=on_map, progress=1.0)
    assert loss(features, vectors.roll(1, 0), weight=on_map, progress=1.0) > value + 0.5
    none = at_centres(student(maps), [boxes[:0, GROUND]], extent)[0]
    nothing = loss(none, known([]), progress=1.0)
    assert nothing == 0
    student.zero_grad()
    nothing.backward()
    assert all((p.grad == 0).all() for p in student.parameters())


def test_what_texts_say() -> None:
    boxes = torch.tensor(
        [[10.0, 0, 0, 4, 2, 1.5, 0, 0.3, 0.3], [0.0, 25, 0, 4, 2, 1.5, 0, 0.0, 9], [0, -5, 0, 4, 2, 2, 0, 0, 0]]
    )
    boxes[2, 7:] = torch.nan
    labels, names = torch.tensor([0, 1, 1]), ["car", "bus"]
    assert describe(boxes, labels, names) == [
        "a car parked, near, ahead",
        "a bus moving, far, left",
        "a bus parked, near, right",
    ]
    turned = describe(boxes[:, :7], labels, names, front="y")
    assert turned == ["a car parked, near, right", "a bus parked, far, ahead", "a bus parked, near, behind"]
    assert describe(boxes[:0], labels[:0], names) == []
    with pytest.raises(ValueError, match="labels are classes 0 to 1, got -1 to 1: remove boxes without a class"):
        describe(boxes, torch.tensor([0, -1, 1]), names)
    with pytest.raises(ValueError, match=r"shape \(n, 7\), or \(n, 9\) with a velocity, got \(3, 5\)"):
        describe(boxes[:, :5], labels, names)


def test_files_and_texts_that_are_wrong_are_named(tmp_path: Path) -> None:
    path = tmp_path / "texts.safetensors"
    with pytest.raises(FileNotFoundError, match=r"no file of text embeddings at .*texts.safetensors"):
        TextTable(path)
    path.write_bytes(b"a car: 1 0")
    with pytest.raises(ValueError, match="is no safetensors file"):
        TextTable(path)
    save_file({"a car": torch.ones(2), "a bus": torch.ones(3)}, path)  # `write` refuses both
    with pytest.raises(ValueError, match=r"a vector of one width for each text, it has the shapes \[\(2,\), \(3,\)\]"):
        TextTable(path)
    save_file({"a car": torch.tensor([1.0, torch.nan])}, path)
    with pytest.raises(ValueError, match=r"the embedding of 'a car' in .* is not finite"):
        TextTable(path)
    write(path, {"a car parked": torch.ones(2), "a bus parked": torch.zeros(2)})
    with pytest.raises(
        KeyError, match="no embedding of 'a cat parked', one of 2 texts that it lacks; did you mean 'a car"
    ):
        TextTable(path)(["a bus parked", "a cat parked", "a cat parked", "b"])
