"""Soft targets of an active shape model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdlosses.soft_targets import SoftTargets

SHAPES = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
    [[3.0, 1.0, 0.0, 0.0], [0.0, 0.5, 1.0, 0.0], [0.0, 0.0, 0.1, 0.2]], dtype=torch.float64
)


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
def test_they_are_a_principal_component_analysis(share: float) -> None:
    y = SHAPES.numpy()
    mean, covariance = y.mean(0), np.cov(y.T)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    count = int(np.argmax(np.cumsum(values) / values.sum() >= share - 1e-12)) + 1
    b = np.clip((y - mean) @ vectors[:, :count], *(sign * 3 * np.sqrt(values[:count]) for sign in (-1, 1)))
    np.testing.assert_allclose(SoftTargets(SHAPES, share)(SHAPES), mean + b @ vectors[:, :count].T, atol=1e-8)


def test_a_far_shape_is_held_within_three_deviations_and_a_missing_one_stays_missing() -> None:
    soft = SoftTargets(SHAPES, share=1.0)
    far = SHAPES.mean(0) + 100 * soft.axes[:1]
    deviation = ((SHAPES - SHAPES.mean(0)) @ soft.axes[0]).std()
    torch.testing.assert_close(soft(far), SHAPES.mean(0) + 3 * deviation * soft.axes[:1])
    missing = SHAPES.clone()
    missing[0, 1] = torch.nan
    assert soft(missing).isnan().any(1).nonzero().tolist() == [[0]]
    again = SoftTargets(torch.cat([SHAPES, missing[:1]]), share=1.0)
    torch.testing.assert_close(again(far), soft(far))


def test_too_few_shapes_and_no_share_are_named() -> None:
    with pytest.raises(ValueError, match="two shapes or more, got 1"):
        SoftTargets(SHAPES[:1])
    with pytest.raises(ValueError, match="share must be above 0"):
        SoftTargets(SHAPES, share=0.0)
