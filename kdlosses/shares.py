"""Unequal data: which items belong to which client."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def proportions(classes: int, clients: int, concentration: float, seed: int = 0) -> Tensor:
    r"""Draw how the items of each class are shared among clients, a Dirichlet distribution a class.

    $$ p_c \sim \mathrm{Dir}(\alpha 1_K), \quad \sum_k p_{ck} = 1 $$

    The smaller $\alpha$, the more of a class lies with one client.

    Args:
        classes: number C of classes.
        clients: number K of clients.
        concentration: $\alpha$; infinite shares each class evenly.
        seed: of the draw.

    Returns:
        `(C, K)`, float64.

    Raises:
        ValueError: there is no client, or the concentration is not above 0.

    >>> proportions(3, 2, math.inf).tolist()
    [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    """
    if clients < 1:
        raise ValueError(f"clients is how many share the data, at least 1, got {clients}")
    if not concentration > 0:
        raise ValueError(f"shares is the concentration of a Dirichlet distribution, above 0, got {concentration}")
    if concentration == math.inf:
        return torch.full((classes, clients), 1 / clients, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = torch.full((classes, clients), concentration + 1, dtype=torch.float64)
        larger = torch.distributions.Gamma(shape, 1.0).sample()
        uniform = torch.rand(classes, clients, dtype=torch.float64)
    log = larger.log() + uniform.log() / concentration  # of a gamma variable of shape alpha, which may underflow
    return log.softmax(1)


def dealt(labels: Tensor, shared: Tensor, seed: int = 0) -> list[Tensor]:
    """Deal items out by class: each item to one client, of each class as near to its share as whole items allow.

    Args:
        labels: class `(n,)` of each item.
        shared: `(C, K)`, see `proportions`.
        seed: of the order in which the items of a class are dealt.

    Returns:
        for each client the positions of its items, ascending; some may have none.

    >>> [len(each) for each in dealt(torch.zeros(8, dtype=torch.long), torch.tensor([[0.75, 0.25]]))]
    [6, 2]
    """
    generator = torch.Generator().manual_seed(seed)
    found: list[list[Tensor]] = [[] for _ in range(shared.shape[1])]
    for label, share in enumerate(shared):
        items = (labels == label).nonzero().flatten()
        items = items[torch.randperm(len(items), generator=generator)]
        ends = (share.cumsum(0) * len(items)).round().long()
        ends[-1] = len(items)
        for client, part in enumerate(items.tensor_split(ends[:-1])):
            found[client].append(part)
    return [torch.cat(parts).sort().values for parts in found]
