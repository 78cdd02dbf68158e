from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from html_report import Picture, Row, page
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_graph_of_the_demo_beats_its_control_and_is_reported(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "tools" / "demo.py", "--only", "graph", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    report = (tmp_path / "report.html").read_text()
    quality = {role: float(value) for role, value in re.findall(r"<td>(\w+)<td>([\d.]+) accuracy", report)}
    assert set(quality) == {"teacher", "control", "distilled"}
    assert quality["distilled"] > quality["control"]
    assert f"{quality['distilled']:.1f}" in done.stdout
    stages = re.findall(r"^graph: (\w+) trained in \d+ s; about [\d.]+ minutes left$", done.stdout, re.M)
    assert stages == ["teacher", "control", "distilled"]  # a line a stage, for this is no terminal


def test_a_report_is_self_contained_and_escapes() -> None:
    figure = Figure()
    figure.subplots().plot([0, 1])
    rows = [Row("a<b", role, "mIoU", 50.0 + gain, 10, 1.0) for gain, role in enumerate(("control", "distilled"))]
    text = page("T & t", "intro", rows, [Picture("p", "c", figure)], "foot")
    assert "a&lt;b" in text
    assert "T &amp; t" in text
    assert "+1.0" in text
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r"(?:src|href)='([^']*)'", text))
