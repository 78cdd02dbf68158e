"""The dense contrast against loops over anchors, and what its groups and patches are for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import logsumexp

from densekd.losses import MGD, AfDCD

CONTRACT = LossContract(
    "af_dcd",
    options=dict(groups=5, pool=1, patch=2, share=0.0),
    no_fixed_point="convolutions that are still to be learned stand between",
    no_weight="a patch is contrasted as a whole",
)


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher


def contrast(made: np.ndarray, teacher: np.ndarray, tau: float, groups: int, pool: int, p: int) -> float:
    n, c, h, w = made.shape
    size = c // groups

    def pooled(f: np.ndarray) -> np.ndarray:
        rows, columns = h // pool, w // pool
        return f[:, :, : rows * pool, : columns * pool].reshape(n, c, rows, pool, columns, pool).max((3, 5))

    ours, theirs, total, anchors = pooled(made), pooled(teacher), 0.0, 0
    for image in range(n):
        for top in range(0, ours.shape[2] - p + 1, p):
            for left in range(0, ours.shape[3] - p + 1, p):
                cells = [(top + y, left + x) for y in range(p) for x in range(p)]
                for y, x in cells:
                    for g in range(groups):
                        mine = ours[image, g * size : (g + 1) * size, y, x]
                        same = -np.abs(mine - theirs[image, g * size : (g + 1) * size, y, x]).sum() / tau
                        others = [
                            -np.abs(mine - theirs[image, k * size : (k + 1) * size, v, u]).sum() / tau
                            for v, u in cells
                            for k in range(groups)
                            if k != g
                        ]
                        total += logsumexp([same, *others]) - same
                        anchors += 1
    return groups * total / anchors


@pytest.mark.parametrize(("pool", "patch", "groups"), [(1, 2, 3), (2, 2, 2), (1, 4, 6)])
def test_formula(pool: int, patch: int, groups: int) -> None:
    options = dict(feature=0.7, contrast=0.3, tau=0.5, share=0.0)
    loss = AfDCD(channels=6, pool=pool, patch=patch, groups=groups, **options).double()
    s, t = pair(2, 6, 9, 10)
    made = loss.masked.generate(s).detach()
    expected = 0.7 * ((made - t) ** 2).sum(1).mean().item()
    expected += 0.3 * contrast(made.numpy(), t.numpy(), 0.5, groups, pool, patch)
    np.testing.assert_allclose(loss(s, t).item(), expected, rtol=1e-9)


def test_without_contrast_it_is_masked_generation() -> None:
    loss, other = AfDCD(channels=4, feature=1.0, contrast=0.0, groups=2, pool=1).double(), MGD(channels=4).double()
    other.load_state_dict(loss.masked.state_dict())
    s, t = pair(2, 4, 8, 8)
    torch.manual_seed(0)
    value = loss(s, t)
    torch.manual_seed(0)
    torch.testing.assert_close(other(s, t), value)


def test_the_contrast_tells_groups_apart_where_the_error_does_not() -> None:
    """The idea: of two features equally far from the teacher's, the one whose groups are mixed up costs more."""
    loss = AfDCD(channels=4, groups=2, pool=1, patch=2, tau=0.5).double()
    t = torch.zeros(1, 4, 2, 2, dtype=torch.float64)
    t[:, :2] = 1.0
    toward, away = t.clone(), t.clone()
    toward[:, :2] -= 0.5  # half of the way to the other group
    away[:, :2] += 0.5
    assert (toward - t).square().sum() == (away - t).square().sum()
    assert loss.apart(toward, t) > loss.apart(away, t) + 0.1
    alone = AfDCD(channels=4, groups=1, pool=1, patch=2).double()
    assert alone.apart(toward, t) == 0


def test_patches_are_contrasted_alone() -> None:
    loss = AfDCD(channels=4, groups=2, pool=1, patch=2).double()
    s, t = pair(1, 4, 2, 6)
    parts = [loss.apart(s[..., x : x + 2], t[..., x : x + 2]) for x in (0, 2, 4)]
    torch.testing.assert_close(loss.apart(s, t), torch.stack(parts).mean())
    order = torch.tensor([1, 0, 3, 2, 5, 4])  # inside of all patches alike
    torch.testing.assert_close(loss.apart(s[..., order], t[..., order]), loss.apart(s, t))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="af_dcd: 6 channels cannot be split into 4 equal groups"):
        AfDCD(channels=6, groups=4, pool=1)(*(x.float() for x in pair(1, 6, 8, 8)))
    with pytest.raises(ValueError, match=r"no patch of 4 x 4 .*\(1, 4, 8, 8\) pooled by 4; choose a smaller pool"):
        AfDCD(channels=4, groups=2)(*(x.float() for x in pair(1, 4, 8, 8)))
    with pytest.raises(ValueError, match=r"no patch of 1 x 1 .*\(1, 4, 3, 8\) pooled by 4; choose a smaller pool"):
        AfDCD(channels=4, groups=2, patch=1)(*(x.float() for x in pair(1, 4, 3, 8)))
