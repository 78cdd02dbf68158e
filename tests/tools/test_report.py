from __future__ import annotations

import json
from pathlib import Path

import pytest
import report
from logs import read

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
    report.main([str(logs)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "**pair** (last weights)"
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines[4:]}
    assert list(cells) == ["teacher", "control", "distilled, cwd"]
    assert cells["teacher"][:4] == ["1", "60.00", "", "1,000"]
    assert cells["control"][:4] == ["3", "52.00 ± 2.00", "", "100"]
    assert cells["distilled, cwd"][:4] == ["3", "56.00 ± 3.00", "+4.00 ± 1.00", "100"]


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
