"""Neuron selectivity against pairs of channels, one by one, and what its kernel sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract.entry import LossContract
from torch import Tensor

from kdlosses import nst


def _plain(student: Tensor, teacher: Tensor) -> Tensor:
    if student.ndim == 2:
        student, teacher = student.t()[None], teacher.t()[None]
    s, t = (F.normalize(x.flatten(2), dim=2) for x in (student, teacher))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a.unsqueeze(1) * b.unsqueeze(2)).sum(-1).square().mean()

    return kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)


CONTRACT = LossContract("nst", per_sample="a pattern over the positions of one sample", plain=_plain)


@pytest.mark.parametrize(("degree", "offset"), [(2, 0.0), (1, 0.0), (3, 0.5)])
def test_formula(degree: int, offset: float) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 7, 4, 5))
    found = 0.0
    for n in range(2):
        both = [[x[n, c].ravel() / np.linalg.norm(x[n, c]) for c in range(x.shape[1])] for x in (s, t)]

        def kernel(a: list[np.ndarray], b: list[np.ndarray]) -> float:
            return float(np.mean([[(x @ y + offset) ** degree for x in a] for y in b]))

        found += kernel(both[0], both[0]) + kernel(both[1], both[1]) - 2 * kernel(*both)
    value = nst(torch.from_numpy(s), torch.from_numpy(t), degree=degree, offset=offset)
    np.testing.assert_allclose(value.item(), found / 2, rtol=1e-10)


def test_order_scale_and_sign_of_channels_change_nothing() -> None:
    s, t = torch.randn(2, 4, 4, 5, dtype=torch.float64), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    other = s[:, [2, 0, 3, 1]] * torch.tensor([3.0, -0.1, 7.0, -2.0]).view(1, 4, 1, 1)
    torch.testing.assert_close(nst(other, t), nst(s, t))


def test_the_square_sees_what_the_mean_pattern_does_not() -> None:
    """Two channels at two positions each, against one at all four: their means agree, not what is active together."""
    teacher = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]).view(1, 2, 2, 2)
    student = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]]).view(1, 2, 2, 2)
    assert nst(student, teacher, degree=1) == 0
    assert nst(student, teacher) > 0.1


def test_a_student_of_other_width_learns_the_patterns() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(1, 3, 4, 4).repeat_interleave(2, 1)
    student = torch.randn(1, 3, 4, 4, requires_grad=True)
    before = nst(student, teacher).item()
    optimizer = torch.optim.Adam([student], 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        nst(student, teacher).backward()
        optimizer.step()
    assert nst(student, teacher) < 1e-3 * before


def test_one_position_a_sample_raises() -> None:
    with pytest.raises(ValueError, match="more than one position"):
        nst(torch.randn(2, 3, 1, 1), torch.randn(2, 3, 1, 1))


def test_graphs_of_a_batch_are_samples() -> None:
    s, t = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 4, dtype=torch.float64)
    batch = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    apart = (nst(s[:3], t[:3]) + nst(s[3:], t[3:])) / 2
    torch.testing.assert_close(nst(s, t, batch=batch), apart)
