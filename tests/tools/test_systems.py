"""The table of systems is true: its parts are registered, its configs and tests are there, and what is open is said."""

from __future__ import annotations

import ast
from pathlib import Path

import ablations
import pytest
import systems
from systems import Measured, System, Without

import densekd
import densekd.losses
import graphkd.losses
import graphkd.rules
import kdlosses
import kdlosses.rules
from densekd.methods import METHODS
from densekd.policies import POLICIES
from graphkd.config import read
from graphkd.links.recipes import LINK_RECIPES
from graphkd.recipes import RECIPES
from graphkd.recommendation.recipes import RECOMMENDATION_RECIPES
from graphkd.scenes.methods import SCENE_METHODS
from graphkd.teachers import TEACHERS
from graphkd.unlearning.methods import UNLEARNERS
from kdlosses.cli import logs
from kdlosses.discover import imported

ROOT = Path(__file__).parents[2]
RULES = (*graphkd.rules.__all__, *kdlosses.rules.__all__)
REGISTRIES = (
    *(kdlosses.LOSSES, RECIPES, LINK_RECIPES, RECOMMENDATION_RECIPES, METHODS, POLICIES, TEACHERS, UNLEARNERS),
    SCENE_METHODS,
    RULES,
)
OF_ITS_OWN = {
    "federated": {"student", "clients"},
    "unlearning": {"teacher", "forget"},
    "condensed": {"student", "thresholds"},
    "scenes": {"schedule", "k"},
}
"""What the configs of a folder have in place of a student and a teacher."""
ROWS = pytest.mark.parametrize("system", systems.SYSTEMS, ids=lambda system: system.name)


@ROWS
def test_its_parts_are_registered(system: System) -> None:
    for part in system.parts.split():
        assert any(part in names for names in REGISTRIES) or imported("part", ":".join(part.rsplit(".", 1))), part


def test_every_part_is_of_a_system_or_plain() -> None:
    named = {part for system in systems.SYSTEMS for part in system.parts.split()}
    ours = {
        name
        for parts in (kdlosses.LOSSES, RECIPES, LINK_RECIPES, RECOMMENDATION_RECIPES, SCENE_METHODS, METHODS, POLICIES)
        for name, part in parts.items()
        if part.__module__.split(".")[0] in ("kdlosses", "graphkd", "densekd")
    }
    assert sorted(ours - named - systems.PLAIN) == [], "no row of benchmarks/systems.py names them, nor PLAIN"
    assert sorted(systems.PLAIN - ours) == []
    assert sorted(systems.PLAIN & named) == []


@ROWS
def test_its_configs_are_read(system: System) -> None:
    nodes, pixels = (system.config(side) for side in ("nodes", "pixels"))
    if nodes.endswith(".py"):
        config = read(ROOT / "configs" / nodes)
        own = OF_ITS_OWN.get(nodes.split("/")[0], {"student", "teacher"})
        assert {"data", "methods"} | own <= set(config)
    if pixels.endswith(".py"):
        assert "model" in densekd.read_config(ROOT / "configs" / pixels)


def test_what_is_not_there_is_open() -> None:
    row = System("A paper", "no_such_part", "", pixels="it reads edges", open="half of it")
    assert row.lacks() == "half of it; no config on nodes; no test"
    full = System("A paper", "glnn", "tests/tools/test_systems.py::test_what_is_not_there_is_open", pixels="no map")
    assert full.lacks() == ""


@ROWS
def test_its_test_would_be_collected(system: System) -> None:
    if not system.test:
        assert "no test" in system.lacks()
        return
    path, name = system.test.split("::")
    assert Path(path).name.startswith("test_")
    tree = ast.parse((ROOT / path).read_text())
    (found,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    marks = [ast.unparse(each) for each in found.decorator_list]
    assert name.startswith("test_")
    assert not [mark for mark in marks if "skip" in mark or "gpu" in mark or "xfail" in mark]


@pytest.mark.parametrize("name", ablations.ROWS)
def test_the_students_that_are_compared_are_in_the_config_and_in_its_log(name: str) -> None:
    config = ablations.config_of(ablations.ROWS[name])
    path = ROOT / "results" / "ablations" / f"{name}.json"
    for log in logs.read(path) if path.is_file() else ():
        assert log["config"] == config, f"{path.name} is of another config: run benchmarks/ablations.py --only {name}"


@ROWS
def test_what_is_measured_is_in_its_log(system: System) -> None:
    for side, told in (("nodes", system.nodes_result), ("pixels", system.pixels_result)):
        if isinstance(told, Measured):
            assert ", without " in ablations.result(system, side)
        elif isinstance(told, Without):
            assert ablations.result(system, side) == "not run" or ", without " in ablations.result(system, side)


TINY = """
data = "digits"
settings = ["tran", "ind"]
teacher = dict(type="sage", epochs=5)
student = dict(hidden=[8], epochs=5)
methods = [dict(type="glnn"), dict(type="glnn", lam=0.5), dict(type="voting")]
"""


def test_what_was_run_is_not_run_again(tmp_path: Path) -> None:
    config = tmp_path / "tiny.py"
    config.write_text(TINY)
    tiny = System("Tiny", "glnn", "", nodes=str(config), nodes_result=Without("glnn(lam=0.5)", "supervised"))
    other = tiny._replace(parts="voting", nodes_result=Without("voting", "glnn(lam=0.5)"))
    ablations.run([tiny, other], 1, tmp_path)
    first = logs.read(tmp_path / "glnn.json")
    assert [(log["role"], log["method"]) for log in first] == [
        ("teacher", "sage"),
        ("control", "supervised"),
        ("distilled", "glnn"),
    ]
    assert [log["method"] for log in logs.read(tmp_path / "voting.json")] == ["sage", "supervised", "voting", "glnn"]
    ablations.run([tiny], 1, tmp_path / "alone")
    alone = logs.read(tmp_path / "alone" / "glnn.json")
    assert [log["metrics"] for log in alone] == [log["metrics"] for log in first]
    ablations.run([tiny], 2, tmp_path)
    both = logs.read(tmp_path / "glnn.json")
    assert [log["seed"] for log in both] == [0, 0, 0, 1, 1, 1]
    assert both[:3] == first
    control, taught = ([log["metrics"]["tran"] for log in both[k::3]] for k in (1, 2))
    assert ablations.result(tiny, "nodes", tmp_path) == ablations.compared(
        *(dict(enumerate(v)) for v in (taught, control))
    )
    lost = tiny._replace(nodes_result=Without("glnn(lam=0.4)", "supervised"))
    with pytest.raises(KeyError, match=r"has no method 'glnn\(lam=0.4\)'; did you mean 'glnn\(lam=0.5\)'"):
        ablations.config_of(lost)
