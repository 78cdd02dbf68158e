from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest

from kdlosses.rules import mixed, mixup


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    partner, keep = mixup(4000, generator(), alpha)
    assert partner.sort().values.equal(torch.arange(4000))
    assert kstest(keep.numpy(), beta(alpha, alpha).cdf).pvalue > 0.01
    other = beta(2 * alpha, 2 * alpha).cdf
    assert kstest(keep.numpy(), other).pvalue < 1e-6  # the test would tell


@pytest.mark.parametrize("share", [0.0, 0.25, 0.41, 1.0])
def test_exactly_a_share_is_mixed(share: float) -> None:
    _, keep = mixup(400, generator(), share=share)
    assert (keep < 1).sum() == round(400 * share)


def test_seeds_say_all_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = mixup(50, generator(1)), mixup(50, generator(1)), mixup(50, generator(2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(one, two))
    assert not torch.equal(one[1], other[1])
    untouched = generator(1)
    mixup(50, untouched, share=0.0)
    assert torch.equal(untouched.get_state(), generator(1).get_state())


def test_formula_on_nodes_and_maps() -> None:
    for shape in [(6, 3), (6, 3, 2, 2)]:
        x = torch.randn(shape, generator=generator(), dtype=torch.float64)
        partner, keep = mixup(6, generator())
        found = mixed(x, x[partner], keep).numpy()
        for i in range(6):
            k = keep[i].item()
            np.testing.assert_allclose(found[i], k * x[i].numpy() + (1 - k) * x[partner[i]].numpy(), atol=1e-12)


def test_what_is_kept_whole_is_kept_to_the_bit_and_probabilities_stay_so() -> None:
    p = torch.randn(40, 5, generator=generator()).softmax(1)
    partner, keep = mixup(40, generator(), share=0.5)
    found = mixed(p, p[partner], keep)
    assert torch.equal(found[keep == 1], p[keep == 1])
    torch.testing.assert_close(found.sum(1), torch.ones(40))


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="alpha must be positive"):
        mixup(4, generator(), alpha=0.0)
    with pytest.raises(ValueError, match="alpha must be positive and finite, got inf"):
        mixup(4, generator(), alpha=float("inf"))
    with pytest.raises(ValueError, match="share is the part"):
        mixup(4, generator(), share=1.5)
