"""Sentences teach a detector: the loss on maps, the teacher that reads, the method on the detectors of the world."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from contract.entry import LossContract, MethodContract
from mmengine.structures import BaseDataElement, InstanceData

from densekd import build_model, read_config
from densekd.bev import world
from densekd.bev.sentences import Sentences
from densekd.bev.texts import at_centres, describe, sentences
from densekd.losses import InstanceText, Omniscene
from densekd.methods import method_entries
from densekd.sensors.geometry import Extent
from densekd.texts import TextTable, write

from .test_unidistill import CONFIGS, first_batch, seen_by, taught


def models() -> dict[str, Any]:
    """A LiDAR of the world, and a teacher with a table of random embeddings."""
    batch = first_batch(read_config(CONFIGS / "plain" / "lidar_world.py"))
    with tempfile.TemporaryDirectory() as folder:
        teacher = Sentences(written(Path(folder)), world.CLASSES)
    student = build_model(read_config(CONFIGS / "plain" / "lidar_world.py"))[0]
    return dict(scope="mmdet3d", student=student, teacher=teacher, batch=lambda model: seen_by(model, batch))


def written(folder: Path) -> Path:
    said = sentences(world.CLASSES)
    vectors = torch.randn(len(said), 12, generator=torch.Generator().manual_seed(0))
    write(folder / "texts.safetensors", dict(zip(said, vectors)))
    return folder / "texts.safetensors"


CONTRACT = [
    LossContract(
        "omniscene",
        options=dict(student_range=(0, 0, 6, 4)),
        no_fixed_point="a projection that is still to be learned stands between",
        no_teacher="the teacher's positions are texts, one for each box, not those of the map",
        one_channel="projected into the teacher's channels and compared by direction there",
    ),
    MethodContract("omniscene", models=models, no_twin="its teacher reads sentences"),
]

SHOWN = (0.0, -8.0, 16.0, 8.0)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return written(tmp_path)


def test_all_that_may_be_said_and_no_more() -> None:
    draw = torch.Generator().manual_seed(0)
    boxes = torch.randn(2000, 9, generator=draw) * torch.tensor([20, 20, 1, 1, 1, 1, 1, 0.5, 0.5])
    labels = torch.randint(2, (2000,), generator=draw)
    assert set(describe(boxes, labels, ["car", "bus"])) == set(sentences(["car", "bus"]))


def test_on_a_map_it_is_the_loss_of_what_is_read_at_the_centres() -> None:
    maps, said = torch.randn(2, 5, 8, 8, requires_grad=True), torch.randn(2, 7, 3)
    boxes = [torch.tensor([[4.0, 1, 2, 1, 0], [9, -3, 2, 1, 1], [30, 0, 1, 1, 0]]), torch.tensor([[1.0, 7, 1, 1, 0]])]
    loss = Omniscene(5, 7, student_range=SHOWN)
    plain = InstanceText(5, 7)
    plain.load_state_dict(loss.texts.state_dict())
    value = loss(maps, said, boxes_bev=boxes)
    features, on_map = at_centres(maps, boxes, Extent.of(SHOWN))
    assert on_map.tolist() == [True, True, False, True]
    texts = torch.cat([said[0].T, said[1, :, :1].T])
    torch.testing.assert_close(value, plain(features[on_map], texts[on_map]))
    other = said.clone()
    other[0, :, 2], other[1, :, 1:] = 9.0, -9.0  # of a box beside the map, and of none
    assert torch.equal(loss(maps, other, boxes_bev=boxes), value)
    turned = Omniscene(5, 7, student_range=SHOWN, student_axes="xy")
    turned.load_state_dict(loss.state_dict())
    torch.testing.assert_close(turned(maps.mT, said, boxes_bev=boxes), value)


def test_frames_without_boxes_and_too_few_texts() -> None:
    maps, loss = torch.randn(2, 5, 8, 8, requires_grad=True), Omniscene(5, 7, student_range=SHOWN)
    nothing = loss(maps, torch.zeros(2, 7, 0), boxes_bev=[torch.zeros(0, 5)] * 2)
    assert nothing == 0
    nothing.backward()
    assert (maps.grad == 0).all()
    with pytest.raises(ValueError, match="a sample has 2 boxes, but the teacher 1 texts"):
        loss(maps, torch.zeros(2, 7, 1), boxes_bev=[torch.zeros(2, 5), torch.zeros(0, 5)])


def test_it_says_what_the_table_holds_in_the_order_of_the_boxes(table: Path) -> None:
    boxes = torch.tensor([[10.0, 8, 0, 4, 2, 1.5, 0], [5.0, 0, 0, 4, 2, 1.5, 0], [30.0, 0, 0, 4, 2, 1.5, 0]])
    frames = [sample(boxes, [0, -1, 2]), sample(boxes[:0], [])]
    said = Sentences(table, world.CLASSES)({}, frames)
    known = TextTable(table)
    assert said.shape == (2, 12, 2, 1)
    assert torch.equal(said[0, ..., 0].T, known(["a car parked, near, left", "a bike parked, far, ahead"]))
    assert (said[1] == 0).all()
    from_afar = Sentences(table, world.CLASSES, near=40.0)({}, frames[:1])
    assert torch.equal(from_afar[0, :, 1, 0], known(["a bike parked, near, ahead"])[0])


def sample(boxes: torch.Tensor, labels: list[int]) -> BaseDataElement:
    class Boxes:  # of mmdet3d no more than what is read
        tensor = boxes

        def __len__(self) -> int:
            return len(boxes)

    found: Any = InstanceData()
    found.labels_3d, found.bboxes_3d = torch.tensor(labels, dtype=torch.long), Boxes()
    return BaseDataElement(gt_instances_3d=found)


def test_sentences_teach_a_detector_of_the_world(table: Path, at: Callable[[float], None]) -> None:
    config = read_config(CONFIGS / "omniscene" / "lidar_world.py")
    config.model.teacher.table = str(table)
    batch = first_batch(read_config(CONFIGS / "omniscene" / "lidar_world.py"))
    model = taught(config, checkpoint=None)  # there are no weights to be loaded
    seen = seen_by(model, batch)
    assert min(len(frame.gt_instances_3d) for frame in seen["data_samples"]) > 0
    at(0.0)
    assert model(**seen, mode="loss")["distill.loss_texts"] == 0  # not yet
    at(0.5)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    values = []
    for _ in range(8):
        loss = model(**seen_by(model, batch), mode="loss")["distill.loss_texts"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert 0 < values[-1] < 0.9 * values[0]
    assert all(p.grad.abs().sum() > 0 for p in model.pts_backbone.parameters() if p.ndim > 1)
    with pytest.raises(ValueError, match=r"needs a densekd\.Sentences as its teacher, got DistilledBEVDetector"):
        method_entries("omniscene", model, model)


def test_a_class_that_the_table_lacks_is_named(table: Path) -> None:
    teacher = Sentences(table, ["car", "tram", "bike"])
    boxes = torch.tensor([[10.0, 8, 0, 4, 2, 1.5, 0]])
    with pytest.raises(KeyError, match=r"no embedding of 'a tram parked, near, left'.* did you mean 'a "):
        teacher({}, [sample(boxes, [1])])
