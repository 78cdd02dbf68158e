"""Losses of pairs, held in blocks: the same value and gradient, in a fraction of the memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import kdlosses
from kdlosses.relation import blocks

PAIRS: list[dict[str, Any]] = [
    dict(type="rkd"),
    dict(type="rkd", angle=0.0),
    dict(type="pkt"),
    dict(type="pkt", self_pairs=False),
    dict(type="trg", k=5),
    dict(type="hybrid"),
    dict(type="infonce"),
    dict(type="infonce", symmetric=True),
]


def run(spec: dict[str, Any], student: Tensor, teacher: Tensor, **context: Tensor) -> tuple[Tensor, Tensor, int]:
    """Value, gradient, and the bytes that the forward pass leaves for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    student = student.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = kdlosses.build(spec)(student, teacher, **context)
    value.backward()
    return value.detach(), student.grad, sum(kept.values())


@pytest.mark.parametrize("spec", PAIRS, ids=str)
def test_blocks_change_neither_value_nor_gradient(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = torch.randn(2, 6, 5, 4, dtype=torch.float64), torch.randn(2, 6, 5, 4, dtype=torch.float64)
    weight = torch.randint(3, (2, 5, 4))
    whole = run(spec, student, teacher, weight=weight)
    monkeypatch.setattr(blocks, "BLOCK", 300)
    for kept in (blocks.KEPT, 0):
        monkeypatch.setattr(blocks, "KEPT", kept)
        split = run(spec, student, teacher, weight=weight)
        torch.testing.assert_close(split[:2], whole[:2])


@pytest.mark.parametrize("spec", [spec for spec in PAIRS if spec != dict(type="rkd")], ids=str)
def test_blocks_leave_a_fraction_for_the_backward_pass(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = torch.randn(600, 8), torch.randn(600, 8)
    *_, whole = run(spec, student, teacher)
    monkeypatch.setattr(blocks, "BLOCK", 600 * 20)
    monkeypatch.setattr(blocks, "KEPT", 0)
    *_, split = run(spec, student, teacher)
    assert split < whole / 8


def test_blocks_compile_without_a_graph_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 40 * 20)
    monkeypatch.setattr(blocks, "KEPT", 0)
    student, teacher = torch.randn(40, 4, requires_grad=True), torch.randn(40, 4)
    loss = kdlosses.build("infonce")
    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(student, teacher)
    torch.testing.assert_close(value, loss(student, teacher))
    torch.testing.assert_close(*(torch.autograd.grad(x, student) for x in (value, loss(student, teacher))))
