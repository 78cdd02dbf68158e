from __future__ import annotations

import pytest
import torch

from kdlosses.rules import stratified


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.77, 1.0])
def test_every_group_gives_its_share_and_one_at_least(share: float) -> None:
    sizes = [1, 3, 0, 40, 7]
    groups = torch.repeat_interleave(torch.arange(5), torch.tensor(sizes))
    groups = groups[torch.randperm(len(groups), generator=generator(3))]
    drawn = torch.bincount(groups[stratified(groups, share, generator())], minlength=5)
    assert drawn.tolist() == [max(1, round(share * size)) if size else 0 for size in sizes]


def test_each_member_is_drawn_as_often_as_another() -> None:
    groups = torch.tensor([0] * 6 + [1] * 4)
    total, source = torch.zeros(10), generator()
    for _ in range(4000):
        total += stratified(groups, 0.5, source)
    torch.testing.assert_close(total / 4000, torch.full((10,), 0.5), atol=0.04, rtol=0)


def test_the_seed_says_all_and_everything_draws_nothing() -> None:
    groups = torch.arange(60) % 3
    assert torch.equal(stratified(groups, 0.3, generator(1)), stratified(groups, 0.3, generator(1)))
    assert not torch.equal(stratified(groups, 0.3, generator(1)), stratified(groups, 0.3, generator(2)))
    untouched = generator(1)
    assert stratified(groups, 1.0, untouched).all()
    assert torch.equal(untouched.get_state(), generator(1).get_state())


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_that_is_none_is_named(share: float) -> None:
    with pytest.raises(ValueError, match="share must lie above 0"):
        stratified(torch.zeros(3, dtype=torch.long), share, generator())
