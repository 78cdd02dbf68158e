"""A convolutional network and a transformer that teach each other; what each is told of the other; their weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from torch import Tensor

from densekd import Distiller, load_weights
from densekd.checkpoint import peer_weights
from densekd.methods import method_entries
from densekd.mmlab.building import build_model
from densekd.teacher import Peer

from .conftest import CONFIGS, seg_batch

LOGITS = "decode_head.conv_seg"
NAMES = {"hfd", "hfd_back", "region", "region_back", "pixel", "pixel_back"}


@pytest.fixture(autouse=True)
def hub() -> Iterator[MessageHub]:
    """A run that is half done."""
    hub = MessageHub.get_instance("test_hfd_bsd")
    hub.update_info_dict({"iter": 5, "max_iters": 10})
    yield hub
    MessageHub._instance_dict.pop("test_hfd_bsd")


@pytest.fixture
def transformer() -> Config:
    config = Config.fromfile(CONFIGS / "seg.py")
    config.model.backbone = dict(
        type="MixVisionTransformer",
        embed_dims=8,
        num_layers=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        patch_sizes=[7, 3, 3, 3],
        sr_ratios=[8, 4, 2, 1],
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.0,
    )
    config.model.decode_head = dict(
        type="SegformerHead",
        in_channels=[8, 8, 16, 16],
        in_index=[0, 1, 2, 3],
        channels=16,
        num_classes=11,
        norm_cfg=dict(type="BN"),
        align_corners=False,
    )
    config.model.auxiliary_head = None
    return config


def pair(student: Any, teacher: Any, **options: Any) -> Distiller:
    torch.manual_seed(0)
    return revert_sync_batchnorm(Distiller(student=student, teacher=teacher, **{"method": "hfd_bsd", **options}))


def test_it_needs_no_checkpoint_and_both_learn(seg: Config, transformer: Config) -> None:
    model = pair(seg, transformer)
    peer = model.teachers["teacher"]
    assert isinstance(peer, Peer)
    assert {*model.distill} == NAMES | {"peers"}
    losses = model(**seg_batch(model), mode="loss")
    assert {f"distill.loss_{name}" for name in NAMES} <= set(losses)
    assert {"decode.loss_ce", "distill.teacher.decode.loss_ce"} <= set(losses)
    mine = [p for name, p in model.named_parameters() if not name.startswith("distill.")]
    its = list(peer.model.parameters())
    for name in sorted(NAMES):
        model.zero_grad()
        losses[f"distill.loss_{name}"].backward(retain_graph=True)
        learns = [any(p.grad is not None and p.grad.any() for p in side) for side in (mine, its)]
        assert learns == ([False, True] if name.endswith("back") else [True, False]), name


def test_translators_are_of_the_other_kind(seg: Config, transformer: Config) -> None:
    cnn, vit = build_model(seg)[0], build_model(transformer)[0]
    for student, teacher, kinds in ((cnn, vit, "attention convolution"), (vit, cnn, "convolution attention")):
        entries = {entry["name"]: entry for entry in method_entries("hfd_bsd", student, teacher)}
        found = [entries[name]["loss"]["translate"] for name in ("hfd", "hfd_back")]
        assert found == kinds.split()
        assert [entry["back"] for entry in entries.values()] == 3 * [False] + 3 * [True]


def test_swapping_the_nets_swaps_the_losses(seg: Config, transformer: Config) -> None:
    one = pair(seg, transformer).eval()
    peer = one.teachers["teacher"].model
    weights = {key: value for key, value in one.state_dict().items() if not key.startswith("distill.")}
    cnn = revert_sync_batchnorm(build_model(seg)[0])
    cnn.load_state_dict(weights)
    other = pair(peer, cnn, online=["teacher"]).eval()
    first, second = (model(**seg_batch(model), mode="loss") for model in (one, other))
    for forth, back in (("", "_back"), ("_back", "")):
        value = first[f"distill.loss_pixel{forth}"]
        assert value > 0
        torch.testing.assert_close(value, second[f"distill.loss_pixel{back}"])


def test_pixels_come_in_slowly(seg: Config, transformer: Config, hub: MessageHub) -> None:
    model = pair(seg, transformer).eval()
    batch = seg_batch(model)
    values = []
    for step in (0, 1, 2, 9):
        hub.update_info("iter", step)
        with torch.no_grad():
            values.append(model(**batch, mode="loss")["distill.loss_pixel"].item())
    assert values[0] == 0
    assert values[1] == pytest.approx(values[2] / 2, rel=1e-5)
    assert values[2] == pytest.approx(values[3], rel=1e-5)


def test_outside_of_a_run_it_says_what_is_missing(seg: Config, transformer: Config, hub: MessageHub) -> None:
    model = pair(seg, transformer)
    hub.update_info("max_iters", 0)
    with pytest.raises(TypeError, match="loss 'ramp' requires 'progress'"):
        model(**seg_batch(model), mode="loss")


@pytest.mark.parametrize("back", [False, True])
def test_a_loss_is_told_the_logits_of_both(seg: Config, transformer: Config, back: bool) -> None:
    seen: dict[str, Tensor] = {}

    def nosy(student: Tensor, teacher: Tensor, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        seen.update(mine=student_logits, its=teacher_logits)
        return student.mean() - teacher.mean()

    entry = {"loss": nosy, "student": "backbone:0", "back": back}
    model = pair(seg, transformer, method=None, distills=[entry], online=["teacher"]).eval()
    batch = seg_batch(model)
    model(**batch, mode="loss")
    mine, its = model(batch["inputs"]), model.teachers["teacher"].model(batch["inputs"])
    assert torch.allclose(seen["its" if back else "mine"], mine, atol=1e-5)
    assert torch.allclose(seen["mine" if back else "its"], its, atol=1e-5)
    assert (seen["mine"].requires_grad, seen["its"].requires_grad) == (True, False)  # the side that learns


def test_logits_are_those_of_one_teacher(seg: Config, transformer: Config) -> None:
    def nosy(student: Tensor, teacher: Tensor, student_logits: Tensor) -> Tensor:
        return student.mean()

    nosy.match = "samples"  # type: ignore[attr-defined]
    entry = {"loss": nosy, "student": "backbone:0", "source": ["a", "b"]}
    with pytest.raises(ValueError, match="needs the logits of one teacher, not several"):
        pair(seg, {"a": transformer, "b": transformer}, method=None, distills=[entry], online=["a", "b"])


def test_a_moving_average_does_not_learn(seg: Config) -> None:
    with pytest.raises(ValueError, match="back=True trains the teacher: list it in online"):
        pair(seg, "ema")


def test_a_detector_is_refused(det: Config) -> None:
    model, _ = build_model(det)
    with pytest.raises(ValueError, match="'hfd_bsd' is for segmenters, RetinaNet has no decode head"):
        method_entries("hfd_bsd", model, model)


def test_either_can_be_taken_out(seg: Config, transformer: Config, tmp_path: Path) -> None:
    model = pair(seg, transformer).eval()
    torch.save({"state_dict": model.state_dict(), "meta": {}}, tmp_path / "both.pth")
    torch.save({"state_dict": peer_weights(tmp_path / "both.pth")}, tmp_path / "peer.pth")
    student, peer = (revert_sync_batchnorm(build_model(config)[0]).eval() for config in (seg, transformer))
    load_weights(student, tmp_path / "both.pth")
    load_weights(peer, tmp_path / "peer.pth")
    images = seg_batch(model)["inputs"]
    assert torch.equal(student(images), model(images))
    assert torch.equal(peer(images), model.teachers["teacher"].model(images))
    with pytest.raises(ValueError, match="no online teacher 'big'; it holds teacher"):
        peer_weights(tmp_path / "both.pth", "big")
    with pytest.raises(ValueError, match="it holds none"):
        peer_weights(tmp_path / "peer.pth")
