"""Teachers and methods compared: what is trained, what is kept, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphkd import StudentClassifier, compare, digits, distill
from graphkd.cli.compare import main

QUICK = StudentClassifier(hidden=(16,), dropout=0.0, epochs=15)
TEACHERS = [dict(type="sage", hidden=16, epochs=10), dict(type="gcn", hidden=16, epochs=10)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    log = tmp_path_factory.mktemp("compare") / "log.json"
    return compare(digits(), TEACHERS, ["glnn"], seeds=2, student=QUICK, log=log), log


def test_it_trains_what_distill_would(done: tuple[Any, Path]) -> None:
    found, _ = done
    assert len(found.logs) == 2 * (1 + 2 + 2)
    result = distill(digits(), TEACHERS[1], "glnn", student=QUICK, setting="tran", seed=1)
    metrics = {(log["role"], log["method"], log["seed"]): log["metrics"]["tran"] for log in found.logs}
    for key, role in ((("teacher", "gcn", 1), "teacher"), (("control", "supervised", 1), "control")):
        assert metrics[key] == pytest.approx(100 * result.metrics[role]["tran"])
    assert metrics["distilled", "glnn from gcn", 1] == pytest.approx(100 * result.metrics["student"]["tran"])


def test_it_goes_on_where_it_was_stopped(done: tuple[Any, Path], tmp_path: Path) -> None:
    found, log = done
    whole = json.loads(log.read_text())
    part = tmp_path / "part.json"
    part.write_text(json.dumps(whole[:3]))
    ran: list[str] = []
    again = compare(digits(), TEACHERS, "glnn", seeds=2, student=QUICK, log=part, tick=ran.append)
    assert len(ran) == len(whole) - 3
    assert [log["metrics"]["tran"] for log in again.logs] == [log["metrics"]["tran"] for log in found.logs]
    ran.clear()
    more = compare(digits(), TEACHERS[0], ["glnn", "krd"], seeds=1, student=QUICK, log=tmp_path / "one.json")
    assert [log["method"] for log in more.logs] == ["supervised", "sage", "glnn", "krd"]
    compare(digits(), TEACHERS, "glnn", seeds=2, student=QUICK, log=part, tick=ran.append)
    assert ran == []
    both = compare(digits(), TEACHERS, "glnn", seeds=1, student=QUICK, log=tmp_path / "one.json", tick=ran.append)
    assert ran == ["gcn, seed 0", "glnn from gcn, seed 0"]  # what was called glnn is glnn from sage now
    assert "glnn from sage" in {log["method"] for log in both.logs}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        (dict(student=StudentClassifier(hidden=(8,), epochs=15)), "student"),
        (dict(teachers=[{**TEACHERS[0], "hidden": 8}, TEACHERS[1]]), "sage"),
        (dict(settings=["ind"]), "settings"),
        (dict(scoring="f1_macro"), "scoring"),
    ],
)
def test_runs_of_another_comparison_are_not_mixed(done: tuple[Any, Path], changed: dict[str, Any], field: str) -> None:
    _, log = done
    before = log.read_bytes()
    with pytest.raises(ValueError, match=f"holds runs of another comparison, which differs in .*{field}"):
        compare(
            digits(), **{"teachers": TEACHERS, "methods": "glnn", "seeds": 2, "student": QUICK, "log": log, **changed}
        )
    assert log.read_bytes() == before


def test_table_frame_plot_and_page(done: tuple[Any, Path], tmp_path: Path) -> None:
    found, _ = done
    assert "| distilled, glnn from sage | 2 |" in repr(found)
    frame = found.frame()
    mean = frame[(frame.role == "control")].tran.mean()
    assert f"| control | 2 | {mean:.2f} ±" in repr(found)
    axes = found.plot()
    assert axes.get_yticklabels()[0].get_text() == "teacher, sage"
    assert axes.get_xlabel() == "tran"
    text = found.html(tmp_path / "page.html").read_text()
    assert "<svg" in text
    assert f"<title>{mean:.2f} ± " in text
    assert "http" not in text
    with pytest.raises(KeyError, match=r"no metric 'trans' in common; did you mean 'tran'"):
        found.plot("trans")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"no method is called 'glnnn'; did you mean 'glnn'"):
        main(["--graph", "digits", "--methods", "glnnn"])
    (tmp_path / "mine.py").write_text(
        "from torch_geometric.nn import GCN\ndef mine(inputs, classes): return GCN(inputs, 8, 2, classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    main(["--graph", "digits", "--teachers", "mine:mine", "--seeds", "1", "--html", "page.html"])
    assert "| teacher | 1 |" in capsys.readouterr().out
    assert (tmp_path / "page.html").is_file()
    assert len(json.loads((tmp_path / "results/compare/digits.json").read_text())) == 3
