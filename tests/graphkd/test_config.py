"""Graph configs are read without mmengine as mmengine reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from graphkd.config import read_fields
from graphkd.shipped import CONFIGS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("room", ["graph", "links"])
def test_every_config_is_read_as_mmengine_does(room: str) -> None:
    paths = [*(ROOT / "configs" / room).rglob("*.py"), ROOT / "configs" / "_base_" / f"{room}.py"]
    assert len(paths) > 3
    for path in paths:
        assert json.dumps(read_fields(path)) == json.dumps(Config.fromfile(path)._cfg_dict.to_dict()), path


def test_what_a_config_may_say(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "from math import pi\nstudent = dict(hidden=[8], lr=dict(start=1, end=2))\nwidths = [1]\n"
    )
    (tmp_path / "b.py").write_text("teacher = dict(type='sage', layers=2)\nfolder = '{{fileDirname}}'\n_hidden = 1\n")
    mine = tmp_path / "mine.py"
    mine.write_text(
        "_base_ = ['a.py', './b.py']\n"
        "import math\n"
        "def double(x):\n    return 2 * x\n"
        "student = dict(lr=dict(end=double(3)))\n"
        "teacher = dict(_delete_=True, type='gat', width=_base_.student.hidden[0])\n"
        "widths = [dict(_delete_=True, a=1), *_base_.widths]\n"
    )
    expected = {
        "student": {"hidden": [8], "lr": {"start": 1, "end": 6}},
        "teacher": {"type": "gat", "width": 8},
        "folder": tmp_path.as_posix(),
    }
    found = read_fields(mine)
    assert found.pop("widths") == [{"a": 1}, 1]
    assert found == expected | {"pi": found["pi"]}
    found["student"]["hidden"].append(1)
    assert read_fields(mine)["student"]["hidden"] == [8]


def test_a_packaged_config_is_a_base(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("_base_ = 'graphkd::glnn/digits.py'\nstudent = dict(epochs=3)\n")
    plain = read_fields(ROOT / "configs" / "graph" / "glnn" / "digits.py")
    assert read_fields(mine) == {**plain, "student": {**plain["student"], "epochs": 3}}
    assert read_fields(CONFIGS.find("links/llp/digits"))["methods"] == [{"type": "llp"}]


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    for text, message in {
        "_base_ = 'mine.py'": "is its own base",
        "_base_ = ['one.py', 'one.py']": "two bases hold student",
        "_base_ = 'graphkd::glnn/digit.py'": "did you mean graphkd::graph/glnn/digits.py?",
        "_base_ = 'gone.py'": "gone.py",
        "_base_ = 'one.py'\nx = _base_.teacher": "the base has no teacher",
    }.items():
        (tmp_path / "one.py").write_text("student = dict()\n")
        mine.write_text(text)
        with pytest.raises((ValueError, FileNotFoundError, AttributeError)) as found:
            read_fields(mine)
        assert message in str(found.value)
