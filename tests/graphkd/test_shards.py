"""A cache in shards is the cache: whoever writes them, whatever is asked for, and nothing is missing silently."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphkd import Cache, StudentClassifier, cpf_split, digits, make_setting, train_teacher
from graphkd.sparse.rows import rows
from graphkd.sparse.shards import Shards

CUTS = [0, 500, 501, 1797]


@pytest.fixture(scope="module")
def whole() -> Cache:
    graph = digits()
    cache = train_teacher(
        make_setting(graph, cpf_split(graph.y, 0), "ind", 0), dict(type="sage", epochs=5), extras=["weights"]
    ).cache
    assert cache is not None
    assert not cache.observed.all()
    return cache


def write(whole: Cache, path: Path, cuts: list[int] = CUTS) -> None:
    for start, stop in reversed(list(itertools.pairwise(cuts))):
        whole.take(np.arange(start, stop)).save_shard(path, start, len(whole.logits))


def same(one: Cache, other: Cache) -> None:
    np.testing.assert_array_equal(np.asarray(one.logits), other.logits)
    np.testing.assert_array_equal(np.asarray(one.hidden[0]), other.hidden[0])
    np.testing.assert_array_equal(one.node_id, other.node_id)
    np.testing.assert_array_equal(one.observed, other.observed)
    assert one.params.keys() == other.params.keys()
    assert (one.fingerprint, one.settings) == (other.fingerprint, other.settings)


def test_shards_are_the_cache_and_stay_on_disk(whole: Cache, tmp_path: Path) -> None:
    write(whole, tmp_path / "c")
    again = Cache.load(tmp_path / "c", fingerprint=whole.fingerprint)
    same(again, whole)
    assert isinstance(again.logits, Shards)
    assert all(isinstance(part, np.memmap) for part in (*again.logits.parts, *again.hidden[0].parts))
    some = np.array([1796, 3, 500, 3])
    np.testing.assert_array_equal(again.take(some).logits, whole.logits[some])
    np.testing.assert_array_equal(again.take(whole.observed).logits, whole.logits[whole.observed])


def test_another_engine_writes_shards_with_numpy_and_json_alone(whole: Cache, tmp_path: Path) -> None:
    np.save(tmp_path / "logits.npy", whole.logits)
    code = """
import json, os, sys
import numpy as np
start, stop, fingerprint = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
logits = np.load("logits.npy")
os.makedirs(f"c/shard-{start:012d}")
def save(name, rows): np.save(f"c/shard-{start:012d}/{name}.npy", rows[start:stop])
save("logits", logits); save("node_id", np.arange(len(logits))); save("observed", np.isfinite(logits).all(1))
meta = dict(format=4, start=start, nodes=len(logits), fingerprint=fingerprint, hidden=0, settings={})
json.dump(meta, open(f"c/shard-{start:012d}/meta.json", "w"))
"""
    engines = [
        subprocess.Popen([sys.executable, "-c", code, str(start), str(stop), whole.fingerprint], cwd=tmp_path)
        for start, stop in ((0, 900), (900, 1797))
    ]
    assert [engine.wait() for engine in engines] == [0, 0]
    again = Cache.load(tmp_path / "c", whole.fingerprint)
    np.testing.assert_array_equal(np.asarray(again.logits), whole.logits)
    np.testing.assert_array_equal(again.observed, whole.observed)


@pytest.mark.parametrize("method", ["glnn", dict(type="ffg2m", lam=0.2)])
def test_a_student_learns_the_same_from_shards(tmp_path: Path, method: object) -> None:
    graph = digits()
    view = make_setting(graph, cpf_split(graph.y, 0), "tran", 0)
    cache = train_teacher(view, dict(type="sage", epochs=5)).cache
    assert cache is not None
    write(cache, tmp_path / "c")
    np.save(tmp_path / "x.npy", graph.x.numpy())
    student = StudentClassifier((16,), method=method, epochs=3, batch_size=256, random_state=0)  # type: ignore[arg-type]
    options = dict(edge_index=graph.edge_index, labelled=view.train)
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    one = student.fit(on_disk, graph.y, teacher=Cache.load(tmp_path / "c"), **options).predict_proba(graph.x)  # type: ignore[arg-type]
    other = student.fit(graph.x, graph.y, teacher=cache, **options).predict_proba(graph.x)  # type: ignore[arg-type]
    np.testing.assert_array_equal(one, other)


def test_a_gap_an_overlap_and_a_stranger_are_named(whole: Cache, tmp_path: Path) -> None:
    write(whole, tmp_path / "gap", [0, 500, 900])
    with pytest.raises(ValueError, match="the nodes 900 to 1796 are missing"):
        Cache.load(tmp_path / "gap")
    whole.take(np.arange(1000, 1797)).save_shard(tmp_path / "gap", 1000, 1797)
    with pytest.raises(ValueError, match="the nodes 900 to 999 are missing"):
        Cache.load(tmp_path / "gap")
    whole.take(np.arange(800, 1000)).save_shard(tmp_path / "gap", 800, 1797)
    with pytest.raises(ValueError, match="the nodes 800 to 899 are there twice"):
        Cache.load(tmp_path / "gap")
    write(whole, tmp_path / "strange")
    meta = tmp_path / "strange" / "shard-000000000501" / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "fingerprint": "beef"}))
    with pytest.raises(ValueError, match="the shard at node 501 is of another cache than that at node 0: fingerprint"):
        Cache.load(tmp_path / "strange")
    with pytest.raises(FileExistsError):
        whole.take(np.arange(500)).save_shard(tmp_path / "strange", 0, 1797)
    with pytest.raises(ValueError, match="a shard of the nodes 1700 to 2199, but there are 1797"):
        whole.take(np.arange(500)).save_shard(tmp_path / "strange", 1700, 1797)


@given(st.data())
def test_shards_are_indexed_like_the_array(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(sum))
    array = np.arange(2 * sum(lengths)).reshape(-1, 2)
    shards = Shards(np.split(array, np.cumsum(lengths)[:-1]))
    n = len(array)
    some = np.array(data.draw(st.lists(st.integers(0, n - 1))), dtype=int)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    cut = slice(
        *(data.draw(st.none() | st.integers(-n, n)) for _ in range(2)), data.draw(st.none() | st.integers(1, 3))
    )
    for index in (some, mask, cut, int(data.draw(st.integers(0, n - 1))), (cut, slice(1, 2)), (some, 0)):
        np.testing.assert_array_equal(shards[index], array[index])
    np.testing.assert_array_equal(rows(shards, torch.from_numpy(some)).numpy(), array[some])
    np.testing.assert_array_equal(rows(shards[:, :1]).numpy(), array[:, :1])
    assert (shards.shape, shards.ndim, shards.dtype, len(shards)) == (array.shape, 2, array.dtype, n)


def test_what_shards_refuse() -> None:
    with pytest.raises(ValueError, match=r"shards may differ in length only, got float64 \(n, 2\), float64 \(n, 3\)"):
        Shards([np.zeros((1, 3)), np.zeros((1, 2))])
    with pytest.raises(ValueError, match="got none"):
        Shards([])
    with pytest.raises(IndexError, match="row 3 is out of range: there are the rows 0 to 2"):
        Shards([np.zeros((1, 2)), np.zeros((2, 2))])[[0, 3]]
