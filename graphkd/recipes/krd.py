from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.edges import EdgeTargets, drop_self_loops, even_targets
from graphkd.sparse.rows import rows
from graphkd.sparse.sampling import entropy, keep_reliable, relative
from graphkd.training.lesson import Lesson, check_even, check_lam
from graphkd.training.loop import History, each_epoch
from kdlosses.space import Range

_BINS = 50


@recipe(extras=("noisy",), reads_edges=True, space=dict(power=Range(0.1, 10.0, log=True)))
def krd(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    tau: float = 1.0,
    start: int = 50,
    power: float = 1.0,
    momentum: float = 0.99,
    even: bool | float = False,
) -> History:
    r"""KRD: a node also learns from neighbours whose teacher predictions are robust to noise.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \frac{1}{|E'|} \sum_{(j \to i) \in E'} \mathrm{KL}(p^t_j \,\|\, p^s_i), \qquad
       P\big((j \to i) \in E'\big) = 1 - \rho_j^a $$

    where $\rho_j$ is how much the entropy of $p^t_j$ changes when every feature has a normal number added, over the
    greatest such change, and $E'$, drawn anew in each epoch, has every self-loop. Both p have temperature $\tau$; there
    is no factor $\tau^2$. The first epochs take all edges. From then on a follows the student: where it agrees with
    the teacher is fitted by $1 - \rho^a$, see `fitted_power`, and a moves towards that by an exponential average.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits, those under noise (`noisy`) and the edges.
        lam: weight of the labels; 1 is `supervised`.
        tau: temperature.
        start: epochs that take all edges.
        power: a at the start; small, and only the surest are listened to.
        momentum: of a, from 0 to 1; 1 leaves it as it is.
        even: False: the paper's mean over edges, in which a hub outweighs its neighbours. Else every node counts the
            same, with the mean over itself and the neighbours in E' or a share of its own target, as in `ffg2m`.

    Warns:
        UserWarning: the epoch that was kept is one of those that took all edges.

    Paper: Wu et al., "Quantifying the Knowledge in GNNs for Reliable Distillation into MLPs", ICML 2023; its mean over
    edges is the mean here (factor 1). `even` is our own.
    """
    check_lam("krd", lam)
    check_even("krd", even)
    if not (power > 0 and 0 <= momentum <= 1):
        raise ValueError(f"krd: power must be positive and momentum from 0 to 1, got {power} and {momentum}")
    if lam == 1:
        return supervised(model, lesson)
    teacher = rows(lesson.teacher_logits())
    rho = relative((entropy(rows(lesson.extra("noisy"))) - entropy(teacher)).abs())
    edges = drop_self_loops(lesson.edges())
    every = even_targets(teacher / tau, edges, even)
    nothing = torch.zeros(())

    def drawn() -> EdgeTargets:
        nonlocal power
        if lesson.clock.epoch < start:
            return every
        agrees = lesson.predict(model).argmax(1) == teacher.argmax(1)
        power = momentum * power + (1 - momentum) * fitted_power(rho, agrees, power)
        kept = torch.bernoulli(keep_reliable(rho, edges, power), generator=lesson.generator).bool()
        return even_targets(teacher / tau, edges[:, kept], even)

    targets = each_epoch(lesson.clock, drawn)

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        soft = targets().loss(model(rows(lesson.x, nodes)) / tau, nodes)
        return lam * hard + (1 - lam) * soft

    history = lesson.train(model, loss, len(lesson))
    if history.best_epoch < start:
        sampled = max(0, history.epochs - start)
        warnings.warn(
            f"krd: edges were sampled in {sampled} of {history.epochs} epochs, and the epoch that was kept, "
            f"{history.best_epoch}, is before the first of them; lower start ({start}) or raise patience",
            stacklevel=2,
        )
    return history


def fitted_power(rho: Tensor, agrees: Tensor, otherwise: float) -> float:
    r"""Fit a so that $1 - \rho^a$ follows the share of nodes where the student agrees with its teacher.

    $$ \min_{a, u, v} \sum_b n_b \big( r_b - u + v x_b^a \big)^2, \quad v \ge 0, \quad 0.01 \le a \le 100 $$

    over 50 bins of $\rho$ with centres x, of which n nodes fall in each, a share r of them agreeing. The authors' code
    rescales r to go from 0 to 1 instead of fitting u and v, so that two bins, however few their nodes, decide; it
    counts every bin alike, and takes x at the left of a bin plus 0.05. Our form recovers a known a.

    Args:
        rho: `(N,)`, 0 to 1.
        agrees: `(N,)`, bool.
        otherwise: what to return where agreement does not fall, or fewer than three bins have a node.
    """
    place = (rho * _BINS).long().clamp_max(_BINS - 1)
    count = torch.bincount(place, minlength=_BINS).double()
    ratio = torch.bincount(place, agrees.double(), _BINS) / count.clamp_min(1)
    weight = count / count.sum()
    powers = torch.logspace(-2, 2, 1001, dtype=torch.float64)
    falls = -(((torch.arange(_BINS) + 0.5) / _BINS) ** powers[:, None])
    falls = falls - (falls @ weight)[:, None]
    together = (falls * (weight * (ratio - weight @ ratio))).sum(1)
    gained = together.clamp_min(0) ** 2 / (falls**2 @ weight).clamp_min(1e-12)  # less of the squares, with best u and v
    if (count > 0).sum() < 3 or not gained.max() > 1e-12:
        return otherwise
    return float(powers[gained.argmax()])
