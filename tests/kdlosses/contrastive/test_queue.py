from __future__ import annotations

from collections import deque

import pytest
import torch

from kdlosses.contrastive.queue import Queue


def test_holds_what_a_deque_holds() -> None:
    queue, expected = Queue(size=7, channels=2), deque(maxlen=7)
    for step in range(12):
        items, weight = torch.randn(4, 2), torch.randint(3, (4,)).float()
        queue.push(items, weight)
        expected.extend((*item.tolist(), w.item()) for item, w in zip(items, weight) if w > 0)
        held = [(*item.tolist(), w.item()) for item, w in zip(queue.items, queue.weight) if w > 0]
        assert sorted(held) == sorted(expected), f"step {step}"


def test_more_rows_than_places() -> None:
    queue = Queue(size=3, channels=1)
    queue.push(torch.arange(10.0).unsqueeze(1), torch.ones(10))
    assert queue.items.flatten().tolist() == [0.0, 1.0, 2.0]
    queue.push(torch.tensor([[9.0]]), torch.ones(1))
    assert queue.items.flatten().tolist() == [9.0, 1.0, 2.0]


def test_stands_in_the_checkpoint_and_is_not_trained() -> None:
    queue = Queue(size=3, channels=2)
    queue.push(torch.randn(4, 2), torch.ones(4))
    other = Queue(size=3, channels=2)
    other.load_state_dict(queue.state_dict())
    for q in (queue, other):
        q.push(torch.ones(1, 2), torch.ones(1))
    torch.testing.assert_close(other.items, queue.items)
    assert not list(queue.parameters())


def test_no_place_raises() -> None:
    with pytest.raises(ValueError, match="size must be at least 1, got"):
        Queue(size=0, channels=2)
