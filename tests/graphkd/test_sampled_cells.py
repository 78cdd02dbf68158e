"""Comparisons whose teachers learn from samples: as `distill` trains them, and told in the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphkd import Cache, Graph, StudentClassifier, compare, digits, distill
from graphkd.cli.compare import main as compare_command
from graphkd.cli.distill import main as distill_command
from graphkd.data import sorted_undirected
from graphkd.pipeline.cells import Cells
from graphkd.pipeline.plan import key_of, plan_of
from graphkd.training.watch import Run

QUICK = StudentClassifier((32,), 0.0, epochs=5, batch_size=256)
TEACHER = dict(type="sage", hidden=16, fanout=[5, 3], epochs=5, batch_size=64)
CONFIG = """
data = "digits"
settings = ["tran"]
teacher = {teacher!r}
student = dict(hidden=[16], epochs=3)
methods = [dict(type="glnn")]
"""


@pytest.fixture(scope="module")
def graph() -> Graph:
    return sorted_undirected(digits())


def test_a_sampled_comparison_is_what_distill_trains(graph: Graph, tmp_path: Path) -> None:
    run: dict[str, Any] = dict(student=QUICK, scale="sampled")
    log, folder = tmp_path / "log.json", tmp_path / "caches"
    found = compare(graph, TEACHER, "glnn", seeds=[1], settings=["tran", "ind"], log=log, folder=folder, **run)
    alone = distill(graph, TEACHER, "glnn", seed=1, **run)
    for each, role in zip(found.logs, ("control", "teacher", "student")):
        assert each["scale"] == each["config"]["scale"] == "sampled"
        for key, value in alone.metrics[role].items():
            assert each["metrics"][key] == pytest.approx(100 * value)
    assert found.logs[1]["schedule"] == "at most 5 epochs, sampled"
    assert found.logs[1]["latency_ms"]["one_node_sampled"] > 0
    kept = Cache.load(folder / "sage" / "tran-1", graph.fingerprint())
    np.testing.assert_array_equal(np.asarray(kept.logits), np.asarray(alone.cache.logits))
    assert sorted(each.name for each in folder.iterdir()) == ["sage"]  # no scratch is left

    ran: list[str] = []
    more = dict(seeds=[1], settings=["tran", "ind"], log=log, tick=ran.append)
    with pytest.warns(UserWarning, match=r"gets no cache: all is in the log already"):
        compare(graph, TEACHER, "glnn", folder=folder, **run, **more)
    assert ran == []
    with pytest.raises(ValueError, match=r"another comparison, which differs in scale"):
        compare(graph, TEACHER, "glnn", student=QUICK, **more)
    with pytest.raises(FileExistsError, match=r"sage.tran-1 exists: choose another folder, delete it, or teach from"):
        compare(graph, TEACHER, "glnn", seeds=[1], folder=folder, tick=ran.append, **run)
    assert ran == []
    compare(graph, TEACHER, ["glnn", "ffg2m"], folder=folder, **run, **more)  # the teacher's cache stays
    assert ran == ["ffg2m, seed 1"]


def test_the_cache_of_a_whole_graph_is_kept_and_teaches(tmp_path: Path) -> None:
    teacher, student = dict(type="sage", hidden=16, epochs=5), StudentClassifier((16,), epochs=5)
    found = compare(digits(), teacher, seeds=1, student=student, folder=tmp_path / "caches")
    cache = Cache.load(tmp_path / "caches" / "sage" / "tran-0")
    again = compare(digits(), cache, seeds=1, student=student)
    assert again.logs[2]["metrics"] == found.logs[2]["metrics"]
    assert "scale" not in found.logs[2]


def test_the_command_samples_and_a_config_reads_its_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first.py").write_text(CONFIG.format(teacher=TEACHER))
    with pytest.warns(UserWarning, match=r"takes 4096 nodes a step of samples: the config names no batch_size"):
        distill_command(["first.py", "--scale", "sampled", "--folder", "caches", "--seeds", "2", "--out", "first.json"])
    logs = json.loads((tmp_path / "first.json").read_text())
    assert {each["scale"] for each in logs} == {"sampled"}
    assert logs[0]["config"]["student"]["batch_size"] == 4096
    assert "at most 5 epochs, sampled" in capsys.readouterr().out
    (tmp_path / "second.py").write_text(CONFIG.format(teacher=dict(cache="caches/{setting}-{seed}")))
    with pytest.warns(UserWarning, match=r"4096 nodes a step"):
        distill_command(["second.py", "--scale", "sampled", "--seeds", "2", "--out", "second.json"])
    again = json.loads((tmp_path / "second.json").read_text())
    assert [each["metrics"] for each in again if each["role"] == "distilled"] == [
        each["metrics"] for each in logs if each["role"] == "distilled"
    ]


def test_the_command_compares_samples_in_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    compare_command(["--graph", "digits", "--seeds", "1", "--scale", "sampled", "--device", "cpu", "--amp"])
    logs = json.loads((tmp_path / "results/compare/digits.json").read_text())
    assert logs[0]["config"]["student"]["StudentClassifier"]["batch_size"] == 4096
    distill_command(["--graph", "digits", "--setting", "tran", "--seeds", "1", "--scale", "sampled", "--amp"])
    (file,) = (tmp_path / "results" / "graph").iterdir()
    first = json.loads(file.read_text())[0]
    assert (first["config"]["amp"], first["config"]["teacher"]) == (True, {"type": "sage"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--teacher", "appnp", "--scale", "sampled"], r"cannot be applied layer by layer.*scale='full'"),
        (["--method", "krd", "--scale", "sampled"], r"'krd' needs .*noisy.*scale='sampled' keeps logits alone"),
        (["--scoring", "f1_macro", "--scale", "sampled"], r"scale='sampled' chooses epochs by accuracy"),
        (["--device", "gpu"], r"device is 'cpu', 'cuda'"),
        (["--method", "adagmlp", "--amp"], r"'adagmlp' trains a network of its own, which amp does not reach"),
        (["--folder", "file"], r"folder='file.cache' cannot be written: .*file is no folder"),
        (["--folder", "there"], r"there.tran-0 exists: choose another folder, delete it"),
    ],
)
def test_what_does_not_go_together_is_named_before_training(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "there" / "tran-0").mkdir(parents=True)
    with pytest.raises(SystemExit, match=message):
        distill_command(["--graph", "digits", "--seeds", "1", "--setting", "tran", *arguments])
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("teacher", "options", "message"),
    [
        ([TEACHER, TEACHER], ["--scale", "sampled"], r"scale='sampled' takes one teacher"),
        ({**TEACHER, "tune": {"type": "mcmi"}}, ["--scale", "sampled"], r"trains a teacher on labels alone"),
        (TEACHER, ["--scale", "full"], r"no option 'fanout'"),
        (dict(cache="old"), ["--folder", "caches"], r"this one is a cache already"),
        (dict(type="gcn", source="old", method="lingugkd"), ["--amp"], r"learns on the CPU, in float32: leave out"),
    ],
)
def test_a_config_that_does_not_go_together_is_named_before_training(
    teacher: Any, options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    graph = digits()
    full = np.zeros((len(graph), 10), np.float32), graph.node_id.numpy(), np.ones(len(graph), bool)
    Cache(*full, graph.fingerprint()).save(tmp_path / "old")
    (tmp_path / "config.py").write_text(CONFIG.format(teacher=teacher))
    with pytest.raises(SystemExit, match=message):
        distill_command(["config.py", "--seeds", "1", "--out", "log.json", *options])
    assert not (tmp_path / "log.json").exists()


def test_every_teacher_has_a_folder_of_its_own(tmp_path: Path) -> None:
    cells = Cells(digits(), False, Run(), tmp_path)
    long = [cells.place(f"sage (taps={['layer'] * 99 + [last]})", "tran", 0) for last in ("a", "b")]
    assert len(str(long[0]).removeprefix(str(tmp_path))) < 200
    assert long[0] != long[1]
    alike = [cells.place(f"sage (taps=['{path}'])", "tran", 0) for path in ("a b", "a_b")]
    with pytest.raises(ValueError, match="two teachers would share the folder"):
        cells.check([], None, [each for each in alike if each is not None])


def test_sources_are_told_apart_by_all_of_their_numbers() -> None:
    logits = np.zeros((3000, 2), np.float32)
    other = logits.copy()
    other[1500] = 1  # where a printed array is left out
    sources = [Cache(each, np.arange(3000), np.ones(3000, dtype=bool), "") for each in (logits, other)]
    teachers = [dict(type="sage", source=each, method="lingugkd") for each in sources]
    plan = plan_of(teachers, [dict(type="glnn")])
    assert key_of(plan[0][2]) != key_of(plan[1][2])
    assert [each[0] for each in plan] == [f"sage (source=cache {k}, method=lingugkd)" for k in (0, 1)]
