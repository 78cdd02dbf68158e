"""A synthetic world, drawn on the fly: boxes on a plane, seen by a LiDAR and a pinhole camera. Only NumPy."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

Split = Literal["train", "val", "test"]
SPLITS = ("train", "val", "test")

CLASSES = ("car", "truck", "bike")
SIZES = np.array([[4.2, 1.9, 1.6], [7.5, 2.6, 3.0], [2.0, 0.8, 1.7]])
"""Mean length, width and height in metres; each object varies by a tenth."""

RANGE = (0.0, -16.0, -3.0, 32.0, 16.0, 2.0)
"""Range of the objects, as a point_cloud_range: x to the front, y to the left, z up; metres from the LiDAR."""

GROUND = -1.8
IMAGE = (96, 192)  # height, width
LIDAR2CAM = np.array([[0, -1, 0, 0], [0, 0, -1, -0.1], [1, 0, 0, -0.2], [0, 0, 0, 1]], np.float32)
CAM2IMG = np.array([[96, 0, 96, 0], [0, 96, 40, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
"""90 degrees of view, .1 m below and .2 m in front of the LiDAR; the centre of the first pixel is at .5, .5."""

SKY, PLANE = -2, -1


class Scene(NamedTuple):
    """A scene: its n objects and the data of both sensors.

    Attributes:
        boxes: `(n, 7)` float32, as mmdet3d's LiDAR boxes: x, y, z of the bottom, length, width, height, yaw.
        labels: `(n,)` int64, index into `CLASSES`.
        points: `(m, 4)` float32: x, y, z and intensity, 0 to 1.
        image: `(*IMAGE, 3)` uint8, RGB.
        hits: `(n,)` int64, LiDAR points on each object.
    """

    boxes: np.ndarray
    labels: np.ndarray
    points: np.ndarray
    image: np.ndarray
    hits: np.ndarray


def draw(index: int, split: Split = "train", seed: int = 0) -> Scene:
    """Draw scene `index` of a split: the same arguments give the same scene, to the bit.

    Two to seven objects of three classes stand on a plane, turned at random, apart from each other. The LiDAR has 24
    beams with a ray every .8 degrees over the front; a tenth of them is lost, distances are off by 2 cm. The camera
    renders the same boxes, each in a colour of its own, lit by a sun, with noise and haze. An object counts if both
    sensors see it: at least three points and twelve pixels.

    Args:
        index: number of the scene, from 0.
        split: splits have no scene in common.
        seed: another seed gives another world.

    Raises:
        ValueError: an unknown split.

    >>> scene = draw(0, "test")
    >>> scene.image.shape, scene.points.shape[1], len(scene.boxes) == len(scene.labels) > 0
    ((96, 192, 3), 4, True)
    """
    return _draw(index, split, seed)[0]


class Past(NamedTuple):
    """How the objects of a scene move, and what the LiDAR saw before.

    Attributes:
        velocities: `(n, 2)` float32, along x and y in metres per second; parked objects have 0.
        points: `(m, 4)` float32, as those of the scene.
    """

    velocities: np.ndarray
    points: np.ndarray


def draw_moving(index: int, split: Split = "train", seed: int = 0, age: float = 0.5) -> tuple[Scene, Past]:
    """Draw scene `index`, the same as `draw`, and what was there some seconds before.

    Half of the objects move along their length, 2 to 8 m/s; the sensors stand.

    Args:
        index: number of the scene, from 0.
        split: see `draw`.
        seed: likewise.
        age: seconds.

    >>> scene, past = draw_moving(3, "test")
    >>> len(past.velocities) == len(scene.boxes), past.points.shape[1]
    (True, 4)
    """
    scene, boxes, albedo, kept = _draw(index, split, seed)
    rng = np.random.default_rng((seed, SPLITS.index(split), index, 1))
    speeds = rng.uniform(2, 8, len(boxes)) * (rng.random(len(boxes)) < 0.5)
    steps = speeds[:, None] * np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], 1)
    before = boxes[:, :2] - age * steps
    near = np.hypot(*before.T) <= np.hypot(*boxes[:, 3:5].T) / 2 + 1  # no ray starts inside of a box
    steps[near] = 0
    moved = np.concatenate([boxes[:, :2] - age * steps, boxes[:, 2:]], 1)
    return scene, Past(steps[kept].astype(np.float32), _scan(rng, moved, albedo)[0])


def _draw(index: int, split: Split, seed: int) -> tuple[Scene, np.ndarray, np.ndarray, np.ndarray]:
    """A scene, all of its boxes, how bright they are and which of them count."""
    if split not in SPLITS:
        raise ValueError(f"no split is called {split!r}; known: {', '.join(SPLITS)}")
    rng = np.random.default_rng((seed, SPLITS.index(split), index))
    boxes, labels = _place(rng)
    colours = rng.uniform(0.15, 1.0, (len(boxes), 3))
    points, on = _scan(rng, boxes, colours.mean(1))
    image, seen = _render(rng, boxes, colours)
    hits = np.bincount(on[on >= 0], minlength=len(boxes))
    kept = (hits >= 3) & (np.bincount(seen[seen >= 0], minlength=len(boxes)) >= 12)
    return Scene(boxes[kept].astype(np.float32), labels[kept], points, image, hits[kept]), boxes, colours.mean(1), kept


def cast(origin: np.ndarray, directions: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trace rays to their first hit: a box, the plane at `GROUND`, or nothing.

    Args:
        origin: `(3,)`.
        directions: `(r, 3)`, of any length.
        boxes: `(n, 7)`, see `Scene`; no ray starts inside of one.

    Returns:
        distance in lengths of the direction `(r,)`, infinite for no hit; what is hit `(r,)`, the number of the box,
        `PLANE` or `SKY`; and the normal there `(r, 3)`.

    >>> box = np.array([[10, 0, GROUND, 4, 2, 1.6, 0]])
    >>> times, met, normals = cast(np.zeros(3), np.array([[1.0, 0, -0.1], [-1, 0, -0.1], [0, 0, 1]]), box)
    >>> times.round(3).tolist(), met.tolist(), normals[0].tolist()
    ([8.0, 18.0, inf], [0, -1, -2], [-1.0, 0.0, 0.0])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = (GROUND - origin[2]) / directions[:, 2]
        times = np.where(directions[:, 2] < 0, ground, np.inf)
        met = np.where(np.isfinite(times), PLANE, SKY)
        normals = np.tile([0.0, 0.0, 1.0], (len(directions), 1))
        squares = (directions**2).sum(1)
        for k, (x, y, z, length, width, height, yaw) in enumerate(boxes):
            centre, half = np.array([x, y, z + height / 2]) - origin, np.array([length, width, height]) / 2
            along = directions @ centre
            near_it = (along > 0) & ((centre @ centre - half @ half) * squares <= along**2)  # rays through its sphere
            rays = np.flatnonzero(near_it)
            cos, sin = np.cos(yaw), np.sin(yaw)
            turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])  # into the frame of the box
            start, step = turn @ -centre, directions[rays] @ turn.T
            near, far = (-np.sign(step) * half - start) / step, (np.sign(step) * half - start) / step
            beside = (step == 0) & (np.abs(start) > half)
            near, far = np.where(step == 0, -np.inf, near), np.where(step == 0, np.inf, far)
            enter, leave = near.max(1), far.min(1)
            first = (enter > 0) & (enter <= leave) & (enter < times[rays]) & ~beside.any(1)
            face = np.eye(3)[near[first].argmax(1)] * -np.sign(step[first])
            times[rays[first]], met[rays[first]], normals[rays[first]] = enter[first], k, face @ turn
    return times, met, normals


def _place(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    boxes: list[np.ndarray] = []
    labels: list[int] = []
    wanted = rng.integers(2, 8)
    for _ in range(40):  # two always find room, a seventh not always
        if len(boxes) == wanted:
            break
        label = rng.choice(3, p=[0.5, 0.2, 0.3])
        size = SIZES[label] * rng.uniform(0.9, 1.1, 3)
        x, across = rng.uniform(4, 30), rng.uniform(-0.9, 0.9)
        box = np.array([x, across * min(x, 15), GROUND, *size, rng.uniform(-np.pi, np.pi)])
        apart = [np.hypot(*(box[:2] - b[:2])) > (np.hypot(*box[3:5]) + np.hypot(*b[3:5])) / 2 for b in boxes]
        if all(apart) and np.hypot(*box[:2]) > np.hypot(*size[:2]) / 2 + 1:
            boxes.append(box)
            labels.append(label)
    return np.array(boxes), np.array(labels, np.int64)


def _scan(rng: np.random.Generator, boxes: np.ndarray, albedo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of the LiDAR at the origin, and the object of each."""
    azimuth, elevation = np.meshgrid(np.deg2rad(np.arange(-52, 52, 0.8)), np.deg2rad(np.linspace(-20, 3, 24)))
    directions = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
    ).reshape(-1, 3)
    times, met, normals = cast(np.zeros(3), directions, boxes)
    kept = np.isfinite(times) & (times < 50) & (rng.random(len(times)) < 0.9)
    places = directions * (np.where(kept, times, 0) + 0.02 * rng.standard_normal(len(times)))[:, None]
    reflected = np.append(albedo, 0.3)[met] * np.abs((normals * directions).sum(1))  # the plane is number -1
    return np.column_stack([places, reflected])[kept].astype(np.float32), met[kept]


def _render(rng: np.random.Generator, boxes: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image of the camera, RGB, and the object of each pixel."""
    height, width = IMAGE
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(CAM2IMG[:3, :3]).T
    turn, shift = LIDAR2CAM[:3, :3].astype(float), LIDAR2CAM[:3, 3]
    times, met, normals = cast(-turn.T @ shift, rays @ turn, boxes)
    sun = np.array([rng.uniform(-1, 1), rng.uniform(-1, 1), 1.5])
    light = 0.45 + 0.55 * np.clip(normals @ (sun / np.linalg.norm(sun)), 0, 1)
    plane, sky = rng.uniform(0.25, 0.55) * np.array([1, 1, 0.95]), rng.uniform(0.6, 0.95) * np.array([0.85, 0.93, 1])
    shaded = np.vstack([colours, sky, plane])[met] * light[:, None]  # numbers -2 and -1
    clear = np.exp(-times / 60)[:, None]  # the sky is infinitely far
    shaded = clear * shaded + (1 - clear) * sky
    noisy = 255 * shaded * rng.uniform(0.7, 1.1) + 6 * rng.standard_normal(shaded.shape)
    return noisy.clip(0, 255).round().astype(np.uint8).reshape(height, width, 3), met
