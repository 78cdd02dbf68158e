"""Teachers that learn beside their student: gradients go where the entries say, checkpoints hold both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from densekd import Distiller
from densekd.mmlab.building import build_model

from .conftest import CONFIGS, seg_batch

Taught = Callable[..., Distiller]
LOGITS = "decode_head.conv_seg"
TO_STUDENT = {"loss": "kl", "student": LOGITS}
TO_PEER = {"loss": "kl", "student": LOGITS, "back": True, "name": "back"}
ONLINE: dict[str, Any] = {"checkpoint": None, "online": ["teacher"]}


def gradients(model: torch.nn.Module, peer: bool) -> float:
    parts = [p for name, p in model.named_parameters() if name.startswith("distill.peers.") == peer]
    return sum(float(p.grad.abs().sum()) for p in parts if p.grad is not None)


@pytest.mark.parametrize(("entry", "peer"), [(TO_STUDENT, False), (TO_PEER, True)], ids=["to student", "back"])
def test_each_entry_teaches_one_side_alone(taught: Taught, entry: dict[str, Any], peer: bool) -> None:
    model = taught(entry, **ONLINE)
    losses = model(**seg_batch(model), mode="loss")
    losses[f"distill.loss_{entry.get('name', 'kl')}"].backward()
    assert gradients(model, peer) > 0
    assert gradients(model, not peer) == 0


def test_both_learn_from_labels_and_from_each_other(taught: Taught) -> None:
    model = taught(TO_STUDENT, TO_PEER, **ONLINE)
    batch = seg_batch(model)
    losses = model(**batch, mode="loss")
    own = {key for key in losses if key.startswith("distill.teacher.")}
    assert {key.removeprefix("distill.teacher.") for key in own} == {
        key for key in losses if not key.startswith("distill.")
    }
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(value for key, value in losses.items() if "loss" in key))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.optim.SGD(model.parameters(), 0.1).zero_grad()
    total.backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    after = model.state_dict()
    for key in ("backbone.stem.0.weight", "distill.peers.teacher.backbone.stem.0.weight"):
        assert not torch.equal(before[key], after[key])


def test_modes_and_precision_reach_the_peer_once(taught: Taught) -> None:
    model = taught(TO_STUDENT, **ONLINE)
    peer = model.teachers["teacher"].model
    assert model.distill["peers"]["teacher"] is peer
    model.train()
    assert peer.training
    model.eval()
    assert not peer.training
    model.double()
    assert {p.dtype for p in peer.parameters()} == {torch.float64}


def test_both_are_found_in_a_checkpoint(taught: Taught, seg: Config, seg_teacher: dict[str, str]) -> None:
    model = taught(TO_STUDENT, **ONLINE)
    state = model.state_dict()
    peer, _ = build_model(seg_teacher["teacher"])
    start = "distill.peers.teacher."
    peer.load_state_dict({key.removeprefix(start): value for key, value in state.items() if key.startswith(start)})
    plain, _ = build_model(seg)
    plain.load_state_dict({key: value for key, value in state.items() if not key.startswith("distill.")})


def test_the_student_predicts_without_its_peer(taught: Taught, seg: Config) -> None:
    model = taught(TO_STUDENT, TO_PEER, **ONLINE).eval()
    plain, _ = build_model(seg)
    plain.load_state_dict(model.state_dict(), strict=False)
    images: Tensor = seg_batch(model)["inputs"]
    with torch.no_grad():
        assert torch.equal(model(images), plain.eval()(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"online": ["nobody"]}, "must list teachers, of teacher"),
        ({"online": "teacher"}, "must list teachers, of teacher"),
        ({"teacher": "ema", "checkpoint": None, "online": ["teacher"]}, "a moving average .* cannot be online"),
        ({"teacher": {"a.b": str(CONFIGS / "seg_teacher.py")}, "online": ["a.b"]}, "must not contain a dot"),
        ({"online": []}, "back=True trains the teacher: list it in online"),
    ],
)
def test_what_cannot_be(taught: Taught, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        taught(TO_PEER, **options)
