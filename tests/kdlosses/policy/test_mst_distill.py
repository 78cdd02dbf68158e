from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import rel_entr, softmax

import kdlosses

CONTRACT = LossContract(
    "mst_distill",
    options=dict(teachers=1),
    no_fixed_point="masks that are still to be learned stand between",
    no_two_classes="its router and masks start at random",
    stopped="masks and student learn apart",
)


def built(**options: object) -> kdlosses.Loss:
    torch.manual_seed(0)
    return kdlosses.build(dict(type="mst_distill", **{**dict(classes=3, teachers=3, mask=0.0), **options}))


@pytest.mark.parametrize("k", [1, 2])
def test_value_is_that_of_the_formula(k: int) -> None:
    s, t = torch.randn(8, 3, dtype=torch.float64), 3 * torch.randn(8, 9, dtype=torch.float64)
    weight = torch.tensor([1.0, 2, 0, 1, 1, 3, 0, 1], dtype=torch.float64)
    loss = built(k=k, balance=0.7).double()
    gate = softmax(loss.loss.gate(s).detach().numpy(), axis=1)
    chosen = np.argsort(-gate, axis=1)[:, :k]
    q = softmax(s.numpy() / 4, axis=1)
    each = np.stack([16 * rel_entr(softmax(p / 4, axis=1), q).sum(1) for p in np.split(t.numpy(), 3, axis=1)], 1)
    w = weight.numpy() / weight.sum().item()
    load = w @ gate
    expected = w @ np.take_along_axis(each, chosen, 1).mean(1) + 0.7 * rel_entr(np.full(3, 1 / 3), load).sum()
    assert loss(s, t, weight=weight).item() == pytest.approx(expected)


def test_one_teacher_is_the_loss_inside() -> None:
    s, t = torch.randn(6, 3, 2, 2), torch.randn(6, 3, 2, 2)
    torch.testing.assert_close(built(teachers=1)(s, t), kdlosses.kl(s, t, tau=4.0))


def test_a_gate_that_has_no_preference_is_balanced() -> None:
    loss, s = built(), torch.randn(6, 3)
    torch.nn.init.zeros_(loss.loss.gate[2].weight)
    torch.nn.init.zeros_(loss.loss.gate[2].bias)
    assert loss(s, torch.cat([s, s, s], 1)).item() == pytest.approx(0, abs=1e-6)


def test_the_gate_learns_which_teacher_is_like_the_student() -> None:
    """With the balance off the gate leaves a teacher that costs more."""
    s = torch.randn(40, 3)
    t = torch.cat([5 * torch.randn(40, 3), s, 5 * torch.randn(40, 3)], 1)
    loss = built(balance=0.0)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.02)
    first = loss(s, t).item()
    for _ in range(200):
        optimiser.zero_grad()
        loss(s, t).backward()
        optimiser.step()
    assert loss(s, t).item() < 0.1 * first
    assert (loss.loss.gate(s).argmax(1) == 1).float().mean() > 0.9


def test_the_balance_keeps_a_gate_from_collapsing() -> None:
    s, t = torch.randn(40, 3), torch.randn(40, 9)
    loss = built(balance=1.0)
    with torch.no_grad():
        loss.loss.gate[2].bias.copy_(torch.tensor([4.0, 0.0, 0.0]))
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.02)
    for _ in range(300):
        optimiser.zero_grad()
        loss(s, t).backward()
        optimiser.step()
    assert loss.loss.gate(s).softmax(1).mean(0).min() > 0.2


def masked_by_hand(loss: kdlosses.Loss, t: torch.Tensor) -> list[np.ndarray]:
    found = []
    for mask, z in zip(loss.loss.masks, t.chunk(3, 1)):
        w, v = ([each.detach().numpy() for each in (layer.weight, layer.bias)] for layer in (mask[0], mask[2]))
        z = z.numpy()
        m = np.maximum(z @ w[0].T + w[1], 0) @ v[0].T + v[1]
        found.append((z - z.mean(1, keepdims=True)) / (1 + np.exp(-m)))
    return found


def divergence(s: np.ndarray, t: np.ndarray) -> np.ndarray:
    return 16 * rel_entr(softmax(t / 4, axis=1), softmax(s / 4, axis=1)).sum(1)


def test_masks_have_a_loss_of_their_own_and_the_student_hears_what_they_let_through() -> None:
    s, t = torch.randn(8, 3, dtype=torch.float64), 3 * torch.randn(8, 9, dtype=torch.float64)
    loss = built(mask=0.5, rebuild=0.3, balance=0.0, start=0.2).double()
    masked = masked_by_hand(loss, t)
    chosen = loss.loss.gate(s).argmax(1).numpy()
    own = np.mean(
        [divergence(m, s.numpy()).mean() + 0.3 * divergence(m, z.numpy()).mean() for m, z in zip(masked, t.chunk(3, 1))]
    )
    for progress, heard in ((None, masked), (0.2, masked), (0.1, np.split(t.numpy(), 3, axis=1))):
        taught = np.stack([divergence(s.numpy(), each) for each in heard], 1)[np.arange(8), chosen].mean()
        assert loss(s, t, progress=progress).item() == pytest.approx(taught + 0.5 * own)


def test_no_mask_learns_from_what_the_student_is_taught_and_the_student_from_no_mask() -> None:
    s, t = torch.randn(8, 3, requires_grad=True), 3 * torch.randn(8, 9)
    slopes = []
    for mask in (1e-6, 1.0):
        loss = built(mask=mask)
        slopes.append(torch.autograd.grad(loss(s, t), [s, *loss.loss.masks.parameters()]))
    torch.testing.assert_close(slopes[0][0], slopes[1][0])
    for weak, strong in zip(*(each[1:] for each in slopes)):
        torch.testing.assert_close(1e6 * weak, strong, rtol=1e-3, atol=1e-5)


def test_masks_take_away_what_the_student_cannot_follow_and_leave_the_rest() -> None:
    """Each teacher says of one class what no student can know from its inputs; of the others they are right."""
    generator = torch.Generator().manual_seed(0)
    s = 2 * torch.randn(300, 4, generator=generator)
    drift = 6 * torch.randn(300, 2, generator=generator)
    t = torch.cat([s.index_add(1, torch.tensor([2]), drift[:, :1]), s.index_add(1, torch.tensor([3]), drift[:, 1:])], 1)
    loss = built(classes=4, teachers=2, mask=1.0, rebuild=0.1)
    optimiser = torch.optim.Adam(loss.loss.masks.parameters(), lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        loss(s, t).backward()
        optimiser.step()
    with torch.no_grad():
        masked = loss.loss._masked(t.unflatten(1, (2, 4)))
    for z, m in zip(t.chunk(2, 1), masked.unbind(1)):
        before, after = (kdlosses.kl(s, each, tau=4.0) for each in (z, m))
        assert after < 0.5 * before
    assert masked.abs().mean() > 0.2 * t.abs().mean()  # not all is dropped


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="start must be"):
        built(start=2.0)
    with pytest.raises(ValueError, match="k must be a number of teachers, 1 to 3, got 4"):
        built(k=4)
    with pytest.raises(ValueError, match="got 2 teachers, the gate was built for 3"):
        built()(torch.zeros(2, 3), torch.zeros(2, 6))
    with pytest.raises(ValueError, match="must take a weight"):
        built(loss=lambda student, teacher: student.sum())
