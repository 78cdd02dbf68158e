"""Policies in runs of OpenMMLab's models."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from torch.utils._pytree import tree_leaves

from densekd import Distiller, distill, prepare, train
from densekd.checkpoint import read
from densekd.policies.m2m import M2M

from ..conftest import seg_batch

LOGITS = "decode_head.conv_seg"


class Seen(Hook):
    """The images of each step."""

    def __init__(self) -> None:
        self.images: list[str] = []

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self.images += [sample.metainfo["img_path"] for sample in data_batch["data_samples"]]


def ran(config: Config, folder: Path, policies: list[Any], steps: int = 6, **options: Any) -> tuple[Any, list[str]]:
    """The runner after a training, and the images that it has seen."""
    config = copy.deepcopy(config)
    config.train_cfg.update(max_iters=steps, val_interval=100)
    config.custom_hooks = [ConfigDict(type="densekd.Policies", policies=policies)]
    prepare(config, work_dir=folder, seed=0, **options)
    seen = Seen()
    return train(config, [seen]), seen.images


def two_domains(config: Config) -> Config:
    part = config.train_dataloader.dataset
    other = dict(part, seed=1, pipeline=[dict(type="PackSegInputs")])
    config.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[part, other])
    return config


@pytest.fixture
def taught(seg: Config, seg_teacher: dict[str, str]) -> Config:
    return distill(seg, **seg_teacher, distills=[dict(loss="kl", student=LOGITS)])


def test_a_share_of_the_images_and_weights_that_follow(taught: Config, tmp_path: Path) -> None:
    runner, images = ran(taught, tmp_path, [dict(type="pruned", keep=0.25)])
    assert len(images) == 12
    assert len({*images}) == 4
    assert runner.model.task_weight == 0.25
    assert runner.model.distill.kl.weight == 1.75


def test_the_task_counts_as_much_as_is_said(taught: Config, seg_teacher: dict[str, str]) -> None:
    entries = dict(distills=[dict(loss="kl", student=LOGITS)], **seg_teacher)
    losses = []
    for weight in (1.0, 0.25):
        torch.manual_seed(0)
        model = Distiller(student=taught.model.student, **entries, task_weight=weight).train()
        losses.append(model(**seg_batch(model), mode="loss"))
    for name in ("decode.loss_ce", "aux.loss_ce"):
        torch.testing.assert_close(losses[1][name], 0.25 * losses[0][name])
    torch.testing.assert_close(losses[1]["decode.acc_seg"], losses[0]["decode.acc_seg"])
    for wrong in (-1.0, float("nan"), True, "half"):
        with pytest.raises(ValueError, match="task_weight must be a finite number of at least 0"):
            Distiller(student=taught.model.student, **entries, task_weight=wrong)


def test_a_resumed_run_is_the_uninterrupted_one(taught: Config, tmp_path: Path) -> None:
    """DDK has looked at data and models, and the optimiser moves weights that no checkpoint shows."""
    config = two_domains(taught)
    policies = [
        dict(type="ddk", every=1, look=2, gap="teacher", smoothing=0.1),
        dict(type="quantised", bits=2, bucket=64),
    ]
    whole, images = ran(config, tmp_path / "whole", policies, steps=4)
    (hook,) = (hook for hook in whole.hooks if type(hook).__name__ == "Policies")
    weights = hook.policies[0].weights
    assert weights.sum().item() == pytest.approx(1)
    assert weights[0] != weights[1]
    ran(config, tmp_path / "parts", policies, steps=2)
    with pytest.raises(ValueError, match=r"the run to resume had the policies \['ddk', 'quantised'\], this config has"):
        ran(config, tmp_path / "parts", policies[:1], steps=4, resume=True)
    again, rest = ran(config, tmp_path / "parts", policies, steps=4, resume=True)
    assert rest == images[4:]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_checkpoints_hold_the_quantised_student_under_plain_names(taught: Config, seg: Config, tmp_path: Path) -> None:
    taught.train_cfg.update(max_iters=4)
    runner, _ = ran(taught, tmp_path, [dict(type="quantised", bits=2, bucket=64)], steps=4)
    saved = read(tmp_path / "iter_4.pth")["state_dict"]
    assert saved.keys() == runner.model.state_dict().keys()
    assert not any("parametrizations" in name for name in saved)
    weight = saved["backbone.layer2.0.conv1.weight"]
    assert all(len(bucket.unique()) <= 4 for bucket in weight.flatten().view(-1, 64))
    assert torch.equal(weight, runner.model.state_dict()["backbone.layer2.0.conv1.weight"])
    assert len(saved["backbone.layer2.0.bn1.running_mean"].unique()) > 4


def with_teachers(name: str, seg: Config, seg_teacher: dict[str, str]) -> tuple[Config, list[Any]]:
    """A config with the teachers that a policy needs, and its policies."""
    trained, weights = seg_teacher["teacher"], seg_teacher["checkpoint"]
    entry = dict(student=LOGITS, loss="kl")
    options: dict[str, dict[str, Any]] = {
        "tgeo": dict(**seg_teacher, distills=[dict(entry, loss="tgeo")], task_weight=0.0),
        "hard": dict(**seg_teacher, distills=[entry]),
        "m2m": dict(**seg_teacher, distills=[entry]),
        "mst_distill": dict(
            teacher=dict(a=trained, b=trained),
            checkpoint=dict(a=weights, b="random"),
            distills=[dict(entry, loss=dict(type="mst_distill", teachers=2, mask=0), source=["a", "b"])],
        ),
        "snapshots": dict(teacher="past", distills=[entry]),
        "similar": dict(
            teacher=dict(a=trained, b=trained),
            checkpoint=dict(a=weights, b="random"),
            distills=[dict(entry, source=source, name=source) for source in "ab"],
        ),
    }
    spec: dict[str, Any] = dict(
        tgeo=dict(every=1),
        snapshots=dict(every=1),
        similar=dict(look=4),
        hard=dict(lr=0.1, up=9.0),
        mst_distill=dict(stage="backbone:3", start=0.0),
        m2m=dict(steps=1),
    )[name]
    return distill(seg, **options[name]), [dict(type=name, **spec)]


@pytest.mark.parametrize("name", ["tgeo", "snapshots", "similar", "hard", "mst_distill", "m2m"])
def test_policies_of_teachers_act(
    name: str, seg: Config, seg_teacher: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[tuple[str, tuple[int, ...]]] = []
    teach = M2M._teach

    def watched(self: Any, run: Any, name: str, stage: str, place: Any, number: int) -> None:
        before = copy.deepcopy(place.stage.state_dict())
        teach(self, run, name, stage, place, number)
        assert not all(torch.equal(value, before[key]) for key, value in place.stage.state_dict().items())
        places.append((stage, tuple(type(each).__name__ for each in (place.before, place.after))))

    monkeypatch.setattr(M2M, "_teach", watched)
    config, policies = with_teachers(name, seg, seg_teacher)
    runner, images = ran(config, tmp_path, policies, steps=2)
    acting = next(hook for hook in runner.hooks if type(hook).__name__ == "Policies")
    (policy,) = acting.policies
    model = runner.model
    if name == "tgeo":
        held = {f"train-{index:05}" for index in policy.held.tolist()}
        assert len(held) == 3
        assert not held & {*images}
        assert len(policy.optimiser.state) == len(list(policy.fused.ratio.parameters()))
    elif name == "hard":
        batch, teacher = seg_batch(model), model.teachers["teacher"]
        shown: list[torch.Tensor] = []
        for part in (teacher.model, model):
            part.backbone.register_forward_pre_hook(lambda _, args: shown.append(args[0].detach()))
        model.train()(**batch, mode="loss")
        assert torch.equal(shown.pop(), batch["inputs"])  # it is taken out after the training
        shown.clear()
        acting.run.change_images(policy.changed)
        model(**batch, mode="loss")
        its, mine = shown
        assert torch.equal(its, teacher._renormalise(mine, batch["data_samples"]))
        assert [each.any().item() for each in mine != batch["inputs"]].count(True) == 1  # half of the batch
        assert (mine - batch["inputs"]).abs().max() <= 0.5 + 1e-5
        assert not any(name.startswith("change") for name in model.state_dict())
    elif name == "mst_distill":
        assert policy.masks["a"][2].out_features == 128
        assert not torch.equal(policy.masks["a"][2].weight, policy.masks["b"][2].weight)
        assert all(each.abs().sum() > 0 for each in policy.optimiser.param_groups[0]["params"])
        assert not model.teachers["a"].model.backbone._forward_hooks
    elif name == "m2m":
        assert places == [(f"backbone.layer{number}", ("_Stitch", "_Stitch")) for number in (1, 2, 3, 4)]
    elif name == "snapshots":
        assert (policy.taken, model.distill.kl.weight) == (1, 1.0)
    else:
        assert policy.weights.keys() == {"a", "b"}
        assert model.distill.a.weight == pytest.approx(policy.weights["a"])


@pytest.mark.parametrize("name", ["hard", "mst_distill", "m2m"])
def test_a_resumed_run_has_what_a_policy_has_learned(
    name: str, seg: Config, seg_teacher: dict[str, str], tmp_path: Path
) -> None:
    """The networks of `hard` and `mst_distill` go on from where they were, and `m2m` teaches no stage twice."""
    config, policies = with_teachers(name, seg, seg_teacher)
    whole, images = ran(config, tmp_path / "whole", policies, steps=4)
    ran(config, tmp_path / "parts", policies, steps=2)
    again, rest = ran(config, tmp_path / "parts", policies, steps=4, resume=True)
    assert rest == images[4:]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key]), key
    learned = [next(hook for hook in one.hooks if type(hook).__name__ == "Policies").policies for one in (whole, again)]
    for mine, its in zip(*(tree_leaves(each[0].state()) for each in learned), strict=True):
        assert torch.equal(mine, its) if isinstance(mine, torch.Tensor) else mine == its


def test_hard_waits_for_an_entry_that_is_off(seg: Config, seg_teacher: dict[str, str], tmp_path: Path) -> None:
    late = dict(type="stages", losses=[(0.5, None), (1.0, "kl")])
    config = distill(seg, **seg_teacher, distills=[dict(student=LOGITS, loss=late)])
    runner, _ = ran(config, tmp_path, ["hard"], steps=2)
    (policy,) = next(hook.policies for hook in runner.hooks if type(hook).__name__ == "Policies")
    assert [state["step"].item() for state in policy.optimiser.state.values()] == 6 * [2]  # in the second half alone


def test_the_teachers_classifier_stays_as_it_is(seg: Config, seg_teacher: dict[str, str], tmp_path: Path) -> None:
    """It is there after mmengine has initialised the student, and in the checkpoint."""
    config = distill(seg, **seg_teacher, distills=[dict(loss="kl", student=LOGITS)])
    config.model.student = dict(type="densekd.WithOutput", of=config.model.student, output=dict(type="shared", wide=32))
    ran(config, tmp_path, ["share_classifier"], steps=2)
    student, teacher = (read(path)["state_dict"] for path in (tmp_path / "iter_2.pth", seg_teacher["checkpoint"]))
    for name in ("weight", "bias"):
        assert torch.equal(student[f"{LOGITS}.classifier.{name}"], teacher[f"{LOGITS}.{name}"])


def test_the_control_goes_without_what_needs_a_teacher(seg: Config, tmp_path: Path) -> None:
    _, images = ran(seg, tmp_path, [dict(type="ddk"), dict(type="weight_align", old=5)], steps=2)
    assert len(images) == 4


def test_what_is_wrong_is_said_before_training(taught: Config, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no policy of a run is called 'prund'; did you mean 'pruned'"):
        ran(taught, tmp_path / "a", ["prund"])
    with pytest.raises(ValueError, match="has 11 rows of weights, of which 1 to 10 can be of old classes, got 11"):
        ran(taught, tmp_path / "c", [dict(type="weight_align", old=11)])
    assert not [*tmp_path.rglob("*.pth")]


@pytest.mark.parametrize(("name", "learns"), [("mst_distill", "a"), ("m2m", "teacher")])
def test_teachers_that_learn_are_not_acted_upon(
    name: str, learns: str, seg: Config, seg_teacher: dict[str, str], tmp_path: Path
) -> None:
    config, policies = with_teachers(name, seg, seg_teacher)
    config.model.update(online=[learns])
    with pytest.raises(ValueError, match=f"policy '{name}' is for frozen teachers, and '{learns}' is in online"):
        ran(config, tmp_path, policies)


def test_entries_of_proposals_or_assigned_labels_have_no_hard_images(
    det: Config, det_teacher: dict[str, str], tmp_path: Path
) -> None:
    entry = dict(student="neck", loss="mse", where="objects")
    det.train_cfg = dict(type="IterBasedTrainLoop")
    with pytest.raises(TypeError, match="entry 'mse' reads proposals of a detector, or labels that it assigns"):
        ran(distill(det, **det_teacher, distills=[entry]), tmp_path, ["hard"])
