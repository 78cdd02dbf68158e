"""Teachers and methods compared: what is trained, what is kept, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from torch import Tensor, nn

from graphkd import StudentClassifier, compare, cpf_split, digits, distill, make_setting, train_teacher
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


def test_a_pipeline_is_compared_and_its_steps_are_told(tmp_path: Path) -> None:
    options: dict[str, Any] = dict(teachers=TEACHERS[0], seeds=1, log=tmp_path / "log.json")
    found = compare(digits(), student=make_pipeline(PCA(8), QUICK), **options)
    assert [log["role"] for log in found.logs] == ["control", "teacher", "distilled"]
    ran: list[str] = []
    compare(digits(), student=make_pipeline(PCA(8), QUICK), tick=ran.append, **options)
    assert ran == []
    with pytest.raises(ValueError, match=r"differs in steps"):
        compare(digits(), student=make_pipeline(PCA(9), QUICK), **options)


def test_a_module_with_other_taps_is_another_teacher(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(64, 8), nn.Linear(8, 10)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.head(self.body(x).relu())

    module, options = Own(), dict(student=QUICK, seeds=1, log=tmp_path / "log.json")
    compare(digits(), dict(module=module, taps=["body"]), "kd3", **options)
    with pytest.raises(ValueError, match=r"differs in Own"):
        compare(digits(), dict(module=module, taps=["head:in"]), "kd3", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(seeds=True), r"seeds is how many to run, or a list of which, got True"),
        (dict(seeds=1.5), r"seeds is how many to run, or a list of which, got 1.5"),
        (dict(seeds=[0, 0]), r"each once, .*; got \[0, 0\]"),
        (dict(settings=[]), r"settings are 'tran' and 'ind', or one of them, not \[\]"),
        (dict(settings=["ind", "ind"]), r"settings are 'tran' and 'ind', or one of them"),
        (dict(teachers=["sage", "sage"]), r"two teachers or two methods are the same"),
        (dict(tick=None), r"tick is a function of a name, got None"),
        (dict(scoring=3), r"scoring is the name of a scorer, a dict .*; got 3"),
        (dict(scoring=["accuracy", len, len]), r"scoring='len' does not measure"),
        (dict(scoring=["accuracy", "f1_macro", "f1_macro"]), r"two scorers called 'f1_macro'"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(options: dict[str, Any], message: str) -> None:
    ran: list[str] = []
    with pytest.raises((TypeError, ValueError), match=message):
        compare(digits(), **{"student": QUICK, "tick": ran.append, **options})
    assert ran == []


def test_what_cannot_be_written_or_taught_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    ran: list[Any] = []
    with pytest.raises(OSError, match=r"log=.* cannot be written: .*file is no folder"):
        compare(digits(), log=tmp_path / "file" / "log.json", tick=ran.append)
    for scale in ("full", "sampled"):
        with pytest.raises(OSError, match=r"folder=.* cannot be written: .*file is no folder"):
            distill(digits(), folder=tmp_path / "file", scale=scale, callback=ran.append)  # type: ignore[arg-type]
    foreign = tmp_path / "foreign.json"
    foreign.write_text('[{"schema": 1}]')
    with pytest.raises(ValueError, match=r"holds logs that are no comparison"):
        compare(digits(), log=foreign, tick=ran.append)
    cache = train_teacher(make_setting(digits(), cpf_split(digits().y, 0), "ind", 0), TEACHERS[0]).cache
    with pytest.raises(ValueError, match=r"written for another setting or seed"):
        compare(digits(), cache, settings="ind", seeds=2, student=QUICK, tick=ran.append)
    assert ran == []


def test_edges_of_one_direction_and_nodes_without_are_as_in_distill() -> None:
    graph = digits()
    loose = replace(graph, edge_index=graph.edge_index[:, (graph.edge_index != 0).all(0)])
    found = compare(loose, TEACHERS[0], seeds=1, student=QUICK, isolated="keep")
    assert len(found.logs) == 3
    forth = graph.edge_index[:, graph.edge_index[0] < graph.edge_index[1]]
    with pytest.warns(UserWarning, match=r"edges have no reverse: they count in both directions"):
        compare(replace(graph, edge_index=forth), TEACHERS[0], seeds=1, student=QUICK)


def test_the_command_names_what_cannot_be_written_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for option, more in (("--html", ["--out", str(tmp_path / "log.json")]), ("--out", [])):
        with pytest.raises(SystemExit, match=r"cannot be written"):
            main(["--graph", "digits", "--seeds", "1", option, str(tmp_path / "file" / "x"), *more])
    assert not (tmp_path / "log.json").exists()


def test_a_log_goes_on_on_another_device_and_not_in_another_precision(done: tuple[Any, Path]) -> None:
    _, log = done
    ran: list[str] = []
    compare(digits(), TEACHERS, ["glnn"], seeds=2, student=QUICK, log=log, tick=ran.append, device="cpu")
    assert ran == []
    with pytest.raises(ValueError, match="another comparison, which differs in amp, student"):
        compare(digits(), TEACHERS, ["glnn"], seeds=2, student=QUICK, log=log, amp=True)
    with pytest.raises(ValueError, match="device is 'cpu', 'cuda'"):
        compare(digits(), TEACHERS, device="gpu", tick=ran.append)
    with pytest.raises(ValueError, match="the method 'adagmlp' trains a network of its own, which amp does not reach"):
        compare(digits(), TEACHERS, "adagmlp", amp=True, tick=ran.append)


def test_bfloat16_is_used_in_training() -> None:
    teacher = dict(type="sage", hidden=16, epochs=10)
    plain, low = (compare(digits(), teacher, seeds=1, student=QUICK, amp=amp).logs for amp in (False, True))
    assert [log["metrics"] for log in plain] != [log["metrics"] for log in low]
    assert all(log["config"].get("amp", False) == (log in low) for log in (*plain, *low))
