from __future__ import annotations

import copy

import pytest
import torch

from kdlosses.rules.votes import Votes


def test_it_is_the_mean_of_the_last_predictions() -> None:
    snapshots = [3 * torch.randn(5, 4, 2) for _ in range(5)]
    votes = Votes(k=3)
    assert votes.mean() is None
    for count, logits in enumerate(snapshots, 1):
        votes.add(logits)
        last = snapshots[max(0, count - 3) : count]
        expected = torch.stack([each.softmax(1) for each in last]).mean(0)
        torch.testing.assert_close(votes.mean().exp(), expected)
        torch.testing.assert_close(votes.mean().exp().sum(1), torch.ones(5, 2))


def test_one_is_the_last_snapshot() -> None:
    votes = Votes(k=1)
    for logits in (torch.randn(5, 4), last := torch.randn(5, 4)):
        votes.add(logits)
    torch.testing.assert_close(votes.mean(), last.log_softmax(1))


def test_a_copy_remembers() -> None:
    votes = Votes(k=2)
    votes.add(torch.randn(5, 4))
    twin = copy.deepcopy(votes)
    votes.add(new := torch.randn(5, 4))
    twin.add(new)
    assert torch.equal(votes.mean(), twin.mean())


def test_none_to_keep_is_named() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Votes(k=0)
