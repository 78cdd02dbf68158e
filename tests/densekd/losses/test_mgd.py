"""Masked generation against SciPy's convolutions, and where its mask falls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.signal import correlate
from torch import Tensor

from densekd.losses import MGD

CONTRACT = LossContract(
    "mgd", options=dict(share=0.0), no_fixed_point="convolutions that are still to be learned stand between"
)


def convolve(x: np.ndarray, layer: torch.nn.Conv2d) -> np.ndarray:
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    return np.stack([correlate(padded, kernel, "valid")[0] + b for kernel, b in zip(weight, bias)])


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher


def test_formula() -> None:
    loss = MGD(channels=3).double().eval()
    s, t = pair(2, 3, 5, 7)
    weight = np.random.default_rng(0).integers(1, 4, (2, 5, 7)).astype(float)
    made = np.stack([convolve(np.maximum(convolve(x, loss.first), 0), loss.second) for x in s.numpy()])
    error = ((made - t.numpy()) ** 2).sum(1)
    np.testing.assert_allclose(loss(s, t).item(), error.mean(), rtol=1e-9)
    expected = (error * weight).sum() / weight.sum()
    np.testing.assert_allclose(loss(s, t, weight=torch.from_numpy(weight)).item(), expected, rtol=1e-9)


def test_the_mask_hides_a_share_of_the_positions_in_all_their_channels_anew_at_every_step() -> None:
    torch.manual_seed(0)
    loss = MGD(channels=4, share=0.75)
    s, t = torch.randn(2, 4, 40, 40, requires_grad=True), torch.randn(2, 4, 40, 40)
    seen = []
    for _ in range(2):
        (gradient,) = torch.autograd.grad(loss(s, t), s)
        seen.append((gradient != 0).any(1))
        assert ((gradient != 0) == seen[-1].unsqueeze(1)).float().mean() > 0.99
        assert abs(seen[-1].float().mean().item() - 0.25) < 0.03
    assert (seen[0] != seen[1]).any()
    assert (seen[0][0] != seen[0][1]).any()


def test_nothing_is_hidden_in_evaluation() -> None:
    loss, (s, t) = MGD(channels=4, share=0.75).double(), pair(2, 4, 6, 6)
    assert loss(s, t) != loss(s, t)
    value = loss.eval()(s, t)
    loss.share = 0.0
    assert loss.train()(s, t) == value


def test_what_is_hidden_counts_in_the_error() -> None:
    """The teacher matters wherever it is, also where the student is hidden."""
    loss, (s, t) = MGD(channels=4, share=0.9).double(), pair(1, 4, 6, 6)
    torch.manual_seed(0)
    value = loss(s, t)
    for y, x in np.ndindex(6, 6):
        other = t.clone()
        other[..., y, x] += 1
        torch.manual_seed(0)
        assert loss(s, other) != value


def test_an_ignored_border_is_no_more_than_the_border_of_the_map() -> None:
    loss, (s, t) = MGD(channels=4).double().eval(), pair(2, 4, 6, 6)
    pad = torch.nn.functional.pad
    weight = pad(torch.ones(2, 6, 6), (0, 3, 2, 0))
    wide = loss(pad(s, (0, 3, 2, 0), value=9.0), pad(t, (0, 3, 2, 0), value=-3.0), weight=weight)
    torch.testing.assert_close(wide, loss(s, t))


def test_it_learns_to_make_what_was_hidden() -> None:
    """Each position is the sum of its neighbours' codes, so that half of them tell the other half."""
    torch.manual_seed(0)
    loss = MGD(channels=4, share=0.5)
    t = torch.nn.functional.avg_pool2d(torch.randn(4, 4, 20, 20), 5, 1, 2) * 5
    optimizer = torch.optim.Adam(loss.parameters(), 1e-2)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(t, t)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert np.mean(values[-5:]) < 0.5 * np.mean(values[:5])


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match=rf"share .*got {share}"):
        MGD(channels=4, share=share)
