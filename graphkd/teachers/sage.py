from __future__ import annotations

import itertools
from typing import Literal

from torch import Tensor, nn

from graphkd.networks.mlp import NORMS
from graphkd.sparse.edges import neighbour_average
from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import teacher


class MeanConv(nn.Module):
    r"""GraphSAGE layer with the aggregator that the paper calls GCN.

    $$ x'_i = W \, \mathrm{mean}_{j \in N(i) \cup \{i\}} x_j + b $$

    With edge weights the mean is weighted, oneself by 1.

    The linear map comes before the mean: the same function as PyG's `SAGEConv(root_weight=False)` on a graph with
    self-loops, at the cost of the hidden width instead of the feature width, and open to sparse features. The mean is a
    sparse product, which holds no message per edge.
    """

    hops = 1

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return neighbour_average(self.linear(x), edge_index, edge_weight)


@teacher(weight_decay=5e-4)
def sage(
    in_features: int,
    classes: int,
    *,
    layers: int = 2,
    hidden: int = 128,
    dropout: float = 0.0,
    norm: Literal["batch", "layer"] | None = None,
) -> GNN:
    """GraphSAGE, over all neighbours. Hamilton et al., "Inductive Representation Learning on Large Graphs", 2017."""
    if not (norm is None or isinstance(norm, str)) or norm not in NORMS:
        raise ValueError(f"sage: norm is one of {', '.join(map(repr, NORMS))}, not {norm!r}")
    widths = [in_features, *[hidden] * (layers - 1), classes]
    norms = [NORMS[norm](width) for width in widths[1:-1]]
    return GNN([MeanConv(a, b) for a, b in itertools.pairwise(widths)], dropout, norms=norms)
