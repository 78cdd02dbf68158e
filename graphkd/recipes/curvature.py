from __future__ import annotations

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.data.curvature import edge_curvature
from graphkd.losses.caw_w2 import moments, w2_diag
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.edges import both_ways
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.space import Range


@recipe(reads_edges=True, space=dict(caw=Range(0.01, 1.0, log=True)))
def curvature(
    model: MLP,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    caw: float = 0.1,
    fan: int | None = 10,
    centres: int | None = 1024,
    eps: float = 1e-6,
) -> History:
    r"""G2MLP: also match neighbourhoods: logits at bottlenecks, hidden features inside clusters, weighted by curvature.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i) + (1 - \lambda) \Bigl(
         \frac{1}{N} \sum_i \mathrm{KL}(p^t_i \,\|\, p^s_i) + \gamma \frac{L_\mathrm{CAW}}{\mathrm{sg}(L_\mathrm{CAW})}
         \Bigr) $$
    $$ L_\mathrm{CAW} = \frac1N \sum_v \bigl( b_v W_2^2(H^s_{B(v)}, H^t_{B(v)}) + a_v W_2^2(z^s_{B(v)}, z^t_{B(v)})
         \bigr), \qquad a_v \propto e^{-\tilde\kappa_v}, \; b_v \propto e^{\tilde\kappa_v} $$

    with the distance of `caw_w2` over a node and its neighbours, B(v), and the curvature of
    `graphkd.data.curvature.edge_curvature`, once for a graph. Each step draws some nodes v, and some of the neighbours
    of each, without replacement; student and teacher are compared on the same ones.

    Our own where the paper is silent: $\kappa_v$ is the mean over the edges of v, $\tilde\kappa$ its z-score over the
    nodes clipped to -3 and 3 (0 without an edge), a and b have mean 1, the last hidden layers are compared, after a
    linear map of the student's that is thrown away in the end.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits, its hidden layers and the edges.
        lam: weight of the labels; 1 is `supervised`.
        caw: $\gamma$; 0.01, 0.1 or 0.5 in the paper, 0 leaves `glnn`.
        fan: neighbours of a node in a step, at most; None takes all.
        centres: nodes v in a step, at most; None takes all.
        eps: see `caw_w2`.

    Paper: curvature-aware G2MLP, 2026. $L / \mathrm{sg}(L)$ is 1, whatever L is: the gradient is that of log L, kept
    finite where the student has become perfect.
    """
    check_lam("curvature", lam)
    for name, value in (("fan", fan), ("centres", centres)):
        if value is not None and value < 1:
            raise ValueError(f"curvature: {name} is a number of nodes from 1, or None for all, got {value}")
    if lam == 1:
        return supervised(model, lesson)
    teacher, kl, nothing = lesson.teacher_logits(), kdlosses.build("kl"), torch.zeros(())
    last = [hidden[-1] for hidden, _ in lesson.teachers() if hidden]
    if not last or len(model.widths) < 2:
        raise ValueError(
            f"curvature compares hidden layers: the teacher has {len(lesson.hidden)}, the student has "
            f"{len(model.widths) - 1}; both need one"
        )
    pairs, kappa = edge_curvature(lesson.edges(), len(lesson))
    first, second = curvature_weights(pairs, kappa, len(lesson))
    neighbourhood = Neighbourhoods(pairs, len(lesson), fan, lesson.generator)
    project = nn.Linear(model.widths[-2], sum(layer.shape[1] for layer in last), dtype=model.layers[-1].weight.dtype)

    def soft_loss(nodes: Tensor | slice) -> Tensor:
        chosen = torch.arange(len(lesson)) if isinstance(nodes, slice) else nodes
        if centres is not None and centres < len(chosen):
            chosen = chosen[torch.randperm(len(chosen), generator=lesson.generator)[:centres]]
        members, group = neighbourhood.of(chosen)
        near, source = members.unique(return_inverse=True)
        if isinstance(nodes, slice):
            outputs = model.outputs(rows(lesson.x))
            logits, hidden_near, logits_near = outputs[-1], outputs[-2][near], outputs[-1][near]
        else:
            outputs = model.outputs(rows(lesson.x, torch.cat([nodes, near])))
            logits, logits_near = outputs[-1].split([len(nodes), len(near)])
            hidden_near = outputs[-2][len(nodes) :]
        kind = logits.dtype
        taught = torch.cat([rows(layer, near).to(kind) for layer in last], 1)

        def gap(student: Tensor, teacher: Tensor) -> Tensor:
            mine, theirs = (moments(z, source, group, len(chosen)) for z in (student, teacher))
            return w2_diag(mine, theirs, eps)

        inside = second[chosen].to(kind) * gap(project(hidden_near), taught)
        across = first[chosen].to(kind) * gap(logits_near, rows(teacher, near).to(kind))
        distance = (inside + across).mean()
        return kl(logits, rows(teacher, nodes)) + caw * distance / distance.detach().clamp_min(_PERFECT)

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        return lam * hard + (1 - lam) * soft_loss(nodes)

    return lesson.train(nn.ModuleList([model, project]), loss, len(lesson))


_PERFECT = 1e-6  # a distance under which a student counts as perfect and the gradient goes to 0


def curvature_weights(pairs: Tensor, kappa: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Weights a and b `(N,)` of each node, from the curvature of the edges at it; both have mean 1.

    >>> first, second = curvature_weights(torch.tensor([[0, 2], [1, 3]]), torch.tensor([-1.0, 1.0]), 4)
    >>> first.tolist(), second.tolist()
    ([1.76..., 1.76..., 0.23..., 0.23...], [0.23..., 0.23..., 1.76..., 1.76...])
    """
    ends, both = pairs.flatten(), kappa.repeat(2)
    degree = torch.bincount(ends, minlength=nodes)
    mean = kappa.new_zeros(nodes).index_add(0, ends, both) / degree.clamp_min(1)
    linked = mean[degree > 0]
    spread = linked.std(correction=0).clamp_min(1e-9)
    score = ((mean - linked.mean()) / spread).clamp(-3, 3).where(degree > 0, 0)
    first, second = (-score).exp(), score.exp()
    return first / first.mean(), second / second.mean()


class Neighbourhoods:
    """Neighbourhoods of nodes, whole or sampled anew at each call.

    Args:
        pairs: `(2, M)`, each undirected edge once.
        nodes: number of nodes.
        fan: neighbours of one node, at most; None for all.
        generator: draws.
    """

    def __init__(self, pairs: Tensor, nodes: int, fan: int | None, generator: torch.Generator) -> None:
        source, target = both_ways(pairs)
        if fan is not None:  # a window of a list in random order is a sample without replacement
            order = torch.randperm(len(source), generator=generator)
            source, target = source[order], target[order]
        self.neighbours = source[torch.argsort(target, stable=True)]
        self.degree = torch.bincount(target, minlength=nodes)
        self.start = self.degree.cumsum(0) - self.degree
        self.fan = fan
        self.generator = generator

    def of(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Members of all neighbourhoods, neighbours first, then the nodes, and each one's neighbourhood index."""
        degree = self.degree[nodes]
        count = degree if self.fan is None else degree.clamp_max(self.fan)
        group = torch.arange(len(nodes)).repeat_interleave(count)
        place = torch.arange(len(group)) - (count.cumsum(0) - count)[group]
        if self.fan is not None:
            place += (torch.rand(len(nodes), generator=self.generator) * degree).long()[group]
        found = self.neighbours[self.start[nodes][group] + place % degree[group]]
        return torch.cat([found, nodes]), torch.cat([group, torch.arange(len(nodes))])
