from __future__ import annotations

import pytest
import torch

from graphkd.rules import FeatureMask


def test_it_starts_as_the_identity_and_can_leave_it() -> None:
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    mask = FeatureMask(5)
    assert torch.equal(mask(x), x)
    mask(x).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in mask.parameters())


def test_it_stays_within_its_bounds() -> None:
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    x[:, 2] = 0
    mask = FeatureMask(5, bound=0.3)
    with torch.no_grad():
        mask.map.weight.normal_(std=10, generator=torch.Generator().manual_seed(1))
    factor = (mask(x) / x)[:, [0, 1, 3, 4]]
    assert factor.min().item() == pytest.approx(0.7, abs=1e-3)
    assert factor.max().item() == pytest.approx(1.3, abs=1e-3)
    assert (mask(x)[:, 2] == 0).all()
    by_hand = x * (1 + 0.3 * torch.tanh(x @ mask.map.weight.t() + mask.map.bias))
    torch.testing.assert_close(mask(x), by_hand)
    maps = mask(x.view(2, 10, 10, 5).movedim(-1, 1))
    torch.testing.assert_close(maps.movedim(1, -1).reshape(200, 5), by_hand)


def test_a_bound_that_could_turn_a_sign_is_named() -> None:
    with pytest.raises(ValueError, match="bound must lie in"):
        FeatureMask(5, bound=1.0)
