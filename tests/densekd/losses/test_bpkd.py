"""Bands of edges against scipy.ndimage; the two losses of BPKD against NumPy, and what must not matter to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import rel_entr, softmax

from densekd.losses import bpkd_body, bpkd_edge
from densekd.losses.boundary import class_edges
from kdlosses import cwd

VOID = 255


def label_maps(seed: int, void: bool = True) -> np.ndarray:
    """Blobs of five classes, one of them absent, with void borders and holes."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, 5, 24, 30)), (0, 0, 3, 3))
    smooth[:, 3] = -np.inf
    labels = smooth.argmax(1)
    if void:
        labels[:, :2] = labels[:, 10:14, 6:9] = VOID
    return labels


def bands(labels: np.ndarray, kernel: int, classes: int = 5) -> np.ndarray:
    """Dilation minus erosion of the mask of each class, the ignored pixels on its side while it is eroded."""
    window, void = np.ones((kernel, kernel), bool), labels == VOID
    found = np.zeros((len(labels), classes, *labels.shape[1:]))
    for n, c in np.ndindex(len(labels), classes):
        mine = labels[n] == c
        dilated = ndimage.binary_dilation(mine, window)
        eroded = ndimage.binary_erosion(mine | void[n], window, border_value=1)
        found[n, c] = dilated & ~eroded & ~void[n]
    return found


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("void", [False, True])
def test_bands_are_those_of_scipy(kernel: int, void: bool) -> None:
    labels = label_maps(0, void)
    edges, labelled = class_edges(torch.from_numpy(labels), 5, labels.shape[1:], kernel)
    np.testing.assert_array_equal(edges.numpy(), bands(labels, kernel))
    np.testing.assert_array_equal(labelled.numpy(), labels != VOID)
    assert edges[:, 3].sum() == 0
    assert (edges.sum() > 0) == (kernel > 1)


def test_a_smaller_map_has_the_shares_of_its_cells() -> None:
    labels = label_maps(1)
    edges, labelled = class_edges(torch.from_numpy(labels), 5, (6, 10))
    cells = bands(labels, 7).reshape(2, 5, 6, 4, 10, 3).mean((3, 5))
    np.testing.assert_allclose(edges.numpy(), cells, atol=1e-6)
    np.testing.assert_allclose(labelled.numpy(), (labels != VOID).reshape(2, 6, 4, 10, 3).mean((2, 4)), atol=1e-6)


def test_more_classes_than_one_block() -> None:
    labels = torch.randint(40, (1, 12, 12))
    expected = class_edges(labels % 40, 40, (12, 12))[0]
    for c in (0, 15, 16, 39):
        alone = class_edges((labels == c).long(), 2, (12, 12))[0][:, 1]
        torch.testing.assert_close(expected[:, c], alone)


def test_formula_of_the_edges() -> None:
    rng = np.random.default_rng(0)
    s, t, labels = rng.normal(size=(2, 5, 6, 10)), rng.normal(size=(2, 5, 6, 10)), label_maps(1)
    mask = bands(labels, 7).reshape(2, 5, 6, 4, 10, 3).mean((3, 5))
    phi = 16 * rel_entr(softmax(t * mask / 4, 1), softmax(s * mask / 4, 1)).sum(1, keepdims=True)
    each = (phi * mask).sum((2, 3)) / np.maximum(mask.sum((2, 3)), 1)
    tensors = [*map(torch.from_numpy, (s, t, labels))]
    np.testing.assert_allclose(bpkd_edge(*tensors).item(), 2 * each.sum(1).mean(), rtol=1e-6)
    found = (mask.sum((2, 3)) > 0).sum(1)
    value = bpkd_edge(*tensors, present=True, alpha=1.0).item()
    np.testing.assert_allclose(value, (each.sum(1) / found).mean(), rtol=1e-6)
    by_cell = (phi * mask).sum((2, 3)) / np.maximum((mask > 0).sum((2, 3)), 1)
    np.testing.assert_allclose(bpkd_edge(*tensors, cells=True).item(), 2 * by_cell.sum(1).mean(), rtol=1e-6)


def test_cells_and_area_are_one_at_the_size_of_the_labels_and_two_below() -> None:
    """A straight edge: the band is 6 pixels wide at 7 x 7, and touches two cells of 4 pixels and half of each."""
    labels = (torch.arange(64) >= 32).long().expand(1, 64, 64)
    for stride, ratio in ((1, 1.0), (4, 8 / 6)):
        z = torch.randn(2, 1, 2, 64 // stride, 64 // stride, generator=torch.Generator().manual_seed(0))
        by_area, by_cell = (bpkd_edge(*z, labels, cells=cells).item() for cells in (False, True))
        assert by_area == pytest.approx(ratio * by_cell, rel=1e-5)


def test_formula_of_the_bodies() -> None:
    rng = np.random.default_rng(0)
    s, t, labels = rng.normal(size=(2, 5, 24, 30)), rng.normal(size=(2, 5, 24, 30)), label_maps(1)
    body, counted = 1 - bands(labels, 7), labels != VOID
    each = []
    for n, c in np.ndindex(2, 5):
        p, q = (softmax((z * body)[n, c][counted[n]] / 4) for z in (t, s))
        each.append(16 * rel_entr(p, q).sum())
    value = bpkd_body(*map(torch.from_numpy, (s, t, labels)))
    np.testing.assert_allclose(value.item(), np.mean(each), rtol=1e-6)


def test_one_class_has_no_edge() -> None:
    s, t, labels = torch.randn(2, 5, 6, 6), torch.randn(2, 5, 6, 6), torch.full((2, 24, 24), 3)
    assert bpkd_edge(s, t, labels) == 0
    torch.testing.assert_close(bpkd_body(s, t, labels), cwd(s, t, tau=4.0))


@pytest.mark.parametrize("loss", [bpkd_edge, bpkd_body])
def test_ignored_pixels_do_not_matter(loss: object) -> None:
    """A wider image whose new part is void gives the same loss, whatever the logits there."""
    s, t, labels = torch.randn(2, 5, 24, 30), torch.randn(2, 5, 24, 30), torch.from_numpy(label_maps(2))
    pad = torch.nn.functional.pad
    wide = pad(s, (0, 8), value=9.0), pad(t, (0, 8), value=-3.0), pad(labels, (0, 8), value=VOID)
    torch.testing.assert_close(loss(*wide), loss(s, t, labels))


@pytest.mark.parametrize("loss", [bpkd_edge, bpkd_body])
def test_nothing_labelled_is_zero_with_a_gradient(loss: object) -> None:
    s = torch.randn(2, 5, 6, 6, requires_grad=True)
    value = loss(s, torch.randn(2, 5, 6, 6), torch.full((2, 24, 24), VOID))
    value.backward()
    assert value == 0
    assert (s.grad == 0).all()


def test_an_image_smaller_than_the_window() -> None:
    labels = torch.tensor([[[0, 1], [0, 0]]])
    assert (class_edges(labels, 2, (2, 2), kernel=15)[0] == 1).all()


def test_the_window_is_odd() -> None:
    with pytest.raises(ValueError, match="must be odd and at least 1, got kernel=4"):
        class_edges(torch.zeros(1, 4, 4, dtype=torch.long), 2, (4, 4), kernel=4)
