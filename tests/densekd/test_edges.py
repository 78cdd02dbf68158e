"""Distances to edges and errors by them, against every pair of pixels and SciPy's distance transform."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from densekd.edges import WIDTH, edge_distance, edge_errors, near_edge

VOID = 255


def label_map(seed: int, shape: tuple[int, int] = (23, 31)) -> np.ndarray:
    """Blobs of four classes with an ignored border, an ignored hole, ignored and negative single pixels."""
    draw = np.random.default_rng(seed)
    labels = ndimage.gaussian_filter(draw.normal(size=(4, *shape)), (0, 3, 3)).argmax(0)
    labels[:2] = labels[12:16, 6:9] = VOID
    labels[draw.random(shape) < 0.05] = VOID
    labels[draw.random(shape) < 0.02] = -1
    return labels


def distances(labels: np.ndarray) -> np.ndarray:
    """For each class, how far its pixels are from the nearest pixel of any other; infinity for what is void."""
    found = np.full(labels.shape, math.inf)
    valid = (labels >= 0) & (labels != VOID)
    for c in np.unique(labels[valid]):
        others = valid & (labels != c)
        if others.any():
            mine = labels == c
            found[mine] = ndimage.distance_transform_edt(~others)[mine]
    return found


@pytest.mark.parametrize("reach", [1, 1.5, 3, 6])
def test_distances_are_those_of_scipy_within_reach(reach: float) -> None:
    labels = np.stack([label_map(seed) for seed in range(3)])
    expected = np.stack([distances(each) for each in labels])
    expected[expected > reach] = math.inf
    found = edge_distance(torch.from_numpy(labels), reach).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(near_edge(torch.from_numpy(labels), reach).numpy(), np.isfinite(expected))


def test_distances_are_those_to_the_nearest_of_all_pixels() -> None:
    labels = label_map(7, (9, 8))
    valid = [at for at in np.ndindex(*labels.shape) if labels[at] not in (VOID, -1)]
    found = edge_distance(torch.from_numpy(labels), 20)
    for at in np.ndindex(*labels.shape):
        others = [math.dist(at, each) for each in valid if labels[each] != labels[at]] if at in valid else []
        assert found[at].item() == pytest.approx(min(others, default=math.inf))


@pytest.mark.parametrize("within", [1, 3, 5])
def test_errors_are_counted_by_their_distance(within: int) -> None:
    draw = np.random.default_rng(0)
    truth = np.stack([label_map(seed) for seed in range(4)])
    guess = np.where(draw.random(truth.shape) < 0.3, draw.integers(4, size=truth.shape), np.maximum(truth, 0) % VOID)
    away, counted = np.stack([distances(each) for each in truth]), (truth >= 0) & (truth != VOID)
    rings = [(away > k) & (away <= k + 1) for k in range(within)]
    rows = [ring & counted for ring in [*rings, away > within]]
    expected = [[((guess != truth) & row).sum(), row.sum()] for row in rows]
    found = edge_errors(torch.from_numpy(guess), torch.from_numpy(truth), within)
    assert found.tolist() == expected
    assert found[:, 1].sum() == counted.sum()
    assert (found > 0).all()


def test_what_is_predicted_for_void_does_not_count() -> None:
    truth = torch.from_numpy(label_map(0))
    void = (truth == VOID) | (truth < 0)
    guess = truth.where(~void, 3)
    assert edge_errors(guess, truth)[:, 0].sum() == 0
    assert torch.equal(edge_errors(guess.where(~void, 0), truth), edge_errors(guess, truth))
    other = truth.where(truth != VOID, 9)
    assert torch.equal(edge_errors(guess, other, ignore_index=9), edge_errors(guess, truth))


def test_without_an_edge_all_is_far() -> None:
    counts = edge_errors(torch.zeros(2, 5, 4), torch.full((2, 5, 4), 2))
    assert counts.tolist() == [*([[0, 0]] * WIDTH), [40, 40]]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="within must be at least 1, got 0"):
        edge_errors(torch.zeros(2, 2), torch.zeros(2, 2), within=0)
    with pytest.raises(TypeError, match=r"within is a whole number of pixels, got 2\.5"):
        edge_errors(torch.zeros(2, 2), torch.zeros(2, 2), within=2.5)
    with pytest.raises(ValueError, match=r"a prediction has \(4, 5\) pixels, its ground truth \(4, 6\)"):
        edge_errors(torch.zeros(4, 5), torch.zeros(4, 6))
