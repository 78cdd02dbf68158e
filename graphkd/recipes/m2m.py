from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History, Schedule, train
from kdlosses.rules.m2m import Spliced, stitch


@recipe()
def m2m(
    model: MLP,
    lesson: Lesson,
    *,
    lam: float = 0.5,
    share: float = 0.5,
    wide: int = 512,
    narrow: int = 32,
    epochs: int = 100,
    lr: float = 0.01,
) -> History:
    r"""Module to module: distill each layer of a wide network into the student's, then train them together.

    $$ L_i = a \, \mathrm{KL}(p^{T}_i \,\|\, p^{S}_i) + (1 - a) \big( L(p^S_i) + L(p^T_i) \big), \qquad
       L = \lambda \, \mathrm{CE} + (1 - \lambda) \, \mathrm{KL}(p^t \,\|\, \cdot) $$

    A wide and a narrow MLP of the student's depth learn from the graph's teacher by L, which is `glnn`. For each layer
    i, the wide one's and the student's stand in turn in the place of the narrow one's, joined to it by stitches
    (`kdlosses.rules.Spliced`); the second term trains the stitches of both paths. Then stitches, narrow and wide
    network are dropped, and the student's layers are trained together by L.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits.
        lam: weight of the labels; 1 is `supervised`, without modules.
        share: a, of the teacher's path against the labels and the graph's teacher.
        wide: width of the network whose layers teach.
        narrow: width of the network that they are spliced into.
        epochs: of each part before the last, which has the student's own schedule.
        lr: likewise, of Adam.

    Paper: Lo et al., "m2mKD: Module-to-Module Knowledge Distillation for Modular Transformers", 2024: blocks of
    transformers, into modules of a larger modular network. Its KL is a mean over all elements: factor 1 / C.
    """
    check_lam("m2m", lam)
    if not 0 <= share <= 1:
        raise ValueError(f"m2m: share is that of the teacher's path, from 0 to 1, got {share}")
    if lam == 1:
        return supervised(model, lesson)
    teacher, kl, nothing = lesson.teacher_logits(), kdlosses.build("kl"), torch.zeros(())
    schedule, seconds = Schedule(lr, 0.0, epochs, batch_size=lesson.batch_size), []

    def task(network: nn.Module, nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(network) if lam > 0 else nothing
        return lam * hard + (1 - lam) * kl(network(rows(lesson.x, nodes)), rows(teacher, nodes))

    def prepare(network: nn.Module, loss: Callable[[Tensor | slice], Tensor]) -> None:
        done = train(network, loss, len(lesson), schedule=schedule, generator=lesson.generator)
        seconds.extend(done.seconds)

    *hidden, classes = model.widths
    dtype = next(model.parameters()).dtype
    monolith, meta = (MLP(model.in_features, [width] * len(hidden), classes).to(dtype) for width in (wide, narrow))
    for network in (monolith, meta):
        prepare(network, functools.partial(task, network))

    for place in range(len(model.layers)):
        theirs = splice(meta, place, monolith, frozen=True)
        mine = splice(meta, place, model, frozen=False)

        def loss(nodes: Tensor | slice, theirs: Spliced = theirs, mine: Spliced = mine) -> Tensor:
            x = rows(lesson.x, nodes)
            return share * kl(mine(x), theirs(x)) + (1 - share) * (task(mine, nodes) + task(theirs, nodes))

        prepare(nn.ModuleList([theirs, mine]), loss)

    model.requires_grad_(True)
    history = lesson.train(model, functools.partial(task, model), len(lesson))
    history.seconds = seconds + history.seconds
    return history


def blocks(network: MLP) -> list[nn.Module]:
    """Layers of an MLP with their activations, dropout left out; they share its parameters."""
    *inner, last = network.layers
    return [*(nn.Sequential(layer, nn.ReLU()) for layer in inner), last]


def splice(meta: MLP, place: int, network: MLP, frozen: bool) -> Spliced:
    """Replace a layer of the meta model by one of another network, with stitching layers where widths can differ."""
    into, out_of = [network.in_features, *network.widths][place : place + 2]
    before = stitch(meta.widths[place - 1], into) if place else None
    after = stitch(out_of, meta.widths[place]) if place < len(meta.layers) - 1 else None
    path = Spliced(blocks(meta), place, blocks(network)[place], before, after, frozen)
    return path.to(next(network.parameters()).dtype)
