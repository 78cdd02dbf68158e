"""Studies on a part of the digits graph: order, pruning, resumption, test labels, search spaces, and the command."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graphkd import Graph, Split, StudentClassifier, digits, distill, make_setting, tune
from graphkd.cli import distill as distill_command
from graphkd.cli import tune as tune_command
from graphkd.pipeline.tuning import Ranges, Searched, spaces
from graphkd.recipes import RECIPES
from graphkd.recipes.registry import SPACES
from graphkd.teachers import TEACHERS
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from kdlosses.cli.study import Study
from kdlosses.options import options_of
from kdlosses.space import FACTORS, RATIOS, TEMPERATURES, Range

QUICK = dict(hidden=(16,), epochs=20, patience=20)
TEACHER = dict(type="sage", epochs=10, hidden=16)
TERMS = dict(type="terms", distills=[dict(loss=dict(type="kl", tau=2.0), weight=3.0)], lam=0.5)
RANGES = Ranges.of(FACTORS, RATIOS, TEMPERATURES)


@pytest.fixture(scope="module")
def graph() -> Graph:
    """600 digits, with a split of its own: that is not drawn by the labels."""
    part = digits().subgraph(torch.arange(600))
    order = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    split = Split(*(part.sort().values for part in order.split([150, 150, 300])))
    return replace(part, split=split, node_id=torch.arange(600))


def study(data: Graph, methods: Any = ("glnn", "krd", TERMS), **options: Any) -> Study:
    asked: dict[str, Any] = dict(trials=12, seeds=2, isolated="keep", student=StudentClassifier(**QUICK))
    return tune(data, TEACHER, list(methods), **{**asked, **options})


def found(made: Study) -> list[Any]:
    told = [(each.number, each.state, each.method, each.options, each.value, each.first) for each in made.trials]
    return [made.control, made.best, *told]


@pytest.fixture(scope="module")
def whole(graph: Graph) -> Study:
    return study(graph)


def test_what_is_given_comes_first_and_the_best_is_a_method_that_scores_as_the_study_says(
    graph: Graph, whole: Study
) -> None:
    assert [(each.method, each.first, each.state) for each in whole.trials[:4]] == [
        ("glnn", "as given", "complete"),
        ("krd", "as given", "complete"),
        ("terms(kl)", "as given", "complete"),
        ("terms(kl)_auto", "weight='auto'", "complete"),
    ]
    assert len(whole.trials) == 12
    assert len(whole.control) == 2
    assert "pruned" in [each.state for each in whole.trials]
    assert whole.best_trial.value == max(each.value for each in whole.trials if each.state == "complete")
    scores, control = [], []
    for seed in (0, 1):
        student = StudentClassifier(**QUICK)
        made = distill(graph, TEACHER, whole.best, seed=seed, setting="tran", isolated="keep", student=student)
        scores.append(made.outcomes["student"]["tran"].val)
        control.append(100 * made.outcomes["control"]["tran"].val)
    assert whole.best_trial.value == pytest.approx(50 * sum(scores))
    assert whole.control == pytest.approx(control)
    printed = str(whole)
    assert "| untaught control |" in printed
    assert "glnn, as given" in printed
    assert "(best)" in printed


@pytest.mark.parametrize("setting", ["tran", "ind"])
def test_other_test_labels_are_the_same_study(graph: Graph, whole: Study, setting: Any, tmp_path: Path) -> None:
    wrong = graph.y.clone()
    wrong[graph.split.test] = (wrong[graph.split.test] + 1 + torch.arange(300) % 9) % 10
    other = replace(graph, y=wrong)
    options = dict(methods=["glnn", "krd"], trials=5, seeds=1, setting=setting)
    assert found(study(graph, **options)) == found(study(other, **options, out=tmp_path))
    again = study(graph, **options, out=tmp_path)  # what is on disk is of the same data, too
    assert found(again) == found(study(other, **options))


def test_a_setting_without_test_has_no_other_labels(graph: Graph) -> None:
    for name in ("tran", "ind"):
        view = make_setting(graph, graph.split, name, 0).without_test()
        assert len(view.test) == len(view.unseen) == 0
        assert sorted((view.whole.y >= 0).nonzero().flatten().tolist()) == sorted(
            [*graph.split.train.tolist(), *graph.split.val.tolist()]
        )


TRAINED: list[float] = []
STOP: list[int] = []


def stopping(model: Any, lesson: Lesson, *, lam: float = 0.0) -> History:
    """`glnn`, which is killed where the test says so."""
    if STOP and len(TRAINED) == STOP[0]:
        STOP.pop()
        raise KeyboardInterrupt
    TRAINED.append(lam)
    return RECIPES["glnn"](model, lesson, lam=lam)


BUILT: list[int] = []


def counted(in_features: int, classes: int) -> nn.Module:
    BUILT.append(1)
    return TEACHERS["sage"](in_features, classes, hidden=8)


def test_a_killed_study_goes_on_where_it_was(graph: Graph, tmp_path: Path) -> None:
    TRAINED.clear()
    options = dict(methods=[stopping], pruner="none", seeds=2, trials=4, student=StudentClassifier(hidden=8, epochs=4))
    uninterrupted = study(graph, **options)
    assert len(TRAINED) == 8
    TRAINED.clear()
    for stop in (3, 6):  # in the second seed of a trial, and in the first
        STOP.append(stop)
        with pytest.raises(KeyboardInterrupt):
            study(graph, **options, out=tmp_path)
    assert found(study(graph, **options, out=tmp_path))[2:] == found(uninterrupted)[2:]
    assert len(TRAINED) == 8, "each seed of each trial was trained once"
    longer = study(graph, **{**options, "trials": 5}, out=tmp_path)
    assert found(longer)[2:6] == found(uninterrupted)[2:]
    assert len(longer.trials) == 5


def test_a_teacher_is_trained_once_for_each_seed(graph: Graph, tmp_path: Path) -> None:
    def built(**options: Any) -> int:
        BUILT.clear()
        asked: dict[str, Any] = dict(isolated="keep", student=StudentClassifier(hidden=8, epochs=3), seeds=2)
        tune(graph, dict(type=counted, epochs=3), **{**asked, **options})
        return len(BUILT)

    once = built(trials=1)
    assert built(trials=3, out=tmp_path) == once
    assert built(trials=4, out=tmp_path) < once, "they lie in the folder"
    assert sorted(each.name for each in (tmp_path / "teachers").iterdir()) == ["tran-0", "tran-1"]


def test_a_recipe_that_asks_the_teacher_itself_has_it_in_each_call(graph: Graph, tmp_path: Path) -> None:
    asked: dict[str, Any] = dict(methods=["hard"], seeds=1, student=StudentClassifier(hidden=8, epochs=3))
    study(graph, **asked, trials=1, out=tmp_path)
    longer = study(graph, **asked, trials=2, out=tmp_path)
    assert found(longer)[2:] == found(study(graph, **asked, trials=2))[2:]


@pytest.mark.parametrize("name", sorted(SPACES))
def test_declared_spaces_hold_the_defaults(name: str) -> None:
    options = options_of(RECIPES[name])
    searched = Searched.of(name, RANGES)
    for key, dimension in SPACES[name].items():
        assert key in options
        default = options[key].default
        assert default is None or searched.space[key] == dimension, "a default outside of its range is not searched"


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_has_a_space_that_holds_what_it_starts_with(name: str) -> None:
    searched = Searched.of(name, RANGES)
    first = searched.given(searched.space)
    assert first.keys() == searched.space.keys()
    for key, each in searched.space.items():
        assert each.low <= first[key] <= each.high if isinstance(each, Range) else first[key] in each
    again = Searched.of(searched.spec_of(first), RANGES)
    assert {**again.options, "distills": 0} == {**searched.options, "distills": 0}


def test_terms_have_other_weights_and_temperatures() -> None:
    searched = Searched.of(TERMS, RANGES)
    assert searched.space.keys() == {"lam", "factor", "temperature"}
    made = searched.spec_of(dict(lam=0.2, factor=0.5, temperature=2.0))
    assert made == dict(type="terms", distills=[dict(loss=dict(type="kl", tau=4.0), weight=1.5)], lam=0.2)
    auto = searched.spec_of(dict(lam=0.2, ratio=0.5, temperature=1.0), auto=True)
    assert auto["distills"][0]["weight"] == dict(type="auto", ratio=0.5, steps=50)
    assert searched.given({"lam": 0, "ratio": 0}, auto=True) == {"lam": 0.5, "ratio": 1.0}
    mixup = Searched.of(dict(type="mixup", loss="kl"), RANGES)
    assert mixup.spec_of({"temperature": 3.0})["loss"] == dict(type="kl", tau=3.0)
    assert "temperature" not in Searched.of("mixup", RANGES).space, "std_kd has none"


def test_a_space_of_ones_own() -> None:
    searched = {"krd": Searched.of("krd", RANGES)}
    made = spaces(searched, {"krd": dict(lam=None, tau=(0.5, 2), start=[10, 50])}, RANGES)
    assert made["krd"].keys() == {"tau", "power", "start"}
    assert made["krd"]["tau"] == Range(0.5, 2.0)
    assert made["krd"]["start"] == [10, 50]


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (dict(methods=["glnnn"]), KeyError, "did you mean 'glnn'"),
        (dict(methods=["glnn", "glnn"]), ValueError, "two methods have one name"),
        (dict(methods=["glnn"], space=dict(krd={})), KeyError, "no method here is called 'krd'"),
        (dict(methods=["glnn"], space=dict(glnn=dict(lamb=(0, 1)))), TypeError, "no option 'lamb'; did you mean 'lam'"),
        (dict(methods=["glnn"], space=dict(glnn=dict(lam=(0.5, 1)))), ValueError, r"must hold 0.0, with which"),
        (dict(methods=["glnn"], space=dict(glnn=dict(lam=(0, 2)))), ValueError, "lam"),
        (dict(methods=["glnn"], space=dict(glnn=dict(lam=[0.0, 7.0, 1.0]))), ValueError, "lam is the weight .* got 7"),
        (dict(methods=["glnn"], space=dict(glnn=dict(lam=[0.0, [1]]))), TypeError, r"choices are .* got \[1\]"),
        (dict(methods=["voting"], space=dict(voting=dict(k=(1, 4)))), TypeError, "k is a whole number, give a list"),
        (dict(methods=["glnn"], space=dict(glnn=None)), TypeError, r"space\['glnn'\] is a dict by option, got None"),
        (dict(methods=["glnn"], space=["glnn"]), TypeError, "space is a dict by method"),
        (dict(methods=[]), ValueError, "methods names none"),
        (dict(trials=3), ValueError, "3 trials are fewer than the 4 that are tried first"),
        (dict(pruner="best"), ValueError, "pruner is 'median'"),
        (dict(setting="both"), ValueError, "setting is 'tran' or 'ind'"),
        (dict(hours=0), ValueError, "hours is how long to run"),
        (dict(factors=(0, 1, True)), ValueError, "factors is above 0"),
        (dict(seeds=0), ValueError, "seeds is how many"),
        (dict(scoring="f1_makro"), KeyError, "did you mean 'f1_macro'"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(
    graph: Graph, tmp_path: Path, changed: Mapping[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        study(graph, out=tmp_path, tick=lambda said: pytest.fail(said), **changed)
    assert not (tmp_path / "teachers").exists()


def test_another_split_is_another_study(graph: Graph, tmp_path: Path) -> None:
    """Even where the same nodes have labels: what trains is not what selects."""
    ours = graph.split
    options = dict(methods=["glnn"], trials=1, seeds=1, out=tmp_path)
    study(graph, **options)
    with pytest.raises(ValueError, match="a study of something else, which differs in split:"):
        study(graph, split=Split(ours.val, ours.train, ours.test), **options)


def test_a_file_that_is_no_study_is_named_and_kept(graph: Graph, tmp_path: Path) -> None:
    for text in ("a list\nof mine\n", "[1]\n", '{"of": "mine"}\n'):
        (tmp_path / "study.jsonl").write_text(text)
        with pytest.raises(ValueError, match=r"study.jsonl is no study that can be read"):
            study(graph, methods=["glnn"], trials=1, out=tmp_path)
        assert (tmp_path / "study.jsonl").read_text() == text


def test_hours_that_end_with_the_control_are_told(graph: Graph) -> None:
    with pytest.raises(ValueError, match="the hours were over with the untaught control"):
        study(graph, methods=["glnn"], trials=None, hours=1e-9, seeds=1)


def test_without_optuna_the_extra_is_named(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"graphkd.tune needs optuna: pip install graphdensekd\[tune\]"):
        study(graph)
    with pytest.raises(SystemExit, match=r"graphkd.tune needs optuna: pip install graphdensekd\[tune\]") as ended:
        tune_command.main(["digits", "--out", "out"])
    assert "\n" not in str(ended.value.code)


def test_the_command_writes_a_config_that_distill_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "small.py"
    config.write_text(
        f"data = 'digits'\nteacher = {dict(type='sage', epochs=5)}\nstudent = {dict(hidden=[16], epochs=10)}\n"
        f"methods = [dict(type='glnn', lam=0.1), {TERMS}]\nsettings = ['ind']\n"
    )
    out = tmp_path / "out"
    tune_command.main([str(config), "--trials", "6", "--seeds", "1", "--out", str(out)])
    printed = capsys.readouterr()
    assert "first the untaught control, then glnn (as given), terms(kl) (as given)" in printed.err
    assert "untaught control" in printed.out
    assert f"`graphkd distill {out / 'best.py'} --seeds 10`" in printed.out
    distill_command.main([str(out / "best.py"), "--seeds", "1", "--out", str(tmp_path / "log.json")])
    assert "| control | 1 |" in capsys.readouterr().out
    logs = json.loads((tmp_path / "log.json").read_text())
    assert {each["role"] for each in logs} == {"teacher", "control", "distilled"}
    assert all(math.isfinite(each["metrics"]["prod"]) for each in logs)
    before = (out / "study.jsonl").read_text()
    tune_command.main([str(config), "--trials", "6", "--seeds", "1", "--out", str(out)])
    assert '"trial_id"' not in (out / "study.jsonl").read_text().removeprefix(before), "nothing is trained again"
    with pytest.raises(SystemExit, match="holds a study of something else, which differs in scoring"):
        tune_command.main([str(config), "--trials", "6", "--seeds", "1", "--scoring", "f1_macro", "--out", str(out)])


@pytest.mark.parametrize("option", [["--model", "A"], ["--align=cache"]])
def test_who_means_to_fine_tune_is_told_the_new_name(option: list[str]) -> None:
    with pytest.raises(SystemExit, match="is now graphkd finetune") as ended:
        tune_command.main(["cane_cora", *option, "--out", "B"])
    assert "\n" not in str(ended.value.code)
