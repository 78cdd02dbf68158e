"""Calls of `graphkd.distill` with one or two things wrong: in the graph, the teacher, the method or the student."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mutation.judge import Silent
from mutation.values import SCALARS, damaged
from torch import Tensor, nn

import graphkd
from graphkd.recipes import RECIPES
from graphkd.teachers import TEACHERS, gcn

NODES, CLASSES = 240, 3
SMALL = {"epochs": 2}
STUDENT = ("hidden", "dropout", "method", "lr", "weight_decay", "epochs", "patience", "batch_size", "norm")
SCHEDULE = ("lr", "weight_decay", "epochs", "patience", "hidden", "dropout", "tune", "shard", "known", "task", "lrr")


@functools.cache
def _graph() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(NODES) % CLASSES
    x = torch.eye(CLASSES, 8)[y] + 0.5 * torch.randn(NODES, 8, generator=draw)
    nodes = torch.arange(NODES)
    edges = torch.stack([nodes, (nodes + CLASSES) % NODES])
    order = torch.randperm(NODES, generator=draw)
    masks = [torch.zeros(NODES, dtype=torch.bool).index_fill(0, part, True) for part in order.split([60, 60, 120])]
    return dict(x=x, edge_index=edges, y=y, train_mask=masks[0], val_mask=masks[1], test_mask=masks[2])


def _splits(draw: random.Random) -> Any:
    graph = _graph()
    masks = [graph[f"{part}_mask"] for part in ("train", "val", "test")]
    ids = [mask.nonzero().flatten() for mask in masks]
    return draw.choice(
        [
            *(tuple(masks), tuple(ids), dict(zip(("train", "valid", "test"), ids)), graphkd.Split(*ids), ids, masks),
            *(dict(zip(("train", "val", "test"), masks)), tuple(mask.numpy() for mask in masks), ids[:2], [1, 2, 3]),
            *([*masks[:2], masks[1]], [*ids[:2], torch.tensor([NODES])], [mask[1:] for mask in masks]),
            *(dict(train=ids[0]), [mask.to(torch.uint8) for mask in masks], "public", 0, 1, SimpleNamespace(train=1)),
        ]
    )


def _teachers(draw: random.Random) -> Any:
    torch.manual_seed(0)
    logits = torch.randn(NODES, CLASSES)
    name = draw.choice([*TEACHERS])
    return draw.choice(
        [
            *(name, {"type": name, **SMALL}, {"type": name, **SMALL, draw.choice(SCHEDULE): draw.choice(SCALARS)}),
            *({"type": name, **SMALL}, {"type": name, **SMALL, draw.choice(SCHEDULE): draw.choice(SCALARS)}),
            *(logits, logits.numpy(), logits[1:], logits[:, :2], [], [name, logits], nn.Linear(8, CLASSES), "saeg"),
            *(
                functools.partial(gcn, hidden=8),
                lambda inputs, classes: nn.Linear(inputs, classes),
                nn.Linear,
            ),
            *(_Network(8, 4), _Network(7, CLASSES), _Network(8, CLASSES).double(), _Network(8, CLASSES).bfloat16()),
        ]
    )


class _Network(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.layer(x)


def _methods(draw: random.Random) -> Any:
    import inspect

    name = draw.choice([*RECIPES])
    parameters = inspect.signature(RECIPES[name]).parameters.values()
    options = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY] or ["lam"]
    entry = {
        "loss": draw.choice(["kl", "mse", "kll", None, "dac_kl", "os:path"]),
        "student": draw.choice(["logits", "hidden", 3]),
    }
    return draw.choice(
        [
            *(name, {"type": name, draw.choice(options): draw.choice(SCALARS)}, {"type": name, "lamb": 0.5}),
            *({"type": name, draw.choice(options): draw.choice(SCALARS)}, {"type": "terms", "distills": [entry]}),
            *(name, {"type": "mixup", "method": name}, {}, "glnnn", {"type": "terms", "distills": entry}),
        ]
    )


def case(number: int, seed: int) -> tuple[str, Callable[[], Any]]:
    """Case `number`: a description, and the call."""
    draw = random.Random(f"{seed}-{number}")
    data = dict(_graph())
    if draw.random() < 0.5:
        for part in ("train_mask", "val_mask", "test_mask"):
            del data[part]
    student: dict[str, Any] = {"hidden": (8,), "epochs": 2}
    arguments: dict[str, Any] = {"teacher": {"type": "gcn", **SMALL}, "method": "glnn", "setting": "tran"}
    told = []
    for _ in range(draw.choice((1, 1, 2))):
        what = draw.choice(("field", "field", "extra", "split", "teacher", "method", "student", "argument"))
        if what == "field":
            name = draw.choice([*data])
            change, data[name] = damaged(data[name], draw)
            told.append(f"{name}: {change}")
        elif what == "extra":
            name = draw.choice(
                ("edge_weight", "edge_attr", "node_id", "num_classes", "adj_t", "pos", "num_nodes", "class_names")
            )
            value = draw.choice(
                [
                    *(torch.rand(NODES), -torch.rand(NODES), torch.rand(NODES, 2), torch.rand(5)),
                    *(torch.arange(NODES), torch.randperm(NODES), np.arange(NODES), *draw.sample(SCALARS, 4)),
                ]
            )
            data[name] = value
            told.append(f"{name}: {_short(value)}")
        elif what == "student":
            name = draw.choice((*STUDENT, "instance"))
            value = draw.choice(SCALARS)
            student[name] = value
            told.append(f"student {name}={_short(value)}")
        else:
            name, value = {
                "split": lambda: ("split", _splits(draw)),
                "teacher": lambda: ("teacher", _teachers(draw)),
                "method": lambda: ("method", _methods(draw)),
                "argument": lambda: (
                    draw.choice(("seed", "setting", "isolated", "sed", "split")),
                    draw.choice(SCALARS),
                ),
            }[what]()
            arguments[name] = value
            told.append(f"{name}={_short(value)}")
    return ", ".join(told), lambda: _call(data, student, arguments)


def _short(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"{type(value).__name__} {tuple(value.shape)} {value.dtype}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_short(each)}' for key, each in value.items())}}}"
    return repr(value)[:80]


def _call(data: dict[str, Any], student: dict[str, Any], arguments: dict[str, Any]) -> None:
    learner = student.pop("instance") if "instance" in student else graphkd.StudentClassifier(**student)
    result = graphkd.distill(SimpleNamespace(**data), student=learner, **arguments)
    probabilities = result.student.predict_proba(np.zeros((2, result.student.n_features_in_), dtype=np.float32))
    if not np.isfinite(probabilities).all():
        raise Silent("silent nan")
