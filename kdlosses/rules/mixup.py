from __future__ import annotations

import math

import torch
from torch import Tensor


def mixup(count: int, generator: torch.Generator, alpha: float = 1.0, share: float = 1.0) -> tuple[Tensor, Tensor]:
    r"""Draw partners and proportions of mixup, or of partial mixup with a `share` below 1.

    $$ \tilde x_i = \kappa_i x_i + (1 - \kappa_i) x_{\pi(i)}, \qquad
       \kappa_i \sim \mathrm{Beta}(\alpha, \alpha) \text{ for a share of the samples, 1 for the others,} $$

    with $\pi$ a random permutation; the same for labels and for a teacher's probabilities, see `mixed`.

    Args:
        count: number n of samples.
        generator: draws; the global one is left alone.
        alpha: of the Beta distribution; 1 is uniform, towards 0 one of the two is nearly kept as it is.
        share: of the samples to mix, 0 to 1; 0 draws nothing.

    Returns:
        $\pi$ `(n,)` and $\kappa$ `(n,)`.

    Raises:
        ValueError: `alpha` is not positive and finite, or `share` is no share.

    Paper: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, there with one $\kappa$ a batch; the
    share: Choi et al., "Understanding the Role of Mixup in Knowledge Distillation: An Empirical Study", WACV 2023.
    Their code draws the samples left alone with replacement, so that its option 0.9 mixes 0.41 of them: `share=0.41`.

    >>> partner, keep = mixup(4, torch.Generator().manual_seed(0), share=0.5)
    >>> sorted(partner.tolist()), (keep == 1).sum().item()
    ([0, 1, 2, 3], 2)
    """
    if not 0 < alpha < math.inf:
        raise ValueError(f"mixup: alpha must be positive and finite, got {alpha}")
    if not 0 <= share <= 1:
        raise ValueError(f"mixup: share is the part of the samples to mix, from 0 to 1, got {share}")
    keep = torch.ones(count)
    if share == 0:
        return torch.arange(count), keep
    chosen = torch.randperm(count, generator=generator)[: round(share * count)]
    keep[chosen] = beta(len(chosen), generator, alpha)
    return torch.randperm(count, generator=generator), keep


def beta(count: int, generator: torch.Generator, alpha: float) -> Tensor:
    """Numbers `(count,)` from Beta(alpha, alpha), without using the global generator."""
    with torch.random.fork_rng(devices=[]):  # distributions take no generator
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return torch.distributions.Beta(alpha, alpha).sample((count,))


def mixed(values: Tensor, others: Tensor, keep: Tensor) -> Tensor:
    r"""Mix samples `(n, *)` with others, $\kappa_i v_i + (1 - \kappa_i) v'_i$, where $\kappa$ is `(n,)`.

    >>> values = torch.tensor([[0.0], [8.0]])
    >>> mixed(values, values[[1, 0]], torch.tensor([0.75, 1.0]))
    tensor([[2.],
            [8.]])
    """
    return torch.lerp(others, values, keep.to(values).view(-1, *[1] * (values.ndim - 1)))
