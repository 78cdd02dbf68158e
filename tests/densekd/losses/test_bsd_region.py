"""Selective distillation of regions against a loop over cells: who teaches where."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor

from densekd.losses import bsd_region

VOID = 255


def case(seed: int = 0) -> dict[str, Tensor]:
    """Features 8 x 12, logits of 16 x 24 and 8 x 12, labels of 32 x 48 with a void cell."""
    generator = torch.Generator().manual_seed(seed)
    s, t = (torch.randn(2, 5, 8, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    mine = 2 * torch.randn(2, 3, 16, 24, generator=generator, dtype=torch.float64)
    its = 2 * torch.randn(2, 3, 8, 12, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (2, 32, 48), generator=generator)
    labels[0, :8, :12] = VOID  # the first cell of 4 x 4
    labels[1, 20:, 40:] = VOID  # some of the last
    return dict(student=s.requires_grad_(), teacher=t, label_map=labels, student_logits=mine, teacher_logits=its)


def cell_errors(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Mean cross-entropy of each of the 4 x 4 cells of both images, NaN where nothing is labelled."""
    step = labels.shape[1] // logits.shape[2]
    at = labels[:, ::step, ::step].numpy()
    error = -log_softmax(logits.numpy(), 1)
    found = np.full((2, 4, 4), np.nan)
    high, wide = logits.shape[2] // 4, logits.shape[3] // 4
    for n, i, j in np.ndindex(2, 4, 4):
        values = [
            error[n, at[n, y, x], y, x]
            for y in range(i * high, (i + 1) * high)
            for x in range(j * wide, (j + 1) * wide)
            if at[n, y, x] != VOID
        ]
        if values:
            found[n, i, j] = np.mean(values)
    return found


def cell_features(maps: Tensor, labels: Tensor) -> np.ndarray:
    """Means over the labelled positions, scaled to length 1; 0 where there are none."""
    known = (labels[:, None, ::4, ::4] != VOID).numpy()
    sums = (maps.detach().numpy() * known).reshape(2, 5, 4, 2, 4, 3).sum((3, 5))
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_formula(seed: int) -> None:
    given = case(seed)
    mine, its = (cell_errors(given[key], given["label_map"]) for key in ("student_logits", "teacher_logits"))
    features = [cell_features(given[key], given["label_map"]) for key in ("student", "teacher")]
    distance = np.square(features[0] - features[1]).sum(1)
    labelled = ~np.isnan(mine)
    assert labelled.sum() == 31
    expected = np.where(labelled & (its <= mine), distance, 0).sum() / 31
    np.testing.assert_allclose(bsd_region(**given, cells=4).item(), expected)


def taught(given: dict[str, Tensor], **options: bool) -> Tensor:
    (gradient,) = torch.autograd.grad(bsd_region(**given, cells=4, **options), given["student"])
    return torch.nn.functional.max_pool2d(gradient.abs().sum(1), (2, 3)) > 0


def swapped(given: dict[str, Tensor]) -> dict[str, Tensor]:
    names = dict(student="teacher", teacher="student", student_logits="teacher_logits", teacher_logits="student_logits")
    other = {names.get(key, key): value.detach() for key, value in given.items()}
    other["student"].requires_grad_()
    return other


def test_each_cell_is_taught_in_one_direction() -> None:
    given = case(1)
    forth, back = taught(given), taught(swapped(given), ties=False)
    assert not (forth & back).any()
    assert (forth | back).sum() == 31
    assert forth.any()
    assert back.any()


def test_who_is_better_everywhere_learns_nothing() -> None:
    given = case(2)
    right = torch.nn.functional.one_hot(given["label_map"][:, ::4, ::4].clamp(max=2), 3).movedim(-1, 1)
    better = {**given, "student_logits": 9.0 * right}
    assert bsd_region(**better) == 0
    assert not taught(better).any()
    assert taught(swapped(better)).sum() == 31


def test_equally_good_goes_one_way() -> None:
    given = case(3)
    given["student_logits"] = given["teacher_logits"]
    assert taught(given).sum() == 31
    assert not taught(given, ties=False).any()


def test_void_pixels_vote_nowhere() -> None:
    given = case(4)
    void = given["label_map"][:, None, ::4, ::4] == VOID
    given["teacher_logits"] = given["teacher_logits"].detach()
    other = {**given, "teacher_logits": torch.where(void, 50.0, given["teacher_logits"])}
    assert bsd_region(**other, cells=4) == bsd_region(**given, cells=4)
    nothing = bsd_region(**{**given, "label_map": torch.full((2, 32, 48), VOID)})
    nothing.backward()
    assert nothing == 0
    assert (given["student"].grad == 0).all()


def test_features_of_void_pixels_do_not_count() -> None:
    given = case(5)
    void = given["label_map"][:, None, ::4, ::4] == VOID
    other = {**given, "student": torch.where(void, 50.0, given["student"].detach()).requires_grad_()}
    value = bsd_region(**other, cells=4)
    assert value == bsd_region(**given, cells=4)
    value.backward()
    assert (other["student"].grad * void == 0).all()


def test_no_gradient_goes_to_the_logits() -> None:
    given = case(5)
    for key in ("student_logits", "teacher_logits"):
        given[key].requires_grad_()
    bsd_region(**given).backward()
    assert given["student_logits"].grad is None
    assert given["teacher_logits"].grad is None


def test_a_map_smaller_than_the_cells() -> None:
    given = case(6)
    small = {key: value[:, :, :2, :2].detach() for key, value in given.items() if key in ("student", "teacher")}
    assert bsd_region(**{**given, **small}, cells=8) == bsd_region(**{**given, **small}, cells=2)
    with pytest.raises(ValueError, match="cells must be at least 1, got 0"):
        bsd_region(**given, cells=0)
