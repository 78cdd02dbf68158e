"""GLEM: both steps by hand, their turns, and that each side learns from the other."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from scipy.special import log_softmax
from torch import Tensor, nn

from graphkd import Cache, Graph
from graphkd.data import cpf_split, make_setting
from graphkd.networks.mlp import MLP
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes.glem import Alternated, glem
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Clock, History, Schedule, train

CONTRACT = RecipeContract(
    "glem",
    options=dict(epochs=20),
    undrawn=dict(dropout=0.0, epochs=20),
    reads_labels="its text model learns from the labels before",
    learns_less="it is not told the teacher's logits",
    short=dict(epochs=2),
    more_outputs="its teacher reads texts",
)

NODES, TOLD, EVERY, EPOCHS = 120, 15, 3, 12
Y = torch.arange(NODES) % 3


@pytest.fixture
def lesson() -> Lesson:
    """Three classes, seen in the features and, less clearly, in the texts; one node in eight has a label."""
    draw = torch.Generator().manual_seed(0)
    x, text = (torch.eye(3, 5)[Y] + noise * torch.randn(NODES, 5, generator=draw) for noise in (0.3, 0.5))
    clock = Clock()
    loop = functools.partial(train, schedule=Schedule(epochs=40), generator=draw, clock=clock)
    labels = torch.where(torch.arange(NODES) < TOLD, Y, -1)
    return Lesson(x, labels, loop, draw, hidden=[text, torch.zeros(NODES, 2)], clock=clock)


def network() -> MLP:
    torch.manual_seed(0)
    return MLP(5, (8,), 3)


def losses_at(lesson: Lesson, epochs: list[int], **options: Any) -> list[float]:
    """The loss of all nodes at the beginning of some epochs, for a network that does not move."""
    found: list[float] = []

    def loop(model: nn.Module, loss: Callable[[Tensor | slice], Tensor], count: int) -> History:
        for lesson.clock.epoch in epochs:
            found.append(loss(slice(None)).item())
        return History()

    glem(network(), replace(lesson, train=loop), every=EVERY, epochs=EPOCHS, dropout=0.0, width=7, **options)
    return found


def by_hand(lesson: Lesson, rounds: int, alpha: float, lam: float, sure: float) -> float:
    """The loss of the M-step after so many E-steps, with the text model trained step by step."""
    model = network()
    logits = model(lesson.x).detach()
    belief = logits.softmax(1)[TOLD:]
    q = MLP(5, (7,), 3)
    text = lesson.hidden[0]
    for turn in range(rounds):
        adam = torch.optim.Adam(q.parameters(), lr=0.01, weight_decay=5e-4)
        for _ in range(EPOCHS):
            adam.zero_grad()
            log_q = q(text).log_softmax(1)
            told = -log_q[torch.arange(TOLD), Y[:TOLD]].mean()
            guessed = -(belief * log_q[TOLD:]).sum(1).mean()
            (told if turn == 0 else (1 - alpha) * told + alpha * guessed).backward()
            adam.step()
    q_free = q(text).softmax(1).detach().numpy()[TOLD:]
    log_p = log_softmax(logits.numpy(), axis=1)
    kept = np.flatnonzero(q_free.max(1) >= sure) + TOLD
    hard = -np.mean([log_p[node, Y[node]] for node in range(TOLD)])
    soft = -np.mean([log_p[node, q_free[node - TOLD].argmax()] for node in kept]) if len(kept) else 0.0
    return lam * hard + (1 - lam) * soft


@pytest.mark.parametrize(("alpha", "lam", "sure"), [(0.5, 0.5, 0.0), (0.9, 0.2, 0.5), (0.3, 0.0, 0.0), (0.5, 0.7, 1.0)])
def test_both_steps_are_their_formulas(lesson: Lesson, alpha: float, lam: float, sure: float) -> None:
    found = losses_at(lesson, [0, EVERY], alpha=alpha, lam=lam, sure=sure)
    expected = [by_hand(lesson, rounds, alpha, lam, sure) for rounds in (1, 2)]
    assert found == pytest.approx(expected, rel=1e-4)


def test_an_m_step_lasts_its_epochs_and_the_last_one_to_the_end(lesson: Lesson) -> None:
    steps = [0, 1, EVERY - 1, EVERY, EVERY + 1, 2 * EVERY, 9 * EVERY]
    found = losses_at(lesson, steps, rounds=3)
    assert found[0] == found[1] == found[2] != found[3] == found[4] != found[5] == found[6]


def test_the_text_model_learns_from_the_other(lesson: Lesson) -> None:
    """The features tell the classes better than the texts."""

    def right(rounds: int) -> float:
        history = glem(network(), lesson, rounds=rounds, every=10, alpha=0.9, sure=0.6)
        assert isinstance(history, Alternated)
        assert history.text is not None
        return float((history.text(lesson.hidden[0]).argmax(1) == Y)[TOLD:].double().mean())

    assert right(4) > right(1) + 0.02


def test_the_other_learns_from_the_text_model(papers: Graph) -> None:
    setting = make_setting(papers, cpf_split(papers.y, 0), "tran", 0)
    draw = np.random.default_rng(0)
    words = (np.eye(4, 12)[papers.y] + 0.3 * draw.normal(size=(len(papers), 12))).astype(np.float16)
    nodes, seen = np.arange(len(papers)), np.ones(len(papers), dtype=bool)
    cache = Cache(np.zeros((len(papers), 0), dtype=np.float32), nodes, seen, papers.fingerprint(), (words,))
    spec = dict(type="hopwise", hidden=32, epochs=30, patience=30)
    untaught = train_teacher(setting, spec)
    method = dict(type="glem", every=8, epochs=30)
    whole, parts = (
        train_teacher(setting, {**spec, "conv": conv, "batch_size": size, "source": cache, "method": method})
        for conv, size in (("gcn", None), ("sage", 300))
    )
    assert whole.metrics["tran"] > untaught.metrics["tran"] + 0.03
    assert parts.metrics["tran"] > untaught.metrics["tran"] + 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(alpha=1.5), "alpha and sure are shares, from 0 to 1, got 1.5"),
        (dict(rounds=0), "rounds, every and epochs count from 1, got 0"),
        (dict(hop=2), "reads hidden layer 2 of the teacher, which has 2"),
        (dict(lam=-1), "lam is the weight of the labels"),
    ],
)
def test_bad_options_are_refused(lesson: Lesson, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        glem(network(), lesson, **options)
