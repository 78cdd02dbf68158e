"""The pieces of the benchmark that shows what live teachers are worth where inputs change."""

from __future__ import annotations

import pytest
import shifted
import torch


def test_values_fade_and_grow_noisy() -> None:
    x = torch.rand(200, 50, generator=torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(0)
    assert torch.equal(shifted.faded(x, 0.5, 0.0, draw), x)
    late = shifted.faded(x, 0.5, 1.0, draw)
    noise = late - (0.5 + 0.2 * (x - 0.5))
    assert noise.std().item() == pytest.approx(0.5 * x.std().item(), rel=0.03)


def test_the_mean_iou_is_that_of_the_classes_one_by_one() -> None:
    answers = torch.tensor([[0, 0, 1], [2, 2, 2]])
    labels = torch.tensor([[0, 1, 1], [2, 2, 0]])
    each = [1 / 3, 1 / 2, 2 / 3]
    assert shifted.mean_iou(answers, labels, 3) == pytest.approx(sum(each) / 3)
