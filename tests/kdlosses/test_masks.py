"""What every registered loss gets of a weight: its shape checked, masked positions blank on both sides."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import kdlosses
from kdlosses.registry import LOSSES, register

NAN = float("nan")


@pytest.fixture
def seen() -> Any:
    found: list[tuple[Tensor, Tensor]] = []

    @register(name="spy", match="positions")
    def spy(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        found.append((student.detach(), teacher))
        return student.sum()

    yield found
    del LOSSES["spy"]


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 3, 4)], ids=str)
def test_neither_side_is_seen_where_the_weight_is_0(shape: tuple[int, ...], seen: list[tuple[Tensor, Tensor]]) -> None:
    weight = (torch.arange(torch.Size(shape).numel()) % 2).view(shape).float()
    student, teacher = (torch.ones(shape[0], channels, *shape[1:]) for channels in (3, 5))
    for side in (student, teacher):
        side.movedim(1, -1)[weight == 0] = NAN
    kdlosses.build("spy")(student, teacher, weight=weight)
    ((s, t),) = seen
    for side in (s, t):
        torch.testing.assert_close(side, weight.unsqueeze(1).expand_as(side))


@pytest.mark.parametrize("loss", ["kl", "mse", "cwd", "pkd", "at"])
@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 4), (1, 4, 5), (2, 1, 4, 5), (2, 20)], ids=str)
def test_a_weight_of_another_shape_is_named(loss: str, shape: tuple[int, ...]) -> None:
    maps = torch.randn(2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"weight must have shape \(2, 4, 5\), got"):
        kdlosses.build(loss)(maps, maps + 1, weight=torch.ones(shape))


@pytest.mark.parametrize("shape", [(2, 1, 5), (1, 4, 5), (2, 20)], ids=str)
def test_labels_of_another_shape_are_named(shape: tuple[int, ...]) -> None:
    maps = torch.randn(2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"labels must have shape \(2, 4, 5\), got"):
        kdlosses.build("dkd")(maps, maps + 1, labels=torch.zeros(shape).long())


@pytest.mark.parametrize("form", ["squared", "norm"])
def test_an_empty_sample_of_at_leaves_the_mean(form: str) -> None:
    torch.manual_seed(0)
    s, t = torch.rand(3, 4, 5, 5), torch.rand(3, 6, 5, 5)
    weight = torch.rand(3, 5, 5)
    weight[1] = 0
    loss = kdlosses.build({"type": "at", "form": form})
    rest = [0, 2]
    expected = loss(s[rest], t[rest], weight=weight[rest])
    assert expected > 0
    torch.testing.assert_close(loss(s, t, weight=weight), expected)
    batch = torch.tensor([0, 0, 1, 1, 1, 2, 2])  # graphs
    nodes_s, nodes_t, w = torch.rand(7, 3), torch.rand(7, 3), torch.tensor([1.0, 1, 0, 0, 0, 1, 1])
    kept = w > 0
    expected = loss(nodes_s[kept], nodes_t[kept], weight=w[kept], batch=batch[kept])
    torch.testing.assert_close(loss(nodes_s, nodes_t, weight=w, batch=batch), expected)
