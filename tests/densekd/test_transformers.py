"""Methods for transformers, on mmseg's own SegFormers and vision transformers, made thin for the test."""

from __future__ import annotations

import copy
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from scipy.special import log_softmax

from densekd import Distiller
from densekd.align.embedding_assistant import EmbeddingAssistant
from densekd.methods import method_entries
from densekd.mmlab.building import build_model
from densekd.mmlab.config import read_config
from densekd.taps.defaults import block, blocks, patch_embeddings
from kdlosses import pseudo

from .conftest import seg_batch

SIZE = 64


def mit(size: str = "b0", width: int = 8, **backbone: Any) -> Config:
    config = read_config(f"mmseg::segformer/segformer_mit-{size}_8xb2-160k_ade20k-512x512.py")
    config.model.backbone.pop("init_cfg", None)
    config.model.backbone.update(embed_dims=width, drop_path_rate=0.0, **backbone)
    config.model.decode_head.update(in_channels=[width * k for k in (1, 2, 5, 8)], channels=16)
    return sized(config)


def vit(width: int = 16, num_layers: int = 12, **backbone: Any) -> Config:
    config = read_config("mmseg::vit/vit_deit-s16_upernet_8xb2-80k_ade20k-512x512.py")
    ends = [num_layers * k // 4 - 1 for k in (1, 2, 3, 4)]
    backbone = {"drop_path_rate": 0.0, "num_heads": 2, "out_indices": ends, **backbone}
    config.model.backbone.update(img_size=(SIZE, SIZE), embed_dims=width, num_layers=num_layers, **backbone)
    config.model.pretrained = None
    for head in (config.model.decode_head, config.model.auxiliary_head):
        head.update(in_channels=[width] * 4 if head.type == "UPerHead" else width, channels=8)
    return sized(config)


def sized(config: Config) -> Config:
    config.model.data_preprocessor.update(size=(SIZE, SIZE))
    return config


def built(config: Config) -> torch.nn.Module:
    torch.manual_seed(0)
    return revert_sync_batchnorm(build_model(config)[0])


def taught(method: str, student: Config, teacher: Config | torch.nn.Module) -> Distiller:
    guide = teacher if isinstance(teacher, torch.nn.Module) else built(teacher)
    return Distiller(student=built(student), teacher=guide, method=method)


def losses_of(model: Distiller) -> dict[str, torch.Tensor]:
    return {k: v for k, v in model(**seg_batch(model, size=SIZE), mode="loss").items() if k.startswith("distill")}


@pytest.mark.parametrize("method", ["transkd", "transkd_gl", "transkd_ea"])
def test_transkd_between_two_mix_transformers(method: str) -> None:
    model = taught(method, mit(), mit("b2", width=16))
    assert [entry["weight"] for entry in method_entries(method, model, model)[1:]] == [0.1, 0.1, 0.5, 1.0]
    assert model.distill["embedding_3"].student.startswith("backbone.layers.3.0:0")
    aligned = [model.distill[f"embedding_{i}"].adapt for i in range(4)]
    aligned = [each.align for each in aligned] if method == "transkd_ea" else [each[0] for each in aligned]
    connectors = [each.project.weight for each in aligned]
    assert [tuple(weight.shape) for weight in connectors] == [(16, 8, 1), (32, 16, 1), (80, 40, 1), (128, 64, 1)]
    assert [part.leave[0].out_channels for part in model.distill["stages"].adapt] == [16, 32, 80, 128]
    assert (aligned[3].mix is not None) == (method == "transkd_gl")
    calls = []
    model.teachers["teacher"].model.decode_head.register_forward_hook(lambda *args: calls.append(1))
    losses = losses_of(model)
    assert set(losses) == {"distill.loss_stages", *(f"distill.loss_embedding_{i}" for i in range(4))}
    assert all(loss > 0 for loss in losses.values())
    assert not calls
    sum(losses.values()).backward()
    parts = [*model.backbone.named_parameters(), *model.distill.named_parameters()]
    assert all(p.grad is not None and p.grad.isfinite().all() for _, p in parts)
    # a softmax does not see what all keys have in common; all else moves
    assert sum(p.grad.abs().sum() > 0 for _, p in parts) > 0.9 * len(parts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = losses_of(model)
    assert all(torch.isclose(half[key], losses[key].detach(), rtol=0.1) for key in losses)


def test_an_embedding_is_compared_after_a_linear_layer() -> None:
    model = taught("transkd", mit(), mit("b1", width=16)).eval()
    batch = seg_batch(model, size=SIZE)
    loss = model(**batch, mode="loss")["distill.loss_embedding_2"]
    with torch.no_grad():
        student, teacher = (
            tokens_at(each, "backbone.layers.2.0", batch) for each in (model, model.teachers["teacher"].model)
        )
    project = model.distill["embedding_2"].adapt[0].project
    mapped = student @ project.weight.detach().numpy()[..., 0].T + project.bias.detach().numpy()
    assert np.isclose(loss.item(), 0.5 * np.square(mapped - teacher).mean(), rtol=1e-4)


@pytest.mark.parametrize(("stage", "stride"), [(0, 4), (2, 2)])
def test_an_assistant_mixes_in_what_the_embedding_read(stage: int, stride: int) -> None:
    model = taught("transkd_ea", mit(), mit("b1", width=16)).eval()
    batch, path = seg_batch(model, size=SIZE), f"backbone.layers.{stage}.0"
    term = model.distill[f"embedding_{stage}"].adapt
    own, share = (0.1, 0.2, 0.3, 0.4)[stage], (0.5, 0.6, 0.7, 0.8)[stage]  # those of the authors' code
    loss = model(**batch, mode="loss")[f"distill.loss_embedding_{stage}"]
    with torch.no_grad():
        student, teacher = (tokens_at(each, path, batch) for each in (model, model.teachers["teacher"].model))
        source = input_at(model, path, batch)
        embed, project = term.assistant.embed, term.align.project
        patches = F.unfold(source, 2 * stride - 1, padding=stride - 1, stride=stride).transpose(1, 2)
        extra = (patches @ embed.weight.flatten(1).T + embed.bias).double().numpy()
    extra = (extra - extra.mean(2, keepdims=True)) / np.sqrt(extra.var(2, keepdims=True) + 1e-5)
    mapped = student @ project.weight.detach().numpy()[..., 0].T + project.bias.detach().numpy()
    weight = (0.1, 0.1, 0.5, 1.0)[stage]
    assert np.isclose(loss.item(), weight * np.square(own * mapped + share * extra - teacher).mean(), rtol=1e-4)
    mine, its = torch.autograd.grad(loss, [term.assistant.own, term.assistant.share])
    error = 2 * weight * (own * mapped + share * extra - teacher) / teacher.size
    assert np.isclose(mine.item(), (error * mapped).sum(), rtol=1e-3)
    assert np.isclose(its.item(), (error * extra).sum(), rtol=1e-3)


def test_without_its_share_an_assistant_is_the_plain_embedding() -> None:
    """And its convolution learns through that share alone."""
    model = taught("transkd_ea", mit(), mit("b1", width=16)).eval()
    plain = taught("transkd", mit(), mit("b1", width=16)).eval()
    batch, key = seg_batch(model, size=SIZE), "embedding_1"
    assisted = model.distill[key].adapt
    assisted.align.load_state_dict(plain.distill[key].adapt[0].state_dict())
    assisted.assistant.own.data.fill_(1.0)
    assisted.assistant.share.data.fill_(0.0)
    ours, base = (each(**batch, mode="loss")[f"distill.loss_{key}"] for each in (model, plain))
    torch.testing.assert_close(ours, base)
    found = torch.autograd.grad(ours, [assisted.assistant.share, assisted.assistant.embed.weight])
    assert found[0].abs() > 0
    assert not found[1].any()


def test_an_assistant_starts_alike_for_images_of_any_size() -> None:
    for side in (50, 225, 513):
        sides = [side, *(-(-side // stride) for stride in (4, 8, 16, 32))]
        made = [
            EmbeddingAssistant(torch.zeros(1, own**2, 2), torch.zeros(1, 2, before, before), 2, (side, side))
            for before, own in pairwise(sides)
        ]
        np.testing.assert_allclose([each.own.item() for each in made], [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
        np.testing.assert_allclose([each.share.item() for each in made], [0.5, 0.6, 0.7, 0.8], rtol=1e-6)


def test_an_assistant_needs_what_the_embedding_read() -> None:
    entry = dict(loss="mse", student="backbone.layers.0.0:0", teacher="backbone.layers.0.0:0", adapt="ea")
    with pytest.raises(ValueError, match=r"'path:0\+path:in', and one of the teacher; the taps yield 1 and 1 tensors"):
        Distiller(student=built(mit()), teacher=built(mit()), distills=[entry])
    maps = {**entry, "student": "backbone.layers.0.0:0+backbone.layers.1.0:0"}
    with pytest.raises(ValueError, match=r"tokens \(B, N, C\) and a map \(B, c, H, W\)"):
        Distiller(student=built(mit()), teacher=built(mit()), distills=[maps])


def input_at(model: torch.nn.Module, path: str, batch: dict[str, Any]) -> torch.Tensor:
    seen = []
    hook = model.get_submodule(path).register_forward_pre_hook(lambda part, args: seen.append(args[0]))
    model(**batch, mode="tensor")
    hook.remove()
    return seen[0]


def tokens_at(model: torch.nn.Module, path: str, batch: dict[str, Any]) -> np.ndarray:
    seen = []
    hook = model.get_submodule(path).register_forward_hook(lambda part, args, output: seen.append(output))
    model(**batch, mode="tensor")
    hook.remove()
    return (seen[0][0] if isinstance(seen[0], tuple) else seen[0]).numpy()


@pytest.mark.parametrize("method", ["transkd", "transkd_ea"])
def test_grids_of_unlike_strides_meet(method: str) -> None:
    model = taught(method, mit(), mit("b1", width=16, strides=[4, 2, 2, 1]))
    assert all(torch.isfinite(loss) for loss in losses_of(model).values())


def test_transkd_says_what_it_needs(seg: Config) -> None:
    mix, plain, convolutional = built(mit()), built(vit(num_layers=4)), built(seg)
    with pytest.raises(ValueError, match=r"the teacher's backbone, VisionTransformer, has .* use 'dmae' or 'hybrid'"):
        method_entries("transkd", mix, plain)
    with pytest.raises(ValueError, match="the student's backbone, ResNetV1c, has no tokens; use 'cwd' or 'pkd'"):
        method_entries("transkd", convolutional, mix)
    for method in ("dmae", "hybrid"):
        with pytest.raises(ValueError, match="ResNetV1c, has no transformer blocks; 'cwd' and 'pkd' work"):
            method_entries(method, mix, convolutional)


def test_blocks_are_found_in_order() -> None:
    plain, mix = built(vit()), built(mit("b2"))
    assert blocks(plain) == [f"backbone.layers.{i}" for i in range(12)]
    assert [name for name in blocks(mix) if ".2.1." in name] == [f"backbone.layers.2.1.{i}" for i in range(6)]
    assert len(blocks(mix)) == 3 + 4 + 6 + 3
    assert block(plain, Fraction(0)) == "backbone.layers.0"
    assert block(plain, Fraction(1)) == "backbone.layers.11"
    assert block(mix, Fraction(1, 2)) == "backbone.layers.2.1.1"
    assert not patch_embeddings(plain)


def test_dmae_taps_the_blocks_of_the_paper() -> None:
    (entry,) = method_entries("dmae", built(vit()), built(vit(num_layers=24)))
    assert (entry["student"], entry["teacher"]) == ("backbone.layers.8", "backbone.layers.17")


PAIRS = {
    "vit": (vit(), vit(width=24)),
    "vit, other grids": (vit(), vit(width=24, patch_size=8)),
    "vit, no class token": (vit(with_cls_token=False), vit(width=24)),
    "mit": (mit(), mit("b2", width=16)),
    "mit from vit": (mit(), vit()),
}


@pytest.mark.parametrize("method", ["dmae", "hybrid"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_blocks_of_any_two_transformers(method: str, pair: tuple[Config, Config]) -> None:
    model = taught(method, *pair)
    calls = []
    model.teachers["teacher"].model.decode_head.register_forward_hook(lambda *args: calls.append(1))
    losses = losses_of(model)
    assert len(losses) == (1 if method == "dmae" else 2)
    assert all(loss > 0 for loss in losses.values())
    assert not calls
    sum(losses.values()).backward()
    first = next(p for p in model.backbone.parameters() if p.ndim == 4)  # the first patch embedding
    assert first.grad.abs().sum() > 0


def test_class_tokens_count_where_grids_agree() -> None:
    """The loss is the mean over all 17 tokens of the absolute difference of unit vectors."""
    model = taught("dmae", vit(), vit(width=24)).eval()
    batch = seg_batch(model, size=SIZE)
    with torch.no_grad():
        loss = model(**batch, mode="loss")["distill.loss_dmae"]
        student, teacher = (
            tokens_at(each, "backbone.layers.8", batch) for each in (model, model.teachers["teacher"].model)
        )
    assert student.shape[1] == 17
    project = model.distill["dmae"].loss.loss.projection
    mapped = student @ project.weight.detach().numpy().T + project.bias.detach().numpy()
    unit = [x / np.linalg.norm(x, axis=2, keepdims=True) for x in (mapped, teacher)]
    assert np.isclose(loss.item(), np.abs(unit[0] - unit[1]).mean(), rtol=1e-4)


def test_a_perfect_student_has_nothing_to_learn() -> None:
    student = built(vit())
    twin = copy.deepcopy(student)
    model = Distiller(student=copy.deepcopy(student), teacher=twin, method="dmae").eval()
    projection = model.distill["dmae"].loss.loss.projection  # block 8 of both
    torch.nn.init.eye_(projection.weight)
    torch.nn.init.zeros_(projection.bias)
    assert losses_of(model)["distill.loss_dmae"] < 1e-6
    model = Distiller(student=student, teacher=twin, method="hybrid").eval()
    assert losses_of(model)["distill.loss_relations"].abs() < 1e-6


def test_hybrid_relations_go_without_more_and_more_tokens(at: Callable[[float], None]) -> None:
    model = taught("hybrid", vit(), vit(width=24)).eval()
    values = []
    for progress in (0.0, 0.5, 1.0):
        at(progress)
        values.append(losses_of(model)["distill.loss_relations"].item())
    assert len(set(values)) == 3


@pytest.mark.parametrize("pair", [PAIRS["vit"], PAIRS["mit from vit"]], ids=["vit", "mit from vit"])
def test_g2sd_goes_from_the_generic_to_the_specific(pair: tuple[Config, Config], at: Callable[[float], None]) -> None:
    model = taught("g2sd", *pair)
    calls = []
    model.teachers["teacher"].model.decode_head.conv_seg.register_forward_hook(lambda *args: calls.append(1))
    at(0.59)
    generic = losses_of(model)
    assert generic["distill.loss_generic"] > 0
    assert generic["distill.loss_specific"] == 0
    assert not calls  # the teacher need not classify
    at(0.6)
    specific = losses_of(model)
    assert specific["distill.loss_generic"] == 0
    assert specific["distill.loss_specific"] > 0
    assert calls
    sum([*generic.values(), *specific.values()]).backward()
    assert all(p.grad is not None for p in model.distill.parameters())


def test_the_hard_decision_of_the_teacher_is_a_label() -> None:
    rng = np.random.default_rng(0)
    s, t, w = rng.normal(size=(2, 5, 3, 4)), rng.normal(size=(2, 5, 3, 4)), rng.integers(0, 2, size=(2, 3, 4))
    chosen = np.take_along_axis(log_softmax(s, axis=1), t.argmax(1)[:, None], axis=1)[:, 0]
    ours = pseudo(torch.tensor(s), torch.tensor(t), weight=torch.tensor(w, dtype=torch.float64))
    assert np.isclose(ours.item(), -(w * chosen).sum() / w.sum())
