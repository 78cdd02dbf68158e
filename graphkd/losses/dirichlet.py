from __future__ import annotations

from torch import Tensor

from kdlosses.unit import length, unit


def dirichlet_energy(features: Tensor, edge_index: Tensor, fixed_lengths: bool = False) -> Tensor:
    r"""Normalised Dirichlet energy: how much nodes differ from their neighbours, from 0 to at most 4.

    $$ E(H) = \frac{1}{|E|} \sum_{(i, j) \in E}
       \left\| \frac{h_i}{\|h_i\|} - \frac{h_j}{\|h_j\|} \right\|^2 $$

    Unchanged when H is scaled. The ratio of the energies after and before a layer shows whether it smooths. This is not
    a loss between a student and a teacher; the recipe `tined` makes one of it.

    Args:
        features: `(N, d)`; a row of zeros stays one.
        edge_index: `(2, E)`, at least one edge; a uniform sample of the edges gives an unbiased estimate.
        fixed_lengths: whether the lengths count as constants, as in the paper's code: no gradient goes through them,
            and that of the energy is only its part along the differences.

    Paper: Zhou et al., "TINED: GNNs-to-MLPs by Teacher Injection and Dirichlet Energy Distillation", ICML 2025, divides
    by the nodes (factor E / N, which a ratio does not see).

    >>> import torch
    >>> dirichlet_energy(torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]]), torch.tensor([[0, 0], [1, 2]])).item()
    1.0
    """
    if fixed_lengths:
        lengths = length(features.detach(), 1, keepdim=True)
        directions = features / lengths.masked_fill(lengths == 0, 1)
    else:
        directions = unit(features, 1)
    start, end = (directions.index_select(0, ends) for ends in edge_index)  # indexing has a slow gradient
    return (start - end).square().sum(1).mean()
