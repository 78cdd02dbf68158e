"""Every way by which mmengine and densekd read weights or data: code in a file is not run unless one asks for that."""

from __future__ import annotations

import http.server
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.fileio import LocalBackend, backends
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from densekd import Distiller, checkpoint, load_weights
from densekd.checkpoint import read, refuse_unsafe_checkpoints
from densekd.mmlab.building import build_teacher

ROOT = Path(__file__).parents[2]


class Payload:
    """What a malicious file would run."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("MMENGINE_HOME", str(tmp_path / "mmengine"))
    monkeypatch.setattr(CheckpointLoader, "_schemes", dict(CheckpointLoader._schemes))
    (tmp_path / "mmengine").mkdir()
    yield
    refuse_unsafe_checkpoints()


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))


@pytest.fixture
def files(model: nn.Module, tmp_path: Path) -> Path:
    """`good.pth`, and `bad.pth`, which makes a folder `owned` where it is unpickled."""
    folder = tmp_path / "served"
    folder.mkdir()
    state = {key: torch.full_like(value, 2) for key, value in model.state_dict().items()}
    torch.save({"state_dict": state}, folder / "good.pth")
    torch.save({"state_dict": state, "meta": Payload(tmp_path / "owned")}, folder / "bad.pth")
    return folder


@pytest.fixture
def server(files: Path) -> Iterator[str]:
    """The address of a server on loopback."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, directory=str(files), **kwargs)

        def log_message(self, *args: Any) -> None:
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()


class _Bucket(LocalBackend):
    """Stands where the client of an object store would: `petrel://folder/file` is a file."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()

    def get(self, filepath: Any) -> bytes:
        return super().get(str(filepath).partition("://")[2])


@pytest.fixture
def address(files: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """The address of a file by a scheme."""

    def of(scheme: str, name: str) -> str:
        (tmp_path / "mmengine" / "open_mmlab.json").write_text(
            json.dumps({"there": f"{server}/{name}", "here": str(files / name)})
        )
        if scheme == "petrel":
            monkeypatch.setitem(backends.backends, "petrel", _Bucket)
            return f"petrel://{files / name}"
        if scheme == "own":
            loader = lambda filename, map_location: torch.load(filename[6:], weights_only=False)  # noqa: E731
            CheckpointLoader.register_scheme("own://", loader, force=True)
        return {
            "": str(files / name),
            "http": f"{server}/{name}",
            "open-mmlab": "open-mmlab://there",
            "openmmlab": "openmmlab://here",
            "own": f"own://{files / name}",
        }[scheme]

    return of


SCHEMES = ["", "http", "open-mmlab", "openmmlab", "petrel", "own"]


def by_runner(model: nn.Module, name: str) -> None:
    load_checkpoint(model, name)


def by_init_cfg(model: nn.Module, name: str) -> None:
    class Pretrained(BaseModule):
        def __init__(self) -> None:
            super().__init__(init_cfg=dict(type="Pretrained", checkpoint=name))
            self.add_module("0", model[0])
            self.add_module("1", model[1])

    Pretrained().init_weights()


@pytest.mark.parametrize("way", [by_runner, by_init_cfg])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_scheme_runs_code(scheme: str, way: Any, model: nn.Module, address: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"bad\.pth.* was not read: it asks for code besides weights \(posix\.mkdir\)"):
        way(model, address(scheme, "bad.pth"))
    assert not (tmp_path / "owned").exists()
    way(model, address(scheme, "good.pth"))
    assert (model[0].weight == 2).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_can_be_trusted(scheme: str, model: nn.Module, address: Any, tmp_path: Path) -> None:
    refuse_unsafe_checkpoints(False)
    by_runner(model, address(scheme, "bad.pth"))
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize("scheme", ["", "http"])
def test_a_teacher_is_read_likewise(scheme: str, model: nn.Module, address: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unsafe=True \(--unsafe-checkpoints"):
        build_teacher("teacher", model, address(scheme, "bad.pth"))
    assert not (tmp_path / "owned").exists()
    build_teacher("teacher", model, address(scheme, "good.pth"))
    build_teacher("teacher", model, address(scheme, "bad.pth"), unsafe=True)
    assert (tmp_path / "owned").exists()


def test_an_address_that_is_not_there(server: str, model: nn.Module) -> None:
    for load in (load_weights, load_checkpoint):
        with pytest.raises(OSError, match=r"none\.pth was not downloaded \(HTTP Error 404.*check the address"):
            load(model, f"{server}/none.pth")


def test_a_damaged_copy_of_a_fetched_file_is_fetched_anew(server: str, files: Path, model: nn.Module) -> None:
    whole = (files / "good.pth").read_bytes()
    (files / "good.pth").write_text("<html>sign in</html>")
    with pytest.raises(ValueError, match=r"a web page, not what torch\.save writes.*the next call downloads it again"):
        read(f"{server}/good.pth")
    (files / "good.pth").write_bytes(whole)
    load_weights(model, f"{server}/good.pth")


def test_the_guard_stands_once_densekd_is_imported(server: str, tmp_path: Path) -> None:
    """In a process of its own, densekd before mmengine; in this one mmengine was first."""
    code = f"""
import densekd, os, mmengine.runner, torch
load = lambda: mmengine.runner.load_checkpoint(torch.nn.Conv2d(3, 4, 1), "{server}/bad.pth")
try:
    load()
except ValueError as error:
    print(error, os.path.exists("{tmp_path}/owned"))
os.environ["DENSEKD_UNSAFE"] = "1"
load()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    (refused,) = [line for line in done.stdout.splitlines() if "was not read: it asks for code" in line]
    assert refused.endswith("False")
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize("form", ["mmengine.load", "open file", "data set"])
def test_data_files_run_no_code(form: str, tmp_path: Path) -> None:
    plain = {"metainfo": {"classes": ["a"]}, "data_list": [{"boxes": np.eye(3), "n": np.float32(2)}]}
    for name, content in {"good": plain, "bad": {**plain, "more": Payload(tmp_path / "owned")}}.items():
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(content, protocol=4))

    def load(path: Path) -> Any:
        if form == "mmengine.load":
            return mmengine.load(path)
        if form == "data set":
            found = BaseDataset(ann_file=str(path), data_prefix={}, serialize_data=False)
            return {"data_list": [found.get_data_info(0)]}
        with path.open("rb") as file:
            return mmengine.load(file, file_format="pkl")

    with pytest.raises(
        ValueError, match=r"bad\.pkl was not read: it asks for code besides plain data \(posix\.mkdir\)"
    ):
        load(tmp_path / "bad.pkl")
    assert not (tmp_path / "owned").exists()
    found = load(tmp_path / "good.pkl")
    np.testing.assert_array_equal(found["data_list"][0]["boxes"], np.eye(3))
    assert type(found["data_list"][0]["boxes"]) is np.ndarray
    refuse_unsafe_checkpoints(False)
    load(tmp_path / "bad.pkl")
    assert (tmp_path / "owned").exists()


def test_a_volume_of_mmseg_runs_no_code(tmp_path: Path) -> None:
    from mmseg.utils.io import datafrombytes

    np.testing.assert_array_equal(datafrombytes(pickle.dumps(np.eye(3)), backend="pickle"), np.eye(3))
    with pytest.raises(ValueError, match=r"a volume \(\.pkl\) was not read: it asks for code"):
        datafrombytes(pickle.dumps(Payload(tmp_path / "owned")), backend="pickle")
    assert not (tmp_path / "owned").exists()


@pytest.mark.data
@pytest.mark.parametrize("file", ["kitti/000008.pkl", "nuscenes/n015-2018-07-24-11-22-45+0800.pkl"])
def test_info_files_of_mmdet3d_are_read_as_pickle_reads_them(file: str, data_root: Path) -> None:
    path = data_root / "mmdet3d-demo" / file
    assert repr(mmengine.load(path)) == repr(pickle.loads(path.read_bytes()))


class _ByName:
    """Pickled as the attribute of a class, as mmengine's log curves name their methods."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return getattr, (HistoryBuffer, self.name)


class _Curve:
    """Pickled as a log curve whose table of methods is the file's own."""

    def __init__(self, **methods: Any) -> None:
        self.methods = methods

    def __reduce__(self) -> Any:
        state = {"_log_history": np.ones(2), "_count_history": np.ones(2), "max_length": 9}
        return HistoryBuffer, (), {**state, "statistics_methods": self.methods}


@pytest.mark.parametrize(
    "content",
    [
        {"reach": _ByName("__init__")},
        {"reach": _ByName("update")},
        {"curve": _Curve(update=_ByName("mean")), "reach": _ByName("update")},
        {"curve": _Curve(**{"__init__": _ByName("mean")}), "reach": [_ByName("__init__")]},
    ],
)
def test_a_file_cannot_widen_what_it_may_name(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "wide.pth")
    HistoryBuffer()  # fills the table
    before = dict(HistoryBuffer._statistics_methods)
    with pytest.raises(ValueError, match=r"it asks for the attribute '(__init__|update)'"):
        read(tmp_path / "wide.pth")
    assert HistoryBuffer._statistics_methods == before


def test_a_file_cannot_change_the_table_of_methods(tmp_path: Path) -> None:
    HistoryBuffer()  # fills the table
    before = dict(HistoryBuffer._statistics_methods)
    torch.save({"curve": _Curve(mean=_ByName("max"), other=_ByName("min"))}, tmp_path / "table.pth")
    curve = read(tmp_path / "table.pth")["curve"]
    assert HistoryBuffer._statistics_methods == before
    assert curve.statistics("mean") == 1
    assert "other" not in curve._statistics_methods


def test_what_others_allowed_is_allowed_still(tmp_path: Path) -> None:
    torch.save({"path": _Plain(3)}, tmp_path / "plain.pth")
    with pytest.raises(ValueError, match="_Plain"):
        read(tmp_path / "plain.pth")
    before = torch.serialization.get_safe_globals()
    with torch.serialization.safe_globals([_Plain]):
        assert read(tmp_path / "plain.pth")["path"].value == 3
    assert set(torch.serialization.get_safe_globals()) == set(before)


class _Plain:
    def __init__(self, value: int) -> None:
        self.value = value


def test_unsafe_reaches_the_teacher_of_a_config(seg: Any, seg_teacher: Any, tmp_path: Path) -> None:
    from densekd import distill, prepare

    refused = prepare(distill(seg.copy(), method="kl", **seg_teacher), work_dir=tmp_path)
    assert not refused.model.get("unsafe")
    assert prepare(distill(seg.copy(), method="kl", **seg_teacher), work_dir=tmp_path, unsafe=True).model.unsafe
    assert checkpoint.trusting()
    assert Distiller
