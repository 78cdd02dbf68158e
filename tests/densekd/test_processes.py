"""Two processes with a part of the batch each are one process with all of it, however the labels are spread."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

import kdlosses
from densekd import Distiller
from kdlosses.reduce import check_rows, over_processes, weighted_mean

from .conftest import TinySegmenter, seg_batch

TAP = "decode_head.conv_seg"
ENTRIES: list[dict[str, Any]] = [
    {"loss": "kl", "student": TAP, "where": "labelled"},
    {"loss": "dkd", "student": TAP},
    {"loss": "ofa", "student": TAP},
    {"loss": "uskd", "student": "backbone"},  # its target has a mean of its own
    {"loss": "mse", "student": "backbone", "where": "labelled"},
    {"loss": "bpkd_edge", "student": TAP},
    {"loss": {"type": "bsd_region", "cells": 4}, "student": "backbone"},
    {"loss": "tvd", "student": TAP},
]
FIRST_ROW = 14  # of the second image that has a label


def taught() -> tuple[Distiller, dict[str, Any]]:
    torch.manual_seed(0)
    student, teacher = (TinySegmenter(channels=5, classes=5) for _ in range(2))
    model = Distiller(student=student, teacher=teacher, distills=ENTRIES).train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    found = seg_batch(model, size=16)
    for n, sample in enumerate(found["data_samples"]):
        labels = torch.randint(0, 5, (1, 16, 16))
        labels[:, : FIRST_ROW * n] = 255
        sample.gt_sem_seg.data = labels
    return model, found


def terms(model: Distiller, part: dict[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
    losses = model(**part, mode="loss")
    parameters = list(model.backbone.stem.parameters())
    return {
        key: (value.detach(), torch.autograd.grad(value, parameters, retain_graph=True)[0])
        for key, value in losses.items()
        if key.startswith("distill.")
    }


def work(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    model, found = taught()
    part = {"inputs": found["inputs"][rank : rank + 1], "data_samples": found["data_samples"][rank : rank + 1]}
    mine = terms(model, part)
    uneven = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[rank][: 2 - rank]  # positions in other numbers
    with over_processes():
        mine["plain"] = weighted_mean(uneven), uneven
        check_rows("uneven", [uneven])
        try:
            check_rows("entry 'rows'", [uneven[: 2 - 2 * rank]])  # the second process has none
        except ValueError as error:
            said = str(error)
    model.eval()
    alone = {f"eval {key}": value for key, value in terms(model, part).items()}
    torch.save({**mine, **alone, "said": said}, Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, (port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_values_and_gradients_are_those_of_the_whole_batch(seen: list[dict[str, Any]]) -> None:
    model, found = taught()
    whole = terms(model, found)
    assert len(whole) == len(ENTRIES)
    for key, expected in whole.items():
        for place, what in enumerate(("value", "gradient")):
            mean = (seen[0][key][place] + seen[1][key][place]) / 2  # what DDP makes of them
            torch.testing.assert_close(mean, expected[place], rtol=1e-4, atol=1e-6, msg=f"{key} {what}")
    assert whole["distill.loss_kl"][0] > 0


def test_processes_may_have_other_numbers_of_positions(seen: list[dict[str, Any]]) -> None:
    assert (seen[0]["plain"][0] + seen[1]["plain"][0]) / 2 == pytest.approx((1 + 2 + 3) / 3)


def test_a_process_without_rows_stops_all_of_them(seen: list[dict[str, Any]]) -> None:
    for each in seen:
        assert each["said"].startswith("entry 'rows': 1 of 2 processes have no row in this batch; use more samples")


def test_in_evaluation_each_process_is_alone(seen: list[dict[str, Any]]) -> None:
    model, found = taught()
    model.eval()
    part = {"inputs": found["inputs"][1:], "data_samples": found["data_samples"][1:]}
    for key, (value, _) in terms(model, part).items():
        torch.testing.assert_close(seen[1][f"eval {key}"][0], value, rtol=1e-4, atol=1e-6)


def test_without_a_process_group_nothing_changes() -> None:
    values, weight = torch.tensor([1.0, 5.0]), torch.tensor([1.0, 3.0])
    with over_processes():
        assert weighted_mean(values, weight) == 4
        assert weighted_mean(values) == 3
        assert kdlosses.mse(values.view(1, 2), values.view(1, 2) + 1) == 1
