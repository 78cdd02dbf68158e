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
from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import Matrix, rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History


@recipe(extras=("weights",), reads_edges=True)
def tined(
    model: MLP,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    energy: float = 1.0,
    rate: float = 1.0,
    pace: float = 1.0,
    start: Literal["identity", "random"] = "identity",
    form: Literal["log", "exp"] = "log",
) -> History:
    r"""TINED: initialise the student with the teacher's weights, and match the smoothing of each layer.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \Bigl( \frac{1}{N} \sum_i \mathrm{KL}(p^t_i \,\|\, p^s_i)
         + \beta \sum_o (r^s_o - r^t_o)^2 \Bigr), \qquad
       r_o = \log E(\mathrm{out}_o) - \log E(\mathrm{in}_o) $$

    A layer of the teacher is two operations o: it transforms features, and propagates them. In training, each layer of
    the student is a pair in the same order: a linear map that starts from the teacher's weights, and a square one in
    the place of the propagation. E is the `dirichlet_energy`; the teacher's ratios are numbers, computed once, the
    student's are taken on edges drawn in each step.

    There is nothing between the maps of a pair, as there is nothing between transformation and propagation, so that the
    pair is one layer in the end: the student that is left has the size and the cost of `glnn`'s. That is our own form:
    the authors' code has normalisation, ReLU and dropout there as well, and its student stays twice as deep. All terms
    are one step of the optimiser here; theirs takes three.

    Args:
        model: the student, trained in place; as many layers as the teacher, of the same widths.
        lesson: with logits, hidden layers and the edges; and weights (`extras=['weights']`), which are those of a
            `sage` or a `gcn`. In place of those of another network are the least-squares maps from each of its hidden
            layers to the next, see `fitted_layers`.
        lam: weight of the labels; 1 is `supervised`, without the teacher's weights.
        energy: $\beta$; 0 leaves the start from the teacher's weights.
        rate: share of the edges that a step over all nodes draws; from 1 on it takes each of them once.
        pace: what the learning rate of the maps with the teacher's weights is multiplied by.
        start: of the square maps: `identity`, or `random`.
        form: `log`, or `exp` to compare $e^{r_o}$.

    Raises:
        ValueError: the teacher has neither such weights nor hidden layers, or the student has other widths.

    Paper: Zhou et al., "TINED: GNNs-to-MLPs by Teacher Injection and Dirichlet Energy Distillation", ICML 2025. The
    $\lambda$ of its code is the weight of KL, $1 - \lambda$ here, and its $\beta$ stands beside both terms (factor
    $1 / (1 - \lambda)$).
    """
    check_lam("tined", lam)
    if energy < 0 or min(rate, pace) <= 0 or start not in ("identity", "random") or form not in ("log", "exp"):
        raise ValueError(
            "tined: energy >= 0, rate > 0, pace > 0, start 'identity' or 'random', form 'log' or 'exp'; "
            f"got energy={energy}, rate={rate}, pace={pace}, start={start!r}, form={form!r}"
        )
    if lam == 1:
        return supervised(model, lesson)
    linears = [cast(nn.Linear, layer) for layer in model.layers]
    taught = teacher_layers(lesson.params) or fitted_layers(lesson)
    check_widths(linears, taught)
    pairs = [Pair(layer, pace, start).to(linear.weight) for layer, linear in zip(taught, linears)]
    teacher, edges, kl, nothing = lesson.teacher_logits(), lesson.edges(), kdlosses.build("kl"), torch.zeros(())
    smooth = energy > 0 and edges.shape[1] > 0
    if smooth:
        goal = teacher_energies(taught, lesson).to(linears[0].weight)

    def ratios(energies: Tensor) -> Tensor:
        found = (energies.view(-1, 3) + 1e-12).log().diff(dim=1)
        return found if form == "log" else found.exp()

    def gap(ends: Tensor, offset: int = 0) -> Tensor:
        """Between ratios, by what the pairs passed on last, of which rows from `offset` on are the nodes of `ends`."""
        _, *after = (each for pair in pairs for each in pair.passed)  # features have the energy they had
        energies = [goal[0], *(dirichlet_energy(each[offset:], ends) for each in after)]
        return (ratios(torch.stack(energies)) - ratios(goal)).square().sum()

    def soft_loss(nodes: Tensor | slice) -> Tensor:
        if isinstance(nodes, slice):
            value = kl(model(rows(lesson.x)), rows(teacher))
            return value + energy * gap(drawn(edges, rate, lesson.generator)) if smooth else value
        ends = drawn(edges, rate * len(nodes) / len(lesson), lesson.generator) if smooth else edges[:, :0]
        more, ends = ends.unique(return_inverse=True)
        value = kl(model(rows(lesson.x, torch.cat([nodes, more])))[: len(nodes)], rows(teacher, nodes))
        return value + energy * gap(ends, len(nodes)) if smooth else value

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        return lam * hard + (1 - lam) * soft_loss(nodes)

    model.layers = nn.ModuleList(pairs)
    history = lesson.train(model, loss, len(lesson))
    for pair, linear in zip(pairs, linears):
        pair.fold_into(linear)
    model.layers = nn.ModuleList(linears)
    return history


class Layer(NamedTuple):
    """A layer of the teacher, split into its parts."""

    weight: Tensor
    bias: Tensor  # of the transformation
    after: Tensor  # what is added after the propagation
    propagate: nn.Module


class Pair(nn.Module):
    """A linear map with the teacher's weights, and one in place of its propagation.

    The first is kept as $V = W / p$ with its gradient divided by $p^2$: what Adam, weight decay and all, does to V is
    what it would do to W with p times the learning rate, but for its epsilon.
    """

    passed: tuple[Tensor, Tensor, Tensor]  # in, between the two maps, and out, of the last forward

    def __init__(self, layer: Layer, pace: float, start: str) -> None:
        super().__init__()
        self.pace = pace
        self.weight, self.bias = nn.Parameter(layer.weight / pace), nn.Parameter(layer.bias / pace)
        for parameter in (self.weight, self.bias):
            parameter.register_hook(lambda gradient: gradient / pace**2)
        self.mix = nn.Linear(len(layer.bias), len(layer.bias))
        with torch.no_grad():
            self.mix.bias.copy_(layer.after)
            if start == "identity":
                nn.init.eye_(self.mix.weight)

    def forward(self, x: Tensor) -> Tensor:
        between = F.linear(x, self.pace * self.weight, self.pace * self.bias)
        self.passed = x, between, self.mix(between)
        return self.passed[-1]

    @torch.no_grad()
    def fold_into(self, linear: nn.Linear) -> None:
        """Merge the pair into `linear`."""
        linear.weight.copy_(self.mix.weight @ (self.pace * self.weight))
        linear.bias.copy_(self.mix(self.pace * self.bias))


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
            conv.lin, conv.bias = nn.Identity(), nn.Parameter(mine["bias"])
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
    """Dirichlet energies before, within and after each layer of the teacher, over all edges."""
    inputs: list[Matrix] = [lesson.x, *lesson.hidden]
    if [each.shape[1] for each in inputs] != [each.weight.shape[1] for each in taught]:
        raise ValueError(
            f"tined: the teacher's weights take inputs of {[each.weight.shape[1] for each in taught]} columns, but "
            f"features and hidden layers have {[each.shape[1] for each in inputs]}"
        )
    edges, found = lesson.edges(), []
    for given, layer in zip(inputs, taught):
        parts = torch.arange(len(lesson)).split(1 << 16)
        weight, bias = layer.weight.to(rows(given, parts[0][:1]).dtype), layer.bias
        between = torch.cat([F.linear(rows(given, part), weight, bias.to(weight)) for part in parts])
        found += [energy_of(each, edges) for each in (given, between, layer.propagate.to(weight)(between, edges))]
    return torch.stack(found)


def energy_of(features: Matrix, edges: Tensor) -> Tensor:
    """Compute `dirichlet_energy` in parts, of rows in memory or on disk."""
    total = torch.zeros(())
    for part in edges.split(1 << 12, dim=1):
        ends = torch.arange(part.numel()).view(2, -1)
        total = total + part.shape[1] * dirichlet_energy(rows(features, part.flatten()).to_dense(), ends)
    return total / edges.shape[1]


def drawn(edges: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Draw a share of the edges; all of them from 1 on."""
    if share >= 1:
        return edges
    count = max(1, round(share * edges.shape[1]))
    return edges[:, torch.randint(edges.shape[1], (count,), generator=generator)]
