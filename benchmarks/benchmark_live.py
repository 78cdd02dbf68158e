"""What live teachers cost, over the networks that they run: the part `live` of
`benchmark.py`.

The other side of each ratio is the same steps written out in torch: the same networks, losses and optimiser.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from measure import Ratio, median_ratio
from torch import Tensor, nn

import kdlosses
from graphkd.data import load
from graphkd.networks.mlp import MLP
from graphkd.recipes import RECIPES
from graphkd.teachers.live import Live
from graphkd.teachers.sage import sage
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from kdlosses.adaptation import RobustMeanTeacher

BOUND = 1.10


def measure(rounds: int = 60) -> Iterator[Ratio]:
    """A question to a live teacher, a step of `online` and of `mean_teacher`, and one of a robust mean teacher."""
    torch.manual_seed(0)
    graph = load("digits")
    x, edges, y = graph.x, graph.edge_index, graph.y
    asked = sage(64, 10, hidden=256).eval()
    live = Live([asked], [graph])

    def bare() -> None:
        with torch.no_grad():
            asked(x, edges)

    def question() -> None:
        with torch.no_grad():
            live(x)

    def by_hand(trained: nn.Module, loss: Callable[[], Tensor], **options: Any) -> Callable[[], None]:
        optimiser = torch.optim.Adam(trained.parameters(), **options)

        def step() -> None:
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()

        return step

    def recipe(function: Callable[..., History], **options: Any) -> Callable[[], None]:
        kept: list[Any] = []

        def loop(trained: nn.Module, loss: Callable[..., Tensor], nodes: int) -> History:
            kept.extend([trained, functools.partial(loss, slice(None))])
            return History()

        lesson = Lesson(x, y, loop, torch.Generator().manual_seed(0), edge_index=edges)
        function(MLP(64, (256,), 10, 0.5), lesson, **options)
        return by_hand(*kept)

    student, teacher = MLP(64, (256,), 10, 0.5), sage(64, 10)
    balanced, back = kdlosses.build("bd_kd"), kdlosses.build(dict(type="kl", tau=4.0))

    def both() -> Tensor:
        mine, its, hard = student(x), teacher(x, edges), F.cross_entropy(student(x), y)
        soft = balanced(mine, its.detach()) + 2 * back(its, mine.detach())
        return 0.5 * hard + 0.5 * soft + F.cross_entropy(its, y)

    averaged, alike = MLP(64, (256,), 10, 0.5), kdlosses.build("sce")
    average = copy.deepcopy(averaged).eval()

    def two_views() -> Tensor:
        with torch.no_grad():
            torch._foreach_lerp_([*average.parameters()], [*averaged.parameters()], 0.01)
            told = average(x)
        hidden = x * (torch.rand(x.shape) >= 0.2)
        soft = 0.5 * (alike(averaged(x), told) + alike(averaged(hidden), told))
        return 0.5 * F.cross_entropy(averaged(x), y) + 0.5 * soft

    adapted = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 11, 3, padding=1))
    images, followed = torch.rand(4, 3, 96, 96), copy.deepcopy(adapted).requires_grad_(False)
    adapting = RobustMeanTeacher(adapted)

    def views() -> Tensor:
        with torch.no_grad():
            told = followed(images)
        other = images + 0.1 * images.std() * torch.randn(images.shape)
        return 0.5 * (alike(adapted(images), told) + alike(adapted(other), told))

    adapt = by_hand(adapted, views, lr=1e-3)

    def followed_by() -> None:
        adapt()
        torch._foreach_lerp_([*followed.parameters()], [*(each.detach() for each in adapted.parameters())], 1e-3)

    pairs: Sequence[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("live teacher, a question", question, bare),
        ("online, a step", recipe(RECIPES["online"]), by_hand(nn.ModuleList([student, teacher]), both)),
        ("mean_teacher, a step", recipe(RECIPES["mean_teacher"]), by_hand(averaged, two_views)),
        ("robust mean teacher, a step", lambda: adapting(images), followed_by),
    ]
    for name, one, other in pairs:
        ratio, mine, plain = median_ratio(one, other, rounds)
        yield Ratio(name, ratio, BOUND, f"{1e3 * mine:.1f} ms, {1e3 * plain:.1f} ms")
