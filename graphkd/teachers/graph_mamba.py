from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from graphkd.networks.scan import selective_scan
from graphkd.sparse.edges import degree
from graphkd.sparse.rows import drop_features
from graphkd.sparse.walks import Walks
from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import teacher

_BLOCK = 512  # nodes at a time
_DRAWN = WeakTensorKeyDictionary()  # neighbourhoods, for as long as the edges that they are drawn along live


class Tokens(NamedTuple):
    """Neighbourhoods around nodes, the farthest first, each a part of the graph.

    Attributes:
        nodes: their nodes `(N, t, L)`; what is beyond the last one repeats it.
        mean: `(N, t, L, L)`, row i the shares with which node i and its neighbours in there are averaged; all 0 where a
            node is a repetition.
        member: `(N, t, L)`, share of each node in its neighbourhood; 0 where it is a repetition.
    """

    nodes: Tensor
    mean: Tensor
    member: Tensor


def neighbourhoods(edge_index: Tensor, nodes: int, reach: int, repeats: int, walks: int, seed: int) -> Tokens:
    """For each node and each distance k from `reach` to 1, so many times, what `walks` walks of k steps have met.

    Args:
        edge_index: `(2, E)`; walks go against its direction.
        nodes: number of nodes.
        reach: the greatest k.
        repeats: neighbourhoods of each k.
        walks: that each is the union of; a node without neighbours stays where it is.
        seed: of the walks.

    >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> found = neighbourhoods(path, 3, reach=1, repeats=1, walks=8, seed=0)
    >>> found.nodes[1, 0].unique(), found.mean[1, 0].sum()  # a row for each of the three
    (tensor([0, 1, 2]), tensor(3.))
    """
    draw, walk = torch.Generator().manual_seed(seed), Walks(edge_index.flip(0), nodes)
    edge = (edge_index[0] * nodes + edge_index[1]).unique()
    edge = torch.cat([edge.new_tensor([-1]), edge])  # so that there is something to look up
    found = []
    for k in range(reach, 0, -1):
        starts = torch.arange(nodes).repeat_interleave(repeats * walks)
        met = walk.walk(starts, k, draw).view(nodes, repeats, walks * k)
        itself = torch.arange(nodes).view(-1, 1, 1).expand(-1, repeats, 1)
        there = torch.cat([itself, met], 2).sort(2).values
        found.append(F.pad(there, (0, walks * (reach - k)), mode="replicate"))
    there = torch.cat(found, 1) if found else torch.empty(nodes, 0, 1, dtype=torch.long)
    known = torch.ones_like(there, dtype=torch.bool)
    known[..., 1:] = there[..., 1:] != there[..., :-1]
    parts = []
    for node, own in zip(there.split(_BLOCK), known.split(_BLOCK)):
        key = node.unsqueeze(2) * nodes + node.unsqueeze(3)  # from the last index to the one before it
        joined = edge[torch.searchsorted(edge, key).clamp_max(len(edge) - 1)] == key
        joined |= torch.eye(node.shape[2], dtype=torch.bool)
        joined &= own.unsqueeze(2) & own.unsqueeze(3)
        mean = joined.float()
        parts.append(mean / mean.sum(3, keepdim=True).clamp_min(1))
    return Tokens(there, torch.cat(parts), known / known.sum(2, keepdim=True))


class Direction(nn.Module):
    r"""A selective scan over a sequence in one direction, with a gate: one half of a block.

    Of a normalised sequence x, $u = \mathrm{SiLU}(\mathrm{conv}(W_u x))$, with a causal convolution over three steps of
    each channel, $\Delta = \mathrm{softplus}(W_\Delta u + b)$, $B = W_B u$, $C = W_C u$ and $A = -\exp(\log a)$ go into
    `selective_scan`; its outputs are multiplied by $\mathrm{SiLU}(W_g x)$.
    """

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.inwards, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.conv = nn.Conv1d(width, width, 3, padding=2, groups=width)
        self.step = nn.Linear(width, width)
        self.enters, self.leaves = (nn.Linear(width, states, bias=False) for _ in range(2))
        self.log_a = nn.Parameter(torch.arange(1.0, states + 1).log().expand(width, -1).clone())
        self.past = nn.Parameter(torch.ones(width))
        start = torch.empty(width).uniform_(math.log(1e-2), 0).exp()  # step sizes; sequences are short
        with torch.no_grad():
            self.step.bias.copy_(start + (-(-start).expm1()).log())

    def forward(self, x: Tensor) -> Tensor:
        u = F.silu(self.conv(self.inwards(x).transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        delta = F.softplus(self.step(u))
        y = selective_scan(u, delta, -self.log_a.exp(), self.enters(u), self.leaves(u), self.past)
        return y * F.silu(self.gate(x))


class Block(nn.Module):
    """A sequence, and what scans in both directions make of it once it is normalised: `(B, T, d)` to the same."""

    def __init__(self, width: int, states: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.forwards, self.backwards = Direction(width, states), Direction(width, states)
        self.outwards, self.dropout = nn.Linear(width, width), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        normal = self.norm(x)
        both = self.forwards(normal) + self.backwards(normal.flip(1)).flip(1)
        return x + self.dropout(self.outwards(both))


class Encoder(nn.Module):
    r"""Tokens of each node, and their mean, or the last of them, once blocks have read the sequence.

    A token is the mean over a neighbourhood S, of which i is a node,

    $$ \frac{1}{|S|} \sum_{i \in S} \mathrm{ReLU}\Big( \frac{1}{|S_i|} \sum_{j \in S_i} W x_j + b \Big),
       \qquad S_i = S \cap (N(i) \cup \{i\}), $$

    a graph layer within the neighbourhood alone. The last token is of the node by itself.
    """

    def __init__(self, in_features: int, width: int, layers: int, states: int, dropout: float, readout: str) -> None:
        super().__init__()
        self.readout = readout
        self.embed = nn.Linear(in_features, width)
        self.blocks = nn.ModuleList(Block(width, states, dropout) for _ in range(layers))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)

    def forward(self, z: Tensor, tokens: Tokens, nodes: Tensor) -> Tensor:
        """From $W x + b$ of all nodes, `(N, d)`, and their tokens, to rows `(n, d)` of some."""
        found = []
        for part in nodes.split(_BLOCK):
            near, mean, member = (each[part] for each in tokens)
            inside = (mean.to(z.dtype) @ z[near]).relu()
            far = (member.to(z.dtype).unsqueeze(2) @ inside).squeeze(2)
            sequence = self.dropout(torch.cat([far, z[part].relu().unsqueeze(1)], 1))
            for block in self.blocks:
                sequence = block(sequence)
            found.append(self.norm(sequence.mean(1) if self.readout == "mean" else sequence[:, -1]))
        return torch.cat(found)


class GraphMamba(GNN):
    """`Encoder`, if asked for a `Block` over all nodes by their degree, and a linear classifier."""

    supports_edge_weight = False  # walks take all edges alike
    pooled = False
    seed: Tensor

    def __init__(
        self,
        in_features: int,
        classes: int,
        *,
        layers: int,
        hidden: int,
        states: int,
        reach: int,
        repeats: int,
        walks: int,
        over_nodes: bool,
        readout: str,
        dropout: float,
    ) -> None:
        encoder = Encoder(in_features, hidden, layers, states, dropout, readout)
        super().__init__([encoder, nn.Linear(hidden, classes)], dropout)
        self.shape = reach, repeats, walks
        self.over = Block(hidden, states, dropout) if over_nodes else None
        self.register_buffer("seed", torch.randint(1 << 31, ()))  # of the walks: with its weights it finds them again

    def outputs(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> list[Tensor]:
        return self._answered(x, edge_index, torch.arange(len(x), device=x.device))

    def some(self, x: Tensor, edge_index: Tensor, nodes: Tensor) -> Tensor:
        """Logits `(n, C)` of some nodes: where no block reads all nodes, the sequences of others are left out."""
        if self.over is not None:
            return self(x, edge_index)[nodes]
        return self._answered(x, edge_index, nodes.to(x.device))[-1]

    def _answered(self, x: Tensor, edge_index: Tensor, nodes: Tensor) -> list[Tensor]:
        encoder: Any = self.layers[0]
        head = self.layers[1]
        with torch.autocast(x.device.type, enabled=False):  # no sparse product is in half precision
            z = encoder.embed(drop_features(x, self.dropout, self.training))
        found = encoder(z, self._drawn(edge_index, len(x)), nodes)
        if self.over is not None:
            order = degree(edge_index, len(x)).argsort(stable=True)
            found = self.over(found[order].unsqueeze(0))[0][order.argsort()]
        return [found, head(F.dropout(found, self.dropout, self.training))]

    def _drawn(self, edge_index: Tensor, nodes: int) -> Tokens:
        kept = _DRAWN.setdefault(edge_index, {})
        key = nodes, *self.shape, int(self.seed)
        if key not in kept:
            with torch.inference_mode(False), torch.no_grad():
                found = neighbourhoods(edge_index.cpu(), nodes, *self.shape, int(self.seed))
                kept[key] = Tokens(*(each.to(edge_index.device) for each in found))
        return kept[key]


@teacher(weight_decay=5e-4)
def graph_mamba(
    in_features: int,
    classes: int,
    *,
    layers: int = 1,
    hidden: int = 64,
    states: int = 8,
    reach: int = 3,
    repeats: int = 2,
    walks: int = 4,
    over_nodes: bool = False,
    readout: str = "mean",
    dropout: float = 0.5,
) -> GraphMamba:
    """Graph Mamba: each node is the end of a sequence of its neighbourhoods, read by selective state space models.

    From the farthest to the nearest, see `neighbourhoods`, then the node itself: sequences of `reach * repeats + 1`
    tokens. Tokens, blocks and scan are described at `Encoder`, `Block`, `Direction` and
    `graphkd.networks.scan.selective_scan`.

    Args:
        in_features: F.
        classes: C.
        layers: blocks over the sequence of a node.
        hidden: width of the tokens.
        states: n, of each channel.
        reach: m, steps of the longest walk; 0 reads no edges.
        repeats: s, neighbourhoods of each distance.
        walks: M, that a neighbourhood is the union of.
        over_nodes: whether one more block reads all nodes as one sequence, in the order of their degrees.
        readout: of a sequence that blocks have read, the `'mean'` of its tokens or the `'last'`, the node itself.
        dropout: share of features and of hidden units dropped in training.

    Raises:
        ValueError: `over_nodes` is no truth value, or there is no such `readout`.

    >>> network = graph_mamba(3, 2, hidden=8).eval()
    >>> network(torch.rand(5, 3), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])).shape
    torch.Size([5, 2])

    Paper: Behrouz, Hashemi, "Graph Mamba: Towards Learning on Graphs with State Space Models", KDD 2024, whose code
    is not published. Unions of walks as tokens, their order, scans in both directions with gates, a local encoding
    and the block over nodes by degree are theirs. The graph layer within a neighbourhood, what is read of a
    sequence, widths, start and schedule are ours. Walks are drawn once for a graph. Positional and structural
    encodings, which the paper finds dispensable, are left out.
    """
    if not isinstance(over_nodes, bool):
        raise ValueError(f"graph_mamba: over_nodes is True or False, got {over_nodes!r}")
    if readout not in ("mean", "last"):
        raise ValueError(f"graph_mamba: readout is 'mean' or 'last', got {readout!r}")
    return GraphMamba(
        in_features,
        classes,
        layers=layers,
        hidden=hidden,
        states=states,
        reach=reach,
        repeats=repeats,
        walks=walks,
        over_nodes=over_nodes,
        readout=readout,
        dropout=dropout,
    )
