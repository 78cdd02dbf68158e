"""A segmenter with a teacher, and `distills` entries or `Distiller` arguments with one or two things wrong."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from contract.test_losses import KEYS, options_of
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mutation.judge import Silent
from mutation.values import SCALARS
from torch import nn

from densekd import METHODS, Distiller, build_model
from densekd.align.adapt import ADAPT

CONFIGS = Path(__file__).parents[1] / "densekd" / "configs"
TAPS = [
    *("decode_head.conv_seg", "backbone:0", "backbone:2", "backbone", "decode_head.bottleneck", "backbone.layer1"),
    *("backbone:9", "backbone:x", "decode_head.conv_sge", "auxiliary_head.conv_seg", "", "backbone:-1", "neck"),
    *("decode_head.conv_seg:in", "backbone.conv1:copy", "decode_head:in", "data_preprocessor", "backbone:0+backbone:1"),
]
CHOOSY = {"confident", "ferkd", "pseudo"}  # they count the positions of which a side is sure; there may be none
VALUES: dict[str, list[Any]] = {
    "student": TAPS,
    "teacher": [*TAPS, TAPS[:2]],
    "weight": [],
    "name": ["kl", "a.b", "peers", "weight", "loss"],
    "adapt": [*ADAPT],
    "where": ["labelled", "boxes", "masks", "boundary", "foreground"],
    "width": [1, 3.5],
    "source": ["teacher", "b", ["teacher"], ["teacher", "teacher"]],
    "class_map": [[*range(11)], [0] * 11, [0, 1], [-1] * 11, [0.5] * 11, [*range(1, 12)], {0: 1}],
    "back": [],
    "wieght": [],
}
ARGUMENTS: dict[str, list[Any]] = {
    "momentum": [],
    "online": [["teacher"], ["student"], "teacher"],
    "checkpoint": ["missing.pth", "random", {"b": "random"}, {"teacher": "random"}],
    "unsafe": [],
    "teacher": ["ema", "missing.py", "mmseg::missing.py", {}, {"a": "ema"}],
    "method": [*METHODS, "cwdd", {"type": "cwd", "tau": 2.0}, {"tpye": "cwd"}],
    "distills": [[], [{}], {"loss": "kl", "student": TAPS[0]}, ["kl"], [None]],
    "methods": ["cwd"],
}


def case(number: int, seed: int) -> tuple[str, Callable[[], Any]]:
    """Case `number`: a description, and the call. The losses take turns in the entries."""
    draw = random.Random(f"{seed}-{number}")
    key = KEYS[number % len(KEYS)]
    tap = draw.choice(("decode_head.conv_seg", "backbone:2"))
    needed = {"channels", "student_channels", "teacher_channels", "classes"}  # the distiller fills these in
    loss = {"type": key, **{name: value for name, value in options_of(key).items() if name not in needed}}
    entry: dict[str, Any] = {"loss": draw.choice((key, loss)), "student": tap}
    arguments: dict[str, Any] = {}
    for _ in range(draw.choice((1, 1, 2))):
        if draw.random() < 0.15:
            name = draw.choice([*ARGUMENTS])
            arguments[name] = draw.choice([*ARGUMENTS[name] * 2, *draw.sample(SCALARS, 4)])
        elif draw.random() < 0.2:
            entry["loss"] = draw.choice([*SCALARS, {**loss, "taux": 1.0}, {**loss, "tau": draw.choice(SCALARS)}])
        else:
            name = draw.choice([*VALUES])
            entry[name] = draw.choice([*VALUES[name] * 4, *SCALARS])
    whole = {"distills": [entry], **arguments}
    if "method" in arguments and "distills" not in arguments:
        del whole["distills"]
    told = ", ".join(f"{name}={value!r}" for name, value in whole.items())
    return " ".join(told.split())[:300], lambda: _call(whole)


@functools.cache
def _model(name: str) -> nn.Module:
    torch.manual_seed(0)
    config = Config.fromfile(CONFIGS / f"{name}.py")
    _plain_norm(config._cfg_dict)
    return build_model(config)[0]


def _plain_norm(node: Any) -> None:
    """BN for SyncBN, which needs a GPU."""
    for key, value in node.items():
        if value == "SyncBN":
            node[key] = "BN"
        elif isinstance(value, dict):
            _plain_norm(value)


def _call(arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = Distiller(**{"student": copy.deepcopy(_model("seg")), "teacher": _model("seg_teacher"), **arguments})
    model.train()
    losses = model(**_batch(model), mode="loss")
    for name, value in losses.items():
        if not name.startswith("distill.loss_"):
            continue
        if not value.isfinite():
            raise Silent("silent nan")
        term: Any = model.distill[name.removeprefix("distill.loss_")]
        if term.loss.name in CHOOSY:
            continue
        if value == 0 and term.weight != 0 and term.loss.active(progress=None, epoch=None):
            raise Silent("silent zero")


def _batch(model: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8) for _ in range(2)]
    samples = []
    for _ in images:
        labels = torch.randint(0, 11, (1, 64, 64), generator=generator)
        labels[:, :8] = 255
        sample = SegDataSample(metainfo={"img_shape": (64, 64)})
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return model.data_preprocessor({"inputs": images, "data_samples": samples}, training=True)
