from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from graphkd.networks.codebook import Codebook
from graphkd.networks.mlp import BatchNorm
from graphkd.sparse.edges import by_target, drop_self_loops, smoother
from graphkd.sparse.neighbours import two_hop_sets
from graphkd.sparse.rows import Matrix, rows
from graphkd.teachers.registry import teacher
from graphkd.teachers.stored import BLOCK, Space, StoredGNN, blocks, hop_features

_HOPS = 2
_DRAWN = WeakTensorKeyDictionary()  # sets of nodes, for as long as the edges that they are drawn along live


class Stored(NamedTuple):
    """What LargeGT reads of a graph.

    Attributes:
        hops: features `(N, F)` over 0, 1 and 2 hops.
        sets: nodes `(N, K)` drawn around each, itself first.
    """

    hops: tuple[Matrix, ...]
    sets: Tensor


class LocalAttention(nn.Module):
    r"""Attention among the 3 K tokens of a node: what K nodes around it have over 0, 1 and 2 hops.

    With tokens $t_j$, the first that of the node itself, and LN layer normalisation without parameters in common,

    $$ o_j = \mathrm{LN}\big(t_j + W_o \, \mathrm{attention}(Q_j, K, V)\big), \quad (Q, K, V) = W \, \mathrm{LN}(t),
       \qquad h = o_0 + \sum_{j > 0} \mathrm{softmax}_j(a^\top o_j) \, o_j. $$

    Nodes two hops away bring what lies two hops from them: the field is four hops wide.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inwards, self.outwards = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.readout = nn.Linear(width, 1, bias=False)
        self.heads, self.dropout = heads, dropout

    def forward(self, tokens: Tensor, sets: Tensor) -> Tensor:
        """From tokens `(U, 3, d)` of different nodes and, of each asked node, the places of K of these, `(B, K)`."""
        inward = self.inwards(self.before(tokens))  # of a node once, however many sets it is in
        found = []
        for part in sets.split(BLOCK // 4):
            t = tokens[part].flatten(1, 2)
            q, k, v = inward[part].flatten(1, 2).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            o = self.after(t + F.dropout(self.outwards(mixed), self.dropout, self.training))
            others = o[:, 1:]
            found.append(o[:, 0] + (self.readout(others).softmax(1) * others).sum(1))
        return torch.cat(found)


class GlobalAttention(nn.Module):
    r"""Attention to all nodes, each in the form of the code nearest to it, at the cost of the number of codes.

    The rows $r_i$ of nodes, $\bar r_i$ normalised over the batch, have the codes $c_i = \arg\min_j \|\bar r_i - e_j\|$
    of a `Codebook`, moved by EMA k-means, which is told how many rows each has: $n_j$. With $\tilde e_j$ the code in
    the scale of r, and $\tilde e'_j$ its first half,

    $$ h_i = \sum_j \mathrm{softmax}_j\Big( \frac{(W_q r_i)^\top W_k \tilde e_j}{\sqrt d} + \log n_j \Big)
       W_v \tilde e'_j, $$

    which is attention over $\sum_j n_j$ nodes that are as their codes are. A code without rows has no weight.
    """

    def __init__(self, rows_width: int, width: int, heads: int, codes: int, decay: float, dead: float) -> None:
        super().__init__()
        self.norm = BatchNorm(rows_width, affine=False)
        self.codebook = Codebook(codes, rows_width, "ema", decay, dead)
        self.query, self.key = nn.Linear(rows_width, width), nn.Linear(rows_width, width)
        self.value = nn.Linear(rows_width // 2, width)
        self.heads = heads

    @torch.no_grad()
    def learn(self, r: Tensor) -> None:
        """Move the codes towards rows `(U, d)`."""
        with torch.autocast(r.device.type, enabled=False):
            self.codebook(self.norm(r.float() if r.dtype is torch.bfloat16 else r))

    def codes(self) -> Tensor:
        r"""$\tilde e$ `(M, d)`."""
        mean, var = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert var is not None
        return self.codebook.vectors * (var + self.norm.eps).sqrt() + mean

    def forward(self, r: Tensor) -> Tensor:
        codes = self.codes().to(r)
        count = self.codebook.count
        often = count.clamp_min(torch.finfo(count.dtype).tiny).log()
        q, k, v = (
            layer(each).unflatten(1, (self.heads, -1)).transpose(0, 1)
            for layer, each in ((self.query, r), (self.key, codes), (self.value, codes.chunk(2, 1)[0]))
        )
        mixed = F.scaled_dot_product_attention(q, k, v, often.to(q).expand(len(r), -1))
        return mixed.transpose(0, 1).flatten(1)


class LargeGT(StoredGNN):
    r"""A graph transformer that reads K nodes around each, and all nodes by way of a codebook.

    Stored beforehand are $\hat A x$, $\hat A^2 x$ and, of each node, K nodes within two hops, see `two_hop_sets`. The
    tokens of a node are $W_2 \mathrm{ReLU}(W_1 \hat A^h x + b)$ for h = 0, 1, 2; its row in the `GlobalAttention` is
    $[W_4 \mathrm{ReLU}(W_3 x + b) ; W_5 \hat A^2 x + b]$: what it has, and where it is. Local and global rows are
    classified together.

    On a whole graph $\hat A^h (x W)$ stands for $(\hat A^h x) W$: the same, and nothing as wide as the features is
    stored.
    """

    supports_edge_weight = False  # sets are drawn as if all edges were alike
    pooled = False
    seed: Tensor

    def __init__(
        self,
        in_features: int,
        classes: int,
        *,
        hidden: int,
        heads: int,
        sample: int,
        codes: int,
        width: int,
        decay: float,
        dead: float,
        part: str,
        dropout: float,
    ) -> None:
        ways = 2 if part == "both" else 1
        joined = nn.Sequential(
            nn.Linear(ways * hidden, hidden),
            BatchNorm(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            BatchNorm(hidden),
            nn.ReLU(),
        )
        super().__init__([joined, nn.Linear(hidden, classes)], dropout)
        self.widths, self.sample, self.part = [hidden, hidden, width], sample, part
        self.embed = nn.Linear(in_features, sum(self.widths), bias=False)
        self.bias = nn.Parameter(torch.zeros(sum(self.widths)))
        if part != "global":
            self.token = nn.Linear(hidden, hidden)
            self.local = LocalAttention(hidden, heads, dropout)
        if part != "local":
            self.own = nn.Linear(hidden, width)
            self.globally = GlobalAttention(2 * width, hidden, heads, codes, decay, dead)
        self.register_buffer("seed", torch.randint(1 << 31, ()))  # of the sets: with its weights it finds them again

    def outputs(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> list[Tensor]:
        sets, hop = self._drawn(edge_index, len(x))
        return self._answered(self._embedded(x, hop), sets)

    def some(self, x: Tensor, edge_index: Tensor, nodes: Tensor) -> Tensor:
        """Logits `(n, C)` of some nodes of a graph: in training no more is computed than they read."""
        sets, hop = self._drawn(edge_index, len(x))
        ids, place = sets[nodes.to(sets.device)].unique(return_inverse=True)
        return self._answered([each[ids] for each in self._embedded(x, hop)], place)[-1]

    def store(
        self,
        x: Matrix,
        crow: Tensor,
        source: Tensor,
        *,
        share: tuple[int, int] = (0, 1),
        space: Space = torch.empty,
        joined: Callable[[], object] = lambda: None,
    ) -> Stored:
        hops = hop_features(x, crow, source, _HOPS, share=share, space=space, joined=joined)
        sets = space(len(crow) - 1, self.sample).view(torch.int32)  # numbers of nodes, in the space of floats
        for block in blocks(len(crow) - 1, share):
            sets[block] = self._around(crow, source, block).int()
        joined()
        return Stored((x, *hops), sets)

    def answer(self, stored: Stored, nodes: Tensor) -> Tensor:
        ids, place = stored.sets[nodes].long().unique(return_inverse=True)
        weight = self.embed.weight
        hops = [self.embed(rows(each, ids).to_dense().to(weight)) for each in stored.hops]
        return self._answered(hops, place.to(weight.device))[-1]

    def check_batch(self, size: int) -> None:
        if self.part == "local":
            return
        codes = len(self.globally.codebook.vectors)
        if codes > size * self.sample:
            raise ValueError(
                f"large_gt: {codes} codes start from the nodes of a batch, at most batch_size * sample = "
                f"{size * self.sample}: raise one of the two, or lower codes"
            )

    def _around(self, crow: Tensor, source: Tensor, block: Tensor) -> Tensor:
        draw = torch.Generator().manual_seed(int(self.seed) + int(block[0]))
        return two_hop_sets(crow, source, block, self.sample, draw)

    @property
    def _wide(self) -> torch.dtype:  # no sparse product is in half precision
        return torch.promote_types(self.embed.weight.dtype, torch.float32)

    def _drawn(self, edge_index: Tensor, nodes: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The sets of all nodes, and a hop over the edges."""
        kept, dtype = _DRAWN.setdefault(edge_index, {}), self._wide
        key = nodes, dtype, self.sample, int(self.seed)
        if key not in kept:
            with torch.inference_mode(False), torch.no_grad():
                crow, source = by_target(drop_self_loops(edge_index), nodes)
                there = crow.cpu(), source.cpu()
                sets = torch.cat([self._around(*there, block) for block in blocks(nodes)])
                kept[key] = sets.to(edge_index.device), smoother(crow, source, dtype)
        return kept[key]

    def _embedded(self, x: Tensor, hop: Callable[[Tensor], Tensor]) -> list[Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            found = [self.embed(x).to(self._wide)]
            for _ in range(_HOPS):
                found.append(hop(found[-1]))
        return [each.to(self.embed.weight.dtype) for each in found]

    def _answered(self, hops: list[Tensor], sets: Tensor) -> list[Tensor]:
        """Hidden layer and logits, from embedded features `(U, d)` over each number of hops."""
        split = [(each + self.bias).split(self.widths, 1) for each in hops]
        ways = []
        if self.part != "global":
            tokens = torch.stack([token for token, _, _ in split], 1).relu()
            ways.append(self.local(self.token(F.dropout(tokens, self.dropout, self.training)), sets))
        if self.part != "local":
            own = self.own(F.dropout(split[0][1].relu(), self.dropout, self.training))
            r = torch.cat([own, split[-1][2].to(own.dtype)], 1)
            if self.training:
                self.globally.learn(r)
            ways.append(self.globally(r[sets[:, 0]]))
        hidden, head = self.layers
        found = hidden(torch.cat(ways, 1))
        return [found, head(F.dropout(found, self.dropout, self.training))]


@teacher(weight_decay=0.01)
def large_gt(
    in_features: int,
    classes: int,
    *,
    hidden: int = 64,
    heads: int = 2,
    sample: int = 8,
    codes: int = 64,
    width: int = 32,
    decay: float = 0.99,
    dead: float = 0.1,
    part: Literal["both", "local", "global"] = "both",
    dropout: float = 0.5,
) -> LargeGT:
    r"""LargeGT, a graph transformer for large graphs, see `LargeGT`, `LocalAttention` and `GlobalAttention`.

    With `scale="sampled"` it learns from and answers for batches of nodes; what is stored of the graph lies beside the
    cache until that is written.

    Args:
        in_features: F.
        classes: C.
        hidden: width of the tokens, and of the layer that is classified.
        heads: of both kinds of attention; `hidden` is a multiple.
        sample: K, nodes drawn around each, itself among them (paper: 50 or 100).
        codes: M, of the codebook (authors' code: 4096).
        width: of what a node has and of where it is, in the global attention (64).
        decay: of the codebook (0.99).
        dead: see `Codebook`.
        part: `local` or `global` leaves the other out.
        dropout: share of hidden units dropped in training.

    Raises:
        ValueError: `hidden` is no multiple of `heads`, or a part is unknown; in training, fewer rows than codes, which
            in batches is said beforehand if `codes` exceeds `batch_size * sample`.

    >>> network = large_gt(3, 2, hidden=8, sample=4, codes=4).eval()
    >>> network(torch.rand(5, 3), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])).shape
    torch.Size([5, 2])

    Paper: Dwivedi et al., "Graph Transformers for Large Graphs", 2023. Stored hops and sets, tokens, one layer of
    attention, the readout and the codebook are theirs. Ours: where a node is, it is told by $\hat A^2 x$, not by
    node2vec, so that nodes of another graph can be asked about; codes learn from all nodes that a batch reads, start by
    k-means and move when unused; $n_j$ is the codebook's moving average, not a count over all nodes; a node without
    neighbours stands for its own sample, not random nodes; heads share the width `hidden`.
    """
    if hidden % heads:
        raise ValueError(f"large_gt: hidden ({hidden}) must be a multiple of heads ({heads})")
    if part not in ("both", "local", "global"):
        raise ValueError(f"large_gt: part is 'both', 'local' or 'global', not {part!r}")
    if not 0 <= decay < 1:
        raise ValueError(f"large_gt: decay is from 0 and below 1, got {decay!r}")
    return LargeGT(
        in_features,
        classes,
        hidden=hidden,
        heads=heads,
        sample=sample,
        codes=codes,
        width=width,
        decay=decay,
        dead=dead,
        part=part,
        dropout=dropout,
    )
