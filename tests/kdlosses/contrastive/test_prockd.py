from __future__ import annotations

import numpy as np
import torch
from contract.entry import LossContract
from scipy.special import rel_entr, softmax
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
    loss = ProCKD(3, 4, prototypes=5, tau=0.5, balance=2.0).double()
    m, p = loss.prototypes.detach().numpy(), loss.projection.weight.detach().numpy()
    a, b = (softmax(normalize(x) @ normalize(m).T / 0.5, axis=1) for x in (t, s @ p.T))
    learn = np.average(((a @ m - t) ** 2).mean(1), weights=w)
    spread = rel_entr(np.full(5, 0.2), np.average(a, axis=0, weights=w)).sum()
    teach = np.average(rel_entr(a, b).sum(1), weights=w)
    value = loss(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), learn + 2 * spread + teach, rtol=1e-9)


def test_student_does_not_move_the_prototypes() -> None:
    loss, t = ProCKD(3, 4, prototypes=5), torch.randn(9, 4)
    gradients = []
    for _ in range(2):
        loss.zero_grad()
        loss(torch.randn(9, 3), t).backward()
        gradients.append(loss.prototypes.grad.clone())
        assert loss.projection.weight.grad.abs().sum() > 0
    torch.testing.assert_close(*gradients)


def test_order_of_the_prototypes_cannot_matter() -> None:
    loss, s, t = ProCKD(3, 4, prototypes=5), torch.randn(2, 3, 4, 4), torch.randn(2, 4, 4, 4)
    value = loss(s, t)
    with torch.no_grad():
        loss.prototypes.copy_(loss.prototypes[torch.tensor([3, 1, 4, 0, 2])])
    torch.testing.assert_close(loss(s, t), value)


def test_prototypes_find_the_clusters_of_the_teacher() -> None:
    centres = 3 * torch.eye(4)
    t = centres[torch.arange(80) % 4] + 0.05 * torch.randn(80, 4)
    loss = ProCKD(3, 4, prototypes=4)
    with torch.no_grad():
        loss.prototypes.copy_(centres + torch.randn(4, 4))
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        loss(torch.randn(80, 3), t).backward()
        optimiser.step()
    assert torch.cdist(loss.prototypes.detach(), centres).amin(1).max() < 0.3
