from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.networks.codebook import lloyd, nearest
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History


@dataclass
class Annotated(History):
    """A history with the nodes that were labelled, in order, and the labels that were kept."""

    asked: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    kept: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))


@recipe(graph_networks=True)
def annotator(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    budget: float = 0.1,
    rounds: int = 3,
    every: int = 20,
    clusters: int = 32,
    doubt: float = 0.5,
    drop: float = 0.3,
    select: Literal["active", "random"] = "active",
) -> History:
    r"""A language model labels a few easy and diverse nodes; the student learns from these alone.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \frac{\sum_{i \in K} c_i \, \mathrm{CE}(z^s_i, \hat y_i)}{\sum_{i \in K} c_i}, \qquad
       \hat y_i = \arg\max_c p^t_{ic}, \quad c_i = \max_c p^t_{ic} $$

    In each of R rounds, E epochs apart, 1 / R of the budget is labelled. Each of the clusters k of the nodes gets
    seats in proportion to the number of its nodes left times how often student and annotator name different classes on
    those queried in it, $e_k = (\mathrm{wrong}_k + \bar e) / (\mathrm{asked}_k + 1)$ with the mean $\bar e$ over
    all (1 in the first round). A cluster gives them to its nodes of greatest

    $$ (1 - \gamma) \, \mathrm{rank}\Big( \frac{1}{1 + \|h_i - m_k\|} \Big)
       + \gamma \, \mathrm{rank}\big( 1 - (p^s_{i(1)} - p^s_{i(2)}) \big), $$

    the density of the embeddings h, a proxy of what is easy to label, and the student's doubt ($\gamma = 0$ in the
    first round); rank is the share of nodes left that have less. K is what has been labelled, without the share of
    least c among those named alike, so that no class is filtered out.

    The student may be a graph network, see `graphkd.train_teacher`, or an MLP.

    Args:
        model: the student, trained in place.
        lesson: with the annotator's logits: what a language model thinks of the labels' words, see
            `graphkd.text.embed`. Rows of nodes that are not queried are not read, however many there are.
        lam: weight of the true labels; at 0 none is read, 1 is `supervised`.
        budget: share of the nodes to label in all.
        rounds: R.
        every: E.
        clusters: how many, at most the number of nodes, of the annotator's last hidden layer, or of the features if it
            has none, in rows of length 1; by k-means from rows far apart, in which nothing is drawn.
        doubt: $\gamma$.
        drop: share of the labels that is left out; 0 keeps all.
        select: `random` draws uniformly: what the choice has to beat.

    Returns:
        `Annotated`.

    Raises:
        ValueError: an option is out of range.

    Paper: Chen et al., "Label-free Node Classification on Graphs with Large Language Models (LLMs)", ICLR 2024: density
    and confidence filter, in one round; there the filter also weighs the balance of classes by entropy. The loop that
    returns to what the student gets wrong is that of Di Palo et al., "Performance-Guided LLM Knowledge Distillation for
    Efficient Text Classification at Scale", EMNLP 2024, which writes new texts there. Seats, weights and the class-wise
    filter are our own.
    """
    check_lam("annotator", lam)
    if not 0 < budget <= 1 or not 0 <= drop < 1 or not 0 <= doubt <= 1:
        raise ValueError(
            f"annotator: shares are budget in (0, 1], drop in [0, 1), doubt in [0, 1]: {budget=}, {drop=}, {doubt=}"
        )
    if min(rounds, every, clusters) < 1:
        raise ValueError(f"annotator: rounds, every and clusters count from 1, got {rounds}, {every} and {clusters}")
    if select not in ("active", "random"):
        raise ValueError(f"annotator: select is 'active' or 'random', not {select!r}")
    if lam == 1:
        return supervised(model, lesson)
    teacher, count = lesson.teacher_logits(), len(lesson)
    nothing = torch.zeros(())
    goals = [max(1, round(budget * count * (i + 1) / rounds)) for i in range(rounds)]
    asked = kept = torch.empty(0, dtype=torch.long)
    named, sure = torch.full((count,), -1), torch.zeros(count, dtype=next(model.parameters()).dtype)
    if select == "active":
        group, density = _clustered(lesson, min(clusters, count), sure.dtype)

    def chosen(left: Tensor) -> Tensor:
        """The remaining nodes, those to be labelled first in front."""
        if select == "random":
            return left[torch.randperm(len(left), generator=lesson.generator)]
        own, score, wrong = group[left], _rank(density[left]), torch.ones(clusters)
        if len(asked):
            best = lesson.predict(model, left).softmax(1).topk(2).values
            score = (1 - doubt) * score + doubt * _rank(best[:, 1] - best[:, 0])
            differ = (lesson.predict(model, asked).argmax(1) != named[asked]).double()
            wrong = torch.zeros(clusters, dtype=torch.double).index_add(0, group[asked], differ) + differ.mean()
            wrong = (wrong / (torch.bincount(group[asked], minlength=clusters) + 1)).clamp_min(1e-9)
        seats = (torch.bincount(own, minlength=clusters) * wrong)[own]
        order = score.argsort(descending=True, stable=True)  # breaks ties of the divisors below
        turn = (_place(score, own) + 0.5) / seats
        return left[order[turn[order].argsort(stable=True)]]

    def ask(number: int) -> None:
        nonlocal asked, kept
        left = torch.ones(count, dtype=torch.bool).index_fill(0, asked, False).nonzero().flatten()
        new = chosen(left)[:number]
        told = rows(teacher, new).softmax(1).max(1)
        named[new], sure[new] = told.indices, told.values.to(sure.dtype)
        asked = torch.cat([asked, new])
        size = torch.bincount(named[asked])[named[asked]]
        kept = asked[_place(sure[asked], named[asked]) < (size - (drop * size.double()).round()).clamp_min(1)]

    def loss(nodes: Tensor | slice) -> Tensor:
        goal = goals[min(lesson.clock.epoch // every, rounds - 1)]
        if goal > len(asked):
            ask(goal - len(asked))
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        some = kept if isinstance(nodes, slice) else kept[nodes % len(kept)]
        each = F.cross_entropy(lesson.logits(model, some), named[some], reduction="none")
        return lam * hard + (1 - lam) * (sure[some] * each).sum() / sure[some].sum()

    history = lesson.train(model, loss, count)
    return Annotated(**vars(history), asked=asked, kept=kept)


@torch.no_grad()
def _clustered(lesson: Lesson, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The cluster of each node, by k-means, and how near to its centre it is, 1 / (1 + distance)."""
    x = F.normalize(rows(lesson.hidden[-1] if lesson.hidden else lesson.x).to_dense().to(dtype), dim=1)
    start = [(x - x.mean(0)).square().sum(1).argmin()]
    far = torch.full((len(x),), torch.inf, dtype=x.dtype)
    for _ in range(count - 1):
        far = far.minimum((x - x[start[-1]]).square().sum(1))
        start.append(far.argmax())
    centres = lloyd(x, x[torch.stack(start)])
    group = nearest(x, centres)
    return group, 1 / (1 + (x - centres[group]).norm(dim=1))


def _rank(values: Tensor) -> Tensor:
    """The share of the values that are less than each."""
    return torch.searchsorted(values.sort().values, values) / len(values)


def _place(score: Tensor, group: Tensor) -> Tensor:
    """The place of each in its group, the greatest score first, from 0.

    >>> _place(torch.tensor([0.1, 0.9, 0.5]), torch.tensor([0, 0, 1]))
    tensor([1, 0, 0])
    """
    order = score.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    size = torch.bincount(group)
    first = (size.cumsum(0) - size)[group[order]]
    return torch.empty_like(group).scatter(0, order, torch.arange(len(group)) - first)
