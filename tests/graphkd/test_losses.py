"""FF-G2M's losses against their formulas in plain NumPy float64, and the O(nodes) form against the O(edges) one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from torch import Tensor

from graphkd.losses import ffg2m_high, ffg2m_low
from graphkd.sparse.edges import neighbour_targets
from kdlosses import build

CONTRACT = LossContract(
    "ffg2m_low", no_fixed_point="its minimum is the mean prediction of the neighbourhood, not the node's own"
)


@pytest.fixture
def graph() -> tuple[Tensor, Tensor, Tensor]:
    """Student and teacher logits of 30 nodes, and edges with duplicates and self-loops; node 29 has none."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(30, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    edges = torch.randint(29, (2, 120), generator=generator)
    edges[:, :3] = torch.tensor([[4, 5, 6], [4, 5, 6]])
    return student.requires_grad_(), teacher, edges


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * (np.log(p) - np.log(q))).sum())


def low_by_hand(student: Tensor, teacher: Tensor, edges: Tensor, weight: np.ndarray) -> float:
    q, p = softmax(student.detach().numpy()), softmax(teacher.numpy())
    total = count = 0.0
    for j, i in edges.T.tolist():
        if i != j:
            total += weight[i] * weight[j] * divergence(p[j], q[i])
            count += weight[i] * weight[j]
    for i in range(len(q)):
        total += weight[i] * divergence(p[i], q[i])
        count += weight[i]
    return total / count


def high_by_hand(student: Tensor, teacher: Tensor, edges: Tensor, tau: float, weight: np.ndarray) -> float:
    s, t = student.detach().numpy(), teacher.numpy()
    total = count = 0.0
    for i, j in edges.T.tolist():
        if i != j:
            one = divergence(softmax(np.abs(t[i] - t[j]) / tau), softmax(np.abs(s[i] - s[j]) / tau))
            total += weight[i] * weight[j] * one
            count += weight[i] * weight[j]
    return total / count


@pytest.mark.parametrize("weighted", [False, True])
def test_formulas(graph: tuple[Tensor, Tensor, Tensor], weighted: bool) -> None:
    student, teacher, edges = graph
    weight = torch.arange(30.0, dtype=torch.float64) % 3 if weighted else torch.ones(30, dtype=torch.float64)
    given = dict(edge_index=edges, **(dict(weight=weight) if weighted else {}))
    low = build("ffg2m_low")(student, teacher, **given).item()
    high = build(dict(type="ffg2m_high", tau=1.7))(student, teacher, **given).item()
    assert low == pytest.approx(low_by_hand(student, teacher, edges, weight.numpy()), rel=1e-12)
    assert high == pytest.approx(high_by_hand(student, teacher, edges, 1.7, weight.numpy()), rel=1e-12)


def test_aggregated_form_has_the_value_and_the_gradient_of_the_edge_wise_one(
    graph: tuple[Tensor, Tensor, Tensor],
) -> None:
    student, teacher, edges = graph
    aggregated = neighbour_targets(teacher, edges).loss(student)
    edgewise = ffg2m_low(student, teacher, edges)
    assert aggregated.item() == pytest.approx(edgewise.item(), abs=1e-6)
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (aggregated, edgewise)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-9)


def test_low_without_edges_is_kl(graph: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, _ = graph
    nothing = torch.empty(2, 0, dtype=torch.long)
    torch.testing.assert_close(ffg2m_low(student, teacher, nothing), build("kl")(student, teacher))


def test_low_is_least_at_the_mean_of_the_neighbourhood(graph: tuple[Tensor, Tensor, Tensor]) -> None:
    _, teacher, edges = graph
    best = neighbour_targets(teacher, edges).q.log().requires_grad_()
    loss = ffg2m_low(best, teacher, edges)
    assert loss > 0
    assert torch.autograd.grad(loss, best)[0].abs().max() < 1e-12


def test_high_sees_differences_alone(graph: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, edges = graph
    value = ffg2m_high(student, teacher, edges)
    torch.testing.assert_close(ffg2m_high(student + torch.randn(4), teacher, edges), value)
    torch.testing.assert_close(ffg2m_high(student, teacher, edges.flip(0)), value)
    torch.testing.assert_close(ffg2m_high(teacher + 5, teacher, edges), torch.zeros((), dtype=torch.float64))


def test_high_without_edges_is_zero_and_keeps_the_graph(graph: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, _ = graph
    loops = torch.arange(30).expand(2, -1)
    loss = ffg2m_high(student, teacher, loops)
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


@pytest.mark.parametrize("end", [0, 1], ids=["source", "target"])
def test_an_edge_counts_as_the_product_of_its_ends(end: int) -> None:
    """Of two directed edges from and to nodes of their own, one end alone has a weight other than 1."""
    draw = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 4, 3, generator=draw, dtype=torch.float64)
    edges = torch.tensor([[0, 2], [1, 3]])
    weight = torch.ones(4, dtype=torch.float64)
    weight[edges[end, 0]] = 3.0
    first, second = (ffg2m_high(student, teacher, edges[:, i : i + 1]) for i in (0, 1))
    assert abs(first - second) > 1e-3
    torch.testing.assert_close(ffg2m_high(student, teacher, edges, weight=weight), (3 * first + second) / 4)
    weight[edges[end, 0]] = 0.0
    torch.testing.assert_close(ffg2m_high(student, teacher, edges, weight=weight), second)
