from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from torch_geometric.nn import APPNP

from graphkd.networks.mlp import MLP
from graphkd.sparse.rows import csr
from graphkd.spec import real
from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import teacher


class Present(NamedTuple):
    """The fields of some nodes, node by node.

    Attributes:
        node: which node has it, `(n,)`, ascending.
        field: which it is, a column of the features, `(n,)`.
        value: its weight, `(n,)`, positive; 1 where a field is there or not.
    """

    node: Tensor
    field: Tensor
    value: Tensor


_CHECKED = WeakTensorKeyDictionary()  # features that hold fields, and where, for as long as they live


def present(x: Tensor) -> Present:
    """The fields of nodes: the columns in which features `(N, F)`, dense or CSR, are above 0.

    Raises:
        ValueError: a feature is below 0 or NaN; names its node and its column.

    >>> [part.tolist() for part in present(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))]
    [[0, 1, 1], [1, 0, 1], [1.0, 1.0, 1.0]]
    """
    if x not in _CHECKED:
        with torch.inference_mode(False), torch.no_grad():
            _CHECKED[x] = _places(x.detach())
    node, field, place = _CHECKED[x]
    return Present(node, field, x.values()[place] if x.layout is torch.sparse_csr else x[node, field])


def _places(x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    if x.layout is torch.sparse_csr:
        value, field = x.values(), x.col_indices()
        node = torch.arange(len(x), device=x.device).repeat_interleave(x.crow_indices().diff())
    else:
        node, field = (x != 0).nonzero(as_tuple=True)
        value = x[node, field]
    wrong = (~(value >= 0)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise ValueError(
            f"catgcn reads categorical features, which are 0 where a node lacks a field and above 0 where it has it; "
            f"node {int(node[first])} has {float(value[first]):g} in column {int(field[first])}: make columns of ids "
            "with graphkd.data.fields.multi_hot, or choose another teacher for numbers"
        )
    place = (value > 0).nonzero().flatten()
    return node[place], field[place], place if x.layout is torch.sparse_csr else None


def field_filter(e: Tensor, total: Tensor, count: Tensor, rho: float) -> Tensor:
    r"""The artificial graph over the M fields of a node, applied to their rows in closed form.

    $$ P = \frac{\mathbf 1 \mathbf 1^\top + \rho I}{M + \rho}, \qquad
       (P e)_m = \frac{\sum_k e_k + \rho \, e_m}{M + \rho} $$

    All rows of $\mathbf 1 \mathbf 1^\top + \rho I$ sum to $M + \rho$, so that its symmetric normalisation is P, and no
    matrix of fields by fields is made.

    Args:
        e: a row for each field, `(n, d)`.
        total: the sum over the fields of the same node, `(n, d)`.
        count: M, the number of these, `(n,)`.
        rho: $\rho$, how much more a field hears itself than others.

    >>> e = torch.tensor([[1.0], [3.0]])
    >>> field_filter(e, e.sum(0).expand(2, 1), torch.tensor([2, 2]), rho=2.0).T
    tensor([[1.5000, 2.5000]])
    """
    return (total + rho * e) / (count.to(e).unsqueeze(1) + rho)


def _squared(x: Tensor) -> Tensor:
    if x.layout is torch.strided:
        return x.square()
    return csr(x.crow_indices(), x.col_indices(), x.values().square(), x.shape[1])


class Interactions(nn.Module):
    r"""What the fields of a node say together, before any edge is read.

    With the row $e_m = x_m E_m$ of field m of a node, E learned and $x_m$ the feature, 1 for a field that is there,

    $$ l = \sum_{m < k} e_m \odot e_k = \tfrac12 \Big( \big(\textstyle\sum_m e_m\big)^2 - \sum_m e_m^2 \Big), \qquad
       g = \frac1M \sum_m \mathrm{ReLU}\big( (P e)_m W + b \big) $$

    are the local and the global interactions; of P see `field_filter`. Both are sums over fields: their order does not
    matter, nor do columns that are 0. A column that no node had while the network was trained has a row that nothing
    has moved: later it counts as absent.

    Args:
        in_features: number of columns F.
        width: d, of a row.
        rho: see `field_filter`.
        cap: fields of a node that a training step draws for g; all are heard in evaluation.

    Shape: features `(N, F)`, dense or CSR, to `(N, 2 d)`, g before l.
    """

    trained: Tensor
    started: Tensor

    def __init__(self, in_features: int, width: int, rho: float, cap: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(in_features, width) * width**-0.5)
        self.linear = nn.Linear(width, width)
        self.rho, self.cap = rho, cap
        self.register_buffer("trained", torch.ones(in_features, dtype=torch.bool))
        self.register_buffer("started", torch.tensor(False))

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        node, field, value = self._known(present(x))
        learned = self.rows * self.trained.unsqueeze(1)
        with torch.autocast(x.device.type, enabled=False):  # no sparse product is in half precision
            total = x @ learned
            local = (total.square() - _squared(x) @ learned.square()) / 2
            count = torch.bincount(node, minlength=len(x))
            if self.training:
                heard = self._drawn(node, count)
                node, field, value = node[heard], field[heard], value[heard]
            weight = self.linear.weight.t()  # P e W is P (e W): W is multiplied by rows of fields, not of pairs
            e = value.to(total).unsqueeze(1) * (learned @ weight)[field]
            filtered = (field_filter(e, (total @ weight)[node], count[node], self.rho) + self.linear.bias).relu()
            several = torch.bincount(node, minlength=len(x)).clamp_min(1).to(total).unsqueeze(1)
            return torch.cat([torch.zeros_like(total).index_add(0, node, filtered) / several, local], 1)

    def _known(self, found: Present) -> Present:
        if self.training:
            if not self.started:
                self.trained.zero_()
                self.started.fill_(True)
            self.trained[found.field] = True
            return found
        kept = self.trained[found.field]
        return found if bool(kept.all()) else Present(*(part[kept] for part in found))

    def _drawn(self, node: Tensor, count: Tensor) -> Tensor | slice:
        """Places of at most `cap` fields of each node, drawn anew."""
        if not bool((count > self.cap).any()):
            return slice(None)
        order = (node + torch.rand(len(node), device=node.device, dtype=torch.float64)).argsort()
        first = count.cumsum(0) - count
        rank = torch.arange(len(node), device=node.device) - first[node]
        return order[rank < self.cap].sort().values


class Mixed(nn.Module):
    r"""Both kinds of interactions mapped to classes, mixed, and averaged over neighbours, K times, without weights.

    $$ z = \hat A^K \big( \beta \, f_g(g) + (1 - \beta) \, f_l(l) \big), \qquad
       \hat A = D^{-1/2} (A + I) D^{-1/2} $$

    With K = 0 no edge is read.
    """

    def __init__(self, width: int, classes: int, layers: int, hops: int, beta: float, dropout: float) -> None:
        super().__init__()
        self.of_global, self.of_local = (MLP(width, (width,) * (layers - 1), classes, dropout) for _ in range(2))
        self.propagate = APPNP(hops, 0.0)  # which with no restart is A^K
        self.beta = beta

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        of_all, of_pairs = x.chunk(2, 1)
        h = self.beta * self.of_global(of_all) + (1 - self.beta) * self.of_local(of_pairs)
        return self.propagate(h, edge_index, edge_weight)


class CatGCN(GNN):
    """`Interactions`, then `Mixed`."""

    pooled = False


@teacher(weight_decay=1e-5)
def catgcn(
    in_features: int,
    classes: int,
    *,
    width: int = 64,
    layers: int = 1,
    hops: int = 6,
    rho: float = 10.0,
    beta: float = 0.5,
    cap: int = 64,
    dropout: float = 0.5,
) -> CatGCN:
    r"""CatGCN: categorical fields of a node interact before any neighbour is heard, see `Interactions` and `Mixed`.

    A column of the features is a field: a word of a bag, a value of a one-hot profile, see
    `graphkd.data.fields.multi_hot`. Numbers from 0 weigh their fields.

    Args:
        in_features: number of columns F.
        classes: C.
        width: d, of the row of a field.
        layers: of each of the two maps to classes; 1 is linear.
        hops: K, how often neighbours are averaged; 0 reads no edges.
        rho: $\rho$, see `field_filter`.
        beta: $\beta$, the share of the global interactions, 0 to 1; 0 and 1 leave one kind out.
        cap: see `Interactions`.
        dropout: share of both interactions, and of hidden units, dropped in training.

    Raises:
        ValueError: an option is out of range; in the first pass, a feature is below 0.

    >>> network = catgcn(4, 2, width=8).eval()
    >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> network(torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]), path).shape
    torch.Size([3, 2])

    Paper: Chen et al., "CatGCN: Graph Convolutional Networks with Categorical Node Features", TKDE 2023. Filter,
    products, mixing and propagation are theirs, with $\rho$ from 1 to 41, $\beta$ from 0.3 to 0.9 and K from 3 to 8.
    Weights of fields, the draw of `cap` fields for each step in place of a fixed sample, absent columns and dropout on
    both interactions are ours. Their clusters of nodes and weights of classes are left out.
    """
    if not 0 <= real("beta", beta) <= 1:
        raise ValueError(f"catgcn: beta is from 0 to 1, got {beta!r}")
    mixed = Mixed(width, classes, layers, hops, beta, dropout)
    return CatGCN([Interactions(in_features, width, rho, cap), mixed], dropout, nn.Identity())
