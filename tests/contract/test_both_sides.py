"""One entry means the same on both sides: a node of a graph is a pixel with no height and width.

Every registered loss that runs on nodes is an entry of the recipe `terms` and of a `densekd.Distillation`, on the same
values. What the entry does not say is filled in by either: sizes, classes, labels and which of them count, progress,
epoch, logits, edges.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from contract.entry import LossContract, entry_of
from torch import Tensor, nn

import densekd
import densekd.losses
import graphkd.losses  # noqa: F401  registers the losses that need edges
import kdlosses
from graphkd.networks.mlp import MLP
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Clock, History
from graphkd.training.term import ON_NODES, Term

N, C = 24, 5
EDGES = torch.randint(N, (2, 60), generator=torch.Generator().manual_seed(2))
LABELS = torch.arange(N) % C
KNOWN = torch.arange(N) % 3 > 0
PRIVATE = torch.arange(N) % 4 == 0


def both(key: str) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a student, of a teacher of as many channels as the loss is tested with, and features of neither."""
    draw = torch.Generator().manual_seed(1)
    return torch.randn(N, C, generator=draw), torch.randn(N, C, generator=draw), torch.randn(N, 4, generator=draw)


def runs_on_nodes(key: str) -> bool:
    """Whether it is a loss on the logits of nodes."""
    loss = kdlosses.LOSSES[key]
    if loss.ground.maps or loss.ground.middle:
        return False
    return {*kdlosses.build(spec_of(key), **SIZES).requires} <= {*ON_NODES} - {"batch"}


SIZES = dict.fromkeys(("student_channels", "teacher_channels", "channels", "classes"), C)


def spec_of(key: str) -> dict[str, Any]:
    """A loss as an entry names it: no size is stated."""
    return dict(type=key, **entry_of(LossContract, key).options)


def on_nodes(key: str) -> tuple[Tensor, Tensor]:
    """Value and gradient of the entry in the recipe `terms`."""
    student, teacher, x = both(key)
    labels = LABELS.where(KNOWN, -1)
    told: dict[str, Any] = dict(clock=Clock(epoch=3, progress=0.5), more={"privacy": PRIVATE})
    lesson = Lesson(x, labels, lambda *_: History(), torch.Generator(), teacher, EDGES, **told)
    model = MLP(4, (), C)
    torch.manual_seed(0)
    term = Term.parse(dict(loss=spec_of(key)), model, lesson)
    student.requires_grad_()
    torch.manual_seed(0)
    value = term([student], slice(None), lesson.context(slice(None), term.loss.needs))
    return value.detach(), torch.autograd.grad(value, student)[0]


class AsGiven(nn.Sequential):
    """A model whose logits are its input."""

    def __init__(self, maps: bool) -> None:
        head = nn.Conv2d(C, C, 1, bias=False) if maps else nn.Linear(C, C, bias=False)
        nn.init.eye_(head.weight.data.view(C, C))
        super().__init__(OrderedDict(head=head))


def on_pixels(key: str) -> tuple[Tensor, Tensor]:
    """The same of the entry in a `densekd.Distillation`, of images of one pixel.

    Where a loss asks which sample a node is of, all are the pixels of one image; where it asks for edges, which maps do
    not have, they are rows.
    """
    needs = kdlosses.build(spec_of(key), **SIZES).needs
    rows, one_map = "edge_index" in needs, "batch" in needs and "edge_index" not in needs

    def laid_out(values: Tensor) -> Tensor:
        """Of nodes `(N, *)`: rows as they are; else images of a pixel, or one image."""
        if rows:
            return values
        maps = values.reshape(N, -1, 1, 1) if values.ndim > 1 else values.reshape(N, 1, 1)
        return maps.transpose(0, -2) if one_map else maps

    student, teacher, _ = both(key)
    image = laid_out(student).requires_grad_()
    labels = LABELS.where(KNOWN, spec_of(key).get("ignore_index", 255))
    sides, entry = (AsGiven(not rows), AsGiven(not rows)), dict(loss=spec_of(key), student="head", name="it")
    torch.manual_seed(0)
    model = densekd.Distillation(*sides, [entry], example=image, convert=lambda _: laid_out(teacher))
    context = dict(labels=laid_out(labels), privacy=laid_out(PRIVATE), progress=0.5, epoch=3)
    torch.manual_seed(0)
    value = model(image, context={**context, **(dict(edge_index=EDGES) if rows else {})})[1]["it"]
    (gradient,) = torch.autograd.grad(value, image)
    gradient = gradient.transpose(0, -2) if one_map else gradient
    return value.detach(), gradient.reshape(N, C)


@pytest.mark.parametrize("key", sorted(key for key in kdlosses.LOSSES if runs_on_nodes(key)))
def test_an_entry_has_the_same_value_and_gradient_on_both_sides(key: str) -> None:
    (on_graph, its), (on_maps, mine) = on_nodes(key), on_pixels(key)
    torch.testing.assert_close(on_maps, on_graph, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-6)
