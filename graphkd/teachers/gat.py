from __future__ import annotations

import itertools

from torch import nn
from torch_geometric.nn import GATConv

from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import teacher


@teacher(weight_decay=0.01)
def gat(
    in_features: int,
    classes: int,
    *,
    layers: int = 2,
    hidden: int = 128,
    heads: int = 8,
    dropout: float = 0.6,
    attention_dropout: float = 0.3,
) -> GNN:
    """GAT; `hidden` is the width of all heads together. Velickovic et al., "Graph Attention Networks", 2018."""
    if hidden % heads:
        raise ValueError(f"gat: hidden ({hidden}) must be a multiple of heads ({heads})")
    widths = [in_features, *[hidden] * (layers - 1)]
    inner = [GATConv(a, b // heads, heads, dropout=attention_dropout) for a, b in itertools.pairwise(widths)]
    return GNN([*inner, GATConv(widths[-1], classes, dropout=attention_dropout)], dropout, nn.ELU())
