"""Feature-based distillation of detectors against its formula in NumPy, and what masks and relations see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import softmax

from densekd.losses.fbkd import FBKD, NonLocal

CONTRACT = LossContract(
    "fbkd",
    no_fixed_point="maps that are still to be learned stand between",
    stopped="of the masks no gradient is taken",
    no_weight="attention says what counts, and how much",
)


def built(student: int = 3, teacher: int = 5, **options: float) -> FBKD:
    torch.manual_seed(0)
    loss = FBKD(student_channels=student, teacher_channels=teacher, **options).double()
    for block in (loss.of_student, loss.of_teacher):  # as if trained
        torch.nn.init.normal_(block.out.weight)
    return loss


def pair(student: int = 3, teacher: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    mine, its = (torch.randn(2, c, 4, 6, generator=draw, dtype=torch.float64) for c in (student, teacher))
    return mine, its


def linear(layer: torch.nn.Module, f: np.ndarray) -> np.ndarray:
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return np.einsum("oc,c...->o...", weight, f) + bias.reshape(-1, *[1] * (f.ndim - 1))


def related(block: NonLocal, f: np.ndarray) -> np.ndarray:
    """Each position with each window, one after the other."""
    theta, phi, g = (linear(layer, f) for layer in (block.theta, block.phi, block.g))
    c, h, w = phi.shape
    phi, g = (each.reshape(c, h // 2, 2, w // 2, 2).max((2, 4)).reshape(c, -1) for each in (phi, g))
    out = np.zeros_like(theta)
    for y in range(h):
        for x in range(w):
            out[:, y, x] = sum((theta[:, y, x] @ phi[:, j]) * g[:, j] for j in range(phi.shape[1])) / phi.shape[1]
    return f + linear(block.out, out)


def test_formula() -> None:
    weights = dict(alpha=0.3, beta=0.2, gamma=0.5, delta=0.1)
    loss = built(tau=0.7, **weights)
    student, teacher = pair()
    kernel, bias = loss.places.weight.detach().numpy()[0, 0], loss.places.bias.item()
    total = 0.0
    for s, t in zip(student.numpy(), teacher.numpy()):
        mask = sum(24 * softmax(np.abs(f).mean(0).ravel() / 0.7).reshape(4, 6) for f in (s, t)) / 2
        total += weights["alpha"] * np.sqrt((mask * (linear(loss.features, s) - t) ** 2).sum())
        total += weights["beta"] * np.linalg.norm(linear(loss.channels, s.mean((1, 2))) - t.mean((1, 2)))
        padded = np.pad(s.mean(0), 1)
        told = [[(padded[y : y + 3, x : x + 3] * kernel).sum() + bias for x in range(6)] for y in range(4)]
        total += weights["gamma"] * np.linalg.norm(np.array(told) - t.mean(0))
        relations = linear(loss.relations, related(loss.of_student, s)) - related(loss.of_teacher, t)
        total += weights["delta"] * np.linalg.norm(relations)
    np.testing.assert_allclose(loss(student, teacher).item(), total / 2, rtol=1e-9)


def test_an_error_costs_more_where_either_attends() -> None:
    """And without the masks it costs the same everywhere."""
    loss = built(5, 5, alpha=1.0, beta=0.0, gamma=0.0, delta=0.0)
    torch.nn.init.eye_(loss.features.weight)
    torch.nn.init.zeros_(loss.features.bias)
    teacher = torch.full((1, 5, 4, 6), 0.1, dtype=torch.float64)
    teacher[:, :, 2, 3] = 3.0

    def cost(y: int, x: int) -> float:
        student = teacher.clone()
        student[:, :, y, x] += 0.01
        return loss(student, teacher).item()

    assert cost(2, 3) > 2 * cost(0, 0)
    loss.tau = 1e6
    assert cost(2, 3) == pytest.approx(cost(0, 0), rel=1e-3)


def test_no_gradient_flows_through_the_masks() -> None:
    loss = built(5, 5, alpha=1.0, beta=0.0, gamma=0.0, delta=0.0)
    student, teacher = pair(5)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(student, teacher), student)
    mask = sum(24 * (f.abs().mean(1).flatten(1) / 0.5).softmax(1).view(2, 1, 4, 6) for f in (student, teacher)) / 2
    error = loss.features(student) - teacher
    plain = (mask.detach() * error.square()).flatten(1).sum(1).sqrt().mean()
    torch.testing.assert_close(gradient, torch.autograd.grad(plain, student)[0])


def test_relations_tell_apart_what_positions_alone_do_not() -> None:
    """A student that is right at each position but one is told so by the relations of all the others."""
    loss = built(5, 5, alpha=0.0, beta=0.0, gamma=0.0, delta=1.0)
    loss.of_student.load_state_dict(loss.of_teacher.state_dict())
    torch.nn.init.eye_(loss.relations.weight)
    torch.nn.init.zeros_(loss.relations.bias)
    _, teacher = pair()
    student = teacher.clone()
    student[0, :, 0, 0] += 1
    assert loss(teacher, teacher) < 1e-12
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(student, teacher), student)
    assert (gradient[0, :, 1:].abs().sum(0) > 0).all()
    for block in (loss.of_student, loss.of_teacher):
        torch.nn.init.zeros_(block.out.weight)
    (gradient,) = torch.autograd.grad(loss(student, teacher), student)
    assert (gradient[0, :, 1:] == 0).all()


def test_a_map_smaller_than_the_window_and_a_perfect_student_have_a_gradient() -> None:
    loss = built(5, 5, pool=8)
    teacher = torch.randn(2, 5, 1, 3, dtype=torch.float64)
    student = teacher.clone().requires_grad_()
    loss(student, teacher).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
