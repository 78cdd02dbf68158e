from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

import graphkd.cli.report
from kdlosses.cli import report
from kdlosses.cli.logs import read

VALUES = {"control": (50.0, 52.0, 54.0), "distilled": (53.0, 56.0, 59.0), "teacher": (60.0,)}


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for role, values in VALUES.items():
        for seed, value in enumerate(values):
            log = {
                "schema": 1,
                "side": "seg",
                "name": "pair",
                "role": role,
                "method": "cwd" if role == "distilled" else "supervised",
                "seed": seed,
                "metrics": {"mIoU": value},
                "selection": "last weights",
                "params": 1000 if role == "teacher" else 100,
                "latency_ms": {"one_image": 2.0, "threads": 1, "protocol": "median"},
                "schedule": "10 iterations of 2",
                "seconds": 3.0,
            }
            (tmp_path / f"{role}-seed{seed}.json").write_text(json.dumps(log))
    return tmp_path


def test_the_table_has_means_sample_deviations_and_paired_differences(logs, capsys) -> None:
    graphkd.cli.report.main([str(logs)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "**pair** (last weights)"
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines[4:]}
    assert list(cells) == ["teacher", "control", "distilled, cwd"]
    assert cells["teacher"][:4] == ["1", "60.00", "", "1,000"]
    assert cells["control"][:4] == ["3", "52.00 ± 2.00", "", "100"]
    assert cells["distilled, cwd"][:4] == ["3", "56.00 ± 3.00", "+4.00 ± 1.00", "100"]


def test_the_pixels_near_edges_have_columns_where_all_students_were_measured_there(logs) -> None:
    runs = read(logs)
    before = report.table(runs)
    for run in runs:
        run["metrics"]["bIoU"] = run["metrics"]["mIoU"] * 2 - run["seed"]
    cells = cells_of(report.table(runs))
    assert list(cells["control"])[1:6] == ["seeds", "mIoU", "bIoU", "Δ mIoU", "Δ bIoU"]
    assert cells["distilled, cwd"]["bIoU"] == "111.00 ± 5.00"
    assert cells["distilled, cwd"]["Δ bIoU"] == "+8.00 ± 2.00"
    assert "bIoU:" not in report.table(runs)  # nobody said how near
    for run in runs:
        run["boundary_width"] = 3.0
    told = report.table(runs).splitlines()[-2:]
    assert told == ["", "bIoU: mean IoU of the pixels within 3 of an edge of the labels."]
    runs[0]["boundary_width"] = 1.5
    assert "within 1.5 or 3 of an edge" in report.table(runs)
    del next(run for run in runs if run["role"] == "control")["metrics"]["bIoU"]
    assert report.table(runs) == before


def test_a_list_of_logs_in_one_file_reads_the_same(logs, tmp_path) -> None:
    together = tmp_path / "all" / "runs.json"
    together.parent.mkdir()
    together.write_text(json.dumps(read(logs)))
    assert report.table(read(together)) == report.table(read(logs))


def test_no_logs_and_an_unknown_schema_are_errors(logs, tmp_path) -> None:
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no result logs"):
        read(empty)
    (logs / "odd.json").write_text(json.dumps({"schema": 2}))
    with pytest.raises(ValueError, match="schema 2"):
        read(logs)


@pytest.fixture
def graph_logs() -> list[dict[str, Any]]:
    """Eight seeds of a control, of glnn and of another method, with nothing between them but noise and a shift."""
    draw = np.random.default_rng(0)
    shift = {"supervised": 0.0, "glnn": 20.0, "ffg2m": 21.0}
    return [
        {
            "side": "graph",
            "name": "cora",
            "role": "control" if method == "supervised" else "distilled",
            "method": method,
            "seed": seed,
            "metrics": {key: 60 + shift[method] + draw.normal() for key in ("tran", "observed", "prod")},
            "selection": "validation",
            "params": 100,
            "latency_ms": {"all_nodes": 2.0, "threads": 1, "protocol": "median"},
            "seconds": 3.0,
        }
        for method in shift
        for seed in draw.permutation(8).tolist()
    ]


def cells_of(table: str) -> dict[str, dict[str, str]]:
    head, _, *lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return {line[0]: dict(zip(head, line)) for line in lines}


@pytest.mark.parametrize("key", ["tran", "prod"])
def test_graph_methods_are_set_against_glnn_as_scipy_does_it(graph_logs, key: str) -> None:
    one, other = (
        [log["metrics"][key] for seed in range(8) for log in graph_logs if (log["method"], log["seed"]) == (name, seed)]
        for name in ("ffg2m", "glnn")
    )
    low, high = ttest_rel(one, other).confidence_interval(0.95)
    cells = cells_of(report.table(graph_logs))
    column = f"Δ {key} to glnn [95 %]"
    assert cells["distilled, ffg2m"][column] == f"{np.mean(one) - np.mean(other):+.2f} [{low:.2f}, {high:.2f}]"
    assert cells["distilled, glnn"][column] == cells["control"][column] == ""
    assert not any("observed to" in head for head in cells["control"])


def test_the_quantiles_of_students_t_are_those_of_scipy() -> None:
    for within in (0.5, 0.95, 0.999):
        for freedom in range(1, 60):
            assert report.student_t(freedom, within) == pytest.approx(t.ppf((1 + within) / 2, freedom), rel=1e-9)


def test_there_is_no_interval_without_a_glnn_run_of_the_same_seeds_or_for_one_seed(graph_logs) -> None:
    def heads(logs: list[dict[str, Any]]) -> str:
        return " ".join(cells_of(report.table(logs))["control"])

    assert "to glnn" in heads(graph_logs)
    assert "to glnn" not in heads([log for log in graph_logs if log["method"] != "glnn"])
    assert "to glnn" not in heads([log for log in graph_logs if log["seed"] == 3])
    apart = [log for log in graph_logs if log["role"] == "control" or (log["method"] == "glnn") == (log["seed"] < 4)]
    assert "to glnn" not in heads(apart)
    assert "to glnn" not in heads([{**log, "side": "seg"} for log in graph_logs])


def test_a_graph_network_that_was_taught_is_set_against_itself_untaught(graph_logs) -> None:
    beside = [
        {**log, "role": role, "method": called, "metrics": {key: v + shift for key, v in log["metrics"].items()}}
        for role, called, shift in (("reference", "gcn", 0), ("reference", "gat", 9), ("teacher", "gcn, lingugkd", 2))
        for log in graph_logs
        if log["role"] == "control"
    ]
    cells = cells_of(report.table([*graph_logs, *beside]))
    assert cells["teacher, gcn, lingugkd"]["Δ tran"] == "+2.00 ± 0.00"
    assert cells["reference, gcn"]["Δ tran"] == cells["reference, gat"]["Δ tran"] == cells["control"]["Δ tran"] == ""
    assert cells["distilled, glnn"] == cells_of(report.table(graph_logs))["distilled, glnn"]


def test_a_teacher_that_only_a_cache_is_known_of_leaves_its_cells_empty(graph_logs) -> None:
    told = {"role": "teacher", "method": "cache", "metrics": {"tran": 81.0}, "params": None, "latency_ms": None}
    cells = cells_of(report.table([*graph_logs, {**graph_logs[0], **told}]))
    assert cells["teacher"]["tran"] == "81.00"
    assert cells["teacher"]["prod"] == cells["teacher"]["parameters"] == cells["teacher"]["latency, ms"] == ""
    assert cells["control"]["prod"] != ""


def test_one_node_has_a_column_where_it_was_measured(logs) -> None:
    runs = read(logs)
    assert "one node, ms" not in report.table(runs)
    for run in runs:
        if run["role"] != "control":
            run["latency_ms"] = {"all_nodes": 7.0, "one_node": 0.25, "threads": 1}
    lines = report.table(runs).splitlines()
    place = [cell.strip() for cell in lines[2].split("|")].index("one node, ms")
    assert [line.split("|")[place].strip() for line in lines[4:]] == ["0.25", "", "0.25"]
