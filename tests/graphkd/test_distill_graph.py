"""The tool: every config parses, a run that was killed goes on, and ends where one in one go ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from graphkd import StudentClassifier
from graphkd.cli.distill import DEFAULTS, read_config, run_seed
from graphkd.config import read
from graphkd.data import NAMES, load
from graphkd.recipes import RECIPES
from graphkd.spec import resolve
from kdlosses.discover import imported

ROOT = Path(__file__).parents[2]
TOOL = [sys.executable, str(ROOT / "tools" / "distill_graph.py")]
CONFIGS = sorted((ROOT / "configs" / "graph").glob("*/*.py"))
CONFIG = f"""
_base_ = {str(ROOT / "configs/_base_/graph.py")!r}
data = "digits"
teacher = dict(epochs=20)
student = dict(hidden=[16], epochs=20)
methods = [dict(type="glnn"), dict(type="ffg2m", lam=0.2)]
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("configs") / "digits.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of three seeds in one go."""
    out = tmp_path_factory.mktemp("logs") / "whole.json"
    done = call(config, "--seeds", 3, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "| distilled, ffg2m | 3 |" in done.stdout
    return out


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TOOL, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=300)


def measured(path: Path) -> list[tuple[Any, ...]]:
    return [(log["seed"], log["role"], log["method"], log["metrics"]) for log in json.loads(path.read_text())]


def test_a_killed_run_goes_on_and_ends_where_an_uninterrupted_one_ends(
    config: Path, whole: Path, tmp_path: Path
) -> None:
    killed = tmp_path / "killed.json"
    command = [*TOOL, str(config), "--seeds", "3", "--out", str(killed)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not killed.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = json.loads(killed.read_text())
    assert 0 < len(kept) < len(measured(whole))
    again = call(config, "--seeds", 3, "--out", killed)
    assert again.returncode == 0, again.stderr
    assert json.loads(killed.read_text())[: len(kept)] == kept  # seconds and all: nothing was trained again
    assert measured(killed) == measured(whole)


def test_several_configs_have_each_its_log_and_its_table(config: Path, whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "others" / "digits.py"
    other.parent.mkdir()
    other.write_text(config.read_text().replace('dict(type="ffg2m", lam=0.2)', 'dict(type="hard")'))
    done = call(config, other, "--seeds", 1, "--out", tmp_path / "logs")
    assert done.returncode == 0, done.stderr
    one = tmp_path / "logs" / f"{config.parent.name}-digits.json"
    assert measured(one) == measured(whole)[:4]
    assert [log[2] for log in measured(tmp_path / "logs" / "others-digits.json")][2:] == ["glnn", "hard"]
    assert [line.split("**")[1] for line in done.stdout.splitlines() if "**" in line] == [one.stem, "others-digits"]
    assert "share the log" in call(config, config, "--out", tmp_path / "logs").stderr


def test_logs_follow_the_schema_and_name_no_machine(whole: Path) -> None:
    logs = json.loads(whole.read_text())
    assert [(log["seed"], log["role"], log["method"]) for log in logs[:4]] == [
        (0, "teacher", "sage"),
        (0, "control", "supervised"),
        (0, "distilled", "glnn"),
        (0, "distilled", "ffg2m"),
    ]
    for log in logs:
        assert log["schema"] == 1
        assert log["side"] == "graph"
        assert {"tran", "oracle_test_best", "observed", "ind", "prod", "cold"} == set(log["metrics"])
        assert log["latency_ms"]["all_nodes"] > 0
        assert log["params"] > 0
    assert str(Path.home()) not in whole.read_text()
    assert str(ROOT) not in whole.read_text()


def test_a_log_of_another_config_is_not_touched(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkd.cli.distill import finished

    config = json.loads(whole.read_text())[0]["config"]
    assert len(finished(whole, config)) == 12
    with pytest.raises(SystemExit, match="holds runs of another config"):
        finished(whole, {**config, "data": "cora"})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_config_names_what_exists(path: Path) -> None:
    config = read_config(path)
    data = config["data"]
    name = data if isinstance(data, str) else data["type"]
    if ":" in name:  # a function of the module of that name
        assert callable(imported("graph", name))
        name = name.partition(":")[0].rpartition(".")[2]
    if isinstance(data, str) or "split" in data:  # a graph that is drawn may be drawn in several ways
        assert path.stem in ((name, f"{name}_cold") if isinstance(data, str) else (f"{name}_{data['split']}",))
    assert name in (*NAMES, "fields", "hubs")
    for method in config["methods"]:
        resolve("method", method, RECIPES)
    StudentClassifier(**config["student"])


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem == "digits"], ids=lambda path: path.parent.name)
def test_every_config_on_the_digits_runs(path: Path) -> None:
    """A few epochs of everything in it: as many logs as models, with finite accuracies."""
    config = read_config(path)
    teachers = config["teacher"] if isinstance(config["teacher"], list) else [config["teacher"]]
    teachers = [*teachers, *config.get("references", [])]
    for each in (*teachers, config["student"]):
        each["epochs"] = min(each.get("epochs", 3), 3)
    config["settings"] = config["settings"][:1]
    logs = run_seed(load(config["data"]), config, path.parent.name, 0, lambda: None)
    assert len(logs) == 2 + len(config["methods"]) + len(config.get("references", []))
    values = [value for log in logs for value in log["metrics"].values() if value is not None]
    assert all(abs(value) <= 100 for value in values)  # a loss as a metric is negative
    assert sum(value == 0 for value in values) <= len(teachers)  # one that knows some classes finds none of the others


@pytest.mark.data
def test_published_config_runs_on_real_data(data_root: Path, tmp_path: Path) -> None:
    short = tmp_path / "ffg2m" / "cora.py"
    short.parent.mkdir()
    short.write_text(
        f"_base_ = {str(ROOT / 'configs/graph/ffg2m/cora.py')!r}\nsettings = ['tran']\nstudent = dict(epochs=40)\n"
    )
    out = tmp_path / "log.json"
    done = call(short, "--seeds", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    tran = {log["method"]: log["metrics"]["tran"] for log in json.loads(out.read_text())}
    assert tran["supervised"] < 66
    assert min(tran["glnn"], tran["ffg2m"]) > 76


def test_a_student_has_the_same_defaults_wherever_it_is_made() -> None:
    defaults = StudentClassifier().get_params()
    for given in (DEFAULTS["student"], read(ROOT / "configs/_base_/graph.py")["student"]):
        assert given == {key: list(defaults[key]) if key == "hidden" else defaults[key] for key in given}
        assert {"hidden", "dropout", "lr", "weight_decay", "epochs", "patience"} <= {*given}
