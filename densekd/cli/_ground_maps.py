"""Maps of the ground that teacher, control and taught student make of a frame, and how far apart they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor

from densekd import build_model
from densekd.checkpoint import load_weights
from densekd.runs.comparison import Role, config_of, trained_weights
from densekd.sensors.geometry import Extent, nine_points, on_the_ground, onto, rows_along_y
from densekd.taps.bev import bev_extent, bev_taps
from densekd.taps.reader import Taps
from kdlosses.cli.logs import SCHEMA, Log, commit, write

ROLES: tuple[Role, ...] = ("teacher", "control", "distilled")


class View(NamedTuple):
    """What a model makes of frames: maps `(B, C, H, W)` with rows along y, and the ground that they show."""

    maps: dict[str, Tensor]
    extent: Extent


def draw_ground(config: Any, name: str, frames: int, out: Path, weights: Path) -> str:
    """Measure the maps, draw those of the first frame, write both; return the table.

    Args:
        config: with a distiller.
        name: of the comparison.
        frames: how many of the training set to look at.
        out: folder for picture and log.
        weights: folder of the runs, of which those of seed 0 are read.
    """
    batch = first_frames(config, frames)
    views = {role: look(config, role, weights / f"{role}-seed0", batch) for role in ROLES}
    boxes = [on_the_ground(sample.gt_instances_3d.bboxes_3d) for sample in batch["data_samples"]]
    log: Log = {"schema": SCHEMA, "side": "bev", "name": name, "frames": len(boxes), "boxes": sum(map(len, boxes))}
    log["distance"] = {
        role: {tap: distance(views[role], views["teacher"], tap, boxes) for tap in ("low", "high")}
        for role in ("control", "distilled")
    }
    log["commit"] = commit()
    write(out / "distance.json", log)
    draw(views, boxes).savefig(out / "maps.png", dpi=80)
    return f"{table(log)}\n\npicture: {out / 'maps.png'}"


def first_frames(config: Any, frames: int) -> dict[str, Any]:
    """The first frames of the training set with their boxes, as the loader hands them out."""
    loader = config.train_dataloader
    loader.update(batch_size=frames, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False))
    with DefaultScope.overwrite_default_scope(config.default_scope):
        return next(iter(Runner.build_dataloader(loader)))


@torch.no_grad()
def look(config: Any, role: Role, weights: Path, batch: dict[str, Any]) -> View:
    """Run a trained model.

    Raises:
        FileNotFoundError: it has not been trained.
    """
    checkpoint = trained_weights(config, role, weights)
    model, _ = build_model(config_of(config, "control" if role == "distilled" else role))
    load_weights(model, checkpoint)
    taps, extent = bev_taps(model.eval()), bev_extent(model)
    seen = model.data_preprocessor(batch, False)
    with Taps(model, (taps["low"], taps["high"])) as found:
        model(**seen, mode="predict")
    maps = {tap: rows_along_y(found[taps[tap]][0].float(), extent) for tap in ("low", "high")}
    return View(maps, extent)


def distance(student: View, teacher: View, tap: str, boxes: list[Tensor]) -> float:
    """Mean |t - s| over the teacher's cells inside of boxes, over the mean |t| there: 0 for a copy, 1 for zeros.

    Raises:
        ValueError: the maps differ in channels.
    """
    t = teacher.maps[tap]
    s, shown = onto(student.maps[tap], student.extent, t, teacher.extent)
    if s.shape != t.shape:
        raise ValueError(f"the {tap} maps have {s.shape[1]} and {t.shape[1]} channels: there is no distance")
    cells = teacher.extent.centres(t)
    inside = (torch.stack([in_boxes(cells, each) for each in boxes]) & shown).unsqueeze(1)
    return float(((t - s).abs() * inside).sum() / (t.abs() * inside).sum())


def in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Which points `(..., 2)` lie in one of the boxes `(n, 5)`: x, y, dx, dy, yaw."""
    away = points.unsqueeze(-2) - boxes[:, :2]
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    along, across = away[..., 0] * cos + away[..., 1] * sin, away[..., 1] * cos - away[..., 0] * sin
    return ((along.abs() <= boxes[:, 2] / 2) & (across.abs() <= boxes[:, 3] / 2)).any(-1)


def draw(views: dict[Role, View], boxes: list[Tensor]) -> Figure:
    """The length of the feature of each cell of the first frame, a row for each map, with the boxes."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, len(views))
    for row, tap in zip(axes, ("low", "high")):
        for axis, (role, view) in zip(row, views.items()):
            length = view.maps[tap][0].norm(dim=0)
            x0, y0, x1, y1 = view.extent[:4]
            axis.imshow(
                length,
                origin="lower",
                extent=(x0, x1, y0, y1),
                cmap="magma",
                vmin=0,
                vmax=length.quantile(0.995).item(),
            )
            for corners in nine_points(boxes[0])[:, [0, 2, 8, 6]]:
                axis.add_patch(Polygon(corners.tolist(), fill=False, edgecolor="#3fd0ff", linewidth=1))
            axis.set_title(f"{role}, {'as drawn' if tap == 'low' else 'as read by the head'}", fontsize=10)
            axis.set_xlabel("x, m")
        row[0].set_ylabel("y, m")
    return figure


def table(log: Log) -> str:
    """Format the distances as Markdown."""
    rows = ["| model | map as drawn | map as read by the head |", "| --- | --- | --- |"]
    rows += [f"| {role} | {found['low']:.3f} | {found['high']:.3f} |" for role, found in log["distance"].items()]
    head = f"**{log['name']}** (distance to the teacher's map inside {log['boxes']} boxes, over the teacher's mean)"
    return "\n".join([head, "", *rows])
