"""Where segmenters err near the edges of the labels: maps of errors, and a table by the distance to an edge."""

from __future__ import annotations

import base64
import copy
import html
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps, image
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor

from densekd import build_model
from densekd.checkpoint import load_weights
from densekd.cli.compare import Job
from densekd.edges import edge_errors, near_edge
from densekd.runs.comparison import config_of, trained_weights
from densekd.sensors.normalisation import Normalisation
from kdlosses.cli.document import document
from kdlosses.cli.logs import SCHEMA, Log, commit, write
from kdlosses.cli.report import spread
from kdlosses.whole import whole

COLOURS = {
    "void": ((160, 160, 160), "no label"),
    "far": ((255, 255, 255), "further away"),
    "right": ((222, 222, 222), "near an edge, both right"),
    "control": ((0, 114, 178), "control alone is wrong"),
    "student": ((230, 159, 0), "student alone is wrong"),
    "both": ((0, 0, 0), "both are wrong"),
}
"""Of the maps of errors, in the order of their codes: told apart by the colour-blind, and in grey (Okabe and Ito)."""
STYLE = """
h2 { font-size: 1.2rem; margin-top: 2.5rem; } h2, figcaption { overflow-wrap: anywhere; }
.maps { display: flex; flex-wrap: wrap; gap: .8rem; } figure { margin: 0; width: 15rem; }
figure img { width: 100%; image-rendering: pixelated; border: 1px solid #8884; box-sizing: border-box; }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; }
.legend i { display: inline-block; width: 1em; height: 1em; vertical-align: -.15em; border: 1px solid #8888; }
"""


class Shown(NamedTuple):
    """One image: its name, its pixels and its label map in colours, its labels, and what a model makes of it."""

    name: str
    pixels: np.ndarray
    labels: np.ndarray
    truth: Tensor
    guess: Tensor


class Looked(NamedTuple):
    """One model on the validation set: counts of `edge_errors` over all images, and the first of these."""

    job: Job
    counts: Tensor
    shown: list[Shown]


def draw_errors(jobs: Sequence[Job], name: str, within: int, images: int, out: Path) -> str:
    """Look at all models, write `errors.html` and `errors.json`, and return the table.

    Args:
        jobs: the runs of a comparison.
        name: of the comparison.
        within: width of the band around edges, in pixels of the label map.
        images: how many are drawn, of the models of seed 0.
        out: folder.

    Raises:
        FileNotFoundError: a model has not been trained.
    """
    weights = [trained_weights(job.config, job.role, job.weights, job.teacher) for job in jobs]
    looked: list[Looked] = []
    for job, path in zip(jobs, weights):
        print(f"[{len(looked) + 1}/{len(jobs)}] {job.method}, seed {job.seed}", file=sys.stderr, flush=True)
        looked.append(look(job, path, within, 0 if job.role == "teacher" or job.seed else images))
    log: Log = {"schema": SCHEMA, "side": "seg", "name": name, "within": within, "commit": commit()}
    log["split"] = split_of(config_of(jobs[0].config, "control"))
    log["models"] = [
        {"role": job.role, "method": job.method, "seed": job.seed, "wrong_and_all": counts.tolist()}
        for job, counts, _ in looked
    ]
    write(out / "errors.json", log)
    rows = table(log["models"], within)
    with whole(out / "errors.html") as draft:
        draft.write_text(page(log, rows, looked), encoding="utf-8")
    lines = [f"**{name}** ({told(log)})", "", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([*lines, "", f"maps: {out / 'errors.html'}"])


def split_of(plan: Any) -> str:
    """The split that a config is looked at on: 'val', or 'test' where there is no other."""
    return "val" if plan.get("val_dataloader") else "test"


@torch.no_grad()
def look(job: Job, weights: str | Path, within: int, images: int) -> Looked:
    """Run a trained model on the validation set."""
    plan = config_of(job.config, "control" if job.role == "distilled" else job.role, job.teacher)
    split = split_of(plan)
    evaluators = plan[f"{split}_evaluator"]
    listed = evaluators if isinstance(evaluators, list) else [evaluators]
    void = next((each["ignore_index"] for each in listed if "ignore_index" in each), 255)
    loader = copy.deepcopy(plan[f"{split}_dataloader"])
    loader.update(num_workers=0, persistent_workers=False)
    with DefaultScope.overwrite_default_scope(plan.get("default_scope")):
        batches = Runner.build_dataloader(loader)
        model: Any = build_model(plan)[0]
    load_weights(model, weights)
    model.to(get_device()).eval()
    counts = torch.zeros(within + 1, 2, dtype=torch.long)
    shown: list[Shown] = []
    for batch in batches:
        for sample, pixels in zip(model.test_step(batch), batch["inputs"]):
            guess, truth = (each.data[0].cpu() for each in (sample.pred_sem_seg, sample.gt_sem_seg))
            counts += edge_errors(guess, truth, within, void)
            if len(shown) < images:
                name = Path(sample.get("img_path") or f"image {len(shown)}").name
                truth = truth.long().where(truth != void, -1)
                colours = in_colours(truth, batches.dataset.metainfo.get("palette"))
                shown.append(Shown(name, as_picture(pixels, truth.shape, model), colours, truth, guess))
    return Looked(job, counts, shown)


def as_picture(pixels: Tensor, size: Sequence[int], model: Any) -> np.ndarray:
    """The input of a model as a picture `(H, W, 3)` of the size of its labels."""
    found = pixels[None].float()
    norm = Normalisation.of(model.data_preprocessor)
    if norm is not None and norm.swapped:
        found = found.flip(1)
    if not 0 <= found.min() <= found.max() <= 255:  # a pipeline of its own has normalised it
        found = 255 * (found - found.min()) / (found.max() - found.min())
    found = F.interpolate(found[:, :3], size=tuple(size), mode="bilinear", antialias=True).clamp(0, 255)
    return found[0].expand(3, -1, -1).permute(1, 2, 0).round().byte().numpy()


def in_colours(truth: Tensor, palette: Sequence[Sequence[int]] | None) -> np.ndarray:
    """A label map in the colours of its data set; what is negative is void."""
    if not palette:
        drawn = colormaps["tab20"](np.linspace(0, 1, 20))[:, :3]
        palette = [tuple(round(255 * float(part)) for part in colour) for colour in drawn]
    table, void = np.array(palette, np.uint8), np.array(COLOURS["void"][0], np.uint8)
    return np.where((truth < 0).numpy()[..., None], void, table[truth.clamp(0) % len(table)])


def error_codes(control: Tensor, student: Tensor, truth: Tensor, within: float) -> Tensor:
    """For each pixel the place in COLOURS of what is right and wrong near an edge of the truth.

    Args:
        control: what the control predicts, `(H, W)`.
        student: what the student predicts.
        truth: labels, negative ones are void.
        within: see `densekd.edges.near_edge`.

    >>> truth = torch.tensor([[0, 0, 0, 1, 1, -1]])
    >>> control, student = torch.tensor([[1, 1, 0, 0, 1, 1]]), torch.tensor([[1, 0, 1, 0, 1, 0]])
    >>> [list(COLOURS)[code] for code in error_codes(control, student, truth, within=2)[0]]
    ['far', 'control', 'student', 'both', 'right', 'void']
    """
    wrong = (control != truth).long() + 2 * (student != truth).long()
    codes = torch.where(near_edge(truth, within), 2 + wrong, 1)
    return codes.where(truth >= 0, 0)


def table(models: Sequence[Log], within: int) -> list[list[str]]:
    """Per cent of the pixels that are wrong, by their distance to an edge, over seeds; the difference to the control's
    near an edge is taken seed by seed.
    """
    rings = [f"{k} to {k + 1}" for k in range(within)]
    head = ["model", f"within {within}", f"Δ within {within}", f"beyond {within}", "all", *rings]
    rows = [head, ["---"] * len(head)]

    def share(log: Log, first: int = 0, last: int | None = None) -> float:
        wrong, every = np.array(log["wrong_and_all"])[first:last].sum(0)
        return 100 * wrong / every if every else float("nan")

    control = {log["seed"]: share(log, 0, within) for log in models if log["role"] == "control"}
    for role, method in dict.fromkeys((log["role"], log["method"]) for log in models):
        mine = [log for log in models if (log["role"], log["method"]) == (role, method)]
        near = {log["seed"]: share(log, 0, within) for log in mine}
        gaps = [value - control[seed] for seed, value in near.items() if role == "distilled"]
        parts = [(within, None), (0, None), *((k, k + 1) for k in range(within))]
        cells = [spread([share(log, *part) for log in mine]) for part in parts]
        rows.append([f"{role}, {method}", spread(list(near.values())), spread(gaps, "+.2f"), *cells])
    return rows


def told(log: Log) -> str:
    """What the table is of."""
    return (
        f"{log['split']} set; per cent of wrong pixels by their distance in pixels to another class of the labels, "
        "where void does not count"
    )


def page(log: Log, rows: list[list[str]], looked: Sequence[Looked]) -> str:
    """The table, a legend, and for each image the maps of all students."""
    cells = ["".join(f"<th>{html.escape(cell)}" for cell in rows[0])]
    cells += ["".join(f"<td>{html.escape(cell)}" for cell in row) for row in rows[2:]]
    body = [f"<p>{html.escape(told(log)).capitalize()}.</p>", "<div class='wide'><table>"]
    body += [*(f"<tr>{row}</tr>" for row in cells), "</table></div>", "<ul class='legend'>"]
    body += [f"<li><i style='background: rgb{colour}'></i> {what}" for colour, what in COLOURS.values()]
    body.append("</ul>")
    drawn = [each for each in looked if each.shown]
    control = next(each for each in drawn if each.job.role == "control")
    for place, first in enumerate(control.shown):
        body.append(f"<h2>{html.escape(first.name)}</h2><div class='maps'>")
        body += [_figure("image", first.pixels), _figure("labels", first.labels)]
        for each in drawn:
            codes = error_codes(first.guess, each.shown[place].guess, first.truth, log["within"])
            if each is control:  # alone: nothing is wrong in both
                codes[codes == list(COLOURS).index("both")] = list(COLOURS).index("control")
            colours = np.array([colour for colour, _ in COLOURS.values()], np.uint8)[codes]
            body.append(_figure("control" if each is control else each.job.method, colours))
        body.append("</div>")
    return document(f"Errors within {log['within']} pixels of an edge: {log['name']}", "".join(body), STYLE)


def _figure(caption: str, picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    image.imsave(buffer, np.ascontiguousarray(picture), format="png")
    text, data = html.escape(caption, quote=True), base64.b64encode(buffer.getvalue()).decode()
    return f"<figure><img alt='{text}' src='data:image/png;base64,{data}'><figcaption>{text}</figcaption></figure>"
