"""Logs: whole for every reader, whatever happens to their writers."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from kdlosses.cli.logs import read, write

LOGS = [{"schema": 1, "seed": seed, "text": "x" * 4000} for seed in range(3)]


def _write_often(path: Path, times: int) -> None:
    for _ in range(times):
        write(path, LOGS)


def test_a_reader_beside_two_writers_never_sees_half_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    write(path, LOGS)
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_write_often, args=(path, 400)) for _ in range(2)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers) or reads < 2000:
        assert len(read(path)) == len(LOGS)
        reads += 1
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [file.name for file in tmp_path.iterdir()] == ["log.json"]


def _write_with_room_for(path: Path, room: int) -> Any:
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))  # what a full disk does to a writer
    try:
        write(path, LOGS)
    except OSError as error:
        path.with_suffix(".said").symlink_to(str(error)[:200].replace("/", ":"))  # a link takes no room


def test_a_full_disk_leaves_the_old_log(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    write(path, LOGS[:1])
    writer = multiprocessing.get_context("fork").Process(target=_write_with_room_for, args=(path, 6000))
    writer.start()
    writer.join()
    said = os.readlink(path.with_suffix(".said"))
    assert "log.json was not written" in said
    assert "free some space" in said
    assert json.loads(path.read_text()) == LOGS[:1]
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".log.json-abcdefgh").mkdir()
    (tmp_path / ".log.json-abcdefgh" / "log.json").write_text("half")
    (tmp_path / ".other.json-abcdefgh").mkdir()
    write(tmp_path / "log.json", LOGS)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".other.json-abcdefgh", "log.json"]


@pytest.mark.parametrize("content", [b"", b'[{"schema": 1', b"\xff\xfe", b"[" * 100_000, b"<html>"])
def test_a_damaged_log_is_named_with_its_remedy(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "log.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"log\.json is damaged .*delete it, and run again"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["3", '["a"]', "null"])
def test_json_that_is_no_log(content: str, tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text(content)
    with pytest.raises(ValueError, match=r"log\.json holds no result logs"):
        read(tmp_path / "log.json")


def test_a_folder_above_logs_names_theirs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"^no result logs in {tmp_path}$"):
        read(tmp_path)
    write(tmp_path / "graph" / "log.json", LOGS)
    with pytest.raises(FileNotFoundError, match=f"; there may be some in {tmp_path}/graph$"):
        read(tmp_path)
