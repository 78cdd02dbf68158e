from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

_BLOCK = 1 << 22  # distances held at once


class Codebook(nn.Module):
    r"""M code vectors; replaces each row by the nearest code, with a straight-through gradient.

    $$ c_i = \arg\min_j \|r_i - e_j\|, \qquad q_i = r_i + \mathrm{sg}(e_{c_i} - r_i) $$

    The first rows seen in training start it by k-means. Then, in each training step, with $n_j$ rows of code j,

    $$ N_j \leftarrow \gamma N_j + (1 - \gamma) n_j, \quad
       S_j \leftarrow \gamma S_j + (1 - \gamma) \sum_{c_i = j} r_i, \quad e_j = S_j / N_j, $$

    or the vectors are parameters, which a loss moves, and $N_j$ alone is kept. Where $N_j$ falls below `dead`, the code
    moves to a row drawn at random.

    Args:
        codes: M.
        width: of rows and codes.
        update: `ema`, the means above, or `gradient`.
        decay: $\gamma$.
        dead: rows a step, on average, below which a code counts as unused; 0 leaves it where it is.

    Shape: rows `(N, width)` to q `(N, width)` and c `(N,)`. What is drawn comes from PyTorch's global generator, like
    the dropout of the network around it.
    """

    vectors: Tensor
    count: Tensor
    total: Tensor
    started: Tensor

    def __init__(
        self,
        codes: int,
        width: int,
        update: Literal["ema", "gradient"] = "ema",
        decay: float = 0.8,
        dead: float = 1.0,
    ) -> None:
        super().__init__()
        if update not in ("ema", "gradient"):
            raise ValueError(f"the update of a codebook is 'ema' or 'gradient', not {update!r}")
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of a codebook is at least 0 and below 1, got {decay}")
        vectors = torch.randn(codes, width)
        if update == "gradient":
            self.vectors = nn.Parameter(vectors)
        else:
            self.register_buffer("vectors", vectors)
        self.register_buffer("count", torch.ones(codes))
        self.register_buffer("total", vectors.clone())
        self.register_buffer("started", torch.tensor(False))
        self.update, self.decay, self.dead = update, decay, dead

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and not self.started:
            self._start(rows.detach())
        codes = nearest(rows.detach(), self.vectors)
        chosen = self.vectors[codes].detach()  # before they move on
        if self.training:
            self._step(rows.detach(), codes)
        return rows + (chosen - rows).detach(), codes

    def loss(self, rows: Tensor, codes: Tensor) -> Tensor:
        """Mean squared distance of codes to their rows where codes learn by gradient, else 0."""
        if self.update == "ema":
            return rows.new_zeros(())
        return (rows.detach() - self.vectors[codes]).square().sum(1).mean()

    @torch.no_grad()
    def _start(self, rows: Tensor) -> None:
        self.vectors.copy_(k_means(rows, len(self.vectors)))
        self.count.copy_(torch.bincount(nearest(rows, self.vectors), minlength=len(self.vectors)))
        self.total.copy_(self.vectors * self.count[:, None])
        self.started.fill_(True)

    @torch.no_grad()
    def _step(self, rows: Tensor, codes: Tensor) -> None:
        self.count.lerp_(torch.bincount(codes, minlength=len(self.count)).to(self.count), 1 - self.decay)
        self.total.lerp_(torch.zeros_like(self.total).index_add_(0, codes, rows), 1 - self.decay)
        if self.update == "ema":
            self.vectors.copy_(self.total / self.count.clamp_min(torch.finfo(rows.dtype).tiny)[:, None])
        idle = (self.count < self.dead).nonzero().flatten()
        fresh = rows[torch.randint(len(rows), (len(idle),))]
        self.vectors[idle] = fresh
        self.count[idle] = self.dead  # one row a step keeps it
        self.total[idle] = self.dead * fresh


@torch.no_grad()
def nearest(rows: Tensor, vectors: Tensor) -> Tensor:
    """The number of the vector `(M, d)` nearest to each row `(N, d)`, in blocks of rows.

    >>> nearest(torch.tensor([[0.1], [0.9]]), torch.tensor([[0.0], [1.0]]))
    tensor([0, 1])
    """
    half = vectors.square().sum(1) / 2
    return torch.cat([(half - part @ vectors.T).argmin(1) for part in rows.split(max(1, _BLOCK // len(vectors)))])


@torch.no_grad()
def k_means(rows: Tensor, codes: int, generator: torch.Generator | None = None, steps: int = 10) -> Tensor:
    """Centres `(codes, d)` of rows `(N, d)` by Lloyd's algorithm, from `codes` rows drawn at random.

    A sample of 64 rows a code is all that is looked at.

    Raises:
        ValueError: there are fewer rows than codes.
    """
    if len(rows) < codes:
        raise ValueError(f"a codebook of {codes} codes needs at least as many nodes to start from, got {len(rows)}")
    sample = rows[torch.randperm(len(rows), generator=generator)[: 64 * codes]]
    return lloyd(sample, sample[:codes], steps)


@torch.no_grad()
def lloyd(rows: Tensor, centres: Tensor, steps: int = 10) -> Tensor:
    """Move centres `(M, d)` to the mean of the rows `(N, d)` nearest to each, `steps` times; one without rows stays.

    >>> lloyd(torch.tensor([[0.0], [2.0], [10.0]]), torch.tensor([[0.0], [9.0], [99.0]]), steps=1).flatten()
    tensor([ 1., 10., 99.])
    """
    for _ in range(steps):
        chosen = nearest(rows, centres)
        count = torch.bincount(chosen, minlength=len(centres)).to(rows.dtype)[:, None]
        total = torch.zeros_like(centres).index_add_(0, chosen, rows)
        centres = torch.where(count > 0, total / count.clamp_min(1), centres)
    return centres


def code_use(codes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    r"""Share of the `size` codes that occur among `codes`, and the perplexity $\exp H$ of their histogram.

    >>> code_use(torch.tensor([0, 0, 3, 3]), 4)
    (tensor(0.5000), tensor(2.))
    """
    share = torch.bincount(codes, minlength=size) / len(codes)
    return (share > 0).float().mean(), torch.special.entr(share).sum().exp()
