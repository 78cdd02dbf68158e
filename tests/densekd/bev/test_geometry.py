"""Maps read in metres against NumPy, Gaussians against mmdet3d's formulas by a loop, and which way the axes run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densekd.sensors.geometry import Extent, gaussians, nine_points, onto, pad, read

EXTENT = Extent(-8.0, -6.0, 24.0, 10.0)  # 32 x 16 m


def bilinear(maps: np.ndarray, points: np.ndarray, extent: Extent) -> np.ndarray:
    """One point after the other, in float64: maps (C, H, W) with rows along y, points (P, 2)."""
    c, height, width = maps.shape
    values = np.zeros((len(points), c))
    for k, (x, y) in enumerate(points):
        u = (x - extent.x0) / (extent.x1 - extent.x0) * width - 0.5
        v = (y - extent.y0) / (extent.y1 - extent.y0) * height - 0.5
        u, v = np.clip(u, 0, width - 1), np.clip(v, 0, height - 1)  # the border cells go on
        i, j = min(int(u), width - 2), min(int(v), height - 2)
        a, b = u - i, v - j
        near = (1 - a) * maps[:, j, i] + a * maps[:, j, i + 1]
        far = (1 - a) * maps[:, j + 1, i] + a * maps[:, j + 1, i + 1]
        values[k] = (1 - b) * near + b * far
    return values


def corners_of(box: np.ndarray) -> np.ndarray:
    """Nine points by complex numbers."""
    x, y, dx, dy, yaw = box
    places = [
        complex(x, y) + complex(u * dx, v * dy) * np.exp(1j * yaw) for u in (-0.5, 0, 0.5) for v in (-0.5, 0, 0.5)
    ]
    return np.array([[place.real, place.imag] for place in places])


BOXES = np.array(
    [
        [4.0, 1.0, 4.2, 1.9, 0.0],
        [10.3, 3.7, 4.4, 2.0, 0.7],  # rotated
        [-3.1, -2.2, 12.0, 3.0, -2.1],
        [23.5, 2.0, 4.0, 2.0, 1.2],  # across the border
        [-7.9, -5.9, 3.0, 2.0, 0.3],  # across a corner
        [40.0, 40.0, 3.0, 2.0, 0.3],  # beside the map
    ]
)


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_boxes_are_read_as_numpy_reads_them(dtype: torch.dtype, accuracy: float) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 3, 16, 32))
    boxes, real = pad([torch.from_numpy(BOXES), torch.zeros(0, 5)], torch.zeros(2, dtype=dtype))
    assert real.tolist() == [[True] * 6, [False] * 6]
    points = nine_points(boxes)
    np.testing.assert_allclose(points[0].numpy(), np.stack([corners_of(box) for box in BOXES]), atol=2e-5)
    values, counts = read(torch.from_numpy(maps).to(dtype), points.flatten(1, 2), EXTENT)
    places = np.concatenate([corners_of(box) for box in BOXES])
    inside = (places >= [-8, -6]).all(1) & (places < [24, 10]).all(1)
    np.testing.assert_array_equal(counts[0].numpy(), inside)
    assert 9 < inside.sum() < 54 - 9
    np.testing.assert_allclose(values[0][inside].numpy(), bilinear(maps[0], places[inside], EXTENT), atol=accuracy)


def test_no_box_in_the_whole_batch() -> None:
    boxes, real = pad([torch.zeros(0, 5), torch.zeros(0, 5)], torch.zeros(2))
    assert real.shape == (2, 0)
    values, counts = read(torch.ones(2, 3, 4, 4), nine_points(boxes).flatten(1, 2), EXTENT)
    assert values.shape == (2, 0, 3)
    assert counts.shape == (2, 0)
    assert gaussians(boxes, real, torch.ones(2, 3, 4, 4), EXTENT).sum() == 0


def test_a_ramp_has_its_value_at_the_nine_points() -> None:
    centres = EXTENT.centres(torch.zeros(1, 1, 16, 32, dtype=torch.float64))
    ramp = (2 * centres[..., 0] - 3 * centres[..., 1] + 1)[None, None]
    points = nine_points(torch.from_numpy(BOXES[1:2]))
    values, _ = read(ramp, points, EXTENT)
    torch.testing.assert_close(values[..., 0], 2 * points[..., 0] - 3 * points[..., 1] + 1)


def test_a_box_moved_by_cells_reads_what_is_there() -> None:
    maps = torch.randn(1, 3, 16, 32, dtype=torch.float64)
    box = torch.from_numpy(BOXES[1:2])
    there = read(maps, nine_points(box + torch.tensor([3.0, -2.0, 0, 0, 0])), EXTENT)[0]
    moved = read(maps.roll((2, -3), (2, 3)), nine_points(box), EXTENT)[0]
    torch.testing.assert_close(there, moved)


def test_axes_and_directions_change_nothing_in_metres() -> None:
    maps = torch.randn(1, 3, 16, 32, dtype=torch.float64)
    points = torch.rand(1, 20, 2, dtype=torch.float64) * torch.tensor([32.0, 16.0]) + torch.tensor([-8.0, -6.0])
    expected, _ = read(maps, points, EXTENT)
    torch.testing.assert_close(read(maps.mT, points, EXTENT._replace(axes="xy"))[0], expected)
    backwards = Extent(24.0, -6.0, -8.0, 10.0)
    torch.testing.assert_close(read(maps.flip(3), points, backwards)[0], expected)


def test_absent_cells_are_not_read() -> None:
    maps, weight = torch.randn(1, 2, 4, 4), torch.ones(1, 4, 4)
    weight[0, :, 2:] = 0
    extent, point = Extent(0, 0, 4, 4), torch.tensor([[[1.75, 1.5]]])  # a quarter of the way to an absent cell
    values, counts = read(maps, point, extent, weight)
    torch.testing.assert_close(values[0, 0], maps[0, :, 1, 1])
    torch.testing.assert_close(counts, torch.tensor([[0.75]]))


def test_maps_of_other_size_and_range_meet_in_metres() -> None:
    small, large = Extent(0, 0, 8, 8), Extent(-8, -8, 8, 8)
    fine, coarse = torch.zeros(1, 1, 16, 16, dtype=torch.float64), torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    field = large.centres(coarse).sum(-1)[None, None]  # x + y, in cells of 2 m
    values, shown = onto(field, large, fine, small)
    assert shown.all()
    inner = values[0, 0, :14, :14]  # the last metre is beyond the centre of the last coarse cell
    torch.testing.assert_close(inner, small.centres(fine).sum(-1)[:14, :14])
    _, shown = onto(field, small, fine, large)
    assert shown.sum() == 64  # a quarter of 16 x 16


@pytest.mark.parametrize("overlap", [0.1, 0.7])
def test_gaussians_are_those_of_centernet(overlap: float) -> None:
    boxes, real = pad([torch.from_numpy(BOXES)], torch.zeros(1, dtype=torch.float64))
    drawn = gaussians(boxes, real, torch.zeros(1, 1, 32, 64, dtype=torch.float64), EXTENT, overlap)[0].numpy()
    expected = np.zeros((32, 64))
    for x, y, dx, dy, _ in BOXES[:5]:  # the last one lies beside the map
        w, h, (i, j) = dx / 0.5, dy / 0.5, (int((x + 8) / 0.5), int((y + 6) / 0.5))
        roots = []  # the quadratic equations of CornerNet; published code takes (-b + root) / 2, whatever a is
        for a, b, c in (
            (1, w + h, w * h * (1 - overlap) / (1 + overlap)),
            (4, 2 * (w + h), (1 - overlap) * w * h),
            (4 * overlap, -2 * overlap * (w + h), (overlap - 1) * w * h),
        ):
            roots.append((b + np.sqrt(b * b - 4 * a * c)) / 2)
        radius = max(0, int(min(roots)))
        for v in range(max(0, j - radius), min(32, j + radius + 1)):
            for u in range(max(0, i - radius), min(64, i + radius + 1)):
                sigma = (2 * radius + 1) / 6
                value = np.exp(-((u - i) ** 2 + (v - j) ** 2) / (2 * sigma**2))
                expected[v, u] = max(expected[v, u], value)
    np.testing.assert_allclose(drawn, expected, atol=1e-12)
    assert (drawn == 1).sum() == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Extent.of([0, 0, 4]), "range of a map is"),
        (lambda: Extent.of([0, 0, 0, 4]), "range of a map is"),
        (lambda: Extent.of([0, 0, 4, 4], "zx"), "axes must be 'yx'"),
        (lambda: pad([torch.zeros(2, 7)], torch.zeros(1)), r"take \[:, \[0, 1, 3, 4, 6\]\]"),
        (lambda: pad([torch.zeros(2, 5)], torch.zeros(2)), "has 1 samples, but the maps have 2"),
    ],
)
def test_bad_input_is_named(wrong, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
