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


@pytest.mark.parametrize("nan", [False, True])
def test_a_gradient_that_is_taken_in_the_forward_pass_is_the_same(nan: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows and keys; a row without weight may hold NaN in the teacher; nothing large is kept."""
    monkeypatch.setattr(blocks, "BLOCK", 70)
    monkeypatch.setattr(blocks, "KEPT", 0)
    inputs = [torch.randn(2, 20, 3, dtype=torch.float64) for _ in range(2)]
    keys = torch.randn(2, 3, 7, dtype=torch.float64)
    share = torch.rand(2, 20, dtype=torch.float64)
    share[0, 3] = 0
    inputs[1][0, 3] = torch.nan if nan else 0.0

    def body(s: Tensor, t: Tensor, k: Tensor) -> Tensor:
        return ((s @ k).log_softmax(2) * (t @ k.detach()).softmax(2)).sum(2)

    found = []
    for in_forward in (True, False):
        s, t, k = inputs[0].clone().requires_grad_(), inputs[1].clone(), keys.clone().requires_grad_()
        kept = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept = max(kept, tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            if in_forward:
                value = blocks.sum_by_rows(body, share, s, t, k, columns=7)
            else:
                values = body(s, t, k)
                value = (torch.where(share > 0, values, 0) * share).sum()
        (3 * value).backward()
        assert kept == 2 * 20 * (3 if in_forward else 7)
        found.append([value, s.grad, *([] if nan else [k.grad])])
        found[-1][1][share == 0] = 0  # a row that does not count is masked before
    torch.testing.assert_close(*found)
