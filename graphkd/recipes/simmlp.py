from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.networks.mlp import MLP, BatchNorm
from graphkd.networks.rebuilt import Residual
from graphkd.recipes.registry import RECIPES, nested, recipe
from graphkd.sparse.edges import by_target, drop_self_loops, smoother
from graphkd.sparse.neighbours import near
from graphkd.sparse.rows import masked, rows
from graphkd.spec import resolve
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History, Schedule, rehearsal, train
from kdlosses.unit import cosines, unit

_REBUILT = 512  # nodes in a step whose features are rebuilt: they are dense


@recipe(reads_edges=True, network=Residual)
def simmlp(
    model: MLP,
    lesson: Lesson,
    *,
    method: str | Mapping[str, Any] | Callable[..., History] | None = None,
    epochs: int = 300,
    lr: float = 1e-3,
    decay: float = 0.0,
    hops: int = 2,
    feature_mask: float = 0.5,
    edge_mask: float = 0.25,
    rebuild: float = 10.0,
    power: float = 1.0,
    predictor: int = 2,
    fan: int = 5,
    probe: float = 10.0,
    plain: bool = False,
) -> History:
    r"""SimMLP: self-supervised, without a teacher; align a node's embedding with that of its neighbourhood.

    $$ L = \frac{1}{N} \sum_i \bigl(1 - \cos(q(z_i), \mathrm{sg}(h_i))\bigr)^\eta
         + \lambda_r \, \mathrm{MSE}\bigl(d(h), x\bigr), \qquad
       z = f(\tilde x), \quad h^{(0)} = z, \quad
       h^{(k)} = \mathrm{BN}\bigl(\mathrm{PReLU}(\tilde A h^{(k - 1)})\bigr) $$

    f is the encoder: all of the student but its last layer. It has residual connections, PReLU and rows of length 1,
    see `graphkd.networks.rebuilt.Residual`. $\tilde x$ are features of which each entry is left out with a chance, and
    $\tilde A$ is the normalised adjacency with self-loops, without edges that are left out, each direction by itself.
    A hop has no weight matrix; the PReLU is one for all hops, and each has a batch normalisation of its own. Both learn
    from the second term alone. q is the predictor and d the decoder, an MLP whose rows have length 1; these, the hops
    and an optimiser of their own, AdamW with a rate that falls along a cosine, are thrown away. Then the last layer
    alone is trained on the labels, on the frozen z of the features as they are, and its epoch is selected; of the first
    part the last is kept. A student with `norm='batch'` and two hidden layers of one width is what the authors have; of
    a single one, as the default student has, the encoder is linear, and the student's dropout, which acts between the
    layers of the encoder, is nowhere.

    A step in a batch propagates among neighbours drawn for it. Features are rebuilt for at most 512 nodes of a step,
    drawn anew: the same loss in the mean.

    Args:
        model: the student, trained in place.
        lesson: with the edges; a teacher in it is looked at by `method` alone.
        method: any recipe, to train the whole student by instead of the last layer; it starts from the encoder found
            here. That is our own form: `glnn` after it is a distillation that starts from the graph and no random
            weights. Around a method with a network of its own the encoder is plain.
        epochs: of the first part.
        lr: likewise, of AdamW, at the start.
        decay: likewise, its weight decay.
        hops: k; 0 leaves h = z.
        feature_mask: share of the features that is set to 0.
        edge_mask: share of the edges that is left out.
        rebuild: $\lambda_r$.
        power: $\eta$.
        predictor: layers of q, at least one; a single one is linear.
        fan: neighbours that a node of a batch draws in each hop.
        probe: what the student's learning rate is multiplied by for the last layer, where it is not `plain`: on
            rows of length 1 its weights have a long way to go.
        plain: whether f is a plain MLP, ReLU and no sums, and h is the bare $\tilde A^k z$: our own form, of a student
            that is in the end an MLP like any other.

    Raises:
        ValueError: the student has no hidden layer, or an option is out of range.

    Paper: Wang et al., "Training MLPs on Graphs without Supervision", WSDM 2025, as in its code, which reports the
    epoch that is best on test nodes, and trains the last layer by AdamW without decay for 5000 steps.
    """
    inner, options = resolve("method", _probe if method is None else method, RECIPES)
    if not isinstance(model, MLP):
        raise ValueError(f"simmlp: it pretrains an MLP, but {inner.__name__!r} teaches a {type(model).__name__}")
    if len(model.layers) < 2:
        raise ValueError("simmlp: the student needs a hidden layer, which is what it pretrains")
    if (
        not (0 <= feature_mask < 1 and 0 <= edge_mask <= 1)
        or min(hops, rebuild, epochs) < 0
        or min(power, probe) <= 0
        or min(fan, predictor) < 1
    ):
        raise ValueError(
            "simmlp: 0 <= feature_mask < 1; 0 <= edge_mask <= 1; hops, rebuild, epochs >= 0; power, probe > 0; "
            f"fan, predictor >= 1; got {feature_mask=}, {edge_mask=}, {hops=}, {rebuild=}, {epochs=}, {power=}, "
            f"{probe=}, {fan=}, {predictor=}"
        )
    if inner is _probe and not len(lesson.labelled):
        raise ValueError("simmlp: no node is labelled, but the last layer is trained on labels")
    if method is not None and all(name in RECIPES for name in nested(method)):
        _rehearse(inner, model, lesson, options)
    plain = plain or not isinstance(model, Residual)
    if isinstance(model, Residual) and not plain:
        model.encode()
    width, generator, dtype = model.widths[-2], lesson.generator, next(model.parameters()).dtype
    predict: nn.Module = MLP(width, [width] * (predictor - 1), width, norm="batch")
    decode: nn.Module = MLP(width, [width], model.in_features)
    if not plain:
        predict = _head([width] * (predictor + 1), predictor > 1)
        decode = _head([width, width, model.in_features], False)
    slope, norms = nn.PReLU(), nn.ModuleList(BatchNorm(width) for _ in range(hops))
    parts = nn.ModuleList([model, predict, decode] + ([] if plain else [slope, norms])).to(dtype)
    edges = by_target(drop_self_loops(lesson.edges()), len(lesson))

    def loss(nodes: Tensor | slice) -> Tensor:
        x, own, sorted_edges = lesson.x, torch.arange(len(lesson)), edges
        if not isinstance(nodes, slice):
            around = near(*edges, nodes, hops, fan, generator)
            x, own = rows(x, around.nodes), own[: len(nodes)]
            sorted_edges = by_target(around.edges, len(around.nodes))
        x = rows(x)
        hop = smoother(*thinned(*sorted_edges, edge_mask, generator), dtype)
        z = h = model.outputs(masked(x, feature_mask, generator))[-2]
        for place in range(hops):
            h = hop(h) if plain else norms[place](slope(hop(h)))
        value = alignment(predict(z)[own], h[own], power)
        if rebuild == 0:
            return value
        if len(own) > _REBUILT:
            own = own[torch.randperm(len(own), generator=generator)[:_REBUILT]]
        rebuilt = decode(h[own]) if plain else unit(decode(h[own]), 1)
        return value + rebuild * F.mse_loss(rebuilt, rows(x, own).to_dense())

    schedule = Schedule(lr, decay, epochs, batch_size=lesson.batch_size)
    first = train(parts, loss, len(lesson), schedule=schedule, generator=generator, falling=not plain)
    history = inner(model, lesson, 1.0 if plain else probe) if inner is _probe else inner(model, lesson, **options)
    history.seconds = first.seconds + history.seconds
    return history


def _rehearse(inner: Callable[..., History], model: MLP, lesson: Lesson, options: Mapping[str, Any]) -> None:
    """Raise at once what a recipe would find wrong after the first part; nothing is learned or drawn."""
    state = lesson.generator.get_state()
    with torch.random.fork_rng(devices=[]), rehearsal():
        inner(copy.deepcopy(model), lesson, **options)
    lesson.generator.set_state(state)


def _head(widths: list[int], norm: bool) -> nn.Sequential:
    """Predictor or decoder of these widths: layers with PReLU, of one slope, between them."""
    layers: list[nn.Module] = []
    slope = nn.PReLU()
    for place, (a, b) in enumerate(itertools.pairwise(widths)):
        layers += [slope] if place else []
        layers += [nn.Linear(a, b), *([BatchNorm(b)] if norm else [])]
    return nn.Sequential(*layers)


def _probe(model: MLP, lesson: Lesson, pace: float) -> History:
    """The last layer alone, on the labels."""
    told = lesson.labelled
    model.eval()  # and it stays so, whatever the training of its last layer sets: nothing below that one moves
    with torch.no_grad():
        z = torch.cat([model.outputs(rows(lesson.x, part))[-2] for part in told.split(1 << 16)])
    last, labels = cast(nn.Linear, model.layers[-1]), lesson.labels[told]
    for parameter in last.parameters():
        parameter.pace = pace  # type: ignore[attr-defined]
    return lesson.train(last, lambda nodes: F.cross_entropy(last(z[nodes]), labels[nodes]), len(told))


def alignment(predicted: Tensor, target: Tensor, power: float) -> Tensor:
    r"""$\frac{1}{N} \sum_i (1 - \cos(p_i, \mathrm{sg}(t_i)))^\eta$ of `(N, d)` and `(N, d)`: from 0 to $2^\eta$.

    >>> alignment(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, -3.0]]), 2.0).item()
    2.0
    """
    return ((1 - cosines(predicted, target.detach(), 1)).clamp_min(0) ** power).mean()


def thinned(crow: Tensor, source: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Drop a random share of edges that are sorted by target, see `graphkd.sparse.edges.by_target`."""
    if share == 0:
        return crow, source
    kept = torch.rand(len(source), generator=generator) >= share
    return F.pad(kept.cumsum(0), (1, 0))[crow], source[kept]
