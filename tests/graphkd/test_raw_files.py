"""Data sets that are pickles: read as pickle reads them, and never a line of code run."""

from __future__ import annotations

import collections
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse import csr_matrix

from graphkd import load
from graphkd.data.raw_files import read_pickle
from kdlosses.safe_pickle import loads


class Payload:
    """What a malicious file would run."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


DRAW = np.random.default_rng(0)
PLAIN = [
    {"a": [1, 2.5, None, True], "b": (b"raw", "text"), 3: {4, 5}, "c": frozenset([6]), "d": 1 + 2j, "e": b""},
    collections.defaultdict(list, {0: [1, 2], 1: [0]}),
    collections.OrderedDict(a=1),
    DRAW.random((2, 3)),
    np.asfortranarray(DRAW.random((2, 3))),
    np.arange(6, dtype=">i4"),
    np.array(3.0),
    np.zeros((0, 4)),
    np.array(["a", "bc"]),
    np.array([True, False]),
    np.array([1, "x", [np.arange(2)]], dtype=object),
    np.array([[None, 1], [2, 3]], dtype=object, order="F"),
    np.zeros(3, dtype=[("a", "f4"), ("b", "i8", (2,))]),
    [np.float32(3), np.int64(2), np.bool_(True), np.str_("ab"), np.dtype("f4"), np.dtype(">i2")],
    (np.arange(3), [np.arange(2)], {"deep": (np.arange(1),)}),
    *(
        getattr(scipy.sparse, f"{form}_{kind}")(np.eye(3))
        for form in ("csr", "csc", "coo")
        for kind in ("matrix", "array")
    ),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_plain_data_are_read_as_pickle_reads_them(value: Any, protocol: int, tmp_path: Path) -> None:
    written = pickle.dumps([value, (value,)], protocol=protocol)
    (tmp_path / "plain.pkl").write_bytes(written)
    found, (again,) = read_pickle(tmp_path / "plain.pkl")
    theirs = pickle.loads(written)[0]
    assert type(found) is type(theirs)
    assert repr(found) == repr(theirs)
    assert found is again
    if isinstance(value, np.ndarray):
        assert found.dtype == theirs.dtype
        assert found.flags.f_contiguous == theirs.flags.f_contiguous
    if scipy.sparse.issparse(value):
        np.testing.assert_array_equal(found.toarray(), value.toarray())


def _named(module: str, name: str, then: bytes = b"") -> bytes:
    return b"c" + f"{module}\n{name}\n".encode() + then + b"."


CODE = {
    "a function": lambda target: pickle.dumps(Payload(target)),
    "a function, protocol 0": lambda target: pickle.dumps(Payload(target), protocol=0),
    "deep inside": lambda target: pickle.dumps({"x": [({"y": Payload(target)},)]}),
    "in an array of objects": lambda target: pickle.dumps(np.array([Payload(target)], dtype=object)),
    "in a sparse matrix": lambda target: _smuggled(target),
    "eval by name": lambda target: _named(
        "builtins", "eval", f"(V__import__('os').mkdir({str(target)!r})\ntR".encode()
    ),
    "a dotted name": lambda target: b"\x80\x04\x8c\x05numpy\x8c\x0fcore.multiarray\x93.",
    "by INST": lambda target: b"(S'" + str(target).encode() + b"'\nios\nmkdir\n.",
    "getattr": lambda target: _named("builtins", "getattr"),
    "by Python 2's name": lambda target: _named("__builtin__", "eval"),
    "a gadget of NumPy": lambda target: _named("numpy.testing._private.utils", "runstring"),
}


def _smuggled(target: Path) -> bytes:
    matrix = csr_matrix(np.eye(2))
    matrix.payload = Payload(target)
    return pickle.dumps(matrix)


@pytest.mark.parametrize("kind", CODE)
def test_code_is_refused_by_name_and_not_run(kind: str, tmp_path: Path) -> None:
    (tmp_path / "bad.pkl").write_bytes(CODE[kind](tmp_path / "owned"))
    with pytest.raises(ValueError, match=r"bad\.pkl was not read: it asks for code.*unsafe=True \(--unsafe\)"):
        read_pickle(tmp_path / "bad.pkl")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "crafted",
    [
        _named("scipy.sparse._csr", "csr_matrix", b"(N}V__setstate__\nNstb"),
        _named("numpy", "dtype", b"(N}Vreal\nNstb"),
        _named("numpy.core.multiarray", "_reconstruct", b"(N}V__setstate__\nNstb"),
        _named("numpy.core.multiarray", "scalar", b"(N}V__new__\nNstb"),
        _named("collections", "OrderedDict", b"(N}Vupdate\nNstb"),
        _named("numpy.core.multiarray", "_reconstruct", b"(cnumpy\nndarray\n(I1000000000000\ntVb\ntR"),
        _named("builtins", "bytes", b"(I1000000000000\ntR"),
        _named("numpy", "dtype", b"(VO8\nI00\nI01\ntR(I3\nV|\nNNNI-1\nI-1\nI0\ntb(g\x00"),
    ],
)
def test_a_pickle_cannot_change_the_reader_nor_take_memory(crafted: bytes, tmp_path: Path) -> None:
    (tmp_path / "crafted").write_bytes(crafted)
    for _ in range(2):
        with pytest.raises(ValueError, match="crafted is damaged"):
            read_pickle(tmp_path / "crafted")
    array = np.arange(3)
    np.testing.assert_array_equal(loads(pickle.dumps(array), "plain"), array)


def test_an_array_of_objects_cannot_be_made_of_raw_bytes() -> None:
    """Addresses of anything: NumPy itself would follow them."""
    lie = pickle.dumps(np.array([1, 2], dtype="i8"), protocol=2).replace(b"i8", b"O8")
    with pytest.raises(ValueError, match="is damaged"):
        loads(lie, "lie")


def test_rows_of_a_sparse_matrix_stay_inside(tmp_path: Path) -> None:
    matrix = csr_matrix(np.eye(2))
    matrix.indices[0] = 10**6
    (tmp_path / "wild.pkl").write_bytes(pickle.dumps(matrix))
    with pytest.raises(ValueError, match=r"wild\.pkl is damaged"):
        read_pickle(tmp_path / "wild.pkl")


@pytest.fixture
def planetoid(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(data_root / "Planetoid" / "CiteSeer", tmp_path / "Planetoid" / "CiteSeer")
    return tmp_path / "Planetoid" / "CiteSeer" / "raw"


@pytest.mark.data
@pytest.mark.parametrize("part", ["graph", "allx", "ty"])
def test_a_data_set_that_runs_code_is_refused(part: str, planetoid: Path, tmp_path: Path) -> None:
    file = planetoid / f"ind.citeseer.{part}"
    content = pickle.loads(file.read_bytes(), encoding="latin1")
    code = pickle.dumps(Payload(tmp_path / "owned"), protocol=2)[:-1]
    file.write_bytes(code + b"0" + pickle.dumps(content, protocol=2)[2:])  # run, dropped, and then the data
    with pytest.raises(ValueError, match=rf"raw/ind\.citeseer\.{part} was not read: .*posix\.mkdir.*--unsafe"):
        load("citeseer", tmp_path)
    assert not (tmp_path / "owned").exists()
    trusted = load("citeseer", tmp_path, unsafe=True)
    assert (tmp_path / "owned").exists()
    assert len(trusted.y) == 2120


@pytest.mark.data
def test_a_kept_graph_that_is_damaged_is_made_anew(planetoid: Path, tmp_path: Path) -> None:
    graph = load("citeseer", tmp_path)
    (kept,) = (tmp_path / "cache").rglob("*.npz")
    whole = kept.read_bytes()
    for content in (b"", whole[:1000], whole[:5000] + bytes(50) + whole[5050:], b"<html>"):
        kept.write_bytes(content)
        with pytest.warns(UserWarning, match=r"npz is damaged .* and is rebuilt"):
            again = load("citeseer", tmp_path)
        assert torch.equal(again.edge_index, graph.edge_index)
        assert torch.equal(again.x.to_dense(), graph.x.to_dense())
    assert len(list((tmp_path / "cache").rglob("*.*"))) == 1
