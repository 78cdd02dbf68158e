"""A wide and a deep teacher that learn beside the student, from few labels."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import MethodContract
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from scipy.special import log_softmax

from densekd import Distillation, Distiller
from densekd.datasets import DigitScenesSeg
from densekd.losses import cell_similarity
from densekd.methods import method_entries
from densekd.methods.mgd_semi import regions
from densekd.mmlab.building import build_model
from densekd.mmlab.config import read_config
from densekd.taps.reader import Taps
from densekd.teacher import Peer

from .conftest import CONFIGS, seg_batch

DIGITS = Path(__file__).parents[2] / "configs/seg/mgd_semi"
TO_TEACHERS = {
    *("wide_back", "deep_back", "wide_labelled_back", "deep_labelled_back"),
    *("image_back", "region_back"),
}
UNLABELLED = {"wide", "deep", "image", "region"}
TO_STUDENT = {name.removesuffix("_back") for name in TO_TEACHERS}


def half_labelled(model: Any) -> dict[str, Any]:
    """Two images, the second without labels."""
    batch = seg_batch(model)
    labels = batch["data_samples"][0].gt_sem_seg.data
    labels[:, :8] = 255  # in a labelled image all pixels have a pseudo label
    batch["data_samples"][1].gt_sem_seg.data = torch.full_like(labels, 255)
    return batch


def models() -> dict[str, Any]:
    torch.manual_seed(0)
    student, teacher = (revert_sync_batchnorm(build_model(CONFIGS / name)[0]) for name in ("seg.py", "seg_teacher.py"))
    return dict(scope="mmseg", student=student, teacher=teacher, batch=half_labelled)


CONTRACT = [MethodContract(name, models=models) for name in ("mgd_semi", "mgd_semi_frozen")]


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
    losses = model(**half_labelled(model), mode="loss")
    assert {*model.distill} == TO_STUDENT | TO_TEACHERS | {"peers"}
    mine = [p for name, p in model.named_parameters() if not name.startswith("distill.")]
    sides = {"student": mine, **{name: list(peer.parameters()) for name, peer in peers.items()}}
    teachers = dict(wide_back="wide", deep_back="deep", image_back="deep", region_back="wide")
    teachers |= dict(wide_labelled_back="wide", deep_labelled_back="deep")
    for name in sorted(TO_STUDENT | TO_TEACHERS):
        model.zero_grad()
        losses[f"distill.loss_{name}"].backward(retain_graph=True)
        learn = [side for side, weights in sides.items() if any(p.grad is not None and p.grad.any() for p in weights)]
        assert learn == [teachers.get(name, "student")], name


@pytest.mark.parametrize("detach", [False, True])
def test_detach_is_a_switch(seg: Config, detach: bool) -> None:
    model = trio(seg, method={"type": "mgd_semi", "detach": detach})
    kept = {name for name in TO_TEACHERS if not detach or name.startswith(("wide", "deep"))}
    assert {*model.distill} - {"peers"} == TO_STUDENT | kept


def test_teachers_have_their_names(seg: Config) -> None:
    with pytest.raises(ValueError, match="'mgd_semi' needs the teachers wide, deep; got big, deep"):
        trio(seg, teacher={"big": str(CONFIGS / "seg.py"), "deep": str(CONFIGS / "seg.py")})
    with pytest.raises(TypeError, match="'mgd_semi' has no option 'detatch'; did you mean 'detach'"):
        trio(seg, method={"type": "mgd_semi", "detatch": True})


def test_regions_are_of_the_decoder_s_last_map() -> None:
    config = read_config("mmseg::deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py")
    config.model.pretrained = None
    model, _ = build_model(config)
    entries = {entry["name"]: entry for entry in method_entries("mgd_semi", model, {"wide": model, "deep": model})}
    assert entries["region"]["student"] == entries["region"]["teacher"] == "decode_head.sep_bottleneck"
    assert {name: entry["source"] for name, entry in entries.items() if not entry["back"]} == dict(
        wide="wide", wide_labelled="wide", deep="deep", deep_labelled="deep", image="deep", region="wide"
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
    for name in TO_STUDENT | TO_TEACHERS:
        assert (losses[f"distill.loss_{name}"] > 0) == ("labelled" not in name), name


def test_means_over_images_with_and_without_labels_are_added(seg: Config) -> None:
    """Each term once more in NumPy, and which images it pulls towards the teacher."""
    model = trio(seg).eval()
    batch = half_labelled(model)
    found: dict[str, np.ndarray] = {}
    models = {"student": model, **{name: each.model for name, each in model.teachers.items()}}
    with ExitStack() as stack:
        specs = {name: ["decode_head.conv_seg", regions(each)] for name, each in models.items()}
        read = {name: stack.enter_context(Taps(each, specs[name])) for name, each in models.items()}
        losses = model(**batch, mode="loss")
    for name, taps in read.items():
        found[name], found[f"{name} region"] = (taps[tap][0].detach().double().numpy() for tap in specs[name])
    s = log_softmax(found["student"], axis=1)
    for name in ("wide", "deep"):
        cross = -np.take_along_axis(s, found[name].argmax(1)[:, None], 1)[:, 0]
        for end, image in (("_labelled", 0), ("", 1)):
            np.testing.assert_allclose(losses[f"distill.loss_{name}{end}"].item(), cross[image].mean(), rtol=1e-5)
    gap = np.abs(found["student"].mean((2, 3)) - found["deep"].mean((2, 3)))[1].sum()
    assert losses["distill.loss_image"].item() == pytest.approx(0.084 * gap / 11, rel=1e-4)
    one = {key: torch.from_numpy(found[key][1:]) for key in ("student region", "wide region")}
    expected = 100 * cell_similarity(one["student region"], one["wide region"])
    assert losses["distill.loss_region"].item() == pytest.approx(expected.item(), rel=1e-4)
    whole = trio(seg, method={"type": "mgd_semi", "split": False}).eval()
    whole.load_state_dict(model.state_dict(), strict=False)
    together = whole(**batch, mode="loss")["distill.loss_wide"]
    torch.testing.assert_close(2 * together, losses["distill.loss_wide"] + losses["distill.loss_wide_labelled"])


def test_frozen_teachers_teach_images_without_labels(seg: Config) -> None:
    """As in the authors' code no teacher moves; a plain model may be taught so, too."""
    model = trio(seg, method="mgd_semi_frozen", checkpoint="random")
    assert not any(isinstance(teacher, Peer) for teacher in model.teachers.values())
    assert {*model.distill} == TO_STUDENT
    assert not any(p.requires_grad for each in model.teachers.values() for p in each.model.parameters())
    losses = model(**half_labelled(model), mode="loss")
    assert all(losses[f"distill.loss_{name}"] > 0 for name in TO_STUDENT)

    def net(width: int) -> torch.nn.Module:
        layers = dict(body=torch.nn.Conv2d(3, width, 3, 2, 1), relu=torch.nn.ReLU(), head=torch.nn.Conv2d(width, 5, 1))
        return torch.nn.Sequential(OrderedDict(layers))

    images, labels = torch.rand(2, 3, 32, 32), torch.randint(5, (2, 32, 32))
    labels[1] = 255
    student, teachers = net(4), dict(wide=net(8), deep=net(6))
    plain = Distillation(student, teachers, method="mgd_semi_frozen", example=images)
    _, full = plain(images, context=dict(labels=labels))
    assert all(full[name] > 0 for name in TO_STUDENT)
    _, alone = plain(images[1:], context=dict(labels=labels[1:]))
    for name in UNLABELLED:
        torch.testing.assert_close(full[name], alone[name])
    assert all(alone[name] == 0 for name in TO_STUDENT - UNLABELLED)
    _, none = plain(images)
    assert all((none[name] > 0) == (name in UNLABELLED) for name in TO_STUDENT)
