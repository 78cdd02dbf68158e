from __future__ import annotations

import numpy as np
import torch
from contract.entry import LossContract
from scipy.special import log_softmax, rel_entr, softmax
from sklearn.preprocessing import normalize

from kdlosses import ProCKD

CONTRACT = LossContract(
    "prockd",
    options=dict(prototypes=6),
    no_fixed_point="a projection and prototypes that are still to be learned stand between",
    one_channel="projected onto the teacher's channels and compared by direction there",
)


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t, w = rng.normal(size=(9, 3)), rng.normal(size=(9, 4)), rng.random(9)
    y = rng.integers(3, size=9)
    y[:3] = 255, -1, 255
    loss = ProCKD(3, 4, classes=3, prototypes=5, tau=0.5, balance=2.0, task=0.7).double()
    m, p = loss.prototypes.detach().numpy(), loss.projection.weight.detach().numpy()
    a, b = (softmax(normalize(x) @ normalize(m).T / 0.5, axis=1) for x in (t, s @ p.T))
    learn = np.average(((a @ m - t) ** 2).mean(1), weights=w)
    spread = rel_entr(np.full(5, 0.2), np.average(a, axis=0, weights=w)).sum()
    teach = np.average(rel_entr(a, b).sum(1), weights=w)
    augmented = s + b @ m @ loss.augmentation.weight.detach().numpy().T
    logits = augmented @ loss.head.weight.detach().numpy().T + loss.head.bias.detach().numpy()
    known = np.arange(9) > 2
    task = np.average(-log_softmax(logits, axis=1)[known, y[known]], weights=w[known])
    s, t, y, w = map(torch.from_numpy, (s, t, y, w))
    value = loss(s, t, labels=y, weight=w)
    np.testing.assert_allclose(value.item(), learn + 2 * spread + teach + 0.7 * task, rtol=1e-9)
    np.testing.assert_allclose(loss.logits(s).numpy(force=True), logits, rtol=1e-9)


def test_augmentation_lets_a_task_use_the_teachers_parts() -> None:
    """A class of two opposite parts: no linear head finds it in the student's features, with the prototypes it does."""
    torch.manual_seed(0)
    part = torch.arange(400) % 4
    corners = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    student, labels = corners[part] + 0.2 * torch.randn(400, 2), part % 2
    teacher = 3 * torch.eye(4)[part] + 0.1 * torch.randn(400, 4)

    def accuracy(augmented: bool) -> float:
        torch.manual_seed(0)
        loss = ProCKD(2, 4, classes=2, prototypes=8)
        torch.nn.init.zeros_(loss.augmentation.weight)
        loss.augmentation.requires_grad_(augmented)
        optimiser = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], lr=0.05)
        for _ in range(300):
            optimiser.zero_grad()
            loss(student, teacher, labels=labels).backward()
            optimiser.step()
        return float((loss.logits(student).argmax(1) == labels).float().mean())

    assert accuracy(augmented=True) > 0.95
    assert accuracy(augmented=False) < 0.7


def test_student_does_not_move_the_prototypes() -> None:
    loss, t, y = ProCKD(3, 4, classes=2, prototypes=5), torch.randn(9, 4), torch.arange(9) % 2
    gradients = []
    for _ in range(2):
        loss.zero_grad()
        loss(torch.randn(9, 3), t, labels=y).backward()
        gradients.append(loss.prototypes.grad.clone())
        assert loss.projection.weight.grad.abs().sum() > 0
    torch.testing.assert_close(*gradients)


def test_order_of_the_prototypes_cannot_matter() -> None:
    loss, s, t = ProCKD(3, 4, classes=2, prototypes=5), torch.randn(2, 3, 4, 4), torch.randn(2, 4, 4, 4)
    y = torch.randint(2, (2, 4, 4))
    value = loss(s, t, labels=y)
    with torch.no_grad():
        loss.prototypes.copy_(loss.prototypes[torch.tensor([3, 1, 4, 0, 2])])
    torch.testing.assert_close(loss(s, t, labels=y), value)


def test_prototypes_find_the_clusters_of_the_teacher() -> None:
    centres = 3 * torch.eye(4)
    t = centres[torch.arange(80) % 4] + 0.05 * torch.randn(80, 4)
    loss = ProCKD(3, 4, classes=2, prototypes=4)
    with torch.no_grad():
        loss.prototypes.copy_(centres + torch.randn(4, 4))
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        loss(torch.randn(80, 3), t, labels=torch.arange(80) % 2).backward()
        optimiser.step()
    assert torch.cdist(loss.prototypes.detach(), centres).amin(1).max() < 0.3
