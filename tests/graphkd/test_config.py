"""Configs of the graph side: mmengine, which they were written for, reads the same out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from graphkd.config import read
from graphkd.shipped import CONFIGS as SHIPPED

ROOT = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(path for side in ("graph", "links") for path in (ROOT / side).glob("*/*.py"))
BASES = [ROOT / "_base_" / "graph.py", ROOT / "_base_" / "links.py"]
SYNTAX = {
    "a dict is merged": "teacher = dict(epochs=3, norm=dict(type='batch'))",
    "a dict that takes the place of another": "teacher = dict(_delete_=True, cache='x')",
    "a dict in a dict that does": "teacher = dict(norm=dict(_delete_=True, eps=1e-5))",
    "a list is replaced": "student = dict(hidden=[8, 8])",
    "a number is replaced": "settings = 3",
    "a setting of the base": "methods = [dict(_base_.teacher, lr=_base_.student.lr)]",
    "a name of the file": "rate = 0.1\nteacher = dict(lr=rate, dropout=[rate for _ in range(2)])",
    "Python": "import math\ndef half(x):\n    return x / 2\nteacher = dict(lr=half(math.pi))",
    "nothing": "",
}
BASE = """
settings = ["tran"]
teacher = dict(type="sage", epochs=200, norm=dict(type="layer", eps=1e-3))
student = dict(hidden=[16], lr=0.01)
"""


def by_mmengine(path: Path) -> dict[str, Any]:
    return Config.fromfile(path)._cfg_dict.to_dict()


@pytest.mark.parametrize("path", [*CONFIGS, *BASES], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_config_says_what_mmengine_reads(path: Path) -> None:
    assert read(path) == by_mmengine(path)


@pytest.mark.parametrize("case", SYNTAX)
def test_what_may_stand_in_a_config(case: str, tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "mine.py").write_text(f"_base_ = 'base.py'\n{SYNTAX[case]}\n")
    found = read(tmp_path / "mine.py")
    assert found == by_mmengine(tmp_path / "mine.py")
    assert case == "nothing" or found != read(tmp_path / "base.py")


def test_several_bases_in_other_folders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "data.py").write_text("data = dict(type='hubs', nodes=30)")
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "middle.py").write_text("_base_ = ['base.py', './sub/data.py']\ndata = dict(nodes=40)")
    (tmp_path / "sub" / "mine.py").write_text("_base_ = '../middle.py'\nstudent = dict(lr=_base_.data.nodes)")
    found = read(tmp_path / "sub" / "mine.py")
    assert found == by_mmengine(tmp_path / "sub" / "mine.py")
    assert (found["data"], found["student"]["lr"]) == ({"type": "hubs", "nodes": 40}, 40)


def test_a_config_that_comes_with_graphkd_is_a_base(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("_base_ = 'graphkd::glnn/digits.py'\nstudent = dict(epochs=3)\n")
    plain = read(ROOT / "graph" / "glnn" / "digits.py")
    assert read(mine) == {**plain, "student": {**plain["student"], "epochs": 3}}
    assert read(SHIPPED.find("links/llp/digits"))["methods"] == [{"type": "llp"}]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("_base_ = 'graphkd::glnn/digit.py'", FileNotFoundError, "did you mean graphkd::glnn/digits.py?"),
        ("_base_ = 'mine.py'", ValueError, "by way of its own _base_, itself"),
        ("_base_ = 'none.py'", FileNotFoundError, "none.py"),
        ("_base_ = ['base.py', 'base.py']", ValueError, "two of the bases have settings, student, teacher"),
        ("_base_ = 3", ValueError, "_base_ is a path or a list of them"),
        ("_base_ = name", ValueError, "_base_ is a path or a list of them, written out; got name"),
        ("_base_ = 'base.py'\nsettings = dict(a=1)", TypeError, "settings is a dict, and .'tran'. in the base"),
        ("_base_ = 'base.py'\nteacher = dict(type=dict(a=1))", TypeError, "teacher.type is a dict, and 'sage' in"),
        ("_base_ = 'base.py'\nlr = '{{_base_.student.lr}}'", ValueError, "here a setting of a base is _base_.name"),
        ("_base_ = 'base.py'\nlr = _base_.studnet", AttributeError, "the base has no 'studnet'"),
    ],
)
def test_a_mistake_is_named(text: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(error, match=message):
        read(tmp_path / "mine.py")
