"""Teachers of what is no node of a plain graph: pooled over graphs, and on nodes of several kinds."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphkd.data.reads import GraphSet, Hetero, Reads
from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import TEACHERS
from kdlosses.options import check_known


class Pooled(nn.Module):
    """A graph network whose layers are pooled over each graph, then classified together.

    Args:
        body: gives its layers for nodes; its outputs are the last of them.
        widths: of its layers.
        classes: width of the output.
        dropout: share of the pooled units dropped in training.
        pool: `sum`, `mean` or `max` over the nodes of a graph.

    Shape: features `(M, F)`, edges `(2, E)` and the graph of each node `(M,)` to `(G, C)`. With `roots` `(R,)` these
    nodes alone are pooled, and the graphs are those of each root `(R,)`.

    Paper: Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019: the layers of all depths are read out. They
    are normalised over the batch here and classified together, where the paper classifies each depth and adds up.
    """

    def __init__(self, body: GNN, widths: list[int], classes: int, dropout: float, pool: str) -> None:
        super().__init__()
        self.body, self.pool = body, pool
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(sum(widths), classes)

    def row_outputs(self, x: Tensor, edge_index: Tensor, batch: Tensor, roots: Tensor | None = None) -> list[Tensor]:
        """Every layer, pooled over each graph, and the logits last."""
        from torch_geometric.utils import scatter

        *hidden, last = self.body.outputs(x, edge_index)
        layers = [layer if roots is None else layer[roots] for layer in (*hidden, last.relu())]
        pooled = [norm(scatter(layer, batch, reduce=self.pool)) for norm, layer in zip(self.norms, layers)]
        return [*pooled, self.head(self.dropout(torch.cat(pooled, 1)))]

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, roots: Tensor | None = None) -> Tensor:
        return self.row_outputs(x, edge_index, batch, roots)[-1]


class HeteroGNN(nn.Module):
    """Layers of PyG, each made for several kinds of nodes by `to_hetero`: kinds of edges into a node are summed.

    Before them, a linear layer for each kind of nodes makes all features as wide.

    Args:
        inputs: width of the features by kind of nodes.
        hidden: width after the first linear layers.
        convs: of each layer, for pairs of unlike kinds.
        metadata: kinds of nodes and of edges.
        target: the kind of nodes that is predicted.
        dropout: share of hidden units dropped in training.

    Shape: dicts of features `(N_k, F_k)` and of edges `(2, E_k)` to the logits `(N, C)` of the target.

    Paper: Schlichtkrull et al., "Modeling Relational Data with Graph Convolutional Networks", 2018, for weights of
    their own for each kind of edges.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        hidden: int,
        convs: list[nn.Module],
        metadata: Any,
        target: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.kinds = list(inputs)
        self.project = nn.ModuleList(nn.Linear(width, hidden) for width in inputs.values())
        self.layers = nn.ModuleList(to_hetero(_Alone(conv), metadata) for conv in convs)
        self.target = target
        self.dropout = dropout

    def row_outputs(self, x: Mapping[str, Tensor], edges: Mapping[Any, Tensor]) -> list[Tensor]:
        """Every hidden layer of the target after its activation, and its logits last."""
        found: list[Tensor] = []
        *inner, last = self.layers
        x = {
            kind: F.dropout(linear(x[kind]).relu(), self.dropout, self.training)
            for kind, linear in zip(self.kinds, self.project)
        }
        for layer in inner:
            x = {kind: each.relu() for kind, each in layer(x, edges).items() if each is not None}
            found.append(x[self.target])
            x = {kind: F.dropout(each, self.dropout, self.training) for kind, each in x.items()}
        return [*found, last(x, edges)[self.target]]

    def forward(self, x_dict: Mapping[str, Tensor], edge_index_dict: Mapping[Any, Tensor]) -> Tensor:
        return self.row_outputs(x_dict, edge_index_dict)[-1]


class _Alone(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, edge_index)


def to_hetero(network: nn.Module, metadata: Any) -> nn.Module:
    """PyG's `to_hetero`, with sums over kinds of edges; it warns of kinds of nodes that no edge leads to."""
    import torch_geometric.nn as pyg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pyg.to_hetero(network, metadata, aggr="sum")


def built_for(
    reads: Reads, build: Callable[..., nn.Module], classes: int, options: Mapping[str, Any], name: str
) -> nn.Module:
    """Build a teacher for what it reads.

    Of graphs: one of `graphkd.teachers` becomes `Pooled`, with an option `pool`; a function of one's own makes a module
    `(x, edge_index, batch=batch) -> (G, C)` from `(in_features, classes)`. Of several kinds of nodes: `sage` and `gat`
    are made for these by `HeteroGNN`; a function of one's own is called with the lazy width `(-1, -1)`, and what it
    returns goes through PyG's `to_hetero`, unless its `forward` takes an `x_dict`.

    Raises:
        TypeError: it has no such option.
        ValueError: it is for plain graphs alone.
    """
    ours = build in TEACHERS.values()
    if isinstance(reads, GraphSet):
        if not ours:
            return build(reads.x.shape[1], classes, **options)
        return _pooled(build, reads.x.shape[1], classes, dict(options), name)
    assert isinstance(reads, Hetero)
    if not ours:
        try:
            network = build((-1, -1), classes, **options)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"the teacher {name!r} is called with the width (-1, -1) on several kinds of nodes, for layers that "
                f"take pairs, as torch_geometric.nn.GraphSAGE, and fails: {error}"
            ) from error
        if next(iter(inspect.signature(network.forward).parameters), "") != "x_dict":
            network = to_hetero(network, reads.metadata)
    else:
        network = _hetero(name, reads, classes, dict(options))
    device, dtype = torch.device("cpu"), torch.float32
    given, named = reads.arguments(device, dtype)
    with torch.no_grad():  # lazy layers learn their widths
        network.eval()(*given, **named)
    return network.train()


def _pooled(build: Callable[..., nn.Module], width: int, classes: int, options: dict[str, Any], name: str) -> nn.Module:
    pool = options.pop("pool", "sum")
    if pool not in ("sum", "mean", "max"):
        raise ValueError(f"pool is 'sum', 'mean' or 'max', not {pool!r}")
    known = inspect.signature(build).parameters
    hidden = options.get("hidden", known["hidden"].default if "hidden" in known else 64)
    body = build(width, hidden, **options)
    if not (isinstance(body, GNN) and body.pooled) or hasattr(body, "auxiliary_loss") or hasattr(body, "extras"):
        raise ValueError(f"the teacher {name!r} cannot be pooled over graphs; choose gin, sage, gcn, gat or appnp")
    rate = options.get("dropout", known["dropout"].default if "dropout" in known else 0.5)
    return Pooled(body, [hidden] * len(body.layers), classes, rate, pool)


def _hetero(name: str, reads: Hetero, classes: int, options: dict[str, Any]) -> nn.Module:
    from torch_geometric.nn import GATConv, SAGEConv

    makers: dict[str, Callable[[int], nn.Module]] = {
        "sage": lambda width: SAGEConv((-1, -1), width),
        "gat": lambda width: GATConv((-1, -1), width, add_self_loops=False),
    }
    if name not in makers:
        raise ValueError(
            f"the teacher {name!r} is for one kind of nodes; choose 'sage', 'gat', or a function (in_features, "
            "classes) -> Module of layers for pairs of widths, as torch_geometric.nn.GraphSAGE"
        )
    check_known(f"teacher {name!r} on several kinds of nodes", options, ("layers", "hidden", "dropout"))
    layers, hidden = options.get("layers", 2), options.get("hidden", 64)
    widths = [*[hidden] * (layers - 1), classes]
    convs = [makers[name](width) for width in widths]
    inputs = {kind: x.shape[1] for kind, x in reads.x.items()}
    return HeteroGNN(inputs, hidden, convs, reads.metadata, reads.target, options.get("dropout", 0.5))
