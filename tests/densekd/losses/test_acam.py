"""Attention masks against NumPy, in one matrix and in cells; what keeps them apart and alive."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import expit, softmax
from torch import Tensor, nn

from densekd.losses import ACAM

CONTRACT = LossContract(
    "acam",
    options=dict(count=4),
    no_fixed_point="masks are driven apart, and they follow from the student's features",
    stopped="masks weigh errors without a gradient of them",
)


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher


def fresh(channels: int = 4, **options: object) -> ACAM:
    torch.manual_seed(0)
    return ACAM(channels, **options).double()


def linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    """A linear layer on `(positions, C)`."""
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def dice(masks: np.ndarray, weight: np.ndarray) -> float:
    pairs = [(a, b) for i, a in enumerate(masks) for j, b in enumerate(masks) if i != j]
    return sum(2 * (weight * a * b).sum() / ((weight * a * a).sum() + (weight * b * b).sum()) for a, b in pairs)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("spatial_mean", [False, True])
def test_formula(weighted: bool, normalise: bool, spatial_mean: bool) -> None:
    loss = fresh(4, count=3, diversity=0.3, normalise=normalise, spatial_mean=spatial_mean)
    s, t = pair(2, 4, 5, 6)
    weight = np.random.default_rng(0).integers(0, 3, (2, 30)).astype(float) if weighted else np.ones((2, 30))
    a, b = (x.detach().numpy() for x in (loss.of_channels, loss.of_positions))
    by_channel, by_position, apart = [], [], []
    for n in range(2):
        x, y, w = s[n].flatten(1).T.numpy(), t[n].flatten(1).T.numpy(), weight[n]
        score = linear(loss.query, y) @ linear(loss.key, x).T / np.sqrt(2)
        with np.errstate(divide="ignore"):
            attention = softmax(score + np.log(w), axis=1)
        np.testing.assert_allclose(attention.sum(1), 1)
        found = attention @ linear(loss.value, x)
        of_channels, of_positions = expit(a * (w @ found / w.sum())), expit(b @ found.T)
        apart.append(dice(of_channels, np.ones(4)) + dice(of_positions, w))
        if normalise:
            of_channels /= of_channels.mean(1, keepdims=True)
            of_positions /= (of_positions @ w / w.sum())[:, None]
        error = (x - y) ** 2
        by_channel.append([sum(of_channels[m] @ error[i] for m in range(3)) / 3 for i in range(30)])
        by_position.append([sum(of_positions[m, i] * error[i].sum() for m in range(3)) / 3 for i in range(30)])
    expected = (weight * by_channel).sum() / weight.sum() + 0.3 * np.mean(apart)
    if spatial_mean:
        expected += (weight * by_position).sum() / weight.sum()
    else:
        expected += np.mean([weight[n] @ by_position[n] / 4 for n in range(2)])  # 1/C of the sum over positions
    given = torch.from_numpy(weight).view(2, 5, 6) if weighted else None
    np.testing.assert_allclose(loss(s, t, weight=given).item(), expected, rtol=1e-9)


def test_the_gradient_of_the_spatial_term_is_that_of_a_sum() -> None:
    """Of the published form each position gets as much gradient on a map of any size, with masks that are fixed."""
    for width, height in ((4, 4), (8, 16)):
        s, t = pair(2, 5, width, height)
        loss = fresh(5, count=2, diversity=0.0)
        nn.init.zeros_(loss.of_positions)  # masks of 1/2
        nn.init.zeros_(loss.value.weight)
        nn.init.zeros_(loss.value.bias)
        s.requires_grad_()
        (found,) = torch.autograd.grad(loss(s, t), s)
        of_channels, of_positions = (s - t) / (2 * width * height), (s - t) / (2 * 5)
        torch.testing.assert_close(found, of_channels + of_positions)
        (mean,) = torch.autograd.grad(fresh_mean(loss)(s, t), s)
        torch.testing.assert_close(mean, 2 * of_channels)


def fresh_mean(loss: ACAM) -> ACAM:
    other = ACAM(5, count=2, diversity=0.0, spatial_mean=True).double()
    other.load_state_dict(loss.state_dict())
    return other


def test_cells_as_fine_as_the_map_are_dense_attention() -> None:
    s, t = pair(2, 4, 6, 8)
    dense, fine, coarse = (fresh(keys=keys)(s, t) for keys in (100, 8, 3))
    assert dense == fine
    assert dense != coarse


def test_constant_cells_can_be_averaged() -> None:
    _, t = pair(2, 4, 8, 8)
    s = pair(2, 4, 4, 4)[0].repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(fresh(keys=4).attend(s, t), fresh(keys=8).attend(s, t))
    weight = torch.ones(2, 8, 8)
    weight[:, ::2] = 0  # half of each cell
    torch.testing.assert_close(fresh(keys=4).attend(s, t, weight), fresh(keys=8).attend(s, t, weight))
    weight = (torch.arange(8) < 4).expand(2, 8, 8)
    torch.testing.assert_close(fresh(keys=4).attend(s, t, weight), fresh(keys=8).attend(s, t, weight))


def test_attention_sums_to_one() -> None:
    s, t = pair(2, 4, 5, 6)
    loss = fresh()
    nn.init.zeros_(loss.value.weight)
    found = loss.attend(s, t, torch.rand(2, 5, 6) > 0.5)
    torch.testing.assert_close(found, loss.value.bias.view(1, 4, 1).expand_as(found))


def test_a_perfect_student_pays_for_masks_that_are_alike_alone() -> None:
    s, t = pair(2, 4, 5, 6)
    assert fresh(diversity=0.0)(t, t) == 0
    assert fresh(diversity=0.0)(s, t) > 0
    value = fresh(count=5)(t, t)
    assert 0 < value <= 2 * 5 * 4


@pytest.mark.parametrize(("count", "expected"), [(1, 0.0), (2, 4.0), (5, 40.0)])
def test_masks_that_are_the_same_cost_the_most(count: int, expected: float) -> None:
    loss = fresh(count=count)
    nn.init.zeros_(loss.of_channels)
    nn.init.zeros_(loss.of_positions)
    t = pair(2, 4, 5, 6)[1]
    assert loss(t, t).item() == pytest.approx(expected)


@pytest.mark.parametrize("normalise", [False, True])
def test_errors_do_not_shrink_the_masks(normalise: bool) -> None:
    """The student cannot pay less by masks that vanish: its gradient is that of errors under masks that are fixed."""
    s, t = pair(2, 4, 5, 6)
    s.requires_grad_()
    loss = fresh(diversity=0.0, normalise=normalise)
    loss(s, t).backward()
    assert all(p.grad is not None and not p.grad.any() for p in loss.parameters())
    with torch.no_grad():
        found = loss.attend(s, t)
        of_channels = torch.sigmoid(loss.of_channels * found.mean(2).unsqueeze(1))
        of_positions = torch.sigmoid(loss.of_positions @ found)
        if normalise:
            of_channels, of_positions = (m / m.mean(2, keepdim=True) for m in (of_channels, of_positions))
    both = of_channels.mean(1).unsqueeze(2) / 30 + of_positions.mean(1).unsqueeze(1) / 4
    torch.testing.assert_close(s.grad, (both * (s - t).flatten(2)).view_as(s))  # 2 / N is 1


def test_diversity_shapes_the_masks() -> None:
    loss = fresh()
    loss(*pair(2, 4, 5, 6)).backward()
    shaped = (loss.query, loss.key, loss.value)
    assert all(p.grad.any() for p in (loss.of_channels, loss.of_positions, *(layer.weight for layer in shaped)))


def test_normalised_masks_cannot_shrink() -> None:
    s, t = pair(2, 4, 5, 6)
    plain, kept = (fresh(diversity=0.0, normalise=normalise, spatial_mean=True) for normalise in (False, True))
    for loss in (plain, kept):
        nn.init.zeros_(loss.of_channels)
        nn.init.zeros_(loss.value.weight)
        nn.init.ones_(loss.value.bias)
        nn.init.constant_(loss.of_positions, -0.5)
    twice = 2 * (s - t).square().sum(1).mean()
    torch.testing.assert_close(plain(s, t), twice * (0.5 + expit(-2.0)) / 2)
    torch.testing.assert_close(kept(s, t), twice)


def test_a_warning_once_when_masks_vanish() -> None:
    s, t = pair(2, 4, 5, 6)
    loss = fresh()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(s, t)
    assert loss.mean_mask.min() > 0.05
    loss = fresh()
    nn.init.zeros_(loss.value.weight)
    nn.init.ones_(loss.value.bias)
    nn.init.constant_(loss.of_positions, -3.0)
    with pytest.warns(UserWarning, match=r"masks vanish.* over channels and 0\.000 over positions"):
        loss(s, t)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(201):
            loss(s, t)
    assert loss.mean_mask[1] < 1e-4
    assert "mean_mask" not in loss.state_dict()


def test_an_ignored_border_is_no_border_at_all() -> None:
    s, t = pair(2, 4, 6, 6)
    pad = nn.functional.pad
    weight = pad(torch.ones(2, 6, 6), (0, 3, 2, 0))
    wide = fresh()(pad(s, (0, 3, 2, 0), value=9.0), pad(t, (0, 3, 2, 0), value=-3.0), weight=weight)
    torch.testing.assert_close(wide, fresh()(s, t))


def test_a_map_without_a_position_leaves_the_mean() -> None:
    s, t = pair(2, 4, 6, 6)
    weight = torch.ones(2, 6, 6)
    weight[1] = 0
    for normalise in (False, True):
        student = s.clone().requires_grad_()
        value = fresh(normalise=normalise)(student, t, weight=weight)
        torch.testing.assert_close(value, fresh(normalise=normalise)(s[:1], t[:1]))
        value.backward()
        assert student.grad.isfinite().all()


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        ACAM(channels=4, count=0)
