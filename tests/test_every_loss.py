"""Every loss of the registry works end to end: a config names it, a recipe, a method or a test, or it is trained here.

What is trained here is a student with that loss alone, on nodes by the recipe `terms` and on pixels by
`densekd.Distillation`. Afterwards the student is nearer to its teacher in the measure of the loss, whose learned parts
and memory stand as training left them, than it was before.
"""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import densekd
import densekd.losses
import graphkd.losses  # noqa: F401  registers losses of edges
import kdlosses
from graphkd.networks.mlp import MLP
from graphkd.recipes import RECIPES
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History

ROOT = Path(__file__).parents[1]
NODES, CLASSES, STEPS = 120, 4, 40

LOGITS = [
    *("alpha_div", "bd_kd", "dse", "ferkd", "jeffreys", "js", "label_smoothing", "nkd", "sce", "skew_kl", "skew_rkl"),
    *("ssld", "tfkd_reg", "topk_kl"),
]
FEATURES = ["cmd", "hint", "mi_alpha", "norm_feature", "patient", "pkt", "prockd", "sp", "trg"]
TRAINED: dict[str, dict[str, Any]] = {
    **{key: dict(loss=key, student="logits") for key in LOGITS},
    **{key: dict(loss=key, student="hidden") for key in FEATURES},
    "assistive": dict(loss="assistive", student="logits", source=["truth", "tough", "tolerant"]),
    "crkd": dict(loss=dict(type="crkd", known=[0, 1, 3]), student="logits"),
    "cross_modal_mutual": dict(loss=dict(type="cross_modal_mutual", size=64, k=16), student="hidden"),
    "prokd": dict(loss="prokd", student="logits", teacher="hidden"),
    "sinkd": dict(loss=dict(type="sinkd", draw=64), student="logits"),
    "swing": dict(loss=dict(type="swing", private=[3]), student="logits"),
    "uskd": dict(loss="uskd", student="hidden"),
}
"""Entries of `distills`, with `logits` and `hidden` for the taps of either side."""

NODES_ALONE = {"caw_w2": dict(loss="caw_w2", student="hidden")}  # it needs edges
MAPS_ALONE = {"gkd": dict(loss="gkd", student="hidden")}


def named() -> str:
    """All that runs a loss by its name: configs, recipes and methods, which configs run, and tests of more than it."""
    folders = ("configs", "graphkd", "densekd/methods", "densekd/hub", "tests")
    apart = [ROOT / "tests" / name for name in ("kdlosses", "contract", "mutation")]
    own = [ROOT / "tests" / side / "losses" for side in ("graphkd", "densekd")]
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    texts = [path.read_text() for path in files if path != Path(__file__) and not {*apart, *own} & {*path.parents}]
    return "\n".join(texts)


def test_every_loss_is_run_by_something_that_is_more_than_its_own_test() -> None:
    text = named()
    unnamed = [key for key in sorted(kdlosses.LOSSES) if not re.search(rf"""["']{key}["']""", text)]
    missing = sorted({*unnamed} - {*TRAINED, *NODES_ALONE, *MAPS_ALONE})
    assert not missing, f"no config, recipe, method or test of more than the loss names {missing}: add rows to TRAINED"


def nearer(before: float, after: float) -> bool:
    return after < before - 0.02 * abs(before)


@pytest.mark.parametrize("key", sorted({**TRAINED, **NODES_ALONE}))
def test_on_nodes_the_student_moves_towards_its_teacher(key: str) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(NODES, 12), torch.arange(NODES) % CLASSES
    x[:, :CLASSES] += 2 * torch.eye(CLASSES)[y]
    hidden = torch.tanh(x @ torch.randn(12, 10))
    logits = 3 * torch.eye(CLASSES)[y] + 0.3 * hidden @ torch.randn(10, CLASSES)
    edges = torch.randint(NODES, (2, 400))
    labels = y.where(torch.arange(NODES) % 2 == 0, -1)
    entry = dict({**TRAINED, **NODES_ALONE}[key])
    if key == "assistive":  # a graph has one source for all teachers
        entry["source"], truth = ["truth", "teacher"], torch.eye(CLASSES)[y]
        logits = torch.cat([truth + 0.3 * torch.randn_like(truth), truth + torch.randn_like(truth)], dim=1)
    measured: list[float] = []

    def train(model: nn.Module, loss: Callable[[Tensor | slice], Tensor], _: int) -> History:
        start = copy.deepcopy(model[0].state_dict())  # the student; the terms come after it
        _descend(model, lambda: loss(slice(None)))
        measured.extend(_measured(model, model[0], start, lambda: loss(slice(None))))
        return History()

    lesson = Lesson(x, labels, train, torch.Generator(), logits, edges, hidden=[hidden])
    lesson.clock.progress, lesson.clock.epoch = 0.5, 1
    model = MLP(12, (16,), CLASSES)
    RECIPES["terms"](model, lesson, distills=[entry])
    assert nearer(*measured), measured


@pytest.mark.parametrize("key", sorted({**TRAINED, **MAPS_ALONE}))
def test_on_pixels_the_student_moves_towards_its_teacher(key: str) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(4, 3, 10, 10), torch.randint(CLASSES, (4, 8, 8))
    labels[:, :4] = 255
    entry = {**TRAINED, **MAPS_ALONE}[key]
    taps = {"logits": "head", "hidden": "body.1"}
    entry = {name: taps.get(value, value) if isinstance(value, str) else value for name, value in entry.items()}
    teacher: Any = _net(8, scale=6.0)
    if key == "assistive":
        teacher = {name: _net(8) for name in ("tough", "tolerant")}
    learner = densekd.Distillation(_net(6), teacher, [entry], example=images, classes=CLASSES)
    start = copy.deepcopy(learner.student.state_dict())

    def loss() -> Tensor:
        _, losses = learner(images, context=dict(labels=labels, progress=0.5, epoch=1))
        return torch.stack(list(losses.values())).sum()

    _descend(learner, loss)
    before, after = _measured(learner, learner.student, start, loss)
    assert nearer(before, after), (before, after)


def _net(width: int, scale: float = 1.0) -> nn.Module:
    """A segmenter; one of a larger scale is surer of its classes."""
    body, head = nn.Sequential(nn.Conv2d(3, width, 3), nn.Tanh()), nn.Conv2d(width, CLASSES, 1)
    nn.init.normal_(head.weight, std=scale / width**0.5)
    return nn.Sequential(OrderedDict(body=body, head=head))


def _descend(model: nn.Module, loss: Callable[[], Tensor]) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()


@torch.no_grad()
def _measured(
    whole: nn.Module, student: nn.Module, start: dict[str, Tensor], loss: Callable[[], Tensor]
) -> tuple[float, float]:
    """The loss of the student as it was and as it is, under what the loss has learned, with the same draws."""
    whole.eval()
    torch.manual_seed(1)
    after = float(loss())
    student.load_state_dict(start)
    torch.manual_seed(1)
    return float(loss()), after
