from __future__ import annotations

import numpy as np
import torch
from contract.entry import LossContract
from torch import nn

from kdlosses import Talking

CONTRACT = LossContract(
    "talking", options=dict(message_channels=4), no_fixed_point="codes that are still to be learned stand between"
)


def talk(student: int = 3, teacher: int = 5, message: int = 4) -> Talking:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Talking(student, teacher, message).double()


def coded(coder: nn.Module, x: np.ndarray) -> np.ndarray:
    first, _, second = coder  # type: ignore[misc]
    w, v = ((layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in (first, second))
    return np.maximum(x @ w[0].T + w[1], 0) @ v[0].T + v[1]


def test_formula() -> None:
    loss, generator = talk(), torch.Generator().manual_seed(1)
    s, t = (torch.randn(7, c, generator=generator, dtype=torch.float64) for c in (3, 5))
    said, heard = coded(loss.student_encoder, s.numpy()), coded(loss.teacher_encoder, t.numpy())
    per_node = (
        ((said - heard) ** 2).mean(1)
        + ((coded(loss.student_decoder, said) - s.numpy()) ** 2).mean(1)
        + ((coded(loss.teacher_decoder, heard) - t.numpy()) ** 2).mean(1)
    )
    np.testing.assert_allclose(loss(s, t).item(), per_node.mean())
    weight = torch.arange(7)
    np.testing.assert_allclose(loss(s, t, weight=weight).item(), np.average(per_node, weights=weight.numpy()))
    np.testing.assert_allclose(loss.to_student(t).detach(), coded(loss.student_decoder, heard))
    np.testing.assert_allclose(loss.to_teacher(s).detach(), coded(loss.teacher_decoder, said))


def test_one_language_and_equal_states_cost_nothing() -> None:
    loss = talk(4, 4, 4)
    for name in ("student_encoder", "student_decoder", "teacher_encoder", "teacher_decoder"):
        setattr(loss, name, nn.Identity())
    x = torch.randn(6, 4, dtype=torch.float64)
    assert loss(x, x) == 0
    assert loss(x, x + 1) == 1  # messages apart, states as they were


def test_coders_and_student_are_taught_and_no_teacher() -> None:
    loss = talk()
    s, t = (torch.randn(7, c, dtype=torch.float64, requires_grad=True) for c in (3, 5))
    (loss(s, t) + loss.to_student(t).square().sum() + loss.to_teacher(s).square().sum()).backward()
    assert t.grad is None
    assert s.grad is not None
    assert s.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in loss.parameters())


def test_messages_that_say_nothing_are_not_least() -> None:
    """Constant messages agree perfectly; it is the states that they cannot restore."""
    loss, generator = talk(), torch.Generator().manual_seed(1)
    s = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    t = torch.cat([s, s[:, :2]], dim=1)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.01)
    for _ in range(600):
        optimiser.zero_grad()
        value = loss(s, t)
        value.backward()
        optimiser.step()
    silent = s.var(0, correction=0).mean() + t.var(0, correction=0).mean()  # the best that constant messages can do
    assert value < 0.3 * silent
