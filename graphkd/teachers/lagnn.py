from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv

from graphkd.data import Setting
from graphkd.networks.neighbours import NeighbourVAE
from graphkd.spec import real, whole
from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import teacher
from graphkd.training.neighbours import fit_neighbours, generator_options
from graphkd.training.views import disagreement


class LocalConv(nn.Module):
    r"""A first layer of a node and of K generated neighbours: what a layer for each makes of them, side by side.

    $$ x'_i = \bigl[\mathrm{GCN}_0(X)_i ; \mathrm{GCN}_1(\hat X_1)_i ; \dots ; \mathrm{GCN}_K(\hat X_K)_i\bigr] $$

    In training each $\hat X_k$ is drawn anew in each call; else all are what the generator expects.

    Args:
        in_features: F.
        out_features: width of one layer; of all of them 1 + K times as many.
        concat: K; with 0 it is one GCN layer.
        generator: options of `fit_neighbours`.
    """

    hops = 1
    fitted: Tensor

    def __init__(self, in_features: int, out_features: int, concat: int, generator: Mapping[str, Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GCNConv(in_features, out_features) for _ in range(1 + concat))
        self.options = generator_options("lagnn", generator)
        sizes = {name: self.options[name] for name in ("width", "latent", "draws") if name in self.options}
        self.generator = NeighbourVAE(in_features, **sizes).requires_grad_(False) if concat else None
        self.register_buffer("fitted", torch.tensor(not concat))

    def fit(self, x: Tensor, edge_index: Tensor, told: Tensor | None = None) -> None:
        """Train the generator on a graph, see `fit_neighbours`, once and for all."""
        if self.fitted:
            return
        assert self.generator is not None
        draw = torch.Generator().manual_seed(torch.initial_seed() % 2**63)
        with torch.enable_grad():
            vae, _ = fit_neighbours(x.detach().cpu(), edge_index.cpu(), told, draw, **self.options)
        self.generator.load_state_dict(vae.state_dict())
        self.fitted.fill_(True)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        first, *others = self.layers
        found = [first(x, edge_index, edge_weight)]
        if self.generator is not None:
            if self.training:
                self.fit(x, edge_index)  # where nobody called `before_training`
            with torch.no_grad():
                expected = None if self.training else self.generator.expected(x)
                near = [self.generator.drawn(x) if expected is None else expected for _ in others]
            found += [layer(each, edge_index, edge_weight) for layer, each in zip(others, near)]
        return torch.cat(found, 1)


class LAGNN(GNN):
    r"""LAGCN: a GCN whose first layer also reads neighbours generated from the features of each node.

    The generator of $p(x_j \mid x_i)$ is trained before the network, on the edges that it sees, and chosen by how sure
    a GCN is of what it generates, see `fit_neighbours`. Beside the cross-entropy of one draw there is
    $\frac{c}{S} \sum_s \frac{1}{N} \sum_i \|p_{si} - \bar p_i\|^2$ of S draws, see `disagreement`.

    `graphkd.train_teacher` calls `before_training` first. Without that the generator is trained in the first forward
    pass in training, on the graph of that pass, and its last epoch is kept.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        dropout: float,
        *,
        concat: int,
        samples: int,
        consistency: float,
        sharp: float,
        generator: Mapping[str, Any],
    ) -> None:
        first, *inner, classes = widths
        local = LocalConv(first, inner[0] if inner else classes, concat, generator)
        rest = [(1 + concat) * inner[0], *inner[1:], classes] if inner else []
        super().__init__([local, *(GCNConv(a, b) for a, b in itertools.pairwise(rest))], dropout)
        self.samples, self.consistency, self.sharp = samples, consistency, sharp
        self.last = nn.Linear((1 + concat) * classes, classes) if not inner and concat else None
        self._seen: tuple[Any, ...] | None = None

    @property
    def local(self) -> LocalConv:
        """The first layer."""
        return cast(LocalConv, self.layers[0])

    def before_training(self, setting: Setting) -> None:
        """Train the generator on what is seen of a graph; U is told the training labels of classes."""
        seen, told = setting.seen, None
        if seen.task == "single-label":
            told = torch.full_like(seen.y, -1)
            told[setting.train] = seen.y[setting.train]
        self.local.fit(seen.x, seen.edge_index, told)

    def outputs(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> list[Tensor]:
        *hidden, logits = super().outputs(x, edge_index, edge_weight)
        logits = logits if self.last is None else self.last(logits)
        self._seen = (x, edge_index, edge_weight, logits) if self.training else None
        return [*hidden, logits]

    def auxiliary_loss(self) -> Tensor:
        """What the draws disagree, of which the last forward pass in training is the first."""
        if self._seen is None:
            raise RuntimeError("lagnn: call auxiliary_loss() once after each forward pass in training mode")
        (*graph, logits), self._seen = self._seen, None
        if self.consistency == 0 or self.samples < 2 or self.local.generator is None:
            return logits.new_zeros(())
        more = [super(LAGNN, self).outputs(*graph)[-1] for _ in range(self.samples - 1)]
        more = more if self.last is None else [self.last(each) for each in more]
        p = torch.stack([logits, *more]).softmax(2)
        return self.consistency * disagreement(p, self.sharp) / self.samples


@teacher(weight_decay=5e-4)
def lagnn(
    in_features: int,
    classes: int,
    *,
    layers: int = 2,
    hidden: int = 64,
    dropout: float = 0.5,
    concat: int = 1,
    samples: int = 4,
    consistency: float = 1.0,
    sharp: float = 2.0,
    generator: Mapping[str, Any] | None = None,
) -> LAGNN:
    r"""GCN with local augmentation, see `LAGNN`.

    `layers`, `hidden` and `dropout` are those of `gcn`; `concat` is the number K of generated neighbours that the first
    layer reads; `samples`, `consistency` and `sharp` are S, c and the exponent of the mean; `generator` has options of
    `fit_neighbours`.

    Liu et al., "Local Augmentation for Graph Neural Networks", ICML 2022, with these numbers on Cora and CiteSeer, but
    for the width, 8 there. In its code labels are compared with all S draws, what is generated is divided by its sum as
    the features are, and the draw of the best validation loss is kept for the test; a mean over fixed draws is our own.
    """
    for name, value in dict(layers=layers, hidden=hidden, samples=samples).items():
        whole(f"lagnn: {name}", value, 1)
    whole("lagnn: concat", concat)
    real("lagnn: consistency", consistency)
    if real("lagnn: sharp", sharp) == 0:
        raise ValueError("lagnn: sharp is a positive exponent, got 0")
    widths = (in_features, *[hidden] * (layers - 1), classes)
    return LAGNN(
        *(widths, dropout),
        concat=concat,
        samples=samples,
        consistency=consistency,
        sharp=sharp,
        generator=generator or {},
    )
