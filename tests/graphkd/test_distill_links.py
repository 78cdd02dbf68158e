"""The tool for links: every config parses, a run leaves logs that the table is printed from, and goes on from them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from graphkd.cli import links as distill_links
from graphkd.cli.distill import read_config
from graphkd.data import NAMES, load
from graphkd.links import LINK_RECIPES, SPLITS, LinkStudent
from graphkd.spec import resolve
from kdlosses.cli.report import table

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs" / "links").glob("*/*.py"))
QUICK = f"""
_base_ = {str(ROOT / "configs/links/llp/digits.py")!r}
settings = ["tran", "prod"]
teacher = dict(hidden=8, epochs=2)
student = dict(hidden=[8, 8], epochs=1)
methods = [dict(type="llp", walks=1), dict(type="llp", walks=1, rank=0)]
"""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_config_names_what_exists(path: Path) -> None:
    config = read_config(path)
    assert config["data"] == path.stem
    assert config["data"] in NAMES
    for method in config["methods"]:
        resolve("method", method, LINK_RECIPES)
    for setting in config["settings"]:
        resolve("split", setting, SPLITS)
    LinkStudent(**config["student"])


def test_logs_hold_what_the_table_shows_and_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "llp" / "digits.py", tmp_path / "log.json"
    config.parent.mkdir()
    config.write_text(QUICK)

    def call(seeds: int) -> str:
        monkeypatch.setattr(sys, "argv", ["distill_links.py", str(config), "--seeds", str(seeds), "--out", str(out)])
        distill_links.main()
        return capsys.readouterr().out

    call(1)
    first = json.loads(out.read_text())
    assert [(log["role"], log["method"]) for log in first] == [
        ("teacher", "sage"),
        ("control", "link_supervised"),
        ("distilled", "llp(walks=1)"),
        ("distilled", "llp(walks=1, rank=0)"),
    ]
    for log in first:
        kinds = {"prod_all", "prod_old_old", "prod_old_new", "prod_new_new"}
        assert log["metrics"].keys() == {"hits@20", "auc", "mrr", "oracle_test_best", *kinds}
        assert all(0 <= value <= 100 for value in log["metrics"].values())
        assert log["metrics"]["oracle_test_best"] >= log["metrics"]["hits@20"]
        assert 0 <= log["settings"]["prod"]["val"] <= 100
        assert log["settings"]["prod"]["auc"].keys() == {kind.removeprefix("prod_") for kind in kinds}
        assert log["latency_ms"]["test_pairs"] > 0
    printed = call(2)
    both = json.loads(out.read_text())
    assert both[:4] == first  # seconds and all: nothing was trained again
    assert len(both) == 8
    assert table(both) in printed
    assert "validation Hits@20" in printed
    assert "| control | 2 |" in printed


def test_the_config_on_the_digits_runs() -> None:
    """A few epochs of everything in it: as many logs as models, with finite figures."""
    config = read_config(ROOT / "configs" / "links" / "llp" / "digits.py")
    for each in (config["teacher"], config["student"]):
        each["epochs"] = 2
    logs = distill_links.run_seed(load("digits"), config, "llp-digits", 0, lambda: None)
    assert len(logs) == 2 + len(config["methods"])
    assert all(0 <= value <= 100 for log in logs for value in log["metrics"].values())
