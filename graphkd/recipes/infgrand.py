from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.data.influence import checked_hops, influence, with_hops
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.edges import degree, neighbour_targets
from graphkd.sparse.rows import rows
from graphkd.spec import real
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History


@recipe(inputs=with_hops, reads_edges=True)
def infgrand(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.5,
    tau: float = 1.3,
    labels: Sequence[float] = (0.8, 0.1),
    edges: Sequence[float] = (1.0, 0.4),
    inputs: Mapping[str, Any] | None = None,
) -> History:
    r"""InfGraND: nodes that influence others count for more, and the features are averaged over hops beforehand.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} (\delta_1 + \delta_2 I_i) \, \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \frac{1}{|E|} \sum_{(j \to i) \in E} (\gamma_1 + \gamma_2 I_j) \,
           \mathrm{KL}(p^t_j \,\|\, p^s_i), $$

    where E has every edge and one self-loop a node, both p have the temperature $\tau$ without a factor $\tau^2$, and
    $I_j$ is the influence of the node that is listened to, see `graphkd.data.influence.influence`: a node learns most
    from those neighbours that move many nodes. The edges are summed once, before training.

    In `train_student` and `distill` the student, and not the teacher, sees $\tilde x$, the mean of the features over
    hops, see `graphkd.data.influence.with_hops`; the influence is that of the features as they were. A node that comes
    with its edges needs one look-up of those, before it is asked about; what the student knows of a node without edges
    is its own features, $\tilde x = x$. Fitted as a classifier it sees what it is given, whatever `hops` says, and the
    influence is of that.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits and the edges; an influence of one's own is `Cache(more=dict(influence=...))`,
            `(N,)`.
        lam: weight of the labels; 1 is `supervised`, on the same input.
        tau: temperature.
        labels: $\delta_1$ and $\delta_2$.
        edges: $\gamma_1$ and $\gamma_2$; `(1.0, 0.0)` listens to all nodes alike.
        inputs: options of `with_hops`, by which `train_student` makes the input: `hops`, `score` and `reach`.

    Raises:
        ValueError: an option is out of range, or an influence of one's own is not a number from 0 for each node.

    Paper: Eskandari et al., "InfGraND: An Influence-Guided GNN-to-MLP Knowledge Distillation", TMLR 2026, with these
    weights and 2 hops on Cora and a `sage`; there $\lambda$ is from 0 to 0.5, and nodes held out come with all edges.
    Features without edges at a cold start are our own.
    """
    check_lam("infgrand", lam)
    delta, gamma = checked_pair("labels", labels), checked_pair("edges", edges)
    if tau <= 0:
        raise ValueError(f"infgrand: tau must be positive, got {tau}")
    _, score, reach = checked_hops(**(inputs or {}))
    if lam == 1:
        return supervised(model, lesson)
    teacher, edge_index, nothing = rows(lesson.teacher_logits()), lesson.edges(), torch.zeros(())
    told = influence_of(lesson, score, reach).to(teacher.dtype)
    heard = gamma[0] + gamma[1] * told
    into = degree(edge_index, len(lesson))
    targets = neighbour_targets(teacher / tau, edge_index, weight=heard[edge_index[0]], own=heard)
    scale = targets.q.sum().item() / (len(lesson) + int(into.sum()))  # of a mean by weight, to a mean over edges

    def hard_loss() -> Tensor:
        some = lesson.some_labelled()
        each = F.cross_entropy(model(rows(lesson.x, some)), lesson.labels[some], reduction="none")
        return ((delta[0] + delta[1] * told[some]) * each).mean()

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = hard_loss() if lam > 0 else nothing
        return lam * hard + (1 - lam) * scale * targets.loss(model(rows(lesson.x, nodes)) / tau, nodes)

    return lesson.train(model, loss, len(lesson))


def checked_pair(name: str, values: Sequence[float]) -> tuple[float, float]:
    """Two weights, not negative, at least one of them positive."""
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != 2:
        raise ValueError(f"infgrand: {name} is two numbers, (a, b) of a + b I, got {values!r}")
    first, second = (real(f"infgrand: each weight in {name}", each) for each in values)
    if first + second == 0:
        raise ValueError(f"infgrand: one of the two weights in {name} must be positive, got {values!r}")
    return first, second


def influence_of(lesson: Lesson, score: str = "cosine", reach: int = 2) -> Tensor:
    """The influence `(N,)` that the lesson holds, else that of its features."""
    if "influence" not in lesson.more:
        return influence(lesson.x, lesson.edges(), score, reach)
    found = rows(lesson.more["influence"])
    if found.numel() != len(lesson) or not (found.isfinite().all() and (found >= 0).all() and (found > 0).any()):
        raise ValueError(
            f"infgrand: influence is a finite number from 0 for each of the {len(lesson)} nodes, not 0 for all; got "
            f"{found.dtype} {tuple(found.shape)}"
        )
    return found.flatten()
