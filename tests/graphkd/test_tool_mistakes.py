"""A mistake in a call of a tool ends in one sentence that names it, before anything is trained."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from graphkd.cli import distill as distill_graph
from graphkd.cli import links as distill_links
from graphkd.cli import rank

ROOT = Path(__file__).parents[2]
HEAD = {
    "graph": f"_base_ = {str(ROOT / 'configs/_base_/graph.py')!r}\ndata = 'digits'\nmethods = [dict(type='glnn')]\n",
    "links": f"_base_ = {str(ROOT / 'configs/_base_/links.py')!r}\ndata = 'digits'\nmethods = [dict(type='llp')]\n",
}
TOOLS: dict[str, Any] = {"graph": distill_graph, "links": distill_links}


def call(side: str, folder: Path, monkeypatch: pytest.MonkeyPatch, config: str, *arguments: str) -> str:
    """What the tool says when it ends; a training would take hours."""
    path = folder / "mine.py"
    path.write_text(HEAD[side] + "teacher = dict(epochs=10**9)\nstudent = dict(epochs=10**9)\n" + config)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["tool", str(path), "--out", "log.json", *arguments])
    with pytest.raises(SystemExit) as ended:
        TOOLS[side].main()
    assert not (folder / "log.json").exists()
    said = str(ended.value)
    assert "\n" not in said
    return said


BOTH = {
    "no such data": ("data = 'coora'", "mine.py: no graph is called 'coora'; did you mean 'cora'"),
    "no such option of data": ("data = dict(type='digits', k=3)", "graph 'digits' has no option 'k'"),
    "no such method": ("methods = [dict(type='lpp')]", "mine.py: no method is called 'lpp'"),
    "no such option of a method": ("methods = [dict(type=METHOD, lamb=1)]", "has no option 'lamb'; did you mean 'lam'"),
    "methods no list": ("methods = 'glnn'", "methods is a list, and not an empty one; got 'glnn'"),
    "no methods": ("methods = []", "methods is a list, and not an empty one"),
    "settings no list": ("settings = 'tran'", "settings is a list"),
    "no such teacher": ("teacher = dict(type='sagee')", "no teacher is called 'sagee'; did you mean 'sage'"),
    "no such option of a teacher": ("teacher = dict(hiden=8)", "'sage' has no option 'hiden'; did you mean 'hidden'?"),
    "no such option of a student": ("student = dict(hiden=[8])", "unexpected keyword argument 'hiden'"),
    "a key too many": ("studnet = dict()", "has a key 'studnet', which no graph config has: did you mean 'student'?"),
    "a config of mmengine": ("model = dict()", "it is a config of mmengine; densekd train reads it, and not graphkd"),
    "not Python": ("data = (", "mine.py cannot be read: "),
    "an error inside": ("data = 1 / 0", "mine.py cannot be read: ZeroDivisionError"),
}


@pytest.mark.parametrize("side", TOOLS)
@pytest.mark.parametrize("case", BOTH)
def test_a_mistake_in_a_config(case: str, side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, message = BOTH[case]
    config = config.replace("METHOD", repr({"graph": "glnn", "links": "llp"}[side]))
    message = message.removesuffix("; did you mean 'lam'") if side == "links" else message
    assert message in call(side, tmp_path, monkeypatch, config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("settings = ['prod']", "settings are 'tran' and 'ind', not 'prod'"),
        ("teacher = dict(_delete_=True, cache='nowhere')", "nowhere is no teacher cache: it has no meta.json"),
        ("teacher = dict(_delete_=True, cache='{wrong}')", "'{wrong}' is no folder: it may have {setting} and {seed}"),
        ("teacher = dict(_delete_=True, epochs=3)", "a teacher is a dict with a 'type' or a 'cache'"),
        (
            "teacher = dict(type='nowhere:net')",
            "teacher 'nowhere:net': no module named 'nowhere'; add its folder to PYTHONPATH",
        ),
        (
            "teacher = dict(type='math:net')",
            "teacher 'math:net': math has no 'net'",
        ),
        ("teacher = [dict(type='sage', epochs=10**9), dict(type='gat', hidden=12)]", "gat: hidden (12) must be"),
        ("references = [dict(type='sagee')]", "no teacher is called 'sagee'"),
        ("data = dict(type='digits', split='shares', k=3)", "graph 'digits' has no option 'k'"),
        ("data = dict(type='digits', split='share')", "no split is called 'share'; did you mean 'shares'?"),
        (
            "data = dict(type='digits', split=dict(type='cpf', val_per_class=500))",
            "class 0 has 178 nodes; the split needs",
        ),
        ("methods = [dict(type='nosmog', inputs=dict(lenght=3))]", "input 'nosmog' has no option 'lenght'"),
    ],
)
def test_a_mistake_in_a_config_of_graphs(
    config: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert message in call("graph", tmp_path, monkeypatch, config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("settings = ['ind']", "no split is called 'ind'"),
        ("settings = [dict(type='tran', tset=0.1)]", "split 'tran' has no option 'tset'; did you mean 'test'?"),
        ("settings = [dict(type='tran', test=1.5)]", "shares of edges to hold back must be positive and sum to less"),
        ("teacher = 'sage'", "mine.py: teacher is a dict of options, got 'sage'"),
    ],
)
def test_a_mistake_in_a_config_of_links(
    config: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert message in call("links", tmp_path, monkeypatch, config)


@pytest.mark.parametrize("side", TOOLS)
def test_a_mistake_in_the_arguments(
    side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for count in ("0", "-1"):
        assert "--seeds is how many to run, at least 1" in call(side, tmp_path, monkeypatch, "", "--seeds", count)
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "--out is a file" in call(side, tmp_path, monkeypatch, "", "--out", str(folder))
    broken = tmp_path / "broken.json"
    for text in ('[{"schema": 1', "[]", '[{"schema": 99}]'):
        broken.write_text(text)
        said = call(side, tmp_path, monkeypatch, "", "--out", str(broken))
        assert "broken.json holds no log: " in said
        assert "--force" in said
    monkeypatch.setattr(sys, "argv", ["tool", str(tmp_path / "none.py")])
    with pytest.raises(SystemExit):
        TOOLS[side].main()
    assert re.search(r"there is no config .*none\.py$", capsys.readouterr().err.strip())


def test_a_single_student_has_no_rank(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        rank.main(["--graph", "digits", "--hidden", "16,16"])
    assert "--hidden takes the widths of two students or more" in capsys.readouterr().err
