from __future__ import annotations

import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.networks.codebook import Codebook, code_use
from graphkd.sparse.edges import drop_self_loops
from graphkd.sparse.rows import rows
from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import teacher
from graphkd.teachers.sage import MeanConv


class VQSAGE(GNN):
    r"""VQGraph's tokenizer: GraphSAGE whose last layer also gives each node a row that a codebook quantises.

    The last layer gives $(z'_i, r_i)$, the logits of plain SAGE and a row of the width d of the codes; with $q_i$ from
    the `Codebook`, $z_i = z'_i + U q_i$. U starts at 0, so that training starts from plain SAGE. Beside the
    cross-entropy there is

    $$ L_\mathrm{own} = a \, \mathrm{mean}_i \big(1 - \cos(x_i, D_x q_i)\big)^\gamma
         + b \, \mathrm{mean}_{ij} \mathrm{BCE}\big(\langle D_e q_i, D_e q_j \rangle / \sqrt d, A_{ij}\big)
         + \eta \, \mathrm{mean}_i \|r_i - \mathrm{sg}\, e_{c_i}\|^2, $$

    the first mean over nodes drawn in each step, the second over edges drawn and as many drawn pairs without one. Where
    the codes learn by gradient, $\mathrm{mean}_i \|\mathrm{sg}\, r_i - e_{c_i}\|^2$ is added.

    With `alone` the last layer gives $r_i$ alone, and the nodes are classified by what the codes of their neighbours,
    and their own, say: $z_i = U \, \mathrm{mean}_{j \in N(i) \cup \{i\}} D_e q_j + c$, where U starts at random.
    """

    supports_edge_weight = False  # its own losses count every edge the same

    def __init__(
        self,
        widths: tuple[int, ...],
        dropout: float,
        codebook: Codebook,
        *,
        node: float,
        edge: float,
        commit: float,
        gamma: float,
        sample: int,
        alone: bool = False,
    ) -> None:
        width = codebook.vectors.shape[1]
        *inner, classes = widths
        self.alone, self.split = alone, [0 if alone else classes, width]
        super().__init__([MeanConv(a, b) for a, b in itertools.pairwise([*inner, sum(self.split)])], dropout)
        self.codebook = codebook
        self.from_code: nn.Module = MeanConv(width, classes) if alone else nn.Linear(width, classes, bias=False)
        if isinstance(self.from_code, nn.Linear):
            nn.init.zeros_(self.from_code.weight)
        self.node_decoder, self.edge_decoder = nn.Linear(width, widths[0]), nn.Linear(width, width)
        self.node, self.edge, self.commit, self.gamma, self.sample = node, edge, commit, gamma, sample
        self._own: Tensor | None = None
        self._keys: tuple[Tensor, Tensor] | None = None

    def outputs(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> list[Tensor]:
        *hidden, last = super().outputs(x, edge_index, edge_weight)
        logits, r = last.split(self.split, dim=1)
        r = r.float() if r.dtype is torch.bfloat16 else r  # as its running means
        q, codes = self.codebook(r)
        if self.training:
            self._own = self._own_loss(x, edge_index, r, q, codes)
        if self.alone:
            return [*hidden, self.from_code(self.edge_decoder(q), edge_index)]
        return [*hidden, logits + self.from_code(q)]

    def auxiliary_loss(self) -> Tensor:
        """The tokenizer's own losses for the last forward pass in training."""
        if self._own is None:
            raise RuntimeError("vqsage: call auxiliary_loss() once after each forward pass in training mode")
        own, self._own = self._own, None
        return own

    def extras(self, x: Tensor, edge_index: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """`code`, the row r of each node; `codebook`, and how much of it these nodes use: `usage`, `perplexity`."""
        r = super().outputs(x, edge_index)[-1].split(self.split, dim=1)[1].contiguous()
        usage, perplexity = code_use(self.codebook(r)[1], len(self.codebook.vectors))
        return {"code": r}, {"codebook": self.codebook.vectors, "usage": usage, "perplexity": perplexity}

    def _own_loss(self, x: Tensor, edge_index: Tensor, r: Tensor, q: Tensor, codes: Tensor) -> Tensor:
        own = self.commit * (r - q.detach()).square().sum(1).mean() + self.codebook.loss(r, codes)
        if self.node > 0:
            drawn = torch.randint(len(q), (min(self.sample, len(q)),))
            x_drawn = rows(x, drawn).to_dense()
            cosine = F.cosine_similarity(x_drawn, self.node_decoder(q[drawn]))
            own = own + self.node * (1 - cosine).clamp_min(0).pow(self.gamma).mean()
        if self.edge > 0:
            pairs, linked = self._drawn_pairs(edge_index, len(q))
            a, b = self.edge_decoder(q[pairs.flatten()]).view(2, pairs.shape[1], -1)
            scores = (a * b).sum(1) / q.shape[1] ** 0.5
            own = own + self.edge * F.binary_cross_entropy_with_logits(scores, linked.to(scores))
        return own

    def _drawn_pairs(self, edge_index: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
        """Edges drawn uniformly, then as many pairs without one but for those that had to be given up; and a mask."""
        if self._keys is None or self._keys[0] is not edge_index:
            source, target = drop_self_loops(edge_index)
            self._keys = edge_index, (source * nodes + target).unique()
        keys = self._keys[1]
        there = keys[torch.randint(len(keys), (min(self.sample, len(keys)),))]
        key = torch.randint(nodes * nodes, (len(there),))
        edge = keys[torch.searchsorted(keys, key).clamp_max(len(keys) - 1)] == key
        key = torch.cat([there, key[~edge & (key // nodes != key % nodes)]])
        return torch.stack([key // nodes, key % nodes]), torch.arange(len(key)) < len(there)


@teacher(weight_decay=5e-4)
def vqsage(
    in_features: int,
    classes: int,
    *,
    layers: int = 2,
    hidden: int = 128,
    dropout: float = 0.0,
    codes: int = 256,
    width: int = 64,
    update: Literal["ema", "gradient"] = "ema",
    decay: float = 0.8,
    dead: float = 1.0,
    node: float = 0.1,
    edge: float = 1.0,
    commit: float = 0.25,
    gamma: float = 1.0,
    sample: int = 512,
    alone: bool = False,
) -> VQSAGE:
    r"""SAGE as VQGraph's tokenizer, see `VQSAGE`.

    `layers`, `hidden` and `dropout` are those of `sage`; `codes`, `width`, `update`, `decay` and `dead` of `Codebook`;
    `node`, `edge` and `commit` the weights a, b and $\eta$; `gamma` the exponent $\gamma$; `sample` how many nodes and
    how many edges a step draws; `alone` whether nodes are classified from codes alone.

    Yang et al., "VQGraph: Rethinking Graph Representation Space for Bridging GNNs and MLPs", ICLR 2024. Rows beside the
    logits, a width smaller than that of the features, the start by k-means, the revival of unused codes and sampled
    pairs are our own form: the authors' code classifies from the quantised rows alone, as with `alone`, makes them as
    wide as the features, and builds two matrices of nodes by nodes. `decay` and `commit` are theirs.
    """
    codebook = Codebook(codes, width, update, decay, dead)
    weights = dict(node=node, edge=edge, commit=commit, gamma=gamma)
    widths = (in_features, *[hidden] * (layers - 1), classes)
    return VQSAGE(widths, dropout, codebook, **weights, sample=sample, alone=alone)
