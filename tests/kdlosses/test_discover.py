"""Parts are found by name: in their package, in what other packages offer, and by `module:name`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdlosses.discover import definitions

ROOT = Path(__file__).parents[2]
PARTS = """
from torch import nn

import kdlosses
from densekd.methods import method
from graphkd.recipes import recipe
from graphkd.teachers import teacher


@kdlosses.register
def brier(student, teacher, weight=None):
    return kdlosses.weighted_mean((student.softmax(1) - teacher.softmax(1)).square().sum(1), weight)


@recipe()
def twice(model, lesson, *, tau: float = 2.0): ...


@teacher(weight_decay=0.1)
def linear(in_features, classes): ...


@method(online=True)
def brier_logits(student, teacher, tau=1.0):
    return [dict(loss="brier", student="head", teacher="head")]
"""
ENTRIES = """
[graphdensekd.losses]
brier = their_parts
[graphdensekd.recipes]
twice = their_parts:twice
[graphdensekd.teachers]
linear = their_parts
[graphdensekd.methods]
brier_logits = their_parts
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with what an installed package leaves: its module, and the metadata that name its entry points."""
    (tmp_path / "their_parts.py").write_text(PARTS)
    info = tmp_path / "their_parts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-parts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    return tmp_path


LOOK_UP = """
import contextlib, io
from torch import nn

import kdlosses
from densekd.methods import ONLINE, method_entries
from graphkd.pipeline.teacher_spec import parse_teacher
from graphkd.recipes import RECIPES
from graphkd.spec import resolve
from densekd.cli.train import parse


def command(name):
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        try:
            return parse(["student.py", "--teacher", "teacher.py", "--method", name]).method
        except SystemExit:
            raise KeyError(told.getvalue().strip().split("error: ")[-1])


kinds = {
    "brier": lambda name: kdlosses.build(name).name,
    "twice": lambda name: resolve("method", dict(type=name, tau=3.0), RECIPES)[0].__name__,
    "linear": lambda name: parse_teacher(dict(type=name, epochs=3))[0].__name__,
    "brier_logits": lambda name: method_entries(name, nn.Linear(1, 1), nn.Linear(1, 1))[0]["loss"],
    "brier_logits ": command,
}
for name, find in kinds.items():
    name = name.strip()
    print(find(START + name))
    try:
        find(name + "x")
    except KeyError as error:
        print(error.args[0])
print("brier_logits" in ONLINE)
"""


@pytest.mark.parametrize("start", ["", "their_parts:"])
def test_parts_of_others_are_found_by_name(start: str, installed: Path) -> None:
    """A package that is installed, and `module:name`, for a loss, a recipe, a teacher, a method and the tool."""
    path = os.pathsep.join([str(installed), str(ROOT), str(ROOT / "tools")])
    done = subprocess.run(
        [sys.executable, "-c", f"START = {start!r}\n{LOOK_UP}"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *found, online = done.stdout.strip().split("\n")
    assert found[::2] == ["brier", "twice", "linear", "brier", f"{start}brier_logits"]
    for line, name in zip(found[1::2], ("brier", "twice", "linear", "brier_logits", "brier_logits")):
        assert f"called '{name}x'; did you mean '{name}'" in line
    assert online == "True"


def test_two_modules_with_one_name_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "rules_of_theirs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text("from math import sqrt\n\ndef rule(): ...\n\ndef _helper(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [*definitions("rules_of_theirs", [str(package)])] == ["rule"]
    (package / "two.py").write_text("class rule: ...\n")
    with pytest.raises(ImportError, match=r"'rule' is defined in rules_of_theirs\.one and in rules_of_theirs\.two"):
        definitions("rules_of_theirs", [str(package)])
