"""Vision models of transformers teach segmenters of mmseg, from configs, and in the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from densekd import Distiller, read_config
from densekd.hub.efficientnet_lite import EfficientNetLite
from densekd.hub.families import from_transformers
from densekd.hub.features import Features
from densekd.runs.comparison import has_trained_teacher, rows

from ..conftest import CONFIGS, seg_batch
from .checkpoints import saved


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    found = {}
    for family in ("dinov2_with_registers", "sam", "segformer"):
        folder = tmp_path_factory.mktemp(family)
        saved(family, folder)
        found[family] = f"hf:{folder}"
    return found


def test_several_teachers_with_a_head_each(folders: dict[str, str]) -> None:
    entries = [
        dict(loss="pkd", student="backbone:-1", teacher="maps:0", source=name, name=name)
        for name in ("dinov2_with_registers", "sam")
    ]
    entries.append(dict(loss="pkd", student="backbone", teacher="maps", source="segformer", name="levels"))
    model: Any = Distiller(student=str(CONFIGS / "seg.py"), teacher=folders, distills=entries)
    batch = seg_batch(model)
    losses = model(**batch, mode="loss")
    sum(losses[f"distill.loss_{name}"] for name in ("dinov2_with_registers", "sam", "levels")).backward()
    assert all(weight.grad is not None for weight in model.backbone.layer4.parameters())
    heads = [name for name, _ in model.distill.named_parameters()]
    assert {name.split(".")[0] for name in heads} == {"dinov2_with_registers", "sam", "levels"}
    assert not any("hf" in key or "network" in key for key in model.state_dict())


def test_the_teacher_sees_its_own_normalisation(folders: dict[str, str]) -> None:
    """Its maps in the distiller are those of the images themselves."""
    source = folders["dinov2_with_registers"]
    model: Any = Distiller(student=str(CONFIGS / "seg.py"), teacher=source, method="last_map")
    pixels = torch.randint(0, 256, (2, 3, 64, 64)).float()  # red first
    batch = model.data_preprocessor({"inputs": [each.flip(0).byte() for each in pixels], "data_samples": None}, False)
    taps = model.teachers["teacher"].run(batch["inputs"], [], ["maps:-1"])
    alone = from_transformers(source.removeprefix("hf:")).eval()
    torch.testing.assert_close(taps["maps:-1"][0], alone.of_pixels(pixels)[0], rtol=1e-3, atol=1e-4)


def test_a_live_backbone_teaches() -> None:
    network = EfficientNetLite("lite0", out_indices=(2, 3))
    teacher = Features("lite", network, network.MEAN, network.STD)
    entries = [dict(loss="mse", student="backbone:-2", teacher="maps:0")]
    model: Any = Distiller(student=str(CONFIGS / "seg.py"), teacher=teacher, distills=entries)
    assert model(**seg_batch(model), mode="loss")["distill.loss_mse"].requires_grad
    assert not any(weight.requires_grad for weight in network.parameters())


def test_it_takes_no_checkpoint(folders: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="comes with its weights"):
        Distiller(student=str(CONFIGS / "seg.py"), teacher=folders["sam"], method="last_map", checkpoint="random")


def test_a_comparison_trains_no_such_teacher(folders: dict[str, str], tmp_path: Path) -> None:
    config = read_config(CONFIGS / "seg.py")
    config.model = dict(type="densekd.Distiller", student=config.model, teacher=folders["sam"], method="last_map")
    assert rows(config) == []
    assert not has_trained_teacher(config)
