"""Distill three pairs on real data that comes with scikit-learn: `make demo`, or `python tools/demo.py`.

A graph (FF-G2M: a graph network teaches an MLP that sees no graph), a segmentation (CWD) and a detection (PKD), each
with its teacher, the student untaught (control) and the student taught, under the same schedule. Prints one table and
writes a self-contained HTML report.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from html_report import Picture, Row, page
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from kdlosses.cli.logs import ROOT

ROLES: tuple[Any, ...] = ("teacher", "control", "distilled")
SECONDS = {  # seconds of each training on two cores: what the bar and its remaining time are measured in
    "graph": {"teacher": 5.0, "control": 3.0, "distilled": 5.0},
    "seg": {"teacher": 75.0, "control": 20.0, "distilled": 30.0},
    "det": {"teacher": 70.0, "control": 23.0, "distilled": 35.0},
}
COLOURS = {"teacher": "#8250df", "control": "#cf222e", "distilled": "#0969da"}

Tick = Callable[[float], None]


def main() -> None:
    """Train the three pairs, print the table, write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("graph", "seg", "det"), nargs="+", default=("graph", "seg", "det"))
    parser.add_argument("--out", type=Path, default=ROOT / "work_dirs" / "demo", help="folder of report and weights")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    start = time.monotonic()
    rows: list[Row] = []
    pictures: list[Picture] = []
    pairs = {"graph": graph_pair, "seg": segmentation_pair, "det": detection_pair}
    columns = ("[progress.description]{task.description:<34}", "{task.percentage:3.0f} %")
    bar = Progress(
        TextColumn(columns[0]), BarColumn(), TextColumn(columns[1]), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(), speed_estimate_period=60,
    )  # fmt: skip
    bar.disable = not bar.console.is_terminal  # a file gets a line a stage instead
    with bar:
        whole = bar.add_task("", total=sum(sum(SECONDS[name].values()) for name in args.only))
        for name in args.only:
            found, shown = pairs[name](args.out, partial(_stage, bar, whole, name))
            rows += _same_student(found)
            pictures += shown
    report = args.out / "report.html"
    pictures.insert(0, Picture("Quality against latency", "Up and to the left is better.", _quality_by_latency(rows)))
    minutes = (time.monotonic() - start) / 60
    foot = f"Made in {minutes:.1f} minutes on {os.cpu_count()} cores with torch {torch.__version__}, one seed."
    intro = "A small student learns three tasks, alone (control) and from a larger teacher (distilled)."
    report.write_text(page("Distillation on graphs and on dense prediction", intro, rows, pictures, foot))
    Console().print(_table(rows))
    print(f"{minutes:.1f} minutes; pictures: {os.path.relpath(report)}")


def _same_student(rows: list[Row]) -> list[Row]:
    """Control and distilled are one network: both get the lower of their two latencies, the one less disturbed."""
    latency = min(row.latency for row in rows if row.role != "teacher")
    return [row if row.role == "teacher" else row._replace(latency=latency) for row in rows]


Stage = Callable[[str], Any]
Pair = tuple[list[Row], list[Picture]]


@contextmanager
def _stage(bar: Progress, whole: Any, name: str, role: str) -> Iterator[Tick]:
    """A part of the progress bar, or a line; the tick inside takes the finished share of the part."""
    task, start = bar.tasks[whole], time.monotonic()
    share, before = SECONDS[name][role], task.completed
    bar.update(whole, description=f"{name}: {role}")
    yield lambda done: bar.update(whole, completed=before + share * done)
    bar.update(whole, completed=before + share)
    seconds = time.monotonic() - start
    task.fields["taken"] = task.fields.get("taken", 0.0) + seconds
    if bar.disable and task.total:
        left = (task.total - task.completed) * task.fields["taken"] / task.completed  # as slow as it was so far
        print(f"{name}: {role} trained in {seconds:.0f} s; about {left / 60:.1f} minutes left", flush=True)


def graph_pair(out: Path, stage: Stage) -> Pair:
    """A graph network on the digits graph teaches an MLP by FF-G2M."""
    from graphkd import StudentClassifier
    from graphkd.data import cpf_split, digits, make_setting
    from graphkd.pipeline.measure import measure_latency
    from graphkd.pipeline.train_student import train_student
    from graphkd.pipeline.train_teacher import train_teacher

    graph = digits()
    view = make_setting(graph, cpf_split(graph.y, 0), "tran", 0)
    student = StudentClassifier(hidden=(64,), dropout=0.2)
    with stage("teacher"):
        taught = train_teacher(view, "sage", 0)
    with stage("control"):
        control = train_student(view, None, "supervised", student, 0)
    with stage("distilled"):
        distilled = train_student(view, taught.cache, "ffg2m", student, 0)
    rows, classes = [], {}
    for role, outcome in zip(ROLES, (taught, control, distilled)):
        network = outcome.model if role == "teacher" else outcome.model.network_
        with torch.inference_mode():
            logits = network(graph.x, graph.edge_index) if role == "teacher" else network(graph.x)
        classes[role] = logits.argmax(1).numpy()
        speed = measure_latency(network, graph, needs_edges=role == "teacher")["all_nodes"]
        params = sum(parameter.numel() for parameter in network.parameters())
        rows.append(Row("graph, ffg2m", role, "accuracy", 100 * outcome.metrics["tran"], params, speed))
    test = view.test.numpy()
    picture = Picture(
        "Graph: which test nodes each model gets wrong",
        "The 1,797 handwritten digits, joined to their nearest neighbours, laid out by t-SNE. Red crosses are test "
        "nodes with a wrong prediction. Control and distilled are the same MLP and see no edge; only the teacher does.",
        _graph_figure(graph.x.numpy(), graph.y.numpy(), test, classes),
    )
    return rows, [picture]


def _graph_figure(x: np.ndarray, y: np.ndarray, test: np.ndarray, classes: dict[str, np.ndarray]) -> Figure:
    from sklearn.manifold import TSNE

    place = TSNE(init="pca", random_state=0, max_iter=500).fit_transform(x)
    figure = Figure(figsize=(13, 4.6))
    for axes, role in zip(figure.subplots(1, 3), ROLES):
        wrong = test[classes[role][test] != y[test]]
        axes.scatter(*place.T, c=y, cmap="tab10", s=5, alpha=0.35, linewidths=0)
        axes.scatter(*place[wrong].T, c="#cf222e", marker="x", s=26, linewidths=1.2)
        axes.set_title(f"{role}: {len(wrong)} of {len(test)} wrong")
        axes.set_axis_off()
    return figure


def segmentation_pair(out: Path, stage: Stage) -> Pair:
    """A wide Semantic FPN teaches a thin one by CWD."""
    rows, scenes = _dense_pair("seg", ROOT / "configs/seg/cwd/digits.py", "segmentation, cwd", "mIoU", out, stage)
    figure = Figure(figsize=(12.5, 2.55 * len(scenes)))
    grid = figure.subplots(len(scenes), 5, squeeze=False)
    for axes, (image, samples) in zip(grid, scenes):
        maps = [samples["teacher"].gt_sem_seg, *(samples[role].pred_sem_seg for role in ROLES)]
        axes[0].imshow(image)
        for ax, each in zip(axes[1:], maps):
            ax.imshow(image, alpha=0.35)
            ids = np.ma.masked_equal(each.data[0].cpu().numpy(), 0)
            ax.imshow(ids, cmap="tab10", vmin=1, vmax=10, alpha=0.85, interpolation="nearest")
    for ax, title in zip(grid[0], ("scene", "truth", *ROLES)):
        ax.set_title(title)
    for ax in grid.flat:
        ax.set_axis_off()
    caption = "Real digits on real photographs, test scenes; a colour is a digit."
    return rows, [Picture("Segmentation: masks", caption, figure)]


def detection_pair(out: Path, stage: Stage) -> Pair:
    """A wide GFL detector teaches a thin one by PKD."""
    rows, scenes = _dense_pair("det", ROOT / "configs/det/pkd/digits.py", "detection, pkd", "AP", out, stage)
    figure = Figure(figsize=(12.5, 3.2 * len(scenes)))
    grid = figure.subplots(len(scenes), 4, squeeze=False)
    for axes, (image, samples) in zip(grid, scenes):
        truth = samples["teacher"].gt_instances
        _boxes(axes[0], image, truth.bboxes, truth.labels, "#1a7f37")
        for ax, role in zip(axes[1:], ROLES):
            seen = samples[role].pred_instances
            seen = seen[seen.scores > 0.3]
            _boxes(ax, image, seen.bboxes, seen.labels, COLOURS[role])
    for ax, title in zip(grid[0], ("truth", *ROLES)):
        ax.set_title(title)
    caption = "Test scenes; boxes with a score above 0.3, with the digit that they are taken for."
    return rows, [Picture("Detection: boxes", caption, figure)]


def _boxes(ax: Any, image: np.ndarray, boxes: Any, labels: torch.Tensor, colour: str) -> None:
    ax.imshow(image)
    ax.set_axis_off()
    ax.autoscale(False)  # frames may reach beyond the image
    for (x1, y1, x2, y2), label in zip(torch.as_tensor(getattr(boxes, "tensor", boxes)).tolist(), labels.tolist()):
        ax.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, linewidth=1.8)
        ax.text(
            x1, y1, str(label), color="white", fontsize=8, va="bottom", bbox={"fc": colour, "ec": colour, "pad": 0.8}
        )


def _dense_pair(
    side: str, path: Path, task: str, metric: str, out: Path, stage: Stage, shown: Sequence[int] = (0, 1, 2)
) -> tuple[list[Row], list[tuple[np.ndarray, dict[str, Any]]]]:
    """Train teacher, control and distilled; returns the rows, and scenes with what each model sees in them."""
    from densekd.mmlab.config import read_config
    from densekd.runs.comparison import run

    config = read_config(path)
    rows, samples = [], []
    scenes: list[np.ndarray] = []
    for role in ROLES:
        folder = out / side / role
        with stage(role) as tick, redirect_stdout(StringIO()):  # pycocotools prints
            log = run(
                config, role, 0, folder, name=f"demo-{side}", checkpoint=out / side / "teacher",
                hooks=[_progress_hook(tick)],
                log_level="ERROR",
            )  # fmt: skip
        rows.append(Row(task, role, metric, log["metrics"][metric], log["params"], log["latency_ms"]["one_image"]))
        scenes, seen = _predict(config, role, folder, shown)
        samples.append(seen)
    return rows, [(image, dict(zip(ROLES, each))) for image, each in zip(scenes, zip(*samples))]


def _progress_hook(tick: Tick) -> Any:
    from mmengine.hooks import Hook

    class Ticks(Hook):
        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            tick((runner.iter + 1) / runner.max_iters)

    return Ticks()


def _predict(config: Any, role: Any, folder: Path, shown: Sequence[int]) -> tuple[list[np.ndarray], list[Any]]:
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import DATASETS, DefaultScope

    from densekd.checkpoint import load_weights
    from densekd.mmlab.building import build_model
    from densekd.mmlab.config import control, is_taught
    from densekd.runs.comparison import config_of

    plan = config_of(config, role)
    plan = control(plan) if is_taught(plan) else plan
    model: Any = build_model(plan)[0]
    load_weights(model, folder)
    with DefaultScope.overwrite_default_scope(plan.default_scope), torch.inference_mode():
        data = DATASETS.build(plan.test_dataloader.dataset)
        batch = pseudo_collate([data[index] for index in shown])
        images = [image.permute(1, 2, 0).numpy()[..., ::-1] for image in batch["inputs"]]
        return images, model.eval().test_step(batch)


def _quality_by_latency(rows: Sequence[Row]) -> Figure:
    tasks = list(dict.fromkeys(row.task for row in rows))
    figure = Figure(figsize=(4.3 * len(tasks), 3.6))
    for axes, task in zip(np.atleast_1d(figure.subplots(1, len(tasks))), tasks):
        mine = [row for row in rows if row.task == task]
        for row in mine:
            axes.scatter(row.latency, row.quality, s=90, color=COLOURS[row.role], label=row.role, zorder=3)
        axes.set(title=task, xlabel="latency, ms", ylabel=f"{mine[0].metric}, %")
        axes.set_xlim(0, 1.15 * max(row.latency for row in mine))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.tight_layout()
    return figure


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="Teacher, student alone, student taught (test data, per cent)")
    for column in ("task", "model", "quality", "against control", "parameters", "latency, ms"):
        table.add_column(column, justify="left" if column in ("task", "model") else "right")
    control = {row.task: row.quality for row in rows if row.role == "control"}
    for row in rows:
        gain = "" if row.role == "control" else f"{row.quality - control[row.task]:+.1f}"
        cells = (row.task, row.role, f"{row.quality:.1f} {row.metric}", gain, f"{row.params:,}", f"{row.latency:.1f}")
        table.add_row(*cells, style="bold" if row.role == "distilled" else None, end_section=row.role == ROLES[-1])
    return table


if __name__ == "__main__":
    main()
