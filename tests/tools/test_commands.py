"""The commands `graphkd` and `densekd`: what they say of themselves, and the graph side without OpenMMLab."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import kdlosses
from graphdensekd import commands, help_of
from graphkd.cli.distill import DEFAULTS
from graphkd.config import read

ROOT = Path(__file__).parents[2]
COMMANDS = [(package, name) for package in ("graphkd", "densekd") for name in commands(package)]
SHIMS = sorted(path for path in (ROOT / "tools").glob("*.py") if "from graphdensekd import" in path.read_text())
CALL = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, {root!r})
from graphdensekd import {command}
sys.argv = [{command!r}, *{arguments!r}]
{command}()
"""
OPENMMLAB = ("mmengine", "mmcv", "mmseg", "mmdet", "mmdet3d", "densekd")
SMALL = "student = dict(hidden=[16], epochs=5)\nteacher = dict(epochs=5)\ndata = 'digits'\n"
PARTS = """
from types import SimpleNamespace
from graphkd import digits
from graphkd.recipes import RECIPES
from kdlosses import weighted_mean
from torch_geometric.nn import GraphSAGE

def graph(count=600):
    whole = digits()
    keep = (whole.edge_index < count).all(0)
    return SimpleNamespace(x=whole.x[:count], y=whole.y[:count], edge_index=whole.edge_index[:, keep])

def net(in_features, classes, *, width=8):
    return GraphSAGE(in_features, width, 2, classes)

def brier(student, teacher, weight=None):
    return weighted_mean((student.softmax(1) - teacher.softmax(1)).square().sum(1), weight)

def plain(model, lesson, *, lam=0.0):
    return RECIPES["glnn"](model, lesson, lam=lam)
"""


def call(command: str, *arguments: object, folder: Path, blocked: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """The command as its console script runs it, in a folder of its own; some packages are not there."""
    code = CALL.format(blocked=set(blocked), root=str(ROOT), command=command, arguments=[str(a) for a in arguments])
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)


def said_by(package: str, name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    with pytest.raises(SystemExit):
        import_module(f"{package}.cli.{name}").main(arguments)
    return capsys.readouterr()


@pytest.mark.parametrize("package", ["graphkd", "densekd"])
def test_help_shows_an_example_and_every_command_without_torch(package: str, tmp_path: Path) -> None:
    done = call(package, "--help", folder=tmp_path, blocked=("torch", "kdlosses"))
    assert (done.returncode, done.stdout.strip()) == (0, help_of(package)), done.stderr
    lines = done.stdout.splitlines()
    assert lines[2].startswith(f"  {package} ")
    named = [line.split()[0] for line in lines[lines.index("commands:") + 1 :] if line.startswith("  ")]
    assert named == list(commands(package))
    assert {"report", {"graphkd": "distill", "densekd": "train"}[package]} <= {*named}


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    done = call("densekd", "--version", folder=tmp_path, blocked=("torch",))
    assert (done.returncode, done.stdout) == (0, f"densekd {kdlosses.__version__}\n"), done.stderr


@pytest.mark.parametrize(("package", "name"), COMMANDS)
def test_the_help_of_a_command_shows_an_example_then_the_options(package: str, name: str, capsys) -> None:
    out, _ = said_by(package, name, ["--help"], capsys)
    lines = out.splitlines()
    assert help_of(package).count(lines[0]) == 1
    examples = [
        line.split("   ")[0] for line in (line.strip() for line in lines) if line.startswith(f"{package} {name} ")
    ]
    assert lines[2].strip().startswith(examples[0])
    assert out.index(examples[0]) < out.index("usage: ") < out.index("options:")
    for example in examples:  # each is a call that the parser takes but for what is put after it
        _, err = said_by(package, name, [*shlex.split(example)[2:], "--no-such-option"], capsys)
        assert err.splitlines()[-1] == f"{package} {name}: error: unrecognized arguments: --no-such-option"


@pytest.mark.parametrize("path", SHIMS, ids=lambda path: path.stem)
def test_a_tool_is_one_call_of_a_command(path: Path) -> None:
    found = [each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call)]
    assert [ast.unparse(each.func) for each in found] in (["graphkd"], ["densekd"])
    package, name = ast.unparse(found[0].func), ast.literal_eval(found[0].args[0])
    assert name in commands(package)
    assert f"from {package}.cli.{name} import main as main" in path.read_text()  # who imports the tool finds it


def test_tools_know_how_they_were_started(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "distill_links.py"), "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "    python tools/distill_links.py graphkd::" in done.stdout
    assert "usage: distill_links.py [-h]" in done.stdout


def test_mistakes_end_in_one_line(tmp_path: Path) -> None:
    for arguments, code, said in (
        (["destill"], 2, "graphkd has no command 'destill'; did you mean 'distill'?\n"),
        (["nothing"], 2, "graphkd has no command 'nothing'; see graphkd --help\n"),
        (["report", "gone"], 1, "gone: No such file or directory\n"),
        (
            ["distill", "--graph", "coora", "--seeds", "1"],
            1,
            "no graph is called 'coora'; did you mean 'cora' or 'cane_cora' or 'cora_words'?\n",
        ),
    ):
        done = call("graphkd", *arguments, folder=tmp_path)
        assert (done.returncode, done.stderr) == (code, said)
    assert not list(tmp_path.iterdir())


def test_what_is_not_installed_is_named_with_its_extra(tmp_path: Path) -> None:
    done = call("densekd", "train", "x.py", folder=tmp_path, blocked=("mmengine",))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "needs mmengine: pip install 'graphdensekd[dense]'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("command", "method"), [("distill", "glnn"), ("links", "llp")])
def test_graph_commands_need_no_openmmlab(command: str, method: str, tmp_path: Path) -> None:
    base = ROOT / "configs" / "_base_" / f"{'graph' if command == 'distill' else 'links'}.py"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "digits.py").write_text(
        f"_base_ = {str(base)!r}\n{SMALL}settings = ['tran']\nmethods = [dict(type={method!r})]\n"
    )
    done = call("graphkd", command, "mine/digits.py", "--seeds", 1, folder=tmp_path, blocked=OPENMMLAB)
    assert done.returncode == 0, done.stderr
    log = tmp_path / "results" / {"distill": "graph", "links": "links"}[command] / "mine-digits.json"
    assert [each["role"] for each in json.loads(log.read_text())] == ["teacher", "control", "distilled"]
    again = call("graphkd", "report", log, folder=tmp_path, blocked=(*OPENMMLAB, "scipy", "sklearn"))
    assert again.stdout.strip() == done.stdout.strip()


@pytest.mark.slow
def test_everything_of_ones_own_without_a_config(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PARTS)
    own = ["--graph", "mine:graph", "--teacher", "mine:net", "--method", "mine:plain", "glnn", "--loss", "mine:brier"]
    done = call("graphkd", "distill", *own, "--setting", "tran", "--seeds", 1, folder=tmp_path, blocked=OPENMMLAB)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results" / "graph").iterdir()
    logs = json.loads(path.read_text())
    accuracy = {log["method"]: log["metrics"]["tran"] for log in logs}
    assert list(accuracy) == ["net", "supervised", "mine:plain", "glnn", "terms(mine:brier)"]
    assert accuracy["mine:plain"] == accuracy["glnn"]  # it is glnn
    assert len({accuracy["supervised"], accuracy["glnn"], accuracy["terms(mine:brier)"]}) == 3
    assert logs[0]["params"] == 2 * 64 * 8 + 8 + 2 * 8 * 10 + 10
    assert logs[0]["config"]["data"] == "mine:graph"


def test_students_are_saved_where_asked_and_never_over_others(tmp_path: Path, capsys) -> None:
    from graphkd import StudentClassifier, cpf_split, digits
    from graphkd.cli import distill

    config = tmp_path / "short.py"
    config.write_text(
        "data = 'digits'\nsettings = ['tran']\nmethods = [dict(type='glnn')]\n"
        "teacher = dict(type='sage', epochs=2)\nstudent = dict(hidden=[8], epochs=2)\n"
    )
    arguments = [str(config), "--seeds", "1", "--out", str(tmp_path / "log.json"), "--save", str(tmp_path / "kept")]
    distill.main(arguments)
    (file,) = (tmp_path / "kept").iterdir()
    assert f"student {file}" in capsys.readouterr().out
    graph, (log,) = (
        digits(),
        [each for each in json.loads((tmp_path / "log.json").read_text()) if each["method"] == "glnn"],
    )
    test = cpf_split(graph.y, 0).test
    found = StudentClassifier.load(file).predict(graph.x[test])
    assert (found == graph.y[test].numpy()).mean() == pytest.approx(log["metrics"]["tran"] / 100, abs=1e-4)
    (tmp_path / "log.json").unlink()
    with pytest.raises(SystemExit, match=r"is there already: choose another --save, or replace it with --force"):
        distill.main(arguments)


def test_a_config_gives_ones_own_graph_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkd.data import digits, load

    (tmp_path / "mine_with_options.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    found = load(dict(type="mine_with_options:graph", count=200, split="shares"))
    assert found.x.equal(digits().x[:200])
    assert len(found.split(found.y, 0).train) > 0
    with pytest.raises(ValueError, match="graph 'mine_with_options:grph': mine_with_options has no 'grph'; did you"):
        load("mine_with_options:grph")
    with pytest.raises(ValueError, match=r"the graph has no tensor 'x'"):
        load("builtins:dict")


def test_without_a_config_it_is_the_base_of_all_configs() -> None:
    assert read(ROOT / "configs" / "_base_" / "graph.py") == DEFAULTS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give configs, or --graph"),
        (["graphkd::glnn/digits.py", "--graph", "cora"], "give configs, or --graph"),
        (["graphkd::glnn/digits.py", "--method", "glnn"], "--method goes with --graph: a config says its own"),
        (["graphkd::glnn/digits.py", "--setting", "ind"], "--setting goes with --graph: a config says its own"),
    ],
)
def test_configs_and_a_graph_do_not_mix(arguments: list[str], message: str, capsys) -> None:
    _, err = said_by("graphkd", "distill", arguments, capsys)
    assert err.splitlines()[-1] == f"graphkd distill: error: {message}"


def test_students_are_ranked_as_by_the_function(tmp_path: Path, capsys) -> None:
    from graphkd import digits, rank_students
    from graphkd.cli.rank import main

    main(["--graph", "digits", "--hidden", "8", "256", "8,8", "--seeds", "1"])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    scores = rank_students(digits(), [(8,), (256,), (8, 8)], seeds=[0])
    expected = {", ".join(map(str, hidden)): f"{score:.4f}" for hidden, score in zip(scores.hidden, scores.score)}
    assert {hidden: score for hidden, _, score in rows} == expected
    assert [row[1] for row in rows if row[0] == "8, 8"] == [f"{64 * 8 + 8 + 8 * 8 + 8 + 8 * 10 + 10}"]
    assert [float(row[2]) for row in rows] == sorted((float(row[2]) for row in rows), reverse=True)
    main(["--graph", "digits", "--search", "8", "16", "--layers", "2", "--budget", "900", "--seeds", "1"])
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    assert {row[0] for row in found} == {"none", "8", "8, 8", "8, 16"}
    assert found[-1][2] == min((row[2] for row in found), key=float)
    _, err = said_by("graphkd", "rank", ["--graph", "digits", "--hidden", "8", "9", "--budget", "9"], capsys)
    assert "--layers and --budget go with --search" in err
    _, err = said_by("graphkd", "rank", ["--graph", "digits", "--hidden", "8", "8;8"], capsys)
    assert "expected widths with commas between them, 64,64, got '8;8'" in err


def test_a_saved_student_is_exported(tmp_path: Path, capsys) -> None:
    import numpy as np
    import onnxruntime

    from graphkd import StudentClassifier, digits
    from graphkd.cli.export import main

    graph = digits()
    student = StudentClassifier(hidden=(16,), epochs=5, method="supervised", random_state=0).fit(graph.x, graph.y)
    student.save(tmp_path / "student.safetensors")
    main([str(tmp_path / "student.safetensors"), "--out", str(tmp_path / "student.onnx")])
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx", providers=["CPUExecutionProvider"])
    answers = session.run(None, {session.get_inputs()[0].name: graph.x[:50].numpy()})
    assert any(np.shape(a) == (50, 10) and (a.argmax(1) == student.predict(graph.x[:50])).all() for a in answers)
    _, err = said_by("graphkd", "export", ["x.safetensors", "--out", str(tmp_path / "student.onnx")], capsys)
    assert "exists; remove it or choose another name" in err
    _, err = said_by("graphkd", "export", [str(tmp_path), "--out", str(tmp_path / "other.onnx")], capsys)
    assert f"{tmp_path} is a folder; name one file of a student" in err
