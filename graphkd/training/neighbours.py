"""Training of a generator of neighbours, chosen by how sure a graph network is of what it generates."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.networks.mlp import _linear
from graphkd.networks.neighbours import NeighbourVAE
from graphkd.sparse.edges import drop_self_loops, neighbour_average
from graphkd.sparse.rows import Matrix, rows
from graphkd.spec import real, whole
from graphkd.training.loop import Evaluation, History, Schedule, train
from kdlosses.ground import Ground
from kdlosses.options import check_known, typed

_LEAST = {"lr": 0, "warm": 0}


def fit_neighbours(
    x: Matrix,
    edge_index: Tensor,
    told: Tensor | None = None,
    generator: torch.Generator | None = None,
    *,
    width: int = 256,
    latent: int = 10,
    draws: int = 4,
    lr: float = 0.001,
    epochs: int = 10,
    batch_size: int = 256,
    warm: int = 1,
    passes: int = 100,
) -> tuple[NeighbourVAE, History]:
    r"""Train a `NeighbourVAE` on the edges, and keep the epoch of which a graph network is surest.

    The network is a GCN trained on the features. After each epoch one neighbour of every node is generated, and the
    network, with dropout, is run on these in place of the features. With p its predictions of S passes,

    $$ U = \mathrm{CE}\Bigl(\frac{1}{S} \sum_s p_s, y\Bigr) - \frac{1}{S} \sum_s \mathrm{CE}(p_s, y) \le 0, $$

    0 where all passes agree. The epoch with the greatest U is kept, and from each that is the greatest so far the
    network learns, too.

    Args:
        x: features `(N, F)`; if all are from 0 to 1, so is what is generated.
        edge_index: `(2, E)`, source above target: the neighbours of a node are those from which an edge leads to it.
        told: classes `(N,)`, -1 where unknown, for U; without any the last epoch is kept.
        generator: draws the batches of edges.
        width: see `NeighbourVAE`.
        latent: likewise.
        draws: likewise.
        lr: learning rate of Adam.
        epochs: over all edges.
        batch_size: edges in a step.
        warm: epochs at first that are not kept, if there are more.
        passes: S.

    Raises:
        ValueError: there is no edge, or an option is out of range.

    Paper: Liu et al., "Local Augmentation for Graph Neural Networks", ICML 2022. In its code U is taken after each
    step, a step has 64 edges and `lr` differs from graph to graph; features that are not from 0 to 1 are our own.

    >>> from graphkd.data import digits
    >>> graph = digits()
    >>> vae, history = fit_neighbours(graph.x, graph.edge_index, graph.y, epochs=2, width=16, batch_size=512)
    >>> vae.expected(graph.x).shape, history.score <= 0
    (torch.Size([1797, 64]), True)
    """
    sizes = dict(width=width, latent=latent, draws=draws, epochs=epochs, batch_size=batch_size, passes=passes)
    for name, value in sizes.items():
        whole(f"generator: {name}", value, 1)
    whole("generator: warm", warm), real("generator: lr", lr)
    pairs = drop_self_loops(edge_index)
    if not pairs.shape[1]:
        raise ValueError("the generator of neighbours learns from edges between different nodes, and there are none")
    everything = rows(x).float()
    values = everything.values() if everything.layout is torch.sparse_csr else everything
    words = not values.numel() or bool(values.min() >= 0 and values.max() <= 1)
    vae = NeighbourVAE(x.shape[1], width, latent, draws, words)
    if not words:
        dense = everything.to_dense()
        deviation = dense.std(0, correction=0)
        vae.centre.copy_(dense.mean(0))
        vae.scale.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def loss(batch: Tensor | slice) -> Tensor:
        near, own = pairs[:, batch]
        return vae.loss(rows(everything, near), rows(everything, own))

    known = None if told is None or not (told >= 0).any() else told
    judge = None if known is None else _Judge(everything, pairs, known, passes)
    epoch, best = 0, -math.inf

    def evaluate() -> Evaluation:
        nonlocal epoch, best
        epoch += 1
        if judge is None:
            return None, None
        if epoch <= min(warm, epochs - 1):
            return (-math.inf, epoch), None
        with torch.no_grad():
            drawn = vae.drawn(everything)
        score = judge.agreement(drawn)
        if score > best:
            best = score
            judge.learn(drawn, 20)
        return (score, 0.0), None

    schedule = Schedule(lr, 0.0, epochs, math.inf, batch_size)
    history = train(vae, loss, pairs.shape[1], schedule=schedule, evaluate=evaluate, generator=generator)
    return vae.eval(), history


def generator_options(what: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check options of `fit_neighbours` by their names and types before anything is trained.

    >>> generator_options("lagnn", dict(wide=8))
    Traceback (most recent call last):
    TypeError: lagnn: the generator has no option 'wide'; did you mean 'width'?
    """
    if not isinstance(given, Mapping | None):
        raise TypeError(f"{what}: generator is a dict of options of fit_neighbours, got {given!r}")
    parameters = inspect.signature(fit_neighbours).parameters.values()
    known = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    check_known(f"{what}: the generator", given or {}, known)
    return typed(f"{what}: generator: ", fit_neighbours, given or {}, Ground(least=dict.fromkeys(known, 1) | _LEAST))


class _Judge:
    """A GCN with dropout, of 32 hidden units, that tells how much its predictions on some features agree."""

    def __init__(self, x: Tensor, edges: Tensor, told: Tensor, passes: int) -> None:
        self.edges, self.passes = edges, passes
        self.known = (told >= 0).nonzero().flatten()
        self.told = told[self.known]
        self.first, self.second = nn.Linear(x.shape[1], 32), nn.Linear(32, int(told.max()) + 1)
        parameters = [*self.first.parameters(), *self.second.parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=0.01, weight_decay=5e-4)
        self.learn(x, 100)

    def _hidden(self, x: Tensor) -> Tensor:
        return neighbour_average(_linear(self.first, x), self.edges).relu()

    def _log_p(self, h: Tensor) -> Tensor:
        return neighbour_average(self.second(F.dropout(h, 0.5)), self.edges)[self.known].log_softmax(1)

    def learn(self, x: Tensor, steps: int) -> None:
        for _ in range(steps):
            self.optimiser.zero_grad()
            F.nll_loss(self._log_p(self._hidden(x)), self.told).backward()
            self.optimiser.step()

    @torch.no_grad()
    def agreement(self, x: Tensor) -> float:
        """U, see `fit_neighbours`."""
        h, total, each = self._hidden(x), torch.zeros(()), 0.0
        for _ in range(self.passes):
            log_p = self._log_p(h)
            total = total + log_p.exp()
            each += F.nll_loss(log_p, self.told).item()
        return F.nll_loss((total / self.passes).log(), self.told).item() - each / self.passes
