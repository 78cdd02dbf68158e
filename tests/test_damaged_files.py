"""Files of every format, damaged in every way: the right content or one error that names the file and what to do."""

from __future__ import annotations

import gzip
import json
import pickle
import random
import re
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import densekd.compat  # noqa: F401 - guards mmengine
from densekd.checkpoint import load_weights
from densekd.checkpoint import read as read_checkpoint
from graphkd import Cache, Condensed, LinkStudent, StudentClassifier
from graphkd.condensing.baselines import whole as whole_set
from graphkd.data.ogb import read_ogb
from graphkd.data.raw_files import read_pickle
from graphkd.data.reads import GraphSet
from kdlosses.cli.logs import read as read_logs
from kdlosses.cli.logs import write as write_logs

REMEDY = re.compile("write|fetch|save|delete|unpack|copy|this version reads|anew|must be|architecture|features of")
MODEL = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
STATE = {"state_dict": MODEL.state_dict(), "meta": {"epoch": 3, "loss": np.float64(0.5)}}


def _equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return set(found) == set(expected) and all(_equal(found[key], value) for key, value in expected.items())
    return bool(np.array_equal(np.asarray(found), np.asarray(expected)))


def _student() -> StudentClassifier:
    draw = np.random.default_rng(0)
    return StudentClassifier(hidden=(4,), epochs=1).fit(draw.random((12, 3)).astype(np.float32), np.arange(12) % 2)


def _link_student() -> LinkStudent:
    from graphkd.links.network import LinkMLP

    student = LinkStudent(hidden=(4,))
    student.n_features_in_ = 3
    student.network_ = LinkMLP(3, (4,), 0.0)
    return student


def _condensed() -> Condensed:
    edges = torch.tensor([[0, 1, 2], [1, 0, 3]])
    return whole_set(GraphSet(torch.eye(4), edges, torch.tensor([0, 0, 1, 1]), 2), torch.tensor([0, 1]), 2)


def _weights(student: Any) -> dict[str, Any]:
    return {**student.network_.state_dict(), "hidden": student.hidden, "in": student.n_features_in_}


def _cache() -> Cache:
    logits = np.random.default_rng(0).random((20, 3)).astype(np.float32)
    more, params = {"noisy": logits[:, :2]}, {"codebook": np.eye(2, dtype=np.float32)}
    return Cache(logits, np.arange(20), np.ones(20, bool), "f00d", (logits,), {"teacher": 1}, more=more, params=params)


def _shapes(cache: Cache) -> dict[str, Any]:
    """What is checked of a cache: its numbers have no checksum, they are mapped and not read."""
    return {"logits": cache.logits.shape, "hidden": cache.hidden[0].shape}


def _write_ogb(folder: Path) -> None:
    tables = {"node-feat": np.ones((6, 2)), "node-label": np.arange(6)[:, None] % 2, "edge": np.array([[0, 1], [2, 3]])}
    split = {"train": [[0], [1]], "valid": [[2], [3]], "test": [[4], [5]]}
    files = {f"raw/{name}": table for name, table in tables.items()}
    files |= {f"split/s/{name}": table for name, table in split.items()}
    for name, table in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(folder / f"{name}.csv.gz", "wt") as file:
            np.savetxt(file, table, "%g", delimiter=",")


FRAMES = [{"boxes": np.eye(3), "n": np.float32(number), "number": number} for number in range(90)]
INFO = {"metainfo": {"classes": ["a"]}, "data_list": FRAMES}
LOG = [{"schema": 1, "seed": 0, "metrics": {"tran": 71.5}}]
GRAPH = {node: [node + 1, node + 2] for node in range(300)}

Case = tuple[str, Callable[[Path], Any], Callable[[Path], Any], Callable[[Any], bool]]


def _cases() -> dict[str, Case]:
    """By name: the file, how it is written into a folder, how it is read, and whether what was read is right."""
    student, links = _student(), _link_student()

    def cached(name: str) -> Case:
        return (
            f"cache/{name}",
            lambda folder: _cache().save(folder / "cache"),
            lambda folder: _shapes(Cache.load(folder / "cache")),
            lambda found: found == _shapes(_cache()),
        )

    def saved(old: bool) -> Callable[[Path], Any]:
        return lambda folder: torch.save(STATE, folder / "a.pth", _use_new_zipfile_serialization=not old)

    return {
        "checkpoint": (
            "a.pth",
            saved(False),
            lambda f: read_checkpoint(f / "a.pth"),
            lambda found: _equal(found, STATE),
        ),
        "checkpoint before 1.6": ("a.pth", saved(True), lambda f: read_checkpoint(f / "a.pth"), lambda found: True),
        "weights": (
            "a.pth",
            saved(True),
            lambda f: load_weights(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), f / "a.pth"),
            lambda found: True,
        ),
        "info file": (
            "info.pkl",
            lambda f: (f / "info.pkl").write_bytes(pickle.dumps(INFO)),
            lambda f: mmengine.load(f / "info.pkl"),
            lambda found: True,  # a pickle has no checksum
        ),
        "raw graph": (
            "ind.graph",
            lambda f: (f / "ind.graph").write_bytes(pickle.dumps(GRAPH, protocol=2)),
            lambda f: read_pickle(f / "ind.graph"),
            lambda found: True,
        ),
        **{f"cache, {name}": cached(name) for name in ("meta.json", "logits.npy", "node_id.npy", "more-noisy.npy")},
        "shard": (
            "cache/shard-000000000000/meta.json",
            lambda f: _cache().save_shard(f / "cache", 0, 20),
            lambda f: _shapes(Cache.load(f / "cache")),
            lambda found: found == _shapes(_cache()),
        ),
        "student": (
            "s.safetensors",
            lambda f: student.save(f / "s.safetensors"),
            lambda f: _weights(StudentClassifier.load(f / "s.safetensors")),
            lambda found: _equal(found, _weights(student)),
        ),
        "student of links": (
            "l.safetensors",
            lambda f: links.save(f / "l.safetensors"),
            lambda f: _weights(LinkStudent.load(f / "l.safetensors")),
            lambda found: _equal(found, _weights(links)),
        ),
        "condensed set": (
            "c.safetensors",
            lambda f: _condensed().save(f / "c.safetensors"),
            lambda f: vars(Condensed.load(f / "c.safetensors")),
            lambda found: _equal(found, vars(_condensed())),
        ),
        "table of OGB": (
            "raw/node-feat.csv.gz",
            _write_ogb,
            lambda f: read_ogb(f, "s").x,
            lambda found: np.array_equal(found, np.ones((6, 2))),
        ),
        "log": (
            "log.json",
            lambda f: write_logs(f / "log.json", LOG),
            lambda f: read_logs(f / "log.json"),
            lambda found: True,
        ),
    }


CASES = _cases()


def _damage(whole: bytes, draw: random.Random) -> bytes:
    place, kind = draw.randrange(len(whole)), draw.randrange(8)
    if kind == 0:
        return whole[:place]
    if kind == 1:
        return draw.choice([b"", b"\x00", b"\x80", b"PK", b"<html>sign in</html>", draw.randbytes(300)])
    if kind == 2:
        return whole[:place] + bytes(draw.randrange(1, 40)) + whole[place + 40 :]
    if kind == 3:
        return whole[:place] + draw.randbytes(draw.randrange(1, 9)) + whole[place:]
    if kind == 4:
        return whole[:place] + whole[place + draw.randrange(1, 9) :]
    place = place if kind > 5 else place % min(len(whole), 200)  # where the headers are
    return whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :]


@pytest.fixture
def _in_time() -> Iterator[None]:
    def late(*_: Any) -> None:
        pytest.fail("it hangs")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)


@pytest.mark.usefixtures("_in_time")
@pytest.mark.parametrize("name", CASES)
def test_damage_is_an_error_with_a_remedy(name: str, tmp_path: Path) -> None:
    file, write, read, right = CASES[name]
    write(tmp_path)
    assert right(read(tmp_path))
    whole, draw, said = (tmp_path / file).read_bytes(), random.Random(name), list[str]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for turn in range(150):
        (tmp_path / file).write_bytes(_damage(whole, draw))
        try:
            found = read(tmp_path)
        except ValueError as error:
            said.append(str(error))
        else:
            assert right(found), turn
    assert len(said) > 40
    assert [each for each in said if "unsafe" in each] == []  # damage is no reason to run the code of a file
    assert [each for each in said if str(tmp_path) not in each or not REMEDY.search(each)] == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 300 << 10  # KiB


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty: fetch or write it again"),
        (b"P", "is damaged or of another format"),
        (b"\x80", "is damaged or of another format"),
        (b"<!DOCTYPE html><html>", "a web page, not what torch.save writes"),
        (b"PK\x03\x04", "its zip archive is cut short or broken"),
    ],
)
def test_a_checkpoint_that_is_none(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ValueError, match=says) as caught:
        load_weights(MODEL, tmp_path / "a.pth")
    assert str(tmp_path / "a.pth") in str(caught.value)
    assert "unsafe" not in str(caught.value)


def _claims(length: int, header: bytes) -> bytes:
    return length.to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "content",
    [
        _claims(10**9, b"{}"),
        _claims(2**63, b"{}"),
        _claims(64, b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4]}}'.ljust(64)),
        _claims(72, b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'),
    ],
)
def test_a_header_of_safetensors_that_claims_more_than_there_is(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "s.safetensors").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"s\.safetensors holds no whole student .*save the student again"):
        StudentClassifier.load(tmp_path / "s.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10


@pytest.mark.parametrize("shape", ["(1000000000000, 3)", "(-1, 3)", "(20, 3, 1000000)", "()", "(20,)"])
@pytest.mark.parametrize("descr", ["<f4", ">f4", "|O", "<U9", "<i4"])
def test_a_header_of_numpy_that_claims_what_is_not_there(shape: str, descr: str, tmp_path: Path) -> None:
    _cache().save(tmp_path / "c")
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    file = tmp_path / "c" / "logits.npy"
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    file.write_bytes(start + file.read_bytes()[128:])
    with pytest.raises(ValueError, match=r"logits\.npy.*write the cache again"):
        Cache.load(tmp_path / "c")


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": 3},
        {"hidden": -1},
        {"hidden": 10**12},
        {"hidden": 1.0},
        {"hidden": True},
        {"settings": None},
        {"more": "noisy"},
        {"more": [3]},
        {"more": ["gone"]},
        {"params": {"codebook": 1}},
        {"teachers": [{"columns": "3", "hidden": 1}]},
        {"teachers": [{"columns": 2, "hidden": 1}]},
        {"own_tasks": 1},
        {"format": "1"},
        {"format": 4},
    ],
    ids=repr,
)
def test_what_meta_says_is_checked(change: dict[str, Any], tmp_path: Path) -> None:
    _cache().save(tmp_path / "c")
    file = tmp_path / "c" / "meta.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=str(tmp_path / "c")):
        Cache.load(tmp_path / "c")


@pytest.mark.parametrize("key", ["fingerprint", "hidden", "settings", "format"])
def test_what_meta_does_not_say_is_missed(key: str, tmp_path: Path) -> None:
    _cache().save(tmp_path / "c")
    file = tmp_path / "c" / "meta.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != key}))
    with pytest.raises(ValueError, match=key):
        Cache.load(tmp_path / "c")


@pytest.mark.parametrize("name", ["../out", "x/../../out", "/etc/out", "..\\out", "a\0b", ""])
@pytest.mark.parametrize("key", ["more", "params"])
def test_meta_names_no_file_outside_of_its_folder(key: str, name: str, tmp_path: Path) -> None:
    _cache().save(tmp_path / "c")
    np.save(tmp_path / "out.npy", np.ones((20, 2), np.float32))
    (tmp_path / "c" / f"{'more' if key == 'more' else 'param'}-x").mkdir()
    file = tmp_path / "c" / "meta.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: [name]}))
    with pytest.raises(ValueError, match="must be the name of a file, with no slash"):
        Cache.load(tmp_path / "c")
    arrays = {name: np.ones((20, 2), np.float32)}
    with pytest.raises(ValueError, match="must be the name of a file, with no slash"):
        Cache(**{**vars(_cache()), key: arrays}).save(tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_links_out_of_a_cache_are_not_followed(tmp_path: Path) -> None:
    _cache().save(tmp_path / "c")
    shutil.move(tmp_path / "c" / "logits.npy", tmp_path / "logits.npy")
    (tmp_path / "c" / "logits.npy").symlink_to(tmp_path / "logits.npy")
    with pytest.raises(ValueError, match=r"logits\.npy leads out of its folder"):
        Cache.load(tmp_path / "c")
    _cache().save_shard(tmp_path / "elsewhere", 0, 20)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "shard-000000000000").symlink_to(tmp_path / "elsewhere" / "shard-000000000000")
    with pytest.raises(ValueError, match=r"shard-000000000000 leads out of"):
        Cache.load(tmp_path / "s")
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")  # the folder itself may be a link
    assert len(Cache.load(tmp_path / "linked").logits) == 20


def test_a_student_without_a_checksum_is_read(tmp_path: Path) -> None:
    """As versions before wrote it."""
    from safetensors.torch import save_file

    student = _student()
    student.save(tmp_path / "s.safetensors")
    with safe_open(tmp_path / "s.safetensors", "pt") as file:
        head = {key: value for key, value in file.metadata().items() if key != "crc32"}
    save_file(student.network_.state_dict(), tmp_path / "s.safetensors", metadata=head)
    assert _equal(_weights(StudentClassifier.load(tmp_path / "s.safetensors")), _weights(student))
