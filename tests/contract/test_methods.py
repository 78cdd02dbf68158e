"""What every registered method of densekd owes its users, on small real models of mmseg, mmdet and mmdet3d.

A method enrols by being registered, and is tried on the first of the pairs below that it accepts. What is special of it
stands in its own test file, as a `MethodContract`.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from contract.entry import LossContract, MethodContract, entry_of, home_of
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn

import kdlosses
from densekd import Distiller, build_model, read_config
from densekd.methods import METHODS, ONLINE, method_entries

from ..densekd.conftest import CONFIGS, det_batch, seg_batch

BEV = CONFIGS.parents[2] / "configs" / "bev" / "plain"


class Pair(NamedTuple):
    """A student, a teacher that is larger or sees something else, and a batch for both."""

    scope: str
    student: nn.Module
    teacher: nn.Module
    batch: Callable[[Any], dict[str, Any]]


def built(config: Config | str | Path) -> nn.Module:
    torch.manual_seed(0)
    return revert_sync_batchnorm(build_model(config)[0])


def pspnet() -> Pair:
    return Pair("mmseg", built(CONFIGS / "seg.py"), built(CONFIGS / "seg_teacher.py"), seg_batch)


def segformer() -> Pair:
    def mit(width: int) -> nn.Module:
        config = read_config("mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py")
        config.model.backbone.pop("init_cfg", None)
        config.model.backbone.update(embed_dims=width, drop_path_rate=0.0)
        config.model.decode_head.update(in_channels=[width * k for k in (1, 2, 5, 8)], channels=16, num_classes=11)
        config.model.data_preprocessor.update(size=(64, 64))
        return built(config)

    return Pair("mmseg", mit(8), mit(16), seg_batch)


def vit() -> Pair:
    def deit(width: int) -> nn.Module:
        config = read_config("mmseg::vit/vit_deit-s16_upernet_8xb2-80k_ade20k-512x512.py")
        config.model.backbone.update(
            img_size=(64, 64),
            embed_dims=width,
            num_layers=12,
            num_heads=2,
            drop_path_rate=0.0,
            out_indices=[2, 5, 8, 11],
        )
        config.model.pretrained = None
        config.model.data_preprocessor.update(size=(64, 64))
        for head in (config.model.decode_head, config.model.auxiliary_head):
            many = head.type == "UPerHead"
            head.update(in_channels=[width] * 4 if many else width, channels=8, num_classes=11)
        return built(config)

    return Pair("mmseg", deit(16), deit(32), seg_batch)


def retinanet() -> Pair:
    return Pair("mmdet", built(CONFIGS / "det.py"), built(CONFIGS / "det_teacher.py"), det_batch)


def camera() -> Pair:
    loader = read_config(BEV / "lidar_world.py").train_dataloader
    loader.update(batch_size=1, num_workers=0)
    with DefaultScope.overwrite_default_scope("mmdet3d"):
        frames = next(iter(Runner.build_dataloader(loader, seed=0)))
    student, teacher = built(BEV / "camera_world.py"), built(BEV / "lidar_world.py")
    return Pair("mmdet3d", student, teacher, functools.partial(preprocessed, frames))


def pillars() -> Pair:
    frames = copy.deepcopy(pair("camera").batch.args[0])  # type: ignore[attr-defined]
    for sample in frames["data_samples"]:  # KITTI has no velocities
        boxes = sample.gt_instances_3d.bboxes_3d
        sample.gt_instances_3d.bboxes_3d = type(boxes)(boxes.tensor[:, :7])

    def quick(name: str) -> nn.Module:
        config = read_config(BEV / f"{name}.py")
        config.model.backbone.layer_nums = [0] * len(config.model.backbone.layer_nums)
        return built(config)

    student, teacher = quick("pointpillars_half_kitti"), quick("pointpillars_kitti")
    return Pair("mmdet3d", student, teacher, functools.partial(preprocessed, frames))


def preprocessed(frames: dict[str, Any], model: Any) -> dict[str, Any]:
    return model.data_preprocessor(copy.deepcopy(frames), training=True)


PAIRS = {make.__name__: make for make in (pspnet, segformer, vit, retinanet, camera, pillars)}


@functools.cache
def pair(name: str) -> Pair:
    with DefaultScope.overwrite_default_scope("mmengine"):
        return PAIRS[name]()


def spec_of(name: str) -> dict[str, Any]:
    return {"type": name, **entry_of(MethodContract, name).options}


def teachers_of(name: str, teacher: nn.Module) -> Any:
    """The teacher, or one for each of the method's parts."""
    _, *parts = [p.name for p in inspect.signature(METHODS[name]).parameters.values() if p.default is p.empty]
    return {part: copy.deepcopy(teacher) for part in parts} if len(parts) > 1 else copy.deepcopy(teacher)


@functools.cache
def models_of(name: str) -> Pair:
    """The models that a method is tried on."""
    make = entry_of(MethodContract, name).models
    if make is not None:
        return Pair(**make())
    refused = []
    for each in PAIRS:
        found = pair(each)
        try:
            method_entries(spec_of(name), found.student, teachers_of(name, found.teacher))
        except ValueError as error:  # it says that it needs another kind of network
            refused.append(f"{each}: {error}")
        else:
            return found
    raise AssertionError(
        f"method {name!r} takes none of the models of this suite; write into {home_of(METHODS[name])}\n"
        "from contract.entry import MethodContract\n\n"
        f"CONTRACT = MethodContract({name!r}, models=...)\n\nwith a function that returns a student, a teacher, the "
        "scope of their package and a function from the student to a batch\n" + "\n".join(refused)
    )


def distilled(name: str, found: Pair, teacher: nn.Module) -> Any:
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(found.scope):
        return Distiller(student=copy.deepcopy(found.student), teacher=teachers_of(name, teacher), method=spec_of(name))


@functools.cache
def taught(name: str) -> Any:
    found = models_of(name)
    return distilled(name, found, found.teacher)


def terms_of(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = "distill.loss_"
    return {key.removeprefix(start): value for key, value in losses.items() if key.startswith(start)}


@pytest.fixture(autouse=True)
def _midway() -> Iterator[None]:
    """Half of the training is over: a ramp at its start would teach nothing."""
    MessageHub.get_instance("midway").update_info_dict({"iter": 1, "max_iters": 2})
    yield
    MessageHub._instance_dict.pop("midway")


every_method = pytest.mark.parametrize("name", sorted(METHODS))


@every_method
def test_its_entries_become_terms(name: str) -> None:
    found = models_of(name)
    entries = method_entries(spec_of(name), found.student, teachers_of(name, found.teacher))
    assert entries
    terms = [part for part in taught(name).distill.values() if hasattr(part, "loss")]
    assert [term.weight for term in terms] == [entry.get("weight", 1.0) for entry in entries]
    assert all(term.weight > 0 for term in terms)


@every_method
def test_gradients_reach_the_student_and_not_the_teacher(name: str) -> None:
    model = taught(name).train()
    frozen = [each.model for each in model.teachers.values()] if name not in ONLINE else []
    before = copy.deepcopy([teacher.state_dict() for teacher in frozen])
    model.zero_grad()
    greatest: dict[str, float] = {}
    for progress in (1, 9):  # methods in stages have another loss in each
        MessageHub.get_instance("midway").update_info_dict({"iter": progress, "max_iters": 10})
        losses = terms_of(model(**models_of(name).batch(model), mode="loss"))
        for term, value in losses.items():
            assert value.isfinite(), term
            greatest[term] = max(greatest.get(term, 0.0), abs(value.item()))  # a critic's may be negative
        sum(losses.values()).backward()
    assert all(greatest.values()), f"what is 0 teaches nothing: {greatest}"
    student = [p for key, p in model.named_parameters() if not key.startswith("distill.")]
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert sum(p.grad.abs().sum() for p in student if p.grad is not None) > 0
    assert all(p.grad is None for teacher in frozen for p in teacher.parameters())
    for teacher, old in zip(frozen, before):
        assert all(torch.equal(value, old[key]) for key, value in teacher.state_dict().items())


@every_method
def test_a_perfect_student_pays_for_nothing_but_what_has_a_reason(name: str) -> None:
    found = models_of(name)
    if entry_of(MethodContract, name).no_twin:
        with pytest.raises(ValueError, match=f"'{name}'"):
            distilled(name, found, found.student)
        return
    model, other = distilled(name, found, found.student).eval(), taught(name).eval()
    known = entry_of(MethodContract, name).no_fixed_point
    costs = terms_of(other(**found.batch(other), mode="loss"))
    for term, value in terms_of(model(**found.batch(model), mode="loss")).items():
        part = model.distill[term]
        learned = any(True for between in (part.adapt, part.heads) for _ in between.parameters())
        losses = [entry_of(LossContract, each.name) for each in part.modules() if isinstance(each, kdlosses.Loss)]
        free = not learned and not any(loss.no_fixed_point or loss.entropy for loss in losses)
        nothing = abs(value) <= 1e-3 * abs(costs[term])  # what rounding leaves
        assert not free or nothing != (term in known), (
            f"{term} costs {value:.3g}, {costs[term]:.3g} with another teacher; if that is right, "
            f"write into {home_of(METHODS[name])}\n"
            f"CONTRACT = MethodContract({name!r}, no_fixed_point={{{term!r}: 'because ...'}})"
        )


@every_method
def test_an_option_that_it_does_not_have_is_named(name: str) -> None:
    found = models_of(name)
    with pytest.raises(TypeError, match=f"method '{name}' has no option 'taux'"):
        method_entries({**spec_of(name), "taux": 1.0}, found.student, teachers_of(name, found.teacher))
    with pytest.raises(KeyError, match=f"no method is called '{name}x'; did you mean .*'{name}'"):
        method_entries(f"{name}x", found.student, found.teacher)


@every_method
def test_in_evaluation_it_is_the_plain_student(name: str) -> None:
    model, plain = taught(name).eval(), copy.deepcopy(models_of(name).student).eval()
    own = {key: value for key, value in model.state_dict().items() if not key.startswith("distill.")}
    plain.load_state_dict(own)  # strict: all of them, no more
    batch = models_of(name).batch(model)
    with torch.no_grad():
        ours, theirs = (each(**copy.deepcopy(batch), mode="tensor") for each in (model, plain))
    compare(ours, theirs)


def compare(ours: Any, theirs: Any) -> None:
    if isinstance(ours, Tensor):
        assert torch.equal(ours, theirs)
    else:
        items = (ours.values(), theirs.values()) if isinstance(ours, Mapping) else (ours, theirs)
        for one, other in zip(*items, strict=True):
            compare(one, other)


@every_method
def test_docstring_says_what_it_does_and_where_it_is_from(name: str) -> None:
    doc = inspect.getdoc(METHODS[name]) or ""
    assert doc.split("\n")[0].strip()
    assert "Paper:" in doc or "As `" in doc
