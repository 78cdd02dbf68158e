from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from densekd.checkpoint import load_weights, read, refuse_unsafe_checkpoints
from densekd.mmlab.building import start_from


class Payload:
    """What a malicious file would run."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.fixture
def model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


@pytest.fixture
def malicious(model: nn.Module, tmp_path: Path) -> Path:
    torch.save({"state_dict": model.state_dict(), "meta": Payload(tmp_path / "owned")}, tmp_path / "bad.pth")
    return tmp_path / "bad.pth"


def test_malicious_checkpoint_is_not_executed(model: nn.Module, malicious: Path) -> None:
    with pytest.raises(ValueError, match=r"was not read: it asks for code.*unsafe=True"):
        load_weights(model, malicious)
    assert not (malicious.parent / "owned").exists()


def test_unsafe_is_a_choice(model: nn.Module, malicious: Path) -> None:
    load_weights(model, malicious, unsafe=True)
    assert (malicious.parent / "owned").exists()


def test_mmengine_itself_is_kept_from_executing(model: nn.Module, malicious: Path, monkeypatch) -> None:
    monkeypatch.setattr(CheckpointLoader, "_schemes", dict(CheckpointLoader._schemes))
    refuse_unsafe_checkpoints()
    with pytest.raises(ValueError, match="was not read"):
        load_checkpoint(model, str(malicious))
    assert not (malicious.parent / "owned").exists()


def test_what_mmengine_saves_is_read(model: nn.Module, tmp_path: Path) -> None:
    curve = HistoryBuffer(np.array([1.0, 2.0]), np.array([1, 1]))
    torch.save({"state_dict": model.state_dict(), "message_hub": {"loss": curve, "n": np.int64(3)}}, tmp_path / "a.pth")
    assert read(tmp_path / "a.pth")["message_hub"]["loss"].mean() == 1.5


def test_weights_arrive(model: nn.Module, tmp_path: Path) -> None:
    state = {f"module.{key}": torch.full_like(value, 2) for key, value in model.state_dict().items()}
    torch.save(
        {**state, "distill.mse.weight": torch.zeros(1), "auxiliary_head.conv.weight": torch.zeros(1)},
        tmp_path / "w.pth",
    )
    load_weights(model, tmp_path / "w.pth")
    assert all((value == 2).all() for value in model.state_dict().values())


def test_another_architecture_is_told_apart(model: nn.Module, tmp_path: Path) -> None:
    state = model.state_dict()
    state["2.weight"] = torch.zeros(5, 4, 1, 1)
    state["3.weight"] = state.pop("0.weight")
    torch.save({"state_dict": state}, tmp_path / "other.pth")
    before = model[2].weight.clone()
    with pytest.raises(ValueError, match="another architecture") as caught:
        load_weights(model, tmp_path / "other.pth")
    assert "7 of 9 keys matched" in str(caught.value)
    assert "1 of another shape: 2.weight (5, 4, 1, 1) instead of (2, 4, 1, 1)" in str(caught.value)
    assert "1 missing: 0.weight" in str(caught.value)
    assert "1 unexpected: 3.weight" in str(caught.value)
    assert torch.equal(model[2].weight, before)


def test_a_deeper_network_is_not_cut_down_to_fit(tmp_path: Path) -> None:
    deep = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(3)))
    torch.save(deep.state_dict(), tmp_path / "deep.pth")
    with pytest.raises(ValueError, match=r"2 unexpected: 2\.weight, 2\.bias"):
        load_weights(deep[:2], tmp_path / "deep.pth")


def test_a_file_without_weights(model: nn.Module, tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(ValueError, match="holds a Tensor, not weights by name"):
        load_weights(model, tmp_path / "tensor.pth")


def test_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        read("nowhere.pth")


NO_WEIGHTS = {
    "a list": [1, 2],
    "a state of lists": {"state_dict": [1, 2]},
    "no state": {"state_dict": None},
    "weights one level deeper": {"model": {"0.weight": torch.zeros(1)}},
    "arrays": {"0.weight": np.zeros((4, 3, 1, 1)), "0.bias": np.zeros(4)},
    "numbers for names": {0: 1.5},
}


@pytest.mark.parametrize("held", NO_WEIGHTS.values(), ids=NO_WEIGHTS)
def test_files_without_weights_by_name(model: nn.Module, tmp_path: Path, held: object) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.save(held, tmp_path / "held.pth")
    for load in (load_weights, start_from):
        with pytest.raises(ValueError, match=r"held.pth holds (no|a \w+, not) weights by name"):
            load(model, tmp_path / "held.pth")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("change", [torch.Tensor.int, torch.Tensor.cfloat, torch.Tensor.to_sparse], ids=str)
def test_values_that_would_not_survive_the_copy(model: nn.Module, tmp_path: Path, change) -> None:
    state = {key: change(value) if value.ndim == 4 else value for key, value in model.state_dict().items()}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"2 of another type: 0.weight .* instead of float32"):
        load_weights(model, tmp_path / "other.pth")


def test_half_precision_fits(model: nn.Module, tmp_path: Path) -> None:
    torch.save(
        {key: value.half() if value.ndim == 4 else value for key, value in model.state_dict().items()},
        tmp_path / "half.pth",
    )
    expected = model[0].weight.detach().half().float()
    load_weights(model, tmp_path / "half.pth")
    assert torch.equal(model[0].weight, expected)
