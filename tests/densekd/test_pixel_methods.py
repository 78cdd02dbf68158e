"""Methods for segmenters, on models of mmseg: they teach, a perfect student has nothing to learn, shapes may differ."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm

from densekd import Distiller
from densekd.methods import method_entries
from densekd.mmlab.building import build_model
from densekd.mmlab.config import read_config

from .conftest import seg_batch

Taught = Callable[..., Distiller]
LEARNED = {"cirkd_memory", "skd_holistic"}
"""Terms that compare by what is still to be learned, so that a perfect student costs something."""
METHODS = {
    "cirkd": {"kl": 1.0, "cirkd_pairs": 1.0, "cirkd_memory": 0.1},
    "dist": {"dist": 1.0},
    "ifvd": {"ifvd": 20.0},
    "skd": {"kl": 1.0, "skd_pairs": 10.0, "skd_holistic": 0.1},
}
every_method = pytest.mark.parametrize("method", METHODS)


@every_method
def test_weights_are_those_of_the_paper(taught: Taught, method: str) -> None:
    assert {name: term.weight for name, term in taught(method=method).distill.items()} == METHODS[method]


@every_method
def test_every_term_teaches(taught: Taught, method: str) -> None:
    model = taught(method=method)
    losses = model(**seg_batch(model), mode="loss")
    for name, term in model.distill.items():
        value = losses[f"distill.loss_{name}"]
        assert value.isfinite()
        model.zero_grad()
        value.backward(retain_graph=True)
        assert model.backbone.stem[0].weight.grad.abs().sum() > 0, name
        for part, parameter in term.named_parameters():
            assert parameter.grad is not None, f"{name}: {part}"


@every_method
def test_a_perfect_student_costs_nothing(seg: Config, method: str) -> None:
    student, _ = build_model(seg)
    student.decode_head.conv_seg.weight.data.mul_(100)  # predictions that differ from pixel to pixel
    model = Distiller(student=student, teacher="ema", method=method)
    batch = seg_batch(model)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm | torch.nn.modules.dropout._DropoutNd):
            module.eval()
    losses = model(**batch, mode="loss")
    for name in model.distill:
        assert (losses[f"distill.loss_{name}"].abs() < 1e-4) == (name not in LEARNED), name


def test_pairs_of_cirkd_are_of_windows(taught: Taught) -> None:
    whole, pooled = (taught(method={"type": "cirkd", "pool": pool}) for pool in (1, 2))
    assert pooled.distill["cirkd_pairs"].weight == whole.distill["cirkd_pairs"].weight
    pooled.load_state_dict(whole.state_dict())
    each = [model(**seg_batch(model), mode="loss")["distill.loss_cirkd_pairs"] for model in (whole, pooled)]
    assert each[0] != each[1]


def test_a_transformer() -> None:
    config = read_config("mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py")
    config.model.backbone.pop("init_cfg", None)
    student, _ = build_model(config)
    entries = {str(entry["loss"]): entry for name in METHODS for entry in method_entries(name, student, student)}
    entries["cirkd_memory"]["loss"] = {"type": "cirkd_memory", "pixels": 100, "regions": 10}  # 150 classes: 1.7 GB
    model = revert_sync_batchnorm(Distiller(student=student, teacher="ema", distills=list(entries.values())))
    model.data_preprocessor.size, model.data_preprocessor.size_divisor = (64, 64), None
    losses = model(**seg_batch(model), mode="loss")
    for name in model.distill:
        assert losses[f"distill.loss_{name}"].isfinite()
        assert losses[f"distill.loss_{name}"].requires_grad


@every_method
def test_a_detector_is_told_what_works(det: Config, method: str) -> None:
    model, _ = build_model(det)
    with pytest.raises(ValueError, match=f"'{method}' needs class logits per pixel, RetinaNet has none; use cwd or"):
        method_entries(method, model, model)
