"""`densekd prune`: what it writes is a plain model that is smaller, and says what the pruned one says."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from densekd import Distiller, build_model, load_weights, read_config
from densekd.cli.prune import main
from densekd.runs.pruning import forward_of, prune, pruned_config

CONFIGS = Path(__file__).parents[1] / "densekd" / "configs"
DETECT = """
import sys, torch
from mmdet.apis import init_detector
from mmengine.structures import BaseDataElement
folder, images, out = sys.argv[1:]
model = init_detector(f"{folder}/pruned.py", f"{folder}/pruned.pth", device="cpu")
with torch.no_grad():
    torch.save([model(torch.load(images), mode="tensor"), model.dataset_meta["classes"]], out)
"""


@pytest.fixture(autouse=True)
def two_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies of two forwards, not of 20: no test reads them."""
    monkeypatch.setattr("densekd.runs.pruning.REPEATS", 2)


def weights(name: str, folder: Path) -> Path:
    """Weights that look trained: the scales of most channels are small."""
    torch.manual_seed(0)
    model = build_model(CONFIGS / f"{name}.py")[0]
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.01, 1)
            nn.init.normal_(module.running_mean, std=0.1)
    meta = {"dataset_meta": {"classes": tuple("0123456789")}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, folder / f"{name}.pth")
    return folder / f"{name}.pth"


def test_a_fresh_mmdet_loads_it_and_answers_to_the_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = weights("det", tmp_path), tmp_path / "pruned"
    config = read_config(CONFIGS / "det.py")
    config.custom_hooks = [dict(type="densekd.Policies", policies=["sparse_scales", "pruned"])]
    config.model.backbone.init_cfg = dict(type="Pretrained", checkpoint="torchvision://resnet18")
    config.dump(tmp_path / "sparse.py")
    keep = {"": 0.5, "backbone.layer4": 0.1}
    main(
        [
            str(tmp_path / "sparse.py"),
            str(path),
            "--keep",
            "0.5",
            "backbone.layer4=0.1",
            "--least",
            "4",
            "--out",
            str(out),
        ]
    )
    said = capsys.readouterr().out
    done = prune(config, path, keep, least=4)
    assert f"| parameters | {done.before.parameters:,} | {done.after.parameters:,} |" in said
    assert f"| MFLOP | {done.before.flops / 1e6:,.1f} | {done.after.flops / 1e6:,.1f} |" in said
    assert done.after.parameters < 0.6 * done.before.parameters
    assert done.after.flops < done.before.flops
    images = torch.randn(2, 3, 96, 96)
    torch.save(images, tmp_path / "images.pt")
    call = [sys.executable, "-c", DETECT, str(out), str(tmp_path / "images.pt"), str(tmp_path / "answer.pt")]
    subprocess.run(call, check=True, capture_output=True, timeout=300)
    answer, classes = torch.load(tmp_path / "answer.pt")
    with torch.no_grad():
        expected = done.found.model.eval()(images, mode="tensor")
    assert classes == tuple("0123456789")
    for one, other in zip(answer, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    written = read_config(out / "pruned.py")
    assert written.custom_hooks == [dict(type="densekd.Policies", policies=["pruned"])]
    assert written.model.backbone.init_cfg is None
    assert written.load_from == f"{out}/pruned.pth"
    again = prune(written, out / "pruned.pth", 0.5, least=2)  # what was pruned may be pruned again
    assert again.after.parameters < done.after.parameters
    build_model(again.config)[0].load_state_dict(again.found.model.state_dict())


def test_it_learns_from_the_detector_that_it_was(tmp_path: Path) -> None:
    path = weights("det", tmp_path)
    done = prune(read_config(CONFIGS / "det.py"), path, 0.4, least=4)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model: Any = Distiller(
            student=done.config.model, teacher=str(CONFIGS / "det.py"), checkpoint=str(path), method="sad"
        )
        load_state(model, done.found.model)
        batch = next(iter(Runner.build_dataloader(copy.deepcopy(done.config.train_dataloader), seed=0)))
    losses = model.train()(**model.data_preprocessor(batch, training=True), mode="loss")
    sum(value for key, value in losses.items() if key.startswith("distill.")).backward()
    assert sum(key.startswith("distill.") for key in losses) == 7
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


def load_state(model: nn.Module, pruned: nn.Module) -> None:
    missing, unexpected = model.load_state_dict(pruned.state_dict(), strict=False)
    assert not unexpected
    assert all(key.startswith("distill.") for key in missing)


def test_a_segmenter_is_pruned_with_its_auxiliary_head(tmp_path: Path) -> None:
    path = weights("seg", tmp_path)
    done = prune(read_config(CONFIGS / "seg.py"), path, 0.3, least=2)
    first: Any = done.found.model
    assert first.auxiliary_head.convs[0].conv.in_channels < 32
    assert first.decode_head.psp_modules[0][1].conv.out_channels < 16
    second = build_model(done.config)[0].eval()
    torch.save(first.state_dict(), tmp_path / "pruned.pth")
    load_weights(second, tmp_path / "pruned.pth")
    one, other = (forward_of(net, (64, 64))(net.eval()) for net in (first, second))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1][0], other[1][0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--keep", "1.5"], "above 0 and at most 1"),
        (["--keep", "=0.5"], "above 0 and at most 1"),
        (["--keep", "nan"], "above 0 and at most 1"),
        (["--keep", "0.5", "0.4"], "--keep has two shares for all groups"),
        (["--least", "0"], "--least"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(CONFIGS / "det.py"), "none.pth", "--out", str(tmp_path / "out"), *options])
    assert said in capsys.readouterr().err


def test_a_folder_that_is_there_and_a_group_that_is_not_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="exists; choose another folder"):
        main([str(CONFIGS / "det.py"), "none.pth", "--out", str(tmp_path)])
    path = weights("det", tmp_path)
    with pytest.raises(ValueError, match=r"in the group 'neck', .*; groups: backbone, backbone.layer1"):
        prune(Config.fromfile(CONFIGS / "det.py"), path, {"neck": 0.5})


def test_a_model_that_is_built_around_another_one_is_refused() -> None:
    config = read_config("densekd::seg/norm_feature/digits")
    with pytest.raises(ValueError, match=r"a densekd\.WithoutLayers is built around another model"):
        prune(config, "none.pth", 0.5)


def test_no_weights_that_models_begin_with_are_in_the_config_of_a_pruned_one() -> None:
    config = Config.fromfile(CONFIGS / "seg.py")
    normal = dict(type="Normal", layer="Conv2d")
    config.model.backbone.init_cfg = [normal, dict(type="Pretrained", checkpoint="torchvision://resnet18")]
    assert pruned_config(config, {}).model.backbone.init_cfg == [normal]
