from __future__ import annotations

import pytest
import torch
from sklearn.preprocessing import normalize

from kdlosses.unit import cosines, length, unit


def test_formula() -> None:
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(unit(x, dim=1), torch.from_numpy(normalize(x.numpy())))


def test_zero_vector_stays_zero_and_gets_no_gradient() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    y = unit(x, dim=1)
    (y * torch.randn(2, 2)).sum().backward()
    assert (y[0] == 0).all()
    assert (x.grad[0] == 0).all()
    assert x.grad[1].abs().sum() > 0


def test_cosines() -> None:
    a, b = torch.randn(2, 3, 5, requires_grad=True), torch.randn(2, 3, 5)
    torch.testing.assert_close(cosines(a, b, dim=1), torch.cosine_similarity(a, b, dim=1))
    zero = torch.zeros(4, 3, requires_grad=True)
    value = cosines(zero, torch.randn(4, 3), dim=1)
    value.sum().backward()
    assert (value == 0).all()
    assert (zero.grad == 0).all()


@pytest.mark.parametrize("dim", [1, 2])
def test_the_gradient_of_a_length_is_0_where_the_length_is(dim: int) -> None:
    vectors = torch.zeros(2, 3, 3, requires_grad=True)
    length(vectors, dim).sum().backward()
    assert (vectors.grad == 0).all()
