"""What is written is written whole, or not at all: full disks, killed processes, two at once."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import random
import resource
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from graphkd import Cache, StudentClassifier, digits
from graphkd.data import readers
from kdlosses.whole import whole

ROWS = 4000


def cache(value: float) -> Cache:
    logits = np.full((ROWS, 4), value, np.float32)
    return Cache(logits, np.arange(ROWS), np.ones(ROWS, bool), f"of {value}", (logits,))


def student(value: float) -> StudentClassifier:
    x = np.eye(60, dtype=np.float32)
    made = StudentClassifier(hidden=(64,), epochs=1, random_state=0).fit(x, np.arange(60) % 2)
    made.dropout = value
    return made


def _dropout(path: Path) -> float:
    return StudentClassifier.load(path).dropout


def _logits(path: Path) -> float:
    return float(Cache.load(path).logits[0, 0])


def _nodes(path: Path) -> float:
    graph = readers._kept(path)
    assert graph is not None
    return len(graph.y)


def _save_shard(value: float, path: Path) -> None:
    cache(value).save_shard(path, 0, ROWS, overwrite=True)


WRITERS: dict[str, tuple[Callable[[float, Path], Any], Callable[[Path], float]]] = {
    "cache": (lambda value, path: cache(value).save(path, overwrite=True), _logits),
    "shard": (_save_shard, _logits),
    "student": (lambda value, path: student(value).save(path), _dropout),
    "kept graph": (lambda value, path: readers._keep(digits(), path), _nodes),
}


def _write_with_room_for(name: str, path: Path, room: int) -> None:
    made = WRITERS[name][0]
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))  # what a full disk does to a writer
    try:
        made(0.25, path)
    except OSError as error:
        os.symlink(str(error).replace("/", ":")[:900], path.parent / "said")  # a link takes no room


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_the_old_file_is_whole(name: str, tmp_path: Path) -> None:
    write, read = WRITERS[name]
    path = tmp_path / "written.npz"
    write(0.5, path)
    before = read(path)
    writer = multiprocessing.get_context("fork").Process(target=_write_with_room_for, args=(name, path, 5000))
    writer.start()
    writer.join()
    said = os.readlink(tmp_path / "said")
    assert "was not written" in said
    assert "free some space or choose another folder" in said
    assert str(tmp_path).replace("/", ":") in said
    assert read(path) == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["said", "written.npz"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cache was not written .*choose another folder"):
        cache(0.0).save(tmp_path / "file" / "cache")


@pytest.fixture(scope="module")
def killed() -> ModuleType:
    spec = importlib.util.spec_from_file_location("killed_graph_run", Path(__file__).parent / "killed_graph_run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_killed_run_ends_as_one_that_was_not(killed: ModuleType, tmp_path: Path) -> None:
    assert killed.kill_runs(tmp_path, 2, random.Random(1)) > 0


def test_a_killed_writer_of_a_cache_leaves_the_old_one_or_the_new(killed: ModuleType, tmp_path: Path) -> None:
    assert killed.kill_caches(tmp_path, 3, random.Random(1)) > 0


def test_a_draft_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    with whole(tmp_path / "a") as first:
        first.write_text("first")
        with whole(tmp_path / "a") as second:
            second.write_text("second")
        assert first.read_text() == "first"
    assert (tmp_path / "a").read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
