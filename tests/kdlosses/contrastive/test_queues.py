from __future__ import annotations

import copy
import pickle
from collections import deque

import pytest
import torch

from kdlosses.contrastive.queues import Queues


def rows(queues: Queues, c: int, **options: bool) -> list[list[float]]:
    items, there = queues.draw(queues.items.shape[1], **options)
    return sorted(items[c][there[c]].tolist())


@pytest.mark.parametrize("at_random", [False, True])
def test_each_holds_what_a_deque_holds(at_random: bool) -> None:
    queues, expected = Queues(classes=3, size=7, channels=2), [deque(maxlen=7) for _ in range(3)]
    for step in range(12):
        items, kept = torch.randn(3, 5, 2).half(), torch.rand(3, 5) < torch.tensor([[0.9], [0.3], [0.0]])
        queues.push(items, kept)
        for c in range(3):
            expected[c].extend(items[c][kept[c]].tolist())
            assert rows(queues, c, at_random=at_random) == sorted(expected[c]), f"step {step}, class {c}"


def test_more_rows_than_places() -> None:
    queues = Queues(classes=1, size=3, channels=1)
    queues.push(torch.arange(10.0).view(1, 10, 1), torch.arange(10).unsqueeze(0) % 2 == 0)
    assert rows(queues, 0) == [[0.0], [2.0], [4.0]]
    queues.push(torch.tensor([[[9.0]]]), torch.tensor([[True]]))
    assert rows(queues, 0) == [[2.0], [4.0], [9.0]]


def test_a_draw_is_fair_and_without_doubles() -> None:
    queues = Queues(classes=2, size=10, channels=1)
    queues.push(torch.arange(8.0).view(1, 8, 1).expand(2, -1, -1), torch.ones(2, 8, dtype=torch.bool))
    torch.manual_seed(0)
    seen = torch.zeros(8)
    for _ in range(500):
        items, there = queues.draw(3, at_random=True)
        assert there.all()
        assert all(len(set(items[c].flatten().tolist())) == 3 for c in range(2))
        seen += torch.bincount(items.flatten().long(), minlength=8)
    assert (seen / 3000 - 1 / 8).abs().max() < 0.025  # about four standard deviations


def test_copies_and_checkpoints_go_on_alike() -> None:
    queues = Queues(classes=2, size=3, channels=2)
    queues.push(torch.randn(2, 2, 2), torch.ones(2, 2, dtype=torch.bool))
    loaded = Queues(classes=2, size=3, channels=2)
    loaded.load_state_dict(queues.state_dict())
    for twin in (loaded, copy.deepcopy(queues), pickle.loads(pickle.dumps(queues))):
        ours = copy.deepcopy(queues)
        for each in (ours, twin):
            each.push(torch.ones(2, 2, 2), torch.tensor([[True, True], [False, True]]))
        for a, b in zip(ours.state_dict().values(), twin.state_dict().values()):
            assert torch.equal(a, b)
    assert not list(queues.parameters())


def test_no_place_raises() -> None:
    with pytest.raises(ValueError, match="size must be at least 1, got"):
        Queues(classes=2, size=0, channels=2)
