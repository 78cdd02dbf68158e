from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.logit.kl import kl
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.resized import labels_at
from kdlosses.rules.mixed import Mixed, choices, decided
from kdlosses.rules.votes import Votes
from kdlosses.taps import at_rest

Batches = Iterable[tuple[tuple[Any, ...], Tensor]]
"""Batches of the arguments of a network and the labels."""


class Searched(NamedTuple):
    """What a differentiable search found.

    Attributes:
        network: the network of the strongest operations, with the weights that they had beside the others: to be
            trained further, or anew.
        choices: names of these operations by the paths of their `Mixed`.
        supernet: the network with all operations, trained.
        losses: of each step on training data, labels and votes.
    """

    network: nn.Module
    choices: dict[str, str]
    supernet: nn.Module
    losses: list[float]


def sd_darts(
    supernet: nn.Module,
    train: Batches,
    val: Batches,
    *,
    steps: int = 200,
    votes: float = 1.0,
    k: int = 3,
    every: int = 5,
    lr: float = 0.01,
    alpha_lr: float = 0.02,
    weight_decay: float = 5e-4,
    ignore_index: int = 255,
) -> Searched:
    r"""Search the operations of a network by gradients, while its own earlier steps teach it by their votes.

    $$ w \leftarrow w - \eta \nabla_w \Big( \mathrm{CE}_\mathrm{train}(w, \alpha)
         + v \, \frac1N \sum_i \mathrm{KL}\big(\tfrac1K \textstyle\sum_k p^{(k)}_i \,\big\|\, p_i\big) \Big), \qquad
       \alpha \leftarrow \alpha - \eta_\alpha \nabla_\alpha \mathrm{CE}_\mathrm{val}(w, \alpha) $$

    in turns, each with the other held: the first-order form of the bilevel problem. $p^{(k)}$ are the predictions of
    the network as it was at the last K of the steps E, 2 E, ..., in evaluation mode; before the first there are no
    votes. The votes keep the network where its loss is flat, so that it loses less when one operation stands for each
    mixture.

    Args:
        supernet: network with `Mixed` operations, `(*arguments) -> logits (N, C, *)`; it is not changed.
        train: batches, for the weights, begun anew at their end; of a graph the whole one, `[((x, edge_index), y)]`.
            Positions without a label hear the votes.
        val: other data, or the same with other labels, for $\alpha$ alone.
        steps: of either.
        votes: v; 0 is DARTS.
        k: K.
        every: E.
        lr: of Adam for w.
        alpha_lr: of Adam for $\alpha$.
        weight_decay: of w.
        ignore_index: label that does not count, as negative ones.

    Raises:
        TypeError: the arguments in a batch are no tuple, or `steps` is no whole number.
        ValueError: no `Mixed` in the network, no batch, or a number out of range.
        FloatingPointError: the loss is no longer finite.

    Paper: Zhu et al., "Improving Differentiable Architecture Search via Self-Distillation", 2023. How the votes are
    counted was not found: the uniform mean is our form, as are Adam and the numbers. DARTS is of Liu et al., ICLR 2019.

    >>> from kdlosses.rules.mixed import Zero
    >>> x, y = torch.eye(2).repeat(8, 1), torch.arange(16) % 2
    >>> supernet = nn.Sequential(Mixed(skip=nn.Identity(), zero=Zero()), nn.Linear(2, 2))
    >>> sd_darts(supernet, [((x[:8],), y[:8])], [((x[8:],), y[8:])], lr=0.1).choices
    {'0': 'skip'}
    """
    if not choices(supernet):
        raise ValueError(
            f"sd_darts: {type(supernet).__name__} has no kdlosses.rules.Mixed, so that nothing is searched"
        )
    if min(steps, k, every) < 1 or votes < 0:
        raise ValueError(
            f"sd_darts: steps, k and every are at least 1, votes at least 0; got {steps}, {k}, {every} and {votes}"
        )
    model = copy.deepcopy(supernet).train()
    alphas = [each.alpha for each in model.modules() if isinstance(each, Mixed)]
    weights = [each for each in model.parameters() if not any(each is alpha for alpha in alphas)]
    by_weights = torch.optim.Adam(weights, lr, weight_decay=weight_decay)
    by_alphas = torch.optim.Adam(alphas, alpha_lr)
    past: deque[nn.Module] = deque(maxlen=k)
    losses: list[float] = []
    for step, learned, held_out in zip(range(steps), _endless("train", train), _endless("val", val)):
        if votes > 0 and step and step % every == 0:
            past.append(copy.deepcopy(model).eval().requires_grad_(False))
        _descend(by_alphas, _labels_loss(model(*held_out[0]), held_out[1], ignore_index), alphas)
        logits = model(*learned[0])
        value = _labels_loss(logits, learned[1], ignore_index)
        if past:
            value = value + votes * kl(logits, voted(past, learned[0]))
        if not torch.isfinite(value):
            raise FloatingPointError(f"sd_darts: the loss is {value.item()} in step {step}: lower lr ({lr})")
        _descend(by_weights, value, weights)
        losses.append(value.item())
    return Searched(decided(model).eval(), choices(model), model.eval(), losses)


@torch.no_grad()
def voted(past: Iterable[nn.Module], arguments: tuple[Any, ...]) -> Tensor:
    """Logarithm of the mean prediction of several networks, `(N, C, *)`."""
    networks = list(past)
    votes = Votes(len(networks))
    for network in networks:
        with at_rest(network):
            votes.add(network(*arguments))
    found = votes.mean()
    assert found is not None
    return found


def _endless(name: str, batches: Batches) -> Any:
    for _ in itertools.count():
        empty = True
        for batch in batches:
            empty = False
            if not isinstance(batch, tuple | list) or len(batch) != 2 or not isinstance(batch[0], tuple | list):
                raise TypeError(
                    f"sd_darts: a batch of {name} is ((x, ...), labels): the arguments of the network in a tuple"
                )
            yield batch
        if empty:
            raise ValueError(f"sd_darts: {name} has no batch, or is an iterator, which cannot begin anew: give a list")


def _labels_loss(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    known, counted = labelled(labels_at(labels, logits.shape[2:]), None, ignore_index, logits.shape[1])
    return weighted_mean(F.cross_entropy(logits, known, reduction="none"), counted)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor, parameters: list[nn.Parameter]) -> None:
    """One step of these parameters; the others get no gradient."""
    optimiser.zero_grad()
    loss.backward(inputs=parameters)
    optimiser.step()
