from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kdlosses
from graphkd.networks.mlp import MLP
from graphkd.recipes.glnn import glnn
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.edges import both_ways, drop_self_loops
from graphkd.sparse.rows import rows
from graphkd.sparse.walks import Walks
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.space import Range


@recipe(reads_edges=True, space=dict(structure=Range(0.01, 10.0, log=True)))
def sale_mlp(
    model: MLP,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    structure: float = 2.5,
    pretrain: int = 10,
    walks: int = 3,
    length: int = 20,
    window: int = 5,
    back: float = 1.0,
    away: float = 0.5,
    draw: int = 2,
    negatives: int = 3,
) -> History:
    r"""SALE-MLP: random walks shape the student's last hidden layer, so that no graph is needed in the end.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \frac{1}{N} \sum_i \mathrm{KL}(p^t_i \,\|\, p^s_i) + \alpha L_S, $$
    $$ L_S = - \mathrm{mean}_{(u, v)} \log \sigma(g_u \cdot g_v) - \mathrm{mean}_{(u, n)} \log \sigma(- g_u \cdot g_n),
       \qquad g = W h(x) $$

    with pairs (u, v) of different nodes at most `window` steps apart on a walk, nodes n drawn uniformly, h the
    student's last hidden layer, and a linear map W that learns beside it and is thrown away: after ReLU no product of
    two h is negative. The walks are drawn once, node2vec's with p and q; with `back=1, away=1` they are DeepWalk's, and
    walks of `length=2` are LINE's first order. In the first epochs $L_S$ is all there is.

    The embedding is a function of the features, and no table: at a cold start the student knows of a node its features
    alone, and what it learned from the walks of other nodes is how features like these lie to each other. So it answers
    the same, whether a node comes with edges or without.

    Args:
        model: the student, trained in place, with a hidden layer.
        lesson: with the teacher's logits and the edges, which count in both directions.
        lam: weight of the labels; 1 is `supervised`.
        structure: $\alpha$; 0 is `glnn`.
        pretrain: epochs of the walks alone, before the other terms.
        walks: that start at each node.
        length: nodes on a walk.
        window: steps on a walk that two nodes may be apart.
        back: p, see `graphkd.sparse.walks.Walks`.
        away: q.
        draw: pairs that each node of a step draws from the walks that start there.
        negatives: nodes n for each pair.

    Raises:
        ValueError: an option is out of range, or the student has no hidden layer.

    Warns:
        UserWarning: the epoch that was kept is of the first part, in which neither labels nor teacher are heard.

    Paper: Pal et al., "SALE-MLP: Structure Aware Latent Embeddings for GNN to Graph-free MLP Distillation", IJCAI 2025.
    Published are the walk losses, the walks, $\lambda$, $\alpha$ and the epochs on Cora, not the formula: which term
    each of the two weighs, W, the window, p, q and the draws are our own form.
    """
    check_lam("sale_mlp", lam)
    if min(back, away) <= 0 or structure < 0 or length < 2 or min(walks, window, draw, negatives) < 1 or pretrain < 0:
        raise ValueError(
            "sale_mlp: back, away > 0; structure, pretrain >= 0; length >= 2; walks, window, draw, negatives >= 1; got "
            f"{back=}, {away=}, {structure=}, {pretrain=}, {length=}, {walks=}, {window=}, {draw=}, {negatives=}"
        )
    if len(model.layers) < 2:
        raise ValueError("sale_mlp: the student needs a hidden layer, which the walks shape")
    if lam == 1:
        return supervised(model, lesson)
    if structure == 0:
        return glnn(model, lesson, lam=lam)
    teacher, kl, nothing, generator = lesson.teacher_logits(), kdlosses.build("kl"), torch.zeros(()), lesson.generator
    embed = nn.Linear(model.widths[-2], model.widths[-2], bias=False, dtype=next(model.parameters()).dtype)
    table = walked(lesson, walks, length, back, away)

    def loss(nodes: Tensor | slice) -> Tensor:
        walking = lesson.clock.epoch < pretrain
        hard = lesson.hard_loss(model) if lam > 0 and not walking else nothing
        own: Tensor | slice = slice(None)
        asked: Tensor | slice = nodes
        ids = torch.arange(len(lesson))[nodes]
        u, v = pairs(table, ids, draw, window, generator)
        n = torch.randint(len(lesson), (len(u), negatives), generator=generator)
        if not isinstance(nodes, slice):
            asked, place = torch.cat([ids, u, v, n.flatten()]).unique(return_inverse=True)
            own, u, v, n = place.split([len(ids), len(u), len(v), n.numel()])
        *_, h, z = model.outputs(rows(lesson.x, asked))
        value = structure * walk_loss(embed(h), u, v, n.view(-1, negatives))
        return value if walking else value + lam * hard + (1 - lam) * kl(z[own], rows(teacher, nodes))

    history = lesson.train(nn.ModuleList([model, embed]), loss, len(lesson))
    if history.epochs and history.best_epoch < pretrain:
        warnings.warn(
            f"sale_mlp: of {history.epochs} epochs the one that was kept, {history.best_epoch}, is of the first "
            f"{pretrain}, which learn from walks alone; lower pretrain, or raise epochs or patience",
            stacklevel=2,
        )
    return history


def walked(lesson: Lesson, walks: int, length: int, back: float, away: float) -> Tensor:
    """The nodes of `walks` walks from each node, `(N, walks, length)`, the node itself first."""
    nodes = torch.arange(len(lesson)).repeat_interleave(walks)
    graph = Walks(both_ways(drop_self_loops(lesson.edges())), len(lesson))
    steps = graph.walk(nodes, length - 1, lesson.generator, back, away)
    return torch.cat([nodes[:, None], steps], 1).view(len(lesson), walks, length)


def pairs(table: Tensor, nodes: Tensor, draw: int, window: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw pairs of different nodes at most `window` steps apart on the walks that start at `nodes`.

    >>> pairs(torch.tensor([[[0, 1, 2]]]), torch.tensor([0]), 1, 1, torch.Generator().manual_seed(0))
    (tensor([1]), tensor([2]))
    """
    _, walks, length = table.shape
    start = nodes.repeat_interleave(draw)
    which = torch.randint(walks, (len(start),), generator=generator)
    apart = torch.randint(min(window, length - 1), (len(start),), generator=generator) + 1
    first = (torch.rand(len(start), generator=generator, dtype=torch.float64) * (length - apart)).long()
    u, v = table[start, which, first], table[start, which, first + apart]
    return u[u != v], v[u != v]


def walk_loss(embedding: Tensor, u: Tensor, v: Tensor, n: Tensor) -> Tensor:
    r"""$- \mathrm{mean} \log \sigma(g_u \cdot g_v) - \mathrm{mean} \log \sigma(- g_u \cdot g_n)$; 0 without pairs.

    Args:
        embedding: g `(N, d)`.
        u: rows `(P,)`.
        v: those that are near, `(P,)`.
        n: those that are not, `(P, K)`.

    >>> near, far = torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([[-2.0, 0.0]])
    >>> walk_loss(torch.cat([near, far]), torch.tensor([0]), torch.tensor([1]), torch.tensor([[2]]))
    tensor(0.2539)
    """
    if not len(u):
        return embedding.sum() * 0
    near = torch.linalg.vecdot(embedding[u], embedding[v])
    far = torch.einsum("pd,pkd->pk", embedding[u], embedding[n])
    return -(F.logsigmoid(near).mean() + F.logsigmoid(-far).mean())
