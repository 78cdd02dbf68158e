"""A teacher that is told the label: by which channel, when, and never in validation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, load_checkpoint
from torch import Tensor, nn

from densekd import Distiller
from densekd.mmlab.building import build_model
from densekd.mmlab.config import read_config
from densekd.models import LabelAssistedEncoderDecoder
from kdlosses import cwd

from ..conftest import CONFIGS, seg_batch

LOGITS = "decode_head.conv_seg"


def config_of(**options: Any) -> Config:
    config = Config.fromfile(CONFIGS / "seg.py")
    config.model.type = "densekd.LabelAssistedEncoderDecoder"
    config.model.backbone.in_channels = 4
    config.model.update(options)
    return config


def assisted(**options: Any) -> LabelAssistedEncoderDecoder:
    torch.manual_seed(0)
    model: Any = revert_sync_batchnorm(build_model(config_of(**options))[0])
    model.init_weights()
    return model


def looking(model: LabelAssistedEncoderDecoder) -> LabelAssistedEncoderDecoder:
    """The model with weights for the label as large as those for the image."""
    with torch.no_grad():
        model.stem.weight[:, -1:] = model.stem.weight[:, :1] / 100
    return model


@pytest.fixture
def plain() -> nn.Module:
    torch.manual_seed(1)
    return revert_sync_batchnorm(build_model(CONFIGS / "seg.py")[0])


def labels_of(batch: dict[str, Any]) -> Tensor:
    return torch.cat([sample.gt_sem_seg.data for sample in batch["data_samples"]])


# --- the channel ------------------------------------------------------------------------------------------------------


def test_channel_of_a_teacher() -> None:
    model = assisted()
    batch = seg_batch(model)
    labels = labels_of(batch)
    told = model.with_label(batch["inputs"], batch["data_samples"], teaching=True)
    assert torch.equal(told[:, :3], batch["inputs"])
    assert (told[:, 3][labels == 255] == 0).all()
    noise = (told[:, 3] / 100 - (labels - 5) / 10)[labels != 255]  # eleven classes: -0.5 to 0.5
    assert abs(noise.mean().item()) < 1e-3
    assert noise.std().item() == pytest.approx(0.02, rel=0.05)


def test_channel_in_training_has_values_of_each_image() -> None:
    model = assisted(noise=0.0)
    batch = seg_batch(model)
    labels = labels_of(batch)
    told = model.with_label(batch["inputs"], batch["data_samples"], teaching=False)[:, 3]
    tables = torch.stack([torch.stack([told[n][labels[n] == k].unique() for k in range(11)]) for n in range(2)])
    assert tables.shape == (2, 11, 1)  # one value a class, none for what is ignored
    assert (told[labels == 255] == 0).all()
    assert not torch.isclose(tables[0], tables[1]).any()
    assert tables.std().item() == pytest.approx(100, rel=0.5)


def test_values_noise_and_scale_are_options() -> None:
    model = assisted(values=list(range(11)), teaching_noise=0.0, scale=2.0)
    batch = seg_batch(model)
    told = model.with_label(batch["inputs"], batch["data_samples"], teaching=True)[:, 3]
    labels = labels_of(batch)
    assert torch.equal(told, torch.where(labels == 255, 0, 2.0 * labels))
    with pytest.raises(ValueError, match=r"values=\[1, 2\] must have one number for each of the 11 classes"):
        assisted(values=[1, 2])


def test_a_plain_stem_is_refused() -> None:
    config = config_of()
    config.model.backbone.in_channels = 3
    with pytest.raises(ValueError, match=r"stem of ResNetV1c has 3 input channels.*in_channels=4"):
        build_model(config)


# --- a plain network where there is no label to be told ---------------------------------------------------------------


def test_with_a_channel_of_zero_it_is_the_plain_net(plain: nn.Module, tmp_path: Path) -> None:
    torch.save({"state_dict": plain.state_dict(), "meta": {}}, tmp_path / "plain.pth")
    by_mmengine, by_torch = assisted(), assisted()
    load_checkpoint(by_mmengine, str(tmp_path / "plain.pth"), strict=True)
    by_torch.load_state_dict(plain.state_dict())
    batch = seg_batch(plain)
    expected = plain.eval()(batch["inputs"])
    for model in (by_mmengine.eval(), by_torch.eval()):
        assert model.stem.weight.shape[1] == 4
        assert (model.stem.weight[:, 3] == 0).all()
        assert torch.equal(model(batch["inputs"]), expected)
        assert torch.allclose(model(**batch), expected, atol=1e-6)  # it is told, and does not look yet


def test_its_own_checkpoint_and_copies_of_it_are_not_widened() -> None:
    model = looking(assisted())
    other = copy.deepcopy(assisted())
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.stem.weight, model.stem.weight)
    assert not any("values" in key for key in model.state_dict())


def test_training_starts_from_a_net_that_does_not_look() -> None:
    model = assisted()
    assert (model.stem.weight[:, 3] == 0).all()
    assert (model.stem.weight[:, :3] != 0).any()


@pytest.mark.parametrize("mode", ["predict", "tensor"])
def test_validation_does_not_read_labels(mode: str) -> None:
    model = looking(assisted()).eval()
    batch = seg_batch(model)
    told = model(**batch)
    blind = model(batch["inputs"])
    assert not torch.allclose(told, blind, atol=1e-3)  # the label would show
    for sample in batch["data_samples"]:
        sample.set_metainfo({"ori_shape": (64, 64)})
    if mode == "tensor":
        for sample in batch["data_samples"]:
            del sample.gt_sem_seg
        assert torch.equal(model(**batch), blind)
        return
    seen = [torch.stack([s.seg_logits.data for s in model(**batch, mode=mode)])]
    for sample in batch["data_samples"]:
        sample.gt_sem_seg.data = torch.zeros_like(sample.gt_sem_seg.data)
    seen += [torch.stack([s.seg_logits.data for s in model(**batch, mode=mode)])]
    assert torch.equal(*seen)
    expected = nn.functional.interpolate(blind, seen[0].shape[2:], mode="bilinear", align_corners=False)
    assert torch.allclose(seen[0], expected, atol=1e-5)


# --- its own training -------------------------------------------------------------------------------------------------


def test_both_streams_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    model = assisted()
    told: list[Tensor] = []
    inner = model.with_label
    monkeypatch.setattr(model, "with_label", lambda *args, **kw: told.append(inner(*args, **kw)) or told[-1])
    batch = seg_batch(model)
    model(**batch, mode="loss")
    one, other = (each[:, 3] for each in told)
    counted = labels_of(batch) != 255
    assert len(told) == 2
    assert (one != other)[counted].all()
    assert abs(torch.corrcoef(torch.stack([one[counted], other[counted]]))[0, 1].item()) < 0.7
    assert torch.equal(told[0][:, :3], told[1][:, :3])


def test_losses_of_two_paths_and_their_consistency(monkeypatch: pytest.MonkeyPatch) -> None:
    model = looking(assisted()).eval()  # no dropout, so that a second look sees the same
    batch = seg_batch(model)
    torch.manual_seed(5)
    losses = model(**batch, mode="loss")
    torch.manual_seed(5)
    views = [model.with_label(batch["inputs"], batch["data_samples"], teaching=False) for _ in range(2)]
    one, other = (model.decode_head(model.extract_feat(view)) for view in views)
    torch.testing.assert_close(
        losses["loss_consistency"], 5 * (cwd(one, other, tau=4.0) + cwd(other, one, tau=4.0)), rtol=1e-4, atol=1e-6
    )
    for head in ("decode", "aux"):
        assert {f"{head}.loss_ce", f"second.{head}.loss_ce"} <= set(losses)
        assert losses[f"{head}.loss_ce"] != losses[f"second.{head}.loss_ce"]
    assert losses["aux.loss_ce"] < losses["decode.loss_ce"]
    total, _ = model.parse_losses(losses)
    total.backward()
    assert model.stem.weight.grad[:, 3].abs().sum() > 0


# --- as a teacher -----------------------------------------------------------------------------------------------------


def test_it_teaches_with_the_label() -> None:
    teacher = looking(assisted())
    model = Distiller(student=Config.fromfile(CONFIGS / "seg.py"), teacher=teacher, method="lad")
    assert model.distill["lad"].weight == 3.0
    batch = seg_batch(model)
    torch.manual_seed(0)
    seen = model.teachers["teacher"].run(batch["inputs"], batch["data_samples"], [LOGITS])[LOGITS][0]
    torch.manual_seed(0)
    assert torch.equal(seen, teacher(**batch))
    assert not torch.allclose(seen, teacher(batch["inputs"]), atol=1e-3)
    losses = revert_sync_batchnorm(model)(**batch, mode="loss")
    losses["distill.loss_lad"].backward()
    assert model.backbone.stem[0].weight.grad.abs().sum() > 0
    assert model.backbone.stem[0].in_channels == 3


def test_a_trained_looking_teacher_fits_its_checkpoint(tmp_path: Path) -> None:
    torch.save({"state_dict": looking(assisted()).state_dict(), "meta": {}}, tmp_path / "teacher.pth")
    options = {"teacher": config_of(), "checkpoint": tmp_path / "teacher.pth", "method": "lad"}
    model = Distiller(student=Config.fromfile(CONFIGS / "seg.py"), **options)
    assert model.teachers["teacher"].model.stem.weight[:, 3].abs().sum() > 0


def test_the_config_of_the_teacher_trains() -> None:
    config = read_config(Path(__file__).parents[3] / "configs/seg/lad/teacher_digits.py")
    model, _ = build_model(config)
    config.train_dataloader.batch_size = 2
    with DefaultScope.overwrite_default_scope(config.default_scope):
        loader = Runner.build_dataloader(config.train_dataloader, seed=0)
    losses = model(**model.data_preprocessor(next(iter(loader)), training=True), mode="loss")  # type: ignore[operator]
    assert set(losses) >= {"decode.loss_ce", "second.decode.loss_ce", "loss_consistency"}
