"""A wide and a deep teacher that learn beside the student, from few labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from densekd import Distiller
from densekd.datasets import DigitScenesSeg
from densekd.methods import method_entries
from densekd.mmlab.building import build_model
from densekd.mmlab.config import read_config
from densekd.teacher import Peer

from .conftest import CONFIGS, seg_batch

DIGITS = Path(__file__).parents[2] / "configs/seg/mgd_semi"
TO_TEACHERS = {"wide_back", "deep_back", "image_back", "region_back"}
TO_STUDENT = {name.removesuffix("_back") for name in TO_TEACHERS}


def trio(seg: Config, **options: Any) -> Distiller:
    torch.manual_seed(0)
    deep = Config.fromfile(CONFIGS / "seg.py")
    deep.model.backbone.depth = 34
    teacher = {"wide": str(CONFIGS / "seg_teacher.py"), "deep": deep}
    model = Distiller(student=seg, **{"teacher": teacher, "method": "mgd_semi", **options})
    return revert_sync_batchnorm(model)


def test_each_entry_teaches_one_network(seg: Config) -> None:
    model = trio(seg)
    peers = {name: teacher.model for name, teacher in model.teachers.items()}
    assert all(isinstance(teacher, Peer) for teacher in model.teachers.values())
    losses = model(**seg_batch(model), mode="loss")
    assert {*model.distill} == TO_STUDENT | TO_TEACHERS | {"peers"}
    mine = [p for name, p in model.named_parameters() if not name.startswith("distill.")]
    sides = {"student": mine, **{name: list(peer.parameters()) for name, peer in peers.items()}}
    teachers = dict(wide_back="wide", deep_back="deep", image_back="deep", region_back="wide")
    for name in sorted(TO_STUDENT | TO_TEACHERS):
        model.zero_grad()
        losses[f"distill.loss_{name}"].backward(retain_graph=True)
        learn = [side for side, weights in sides.items() if any(p.grad is not None and p.grad.any() for p in weights)]
        assert learn == [teachers.get(name, "student")], name


@pytest.mark.parametrize("detach", [False, True])
def test_detach_is_a_switch(seg: Config, detach: bool) -> None:
    model = trio(seg, method={"type": "mgd_semi", "detach": detach})
    kept = {"wide_back", "deep_back"} if detach else TO_TEACHERS
    assert {*model.distill} - {"peers"} == TO_STUDENT | kept


def test_teachers_have_their_names(seg: Config) -> None:
    with pytest.raises(ValueError, match="'mgd_semi' needs the teachers wide, deep; got big, deep"):
        trio(seg, teacher={"big": str(CONFIGS / "seg.py"), "deep": str(CONFIGS / "seg.py")})
    with pytest.raises(TypeError, match="'mgd_semi' has no option 'detatch'; did you mean 'detach'"):
        trio(seg, method={"type": "mgd_semi", "detatch": True})


def test_regions_are_of_the_pooled_pyramid() -> None:
    config = read_config("mmseg::deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py")
    config.model.pretrained = None
    model, _ = build_model(config)
    entries = {entry["name"]: entry for entry in method_entries("mgd_semi", model, {"wide": model, "deep": model})}
    assert entries["region"]["student"] == entries["region"]["teacher"] == "decode_head.bottleneck"
    assert {name: entry["source"] for name, entry in entries.items() if not entry["back"]} == dict(
        wide="wide", deep="deep", image="deep", region="wide"
    )


def test_unlabelled_images_are_never_asked_for_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the labels of the unlabelled scenes are, the batch is the same; seven eighths have none."""
    config = read_config(DIGITS / "student_digits.py")

    def samples() -> list[Any]:
        with DefaultScope.overwrite_default_scope(config.default_scope):
            loader = Runner.build_dataloader(config.train_dataloader, seed=0)
        assert [len(each) for each in loader.dataset.datasets] == [250, 1750]
        return next(iter(loader))["data_samples"]

    truth = samples()
    known = [bool((each.gt_sem_seg.data != 255).any()) for each in truth]
    assert known == 4 * [True] + 4 * [False]
    assert all(int(each.img_path.split("-")[1]) < 250 for each in truth[:4])
    assert all(int(each.img_path.split("-")[1]) >= 250 for each in truth[4:])
    inner = DigitScenesSeg._truth
    monkeypatch.setattr(
        DigitScenesSeg, "_truth", lambda self, scene: {**inner(self, scene), "gt_seg_map": scene.mask * 0 + 7}
    )
    other = samples()
    assert (other[0].gt_sem_seg.data == 7).all()
    assert all((each.gt_sem_seg.data == 255).all() for each in other[4:])


def test_without_any_label_they_learn_from_each_other(seg: Config) -> None:
    model = trio(seg).eval()
    batch = seg_batch(model)
    for sample in batch["data_samples"]:
        sample.gt_sem_seg.data = torch.full_like(sample.gt_sem_seg.data, 255)
    losses = model(**batch, mode="loss")
    assert losses["decode.loss_ce"] == 0
    assert losses["distill.wide.decode.loss_ce"] == 0
    assert all(losses[f"distill.loss_{name}"] > 0 for name in TO_STUDENT | TO_TEACHERS)
