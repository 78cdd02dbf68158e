"""A backbone learns without labels: it does, a pause changes nothing, and what it leaves loads where it should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.runner import load_checkpoint
from safetensors.torch import load_file
from torch import Tensor, nn

from densekd import build_model, read_config
from densekd.cli.pretrain import main
from densekd.hub.features import Features
from densekd.hub.images import find_images
from densekd.hub.pretrain import Pretraining
from densekd.registry import MODELS

from ..conftest import CONFIGS
from .checkpoints import saved

HERE = __name__


def backbone(width: int = 8) -> nn.Module:
    def block(ins: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(ins, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]

    return nn.Sequential(*block(3, width), *block(width, width), *block(width, width))


class Broken(nn.Module):
    """Yields what is not finite."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, ::8, ::8] / 0


def training(photos: Path, seed: int = 0, **options: object) -> Pretraining:
    torch.manual_seed(1)
    teacher = Features("teacher", backbone(16))
    for norm in teacher.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()
    torch.manual_seed(seed)
    given: dict[str, object] = dict(steps=60, batch=8, size=(32, 32), seed=seed, rate=1e-2, share=0.25, device="cpu")
    given.update(options)
    return Pretraining(Features("student", backbone()), {"teacher": teacher}, find_images(photos), **given)  # type: ignore[arg-type]


def held_out(run: Pretraining) -> float:
    return run.history[-1]["held_out"]


def test_it_learns_more_than_its_heads_alone_could(photos: Path, tmp_path: Path) -> None:
    """The control: the backbone stays as it starts, its head learns under the same schedule."""
    for seed in (0, 1):
        taught, control = training(photos, seed), training(photos, seed)
        for weight in control.student.parameters():
            weight.requires_grad_(False)
        for run in (taught, control):
            run.run(tmp_path, every=60, say=lambda line: None)
        assert held_out(taught) < held_out(control) < taught.history[0]["held_out"]


def test_a_pause_changes_nothing(photos: Path, tmp_path: Path) -> None:
    straight, first, second = (training(photos, steps=12) for _ in range(3))
    straight.run(tmp_path / "a", every=6, say=lambda line: None)

    def killed(line: str) -> None:
        if "step 9/" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(tmp_path / "b", every=3, say=killed)
    second.resume(tmp_path / "b" / "training.pth")
    assert second.step == 9
    second.run(tmp_path / "b", every=6, say=lambda line: None)
    for one, other in zip(straight.student.state_dict().values(), second.student.state_dict().values()):
        assert torch.equal(one, other)
    assert held_out(straight) == held_out(second)


def test_another_training_is_not_resumed(photos: Path, tmp_path: Path) -> None:
    training(photos).save(tmp_path / "training.pth")
    with pytest.raises(ValueError, match="other options: steps 60, now 61; seed 0, now 3"):
        training(photos, steps=61, seed=3).resume(tmp_path / "training.pth")


def test_other_images_and_another_student_are_not_resumed(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "training.pth"
    run = training(photos)
    run.save(file)
    others = [path.with_name(f"other-{path.name}") for path in find_images(photos)]
    for path, other in zip(find_images(photos), others):
        (tmp_path / other.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="other options: files"):
        training(tmp_path).resume(file)
    run.student.network.append(nn.Conv2d(8, 8, 1))
    with pytest.raises(ValueError, match="training of another student"):
        run.resume(file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged"):
        training(photos).resume(file)


def frozen() -> nn.Module:
    return backbone().requires_grad_(False)


class Detached(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(images)


@pytest.mark.parametrize("student", [frozen(), Detached(backbone())])
def test_a_student_that_cannot_learn_is_refused(photos: Path, student: nn.Module) -> None:
    """Its heads alone would have learned, and the loss would have fallen."""
    with pytest.raises(ValueError, match="nothing of the student still can be trained"):
        Pretraining(Features("still", student), {"t": Features("t", backbone())}, find_images(photos), size=(32, 32))


@pytest.mark.parametrize("name", ["backbone.safetensors", "backbone.json"])
def test_no_file_is_replaced_unasked(photos: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    command = [f"{HERE}:backbone", "--teacher", f"{HERE}:backbone", "--images", str(photos), "--out", str(tmp_path)]
    with pytest.raises(FileExistsError, match=rf"{name} is of an earlier training: --overwrite replaces it"):
        main(command)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_teachers_count_alike(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(2)
    quiet, loud = (
        Features("quiet", backbone(4)),
        Features("loud", nn.Sequential(backbone(4), nn.Upsample(scale_factor=2))),
    )
    with torch.no_grad():
        for weight in loud.parameters():
            weight.mul_(100)
    run = Pretraining(
        Features("student", backbone()), {"quiet": quiet, "loud": loud}, find_images(photos), steps=1, size=(32, 32)
    )
    found = run.validate()
    assert found["held_out"] == pytest.approx((found["held_out quiet"] + found["held_out loud"]) / 2)
    assert 0.5 < found["held_out loud"] / found["held_out quiet"] < 2


def test_a_teacher_that_is_not_finite(photos: Path) -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        Pretraining(Features("student", backbone()), {"broken": Features("broken", Broken())}, find_images(photos))


def test_the_command_and_what_it_leaves(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved("dinov2_with_registers", tmp_path / "dino")
    saved("segformer", tmp_path / "segformer")
    out = tmp_path / "out"
    command = [str(CONFIGS / "seg.py"), "--teacher", f"hf:{tmp_path / 'dino'}", f"hf:{tmp_path / 'segformer'}"]
    command += ["--images", str(photos), "--out", str(out), "--steps", "4", "--batch", "4", "--size", "64", "96"]
    command += ["--every", "2", "--amp", "--workers", "1"]
    main(command)
    said = capsys.readouterr().out
    assert "sides to multiples of 14" in said
    assert "normalisation of segformer as published" in said
    assert "held out hf:" in said
    # a config of OpenMMLab, by load_from as mmengine reads it and by init_cfg
    model, _ = build_model(CONFIGS / "seg.py")
    load_checkpoint(model, str(out / "backbone.pth"), strict=False)
    config = read_config(CONFIGS / "seg.py")
    config.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=str(out / "backbone.pth"), prefix="backbone.")
    begun, _ = build_model(config)
    begun.init_weights()
    # by name
    weights = load_file(out / "backbone.safetensors")
    for each in (model, begun):
        own = each.backbone.state_dict()
        assert own.keys() == weights.keys()
        assert all(torch.equal(value, weights[key]) for key, value in own.items())
    facts = json.loads((out / "backbone.json").read_text())
    assert facts["images"] + facts["held_out"] == 24
    assert [each["step"] for each in facts["history"]] == [0, 2, 4]
    assert facts["rgb"] is True
    with pytest.raises(FileExistsError, match="earlier training"):
        main(command)
    main([*command, "--resume"])


def test_a_detector_starts_from_it(photos: Path, tmp_path: Path) -> None:
    command = [str(CONFIGS / "det.py"), "--teacher", f"{HERE}:backbone", "--images", str(photos), "--from-scratch"]
    main([*command, "--out", str(tmp_path), "--steps", "1", "--batch", "4", "--size", "64", "64"])
    config = read_config(CONFIGS / "det.py")
    config.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=f"{tmp_path}/backbone.pth", prefix="backbone.")
    model, _ = build_model(config)
    model.init_weights()
    weights = load_file(tmp_path / "backbone.safetensors")
    assert all(torch.equal(value, weights[key]) for key, value in model.backbone.state_dict().items())


def test_efficientnet_lite_in_a_config(tmp_path: Path) -> None:
    options = dict(type="densekd.EfficientNetLite", arch="lite0", out_indices=(1, 3))
    published = MODELS.build(dict(**options, pretrained=True))
    before = published.conv_stem.weight.clone()
    published.init_weights()
    assert not torch.equal(published.conv_stem.weight, before)
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in published.state_dict().items()}}, tmp_path / "b.pth")
    init = dict(type="Pretrained", checkpoint=str(tmp_path / "b.pth"), prefix="backbone.")
    again = MODELS.build(dict(**options, init_cfg=init))
    again.init_weights()
    assert torch.equal(again.conv_stem.weight, published.conv_stem.weight)
    with pytest.raises(ValueError, match="pretrained or init_cfg"):
        MODELS.build(dict(**options, pretrained=True, init_cfg=init))


def test_broken_images_are_all_named(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n, path in enumerate(sorted(photos.iterdir())[:6]):
        (tmp_path / "some" / path.name).parent.mkdir(exist_ok=True)
        (tmp_path / "some" / path.name).write_bytes(path.read_bytes()[: 60 if n in (1, 4) else None])
    command = [f"{HERE}:backbone", "--teacher", f"{HERE}:backbone", "--images", str(tmp_path / "some"), "--steps", "1"]
    command += ["--out", str(tmp_path / "out"), "--size", "32", "32", "--batch", "2"]
    with pytest.raises(ValueError, match="2 of 6 images cannot be read"):
        main(command)
    assert not (tmp_path / "out").exists()
    said = capsys.readouterr().out
    assert [n for n in range(6) if f"{n:02}.png" in said] == [1, 4]
    main([*command, "--skip-broken"])
    assert json.loads((tmp_path / "out" / "backbone.json").read_text())["skipped"] == ["01.png", "04.png"]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (["--match", "*.gif"], FileNotFoundError, "is called"),
        (["--loss", "dkd"], ValueError, "without labels"),
        (["--resume"], FileNotFoundError, "to resume from"),
        (["--held-out", "2"], ValueError, r"in \(0, 1\)"),
        (["--teacher", "lite7"], ValueError, "no teacher is called"),
    ],
)
def test_mistakes_are_named(photos: Path, tmp_path: Path, change: list[str], error: type[Exception], said: str) -> None:
    command = [
        f"{HERE}:backbone",
        "--teacher",
        f"{HERE}:backbone",
        "--images",
        str(photos),
        "--out",
        str(tmp_path / "o"),
    ]
    with pytest.raises(error, match=said):
        main([*command, "--size", "32", "32", *change])
    assert not (tmp_path / "o").exists()
