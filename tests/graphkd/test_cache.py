"""The cache: what goes in comes out, safely, from disk, and for the right graph only."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from graphkd import Cache


def make(**parts: object) -> Cache:
    logits = np.arange(12, dtype=np.float32).reshape(4, 3)
    logits[2] = np.nan
    whole = dict(
        logits=logits,
        node_id=np.array([5, 6, 8, 9]),
        observed=np.array([True, True, False, True]),
        fingerprint="f00d",
        hidden=(np.ones((4, 2), dtype=np.float32),),
        settings={"teacher": {"type": "sage"}, "seed": 3},
    )
    return Cache(**{**whole, **parts})  # type: ignore[arg-type]


def test_round_trip_from_disk(tmp_path: Path) -> None:
    cache = make()
    cache.save(tmp_path / "sage")
    again = Cache.load(tmp_path / "sage", fingerprint="f00d")
    np.testing.assert_array_equal(again.logits, cache.logits)
    np.testing.assert_array_equal(again.hidden[0], cache.hidden[0])
    np.testing.assert_array_equal(again.node_id, cache.node_id)
    np.testing.assert_array_equal(again.observed, cache.observed)
    assert again.settings == cache.settings
    assert isinstance(again.logits, np.memmap)
    assert not again.logits.flags.writeable


def test_nothing_is_overwritten_silently(tmp_path: Path) -> None:
    make().save(tmp_path / "c")
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        make(fingerprint="beef").save(tmp_path / "c")
    assert Cache.load(tmp_path / "c").fingerprint == "f00d"
    make(fingerprint="beef").save(tmp_path / "c", overwrite=True)
    assert Cache.load(tmp_path / "c").fingerprint == "beef"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_save_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        make(settings={"teacher": object()}).save(tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_a_cache_of_another_graph_is_refused(tmp_path: Path) -> None:
    make().save(tmp_path / "c")
    with pytest.raises(ValueError, match="belongs to another graph: its fingerprint is f00d, the graph's beef"):
        Cache.load(tmp_path / "c", fingerprint="beef")


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.target),)


def test_a_pickle_in_a_cache_is_never_run(tmp_path: Path) -> None:
    make().save(tmp_path / "c")
    trap = np.empty(1, dtype=object)
    trap[0] = Bomb(tmp_path / "exploded")
    np.save(tmp_path / "c" / "logits.npy", trap, allow_pickle=True)
    with pytest.raises(ValueError, match=r"logits.npy is no plain array and was not opened"):
        Cache.load(tmp_path / "c")
    assert not (tmp_path / "exploded").exists()


def test_what_is_not_a_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"it has no meta\.json"):
        Cache.load(tmp_path)
    (tmp_path / "meta.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 99; this version reads 1"):
        Cache.load(tmp_path)


def test_several_teachers_are_joined_and_taken_apart(tmp_path: Path) -> None:
    one, other = make(), make(hidden=(), settings={"teacher": {"type": "gat"}, "seed": 3})
    both = Cache.join([one, other])
    assert both.parts == ((3, 1), (3, 0))
    assert both.settings == {"teacher": [{"type": "sage"}, {"type": "gat"}], "seed": 3}
    both.save(tmp_path / "both")
    for cache in (both, Cache.load(tmp_path / "both"), both.take(np.arange(4))):
        for part, whole in zip(cache.split(), (one, other)):
            np.testing.assert_array_equal(part.logits, whole.logits)
            assert [layer.shape for layer in part.hidden] == [layer.shape for layer in whole.hidden]
            assert part.settings == whole.settings
            assert part.parts == ()
    again = Cache.join([both, one])
    assert again.parts == ((3, 1), (3, 0), (3, 1))
    assert [told["type"] for told in again.settings["teacher"]] == ["sage", "gat", "sage"]
    assert isinstance(Cache.load(tmp_path / "both").split()[1].logits, np.memmap)


def test_one_teacher_is_written_as_before(tmp_path: Path) -> None:
    make().save(tmp_path / "c")
    meta = json.loads((tmp_path / "c" / "meta.json").read_text())
    assert meta == {
        "format": 1,
        "fingerprint": "f00d",
        "hidden": 1,
        "settings": {"teacher": {"type": "sage"}, "seed": 3},
    }
    one = make()
    assert Cache.join([one]) is one
    assert one.split()[0].logits is not None
    Cache.join([one, one]).save(tmp_path / "two")
    assert json.loads((tmp_path / "two" / "meta.json").read_text())["format"] == 2  # no older version reads it as one


def test_tasks_of_their_own_are_remembered(tmp_path: Path) -> None:
    make(own_tasks=True).save(tmp_path / "c")
    assert Cache.load(tmp_path / "c").own_tasks
    assert Cache.join([make(), make(own_tasks=True)]).own_tasks


def test_teachers_of_different_graphs_or_nodes_are_not_joined() -> None:
    with pytest.raises(ValueError, match="belongs to another graph"):
        Cache.join([make(), make(fingerprint="beef")])
    with pytest.raises(ValueError, match="teacher 1 observed other nodes"):
        Cache.join([make(), make(observed=np.array([True, False, False, True]))])
    with pytest.raises(ValueError, match="no cache to join"):
        Cache.join([])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (dict(parts=((2, 0), (2, 1))), r"in all \(3, 1\), got \(\(2, 0\), \(2, 1\)\)"),
        (dict(observed=np.ones(4, dtype=bool)), "the teacher's logits are NaN or infinite at node 2"),
        (dict(hidden=(np.full((4, 2), np.inf),)), "the teacher's hidden layer 0 are NaN or infinite at node 0"),
        (dict(observed=np.ones(4)), "the observed mask must be bool, got float64"),
        (dict(node_id=np.arange(3)), "4 rows of logits but 3 of node_id"),
        (dict(logits=np.zeros(4)), r"must be \(N, C\), got \(4,\)"),
    ],
)
def test_a_bad_cache_is_named(parts: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**parts)


def test_what_else_a_teacher_tells_comes_back_and_is_taken_by_node(tmp_path: Path) -> None:
    noisy = np.arange(8, dtype=np.float32).reshape(4, 2)
    cache = make(more={"noisy": noisy}, params={"codebook": np.eye(3, dtype=np.float32)})
    cache.save(tmp_path / "c")
    again = Cache.load(tmp_path / "c")
    assert json.loads((tmp_path / "c" / "meta.json").read_text())["format"] == 3
    np.testing.assert_array_equal(again.more["noisy"], noisy)
    taken = again.take(np.array([3, 0]))
    np.testing.assert_array_equal(taken.more["noisy"], noisy[[3, 0]])
    np.testing.assert_array_equal(taken.params["codebook"], np.eye(3))
    with pytest.raises(ValueError, match="4 rows of logits but 3 of more-noisy"):
        make(more={"noisy": noisy[:3]})
