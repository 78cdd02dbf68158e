from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kdlosses
from graphkd.extras import needs_extra
from graphkd.losses.dirichlet import dirichlet_energy
from graphkd.networks.rebuilt import Paired
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.edges import lower_first
from graphkd.sparse.rows import Matrix, rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.space import Range
from kdlosses.unit import unit


@recipe(extras=("weights",), reads_edges=True, network=Paired, space=dict(energy=Range(0.01, 1.0, log=True)))
def tined(
    model: Paired,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    energy: float = 0.1,
    rate: float = 1.0,
    pace: float = 1.0,
    start: Literal["identity", "random"] = "identity",
    form: Literal["log", "exp"] = "log",
    fold: bool = False,
) -> History:
    r"""TINED: initialise the student with the teacher's weights, and match the smoothing of each layer.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \frac{1}{N} \sum_i \mathrm{KL}(p^t_i \,\|\, p^s_i)
         + \beta \sum_o \bigl(\tfrac12 r^s_o - \tfrac12 r^t_o\bigr)^2, \qquad
       r_o = \log E(\mathrm{out}_o) - \log E(\mathrm{in}_o) $$

    A layer of the teacher is two operations o: it transforms features, and propagates them. The student has a pair of
    linear maps for it: one that starts from the teacher's weights, and a square one in the place of the propagation.
    The propagation comes first where the layer does not get narrower, as there the teacher propagates first. Between
    any two maps are the student's normalisation, ReLU and dropout, within a pair, too: the student is twice as deep as
    its teacher. An operation of the student is a map alone: it reads what has gone through ReLU, and E is taken of what
    it gives before that. E is the `dirichlet_energy` with fixed lengths; the teacher's ratios are numbers, computed
    once, the student's are taken on edges drawn in each step.

    Args:
        model: the student, trained in place; as many layers as the teacher, of the same widths. It ends with twice as
            many.
        lesson: with logits, hidden layers and the edges; and weights (`extras=['weights']`), which are those of a
            `sage` or a `gcn`. In place of those of another network are the least-squares maps from each of its hidden
            layers to the next, see `fitted_layers`.
        lam: weight of the labels; 1 is `supervised`, without the teacher's weights.
        energy: $\beta$; 0 leaves the start from the teacher's weights.
        rate: share of the edges that a step over all nodes draws; from 1 on it takes each of them once.
        pace: what the learning rate of the maps with the teacher's weights is multiplied by.
        start: of the square maps: `identity`, or `random`.
        form: `log`, or `exp` to compare $e^{r_o / 2}$, the root of the ratio, in place of $r_o / 2$.
        fold: our own form. Leave out what is between the maps of a pair, so that they are one layer in the end: the
            student that is left has the size and the cost of `glnn`'s.

    Raises:
        ValueError: the teacher has neither such weights nor hidden layers, the student has other widths, or it is no
            `graphkd.networks.rebuilt.Paired`.

    Paper: Zhou et al., "TINED: GNNs-to-MLPs by Teacher Injection and Dirichlet Energy Distillation", ICML 2025, as in
    its code, where $\lambda$ is the weight of KL, $1 - \lambda$ here. There labels, KL and energies are three steps of
    one optimiser, here they are one step on their sum; and a ratio without a finite value counts as 1 there, while here
    energies count as no less than $10^{-12}$. There $\beta$ is 0.1 on most graphs, and from 0.05 to 10 on others.
    """
    check_lam("tined", lam)
    if energy < 0 or min(rate, pace) <= 0 or start not in ("identity", "random") or form not in ("log", "exp"):
        raise ValueError(
            "tined: energy >= 0, rate > 0, pace > 0, start 'identity' or 'random', form 'log' or 'exp'; "
            f"got energy={energy}, rate={rate}, pace={pace}, start={start!r}, form={form!r}"
        )
    if not isinstance(model, Paired):
        raise ValueError(f"tined: the student is a graphkd.networks.rebuilt.Paired, not a {type(model).__name__}")
    if lam == 1:
        return supervised(model, lesson)
    taught = teacher_layers(lesson.params) or fitted_layers(lesson)
    check_widths([cast(nn.Linear, layer) for layer in model.layers], taught)
    dtype = next(model.parameters()).dtype
    teacher, edges = lesson.teacher_logits(), lower_first(lesson.edges())  # a ratio is the same on half of them
    kl, nothing = kdlosses.build("kl"), torch.zeros(())
    smooth = energy > 0 and edges.shape[1] > 0
    if smooth:
        goal = ratios(teacher_energies(taught, lesson), form).to(dtype)
        spread = differences(lesson.x, edges).to(dtype)  # features do not move
    inject(model, taught, pace, start, fold)

    def gap(passes: list[tuple[Tensor, Tensor]], drawn: Tensor, ends: Tensor, offset: int = 0) -> Tensor:
        """Between ratios, on drawn edges whose `ends` count from the row `offset` on."""
        energies = [spread[drawn].mean()]
        for given, out in passes:
            if len(energies) > 1:
                energies.append(dirichlet_energy(given[offset:], ends, fixed_lengths=True))
            energies.append(dirichlet_energy(out[offset:], ends, fixed_lengths=True))
        return (ratios(torch.stack(energies), form) - goal).square().sum()

    def soft_loss(nodes: Tensor | slice) -> Tensor:
        if isinstance(nodes, slice):
            passes = model.passes(rows(lesson.x))
            value = (1 - lam) * kl(passes[-1][1], rows(teacher))
            drawn = some_edges(edges, rate, lesson.generator) if smooth else None
            return value if drawn is None else value + energy * gap(passes, drawn, edges[:, drawn])
        share = rate * len(nodes) / len(lesson)
        drawn = some_edges(edges, share, lesson.generator) if smooth else torch.arange(0)
        more, ends = edges[:, drawn].unique(return_inverse=True)
        passes = model.passes(rows(lesson.x, torch.cat([nodes, more])))
        value = (1 - lam) * kl(passes[-1][1][: len(nodes)], rows(teacher, nodes))
        return value + energy * gap(passes, drawn, ends, len(nodes)) if smooth else value

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        return lam * hard + soft_loss(nodes)

    history = lesson.train(model, loss, len(lesson))
    if fold:
        folded(model)
    return history


class Layer(NamedTuple):
    """A layer of the teacher, split into its parts."""

    weight: Tensor
    bias: Tensor  # of the transformation
    after: Tensor  # what is added after the propagation
    propagate: nn.Module

    @property
    def propagates_first(self) -> bool:
        """Whether it gets no narrower."""
        return self.weight.shape[1] <= self.weight.shape[0]


@torch.no_grad()
def inject(model: Paired, taught: Sequence[Layer], pace: float, start: str, fold: bool) -> None:
    """Make a pair of maps of each layer of the student, in the teacher's order and with its weights."""
    widths = []
    for layer in taught:
        width_out, width_in = layer.weight.shape
        widths += [width_in if layer.propagates_first else width_out, width_out]
    model.rebuild(widths)
    model.bare = fold
    for place, layer in enumerate(taught):
        pair = [cast(nn.Linear, each) for each in model.layers[2 * place : 2 * place + 2]]
        mix, transform = pair if layer.propagates_first else pair[::-1]
        transform.weight.copy_(layer.weight)
        transform.bias.copy_(layer.bias + layer.after)
        for parameter in transform.parameters():
            parameter.pace = pace  # type: ignore[attr-defined]
        if start == "identity":
            nn.init.eye_(mix.weight)
            nn.init.zeros_(mix.bias)


@torch.no_grad()
def folded(model: Paired) -> None:
    """Merge the pairs of a bare student: the product of two linear maps is one."""
    maps, norms = [cast(nn.Linear, each) for each in model.layers], model.norms[1::2]
    pairs = [*zip(maps[::2], maps[1::2])]
    model.rebuild([second.out_features for _, second in pairs])
    for merged, (first, second) in zip((cast(nn.Linear, each) for each in model.layers), pairs):
        merged.weight.copy_(second.weight @ first.weight)
        merged.bias.copy_(second(first.bias))
    model.norms, model.bare = norms, False
    model.train(model.training)


def ratios(energies: Tensor, form: str) -> Tensor:
    """Half the logarithm, or the root, of how each operation changes the energy, from those before and after each."""
    half = (energies.view(-1, 2) + 1e-12).log().diff(dim=1).squeeze(1) / 2
    return half if form == "log" else half.exp()


def differences(features: Matrix, edges: Tensor) -> Tensor:
    """The part of each edge in the `dirichlet_energy`, `(E,)`; of rows in memory or on disk."""
    found = [torch.empty(0)]
    for part in edges.split(1 << 12, dim=1):
        start, end = unit(rows(features, part.flatten()).to_dense(), 1).chunk(2)
        found.append((start - end).square().sum(1))
    return torch.cat(found)


def teacher_layers(weights: Mapping[str, Tensor]) -> list[Layer]:
    """Return the layers of a `sage` or a `gcn` from its weights, none of another network."""
    with needs_extra("tined"):  # a student that is only loaded for prediction does without
        from torch_geometric.nn import GCNConv

        from graphkd.teachers.sage import MeanConv

    found: list[Layer] = []
    for place in itertools.count():
        start = f"layers.{place}."
        mine = {name.removeprefix(start): weight for name, weight in weights.items() if name.startswith(start)}
        if set(mine) == {"linear.weight", "linear.bias"}:
            mean = MeanConv(1, 1)
            mean.linear = nn.Identity()  # type: ignore[assignment]
            bias = mine["linear.bias"]
            found.append(Layer(mine["linear.weight"], bias, torch.zeros_like(bias), mean))
        elif set(mine) == {"lin.weight", "bias"}:
            conv = GCNConv(1, 1)
            conv.lin, conv.bias = nn.Identity(), None
            found.append(Layer(mine["lin.weight"], torch.zeros_like(mine["bias"]), mine["bias"], conv))
        else:
            return [] if mine else found
    raise AssertionError


@torch.no_grad()
def fitted_layers(lesson: Lesson) -> list[Layer]:
    """Return layers that stand for those of any teacher: from one hidden layer to the next, by ridge regression.

    The inputs of a layer are averaged over each node and its neighbours, as `sage` does it; between layers is a ReLU,
    which changes nothing where the teacher tells its layers after one.

    Raises:
        ValueError: the teacher has no hidden layers.
    """
    with needs_extra("tined"):
        from graphkd.teachers.sage import MeanConv

    if not lesson.hidden:
        raise ValueError(
            "tined: the teacher has neither the weights of a sage or a gcn (train_teacher(..., extras=['weights'])) "
            "nor hidden layers: pass taps, the paths of its layers"
        )
    edges, found = lesson.edges(), []
    inputs = [rows(lesson.x).to_dense(), *(rows(layer).relu() for layer in lesson.hidden)]
    for given, target in zip(inputs, [*map(rows, lesson.hidden), rows(lesson.teacher_logits())]):
        mean = MeanConv(1, 1)
        mean.linear = nn.Identity()  # type: ignore[assignment]
        around = mean(given, edges).double()
        centre, aim = around.mean(0), target.double().mean(0)
        moved = around - centre
        square = moved.T @ moved
        square.diagonal().add_(1e-3 * square.diagonal().mean().clamp_min(1e-12))
        weight = torch.linalg.solve(square, moved.T @ (target.double() - aim)).T
        bias = aim - weight @ centre
        weight, bias = weight.to(given.dtype), bias.to(given.dtype)
        found.append(Layer(weight, bias, torch.zeros_like(bias), mean))
    return found


def check_widths(linears: Sequence[nn.Linear], taught: Sequence[Layer]) -> None:
    """Raise ValueError unless each layer of the student has the shape of the teacher's."""
    mine, theirs = [[*each.weight.shape][::-1] for each in linears], [[*each.weight.shape][::-1] for each in taught]
    if mine != theirs:
        raise ValueError(
            f"tined: the student has hidden={[b for _, b in mine[:-1]]}, the teacher {[b for _, b in theirs[:-1]]}, "
            f"layer by layer {mine} and {theirs}; they must be the same"
        )


@torch.no_grad()
def teacher_energies(taught: Sequence[Layer], lesson: Lesson) -> Tensor:
    """Dirichlet energies before and after each operation of the teacher, over all edges: four a layer."""
    inputs: list[Matrix] = [lesson.x, *lesson.hidden]
    if [each.shape[1] for each in inputs] != [each.weight.shape[1] for each in taught]:
        raise ValueError(
            f"tined: the teacher's weights take inputs of {[each.weight.shape[1] for each in taught]} columns, but "
            f"features and hidden layers have {[each.shape[1] for each in inputs]}"
        )
    edges, found = lesson.edges(), []
    for given, layer in zip(inputs, taught):
        dtype = rows(given, torch.arange(1)).dtype
        weight, bias, propagate = layer.weight.to(dtype), layer.bias.to(dtype), layer.propagate.to(dtype)
        if layer.propagates_first:
            between = propagate(rows(given).to_dense(), edges)
            out = F.linear(between, weight, bias)
        else:
            parts = torch.arange(len(lesson)).split(1 << 16)
            between = torch.cat([F.linear(rows(given, part), weight, bias) for part in parts])
            out = propagate(between, edges)
        middle = differences(between, edges).mean()
        found += [
            differences(given, edges).mean(),
            middle,
            middle,
            differences(out + layer.after.to(dtype), edges).mean(),
        ]
    return torch.stack(found)


def some_edges(edges: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Draw a share of the edges without replacement, as columns of `edges`; all of them from 1 on."""
    count = edges.shape[1]
    if share >= 1:
        return torch.arange(count)
    return torch.randperm(count, generator=generator)[: max(1, round(share * count))]
