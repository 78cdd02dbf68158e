from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import kdlosses


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real data sets; its tests are marked `data` and are skipped only where KD_DATA_ROOT is unset."""
    if "KD_DATA_ROOT" not in os.environ:
        pytest.skip("KD_DATA_ROOT is not set: it names the folder of the real data sets")
    root = Path(os.environ["KD_DATA_ROOT"]).resolve()
    assert root.is_dir(), f"KD_DATA_ROOT={root} is not a folder"
    return root


@pytest.fixture
def registry_restored() -> Iterator[None]:
    """Take back what a test registers; what the packages register stays, whichever test imports them first."""
    for package in ("densekd.losses", "graphkd.losses"):
        importlib.import_module(package)
    before = dict(kdlosses.LOSSES)
    yield
    kdlosses.LOSSES.clear()
    kdlosses.LOSSES.update(before)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
