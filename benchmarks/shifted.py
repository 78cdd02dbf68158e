"""What live teachers are worth where inputs change, with and without each part: `python benchmarks/shifted.py
[attacked] [nodes] [pixels] [--seeds 3]`.

`attacked`: students of a natural and a robust teacher on the digits graph, by `mtard` with its robust teacher asked
about the attacked features, or not, and without an attack: accuracy on test nodes, clean, and under an attack of 20
steps.

`nodes`: a student of the digits meets test nodes whose contrast fades and noise grows, batch by batch, and `pixels`: a
small segmenter meets such digit scenes. It adapts as a robust mean teacher, or without one of its parts, or not at all:
accuracy, and mIoU, over the whole stream. Its average moves by half a batch: a stream has 12 to 30 of them.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.adaptation import RobustMeanTeacher, prototypes
from kdlosses.attack import ascended
from kdlosses.cli.logs import commit, versions, write
from kdlosses.text_table import table

Row = dict[str, float]
PARTS: dict[str, dict[str, Any] | None] = {
    "as it is": None,
    "cross-entropy, no prototypes": dict(alpha=0.0, contrast=0.0),
    "symmetric, no prototypes": dict(contrast=0.0),
    "cross-entropy and prototypes": dict(alpha=0.0),
    "robust mean teacher": {},
}


def attacked(seed: int) -> dict[str, Row]:
    from graphkd import StudentClassifier, cpf_split, load, make_setting, train_student, train_teacher

    graph = load("digits")
    view = make_setting(graph, cpf_split(graph.y, seed), "tran", seed)
    teacher = train_teacher(view, [dict(type="sage", epochs=100), dict(type="sage", dropout=0.5, epochs=100)], seed)
    student = StudentClassifier(hidden=(64,), epochs=100)
    attack = dict(type="mtard", radius=0.15, step=0.05, steps=4)
    methods: dict[str, Any] = {
        "no attack": dict(type="terms", distills=[dict(loss=dict(type="mtard", teachers=2))]),
        "mtard, not asked": {**attack, "ask": False},
        "mtard": attack,
    }
    x, y = graph.x[view.test], graph.y[view.test]
    found = {}
    for name, method in methods.items():
        network = train_student(view, teacher, method, student, seed).model.network_
        moved = ascended(x, functools.partial(_wrong, network, y), 0.15, 0.02, 20)
        found[name] = {
            "clean": 100 * _share(network(x).argmax(1) == y),
            "attacked": 100 * _share(network(moved).argmax(1) == y),
        }
    return found


def nodes(seed: int) -> dict[str, Row]:
    from graphkd import StudentClassifier, cpf_split, load, make_setting, train_student, train_teacher
    from graphkd.students.adapting import Adapting

    graph = load("digits")
    view = make_setting(graph, cpf_split(graph.y, seed), "tran", seed)
    teacher = train_teacher(view, dict(type="sage", epochs=100), seed)
    student = train_student(view, teacher, "glnn", StudentClassifier(hidden=(64,), epochs=100), seed).model
    order = torch.randperm(len(view.test), generator=torch.Generator().manual_seed(seed))
    batches = view.test[order].split(50)

    def right(predict: Callable[[Any], Any]) -> Row:
        draw = torch.Generator().manual_seed(seed)
        hits = []
        for k, batch in enumerate(batches):
            answers = predict(faded(graph.x[batch], 0.5, k / len(batches), draw).numpy())
            hits.append(torch.as_tensor(answers) == graph.y[batch])
        return {"accuracy": 100 * _share(torch.cat(hits))}

    source = graph.x[view.train].numpy()
    found = {}
    for name, options in PARTS.items():
        adapting = (
            student if options is None else Adapting(student, source, lr=3e-3, momentum=0.5, seed=seed, **options)
        )
        found[name] = right(adapting.predict)
    return found


def pixels(seed: int) -> dict[str, Row]:
    model, source = segmenter(seed), scenes("train", 160, seed)
    trained(model, *source, seed=seed)
    images, labels = scenes("test", 96, seed)

    def score(predict: Callable[[Tensor], Tensor]) -> Row:
        generator = torch.Generator().manual_seed(seed)
        parts = images.split(8)
        answers = [predict(faded(part, 0.5, k / len(parts), generator)).argmax(1) for k, part in enumerate(parts)]
        return {"mIoU": 100 * mean_iou(torch.cat(answers), labels)}

    means = prototypes(model, "head:in", [source], 11, labels=True)
    found = {}
    for name, options in PARTS.items():
        if options is None:
            with torch.no_grad():
                found[name] = score(model)
            continue
        found[name] = score(RobustMeanTeacher(model, "head:in", means, lr=1e-3, momentum=0.5, seed=seed, **options))
    still = RobustMeanTeacher(model, lr=1e-12)
    found["statistics of the batch alone"] = score(still)
    return found


def scenes(split: Any, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Digit scenes of 64 pixels with values of 0 to 1, and their masks."""
    from densekd.datasets.digits import draw

    drawn = [draw(index, split, 64, seed) for index in range(count)]
    images = torch.from_numpy(np.stack([each.image for each in drawn])).permute(0, 3, 1, 2) / 255
    return images, torch.from_numpy(np.stack([each.mask for each in drawn])).long()


def segmenter(seed: int = 0) -> nn.Sequential:
    """A small network of strided and plain convolutions; its classifier is called `head`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Sequential()
        for place, (width, stride) in enumerate(((24, 2), (48, 2), (64, 1), (64, 1))):
            before = 3 if not place else (24, 48, 64)[place - 1]
            layers.add_module(f"conv{place}", nn.Conv2d(before, width, 3, stride, 1, bias=False))
            layers.add_module(f"norm{place}", nn.BatchNorm2d(width))
            layers.add_module(f"relu{place}", nn.ReLU())
        layers.add_module("head", nn.Conv2d(64, 11, 1))
        layers.add_module("up", nn.Upsample(scale_factor=4, mode="bilinear"))
        return layers


def trained(model: nn.Module, images: Tensor, labels: Tensor, epochs: int = 25, seed: int = 0) -> None:
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(16):
            optimiser.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimiser.step()
    model.eval()


def faded(x: Tensor, noise: float, progress: float, generator: torch.Generator) -> Tensor:
    """Values of 0 to 1 with less contrast, at the end a fifth of it, and more noise the further it is."""
    contrast = 1 - 0.8 * progress
    grey = 0.5 + contrast * (x - 0.5)
    return grey + noise * progress * x.std() * torch.randn(x.shape, generator=generator)


def mean_iou(answers: Tensor, labels: Tensor, classes: int = 11) -> float:
    cells = torch.bincount((classes * labels + answers).flatten(), minlength=classes**2).reshape(classes, classes)
    both = cells.diag()
    return (both / (cells.sum(0) + cells.sum(1) - both).clamp_min(1)).mean().item()


def _wrong(network: nn.Module, y: Tensor, x: Tensor) -> Tensor:
    return F.cross_entropy(network(x), y)


def _share(right: Tensor) -> float:
    return right.double().mean().item()


RUNS: dict[str, Callable[[int], dict[str, Row]]] = {"attacked": attacked, "nodes": nodes, "pixels": pixels}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(RUNS)}; all if none is given")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to SEEDS - 1 (default: 3)")
    parser.add_argument("--out", type=Path, help="write a JSON log here, say results/shifted/digits.json")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in RUNS:
            parser.error(f"there is no run {name!r}; choose from {', '.join(RUNS)}")
    found: dict[str, list[dict[str, Row]]] = {}
    for name in arguments.names or RUNS:
        found[name] = [RUNS[name](seed) for seed in range(arguments.seeds)]
        print(f"{name}\n{_table(found[name])}\n", flush=True)
    if arguments.out:
        write(arguments.out, {"versions": versions("torch", "numpy"), "commit": commit(), "runs": found})
    return 0


def _table(runs: list[dict[str, Row]]) -> str:
    rows = {}
    for name in runs[0]:
        each = {key: [run[name][key] for run in runs] for key in runs[0][name]}
        rows[name] = {key: statistics.mean(values) for key, values in each.items()}
        rows[name] |= {f"{key} sd": statistics.stdev(values) for key, values in each.items() if len(values) > 1}
    return table(rows)


if __name__ == "__main__":
    sys.exit(main())
