"""A study of functions whose best options are known: budget, order, pruning, resumption, and what its file holds."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdlosses.cli import study
from kdlosses.cli.study import FILE, PARTS, Attempt, Budget, Trial, best_of, place_of_best, search
from kdlosses.space import Range

SPACE = {"flat": {"x": Range(0.0, 1.0)}, "steep": {"x": Range(0.0, 1.0), "kind": ["a", "b"]}}
FIRST = [("flat", "as published", {"x": 0.5}), ("steep", "as published", {"x": 0.5, "kind": "a"})]
SEEDS = [0, 1]


def peak(method: str, options: Mapping[str, Any]) -> float:
    """Best at x = 0.8 of 'steep', kind 'b'."""
    height = {"flat": 0.0, "steep": 1.0}[method] + (options.get("kind") == "b")
    return 10 * height - 10 * abs(options["x"] - 0.8)


def measure(method: str, options: Mapping[str, Any], attempt: Attempt) -> float:
    def train(seed: int, tell: Callable[[float, float], None]) -> float:
        for part in range(1, PARTS):
            tell(part / PARTS, peak(method, options) * part / PARTS)
        return peak(method, options) + seed

    return attempt.over(SEEDS, train)


def run(folder: Path | None = None, trials: int | None = 25, measure: Any = measure, **changed: Any) -> Any:
    budget = Budget.of(trials, changed.pop("hours", None))
    options: dict[str, Any] = dict(budget=budget, what={"seeds": SEEDS}, folder=folder)
    return search(SPACE, FIRST, measure, lambda: ([1.0, 3.0], "score"), **{**options, **changed})[2]


def found(trials: tuple[Trial, ...]) -> list[tuple[Any, ...]]:
    return [(each.number, each.state, each.method, each.options, each.value, each.first) for each in trials]


def test_what_is_published_comes_first_to_its_end_and_the_best_is_found_in_the_budget() -> None:
    said: list[str] = []
    trials = run(tick=said.append)
    assert len(trials) == 25
    assert [(each.method, each.first, each.options) for each in trials[:2]] == FIRST
    assert [each.state for each in trials[:2]] == ["complete", "complete"]
    assert not any(each.first for each in trials[2:])
    best = best_of(trials)
    assert (best.method, best.options["kind"]) == ("steep", "b")
    assert best.value == pytest.approx(peak("steep", best.options) + 0.5)
    assert best.value > 18
    assert said[0] == "budget: 25 trials; first the untaught control, then flat (as published), steep (as published)"
    assert said[1].startswith("[1 of 25] flat, as published: -2.5; best -2.5; it took 0 s: ")


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_hopeless_trials_are_stopped_early_and_cost_less(pruner: str) -> None:
    told: list[int] = []

    def counted(method: str, options: Mapping[str, Any], attempt: Attempt) -> float:
        told.append(0)

        def train(seed: int, tell: Callable[[float, float], None]) -> float:
            for part in range(1, PARTS):
                told[-1] += 1
                tell(part / PARTS, peak(method, options) * part / PARTS)
            return peak(method, options)

        return attempt.over(SEEDS, train)

    trials = run(measure=counted, pruner=pruner)
    whole = len(SEEDS) * (PARTS - 1)
    states = [each.state for each in trials]
    assert states.count("pruned") > 5
    assert [parts == whole for parts in told] == [state == "complete" for state in states]
    stopped = [peak(each.method, each.options) for each in trials if each.state == "pruned"]
    assert best_of(trials).value > max(stopped)
    assert "pruned" not in [each.state for each in run(pruner="none")]


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_a_killed_study_finds_what_an_uninterrupted_one_finds(tmp_path: Path, pruner: str) -> None:
    """Killed while a second seed was trained, and while a line was written; continued with more trials as well."""
    trained: list[tuple[int, int]] = []
    kills = [(3, 1), (10, 0)]  # from which trial on, which seed

    def killed(method: str, options: Mapping[str, Any], attempt: Attempt) -> float:
        def train(seed: int, tell: Callable[[float, float], None]) -> float:
            tell(0.5, peak(method, options) / 2)
            if kills and attempt.number >= kills[0][0] and seed == kills[0][1]:
                kills.pop(0)
                raise KeyboardInterrupt
            trained.append((attempt.number, seed))
            return peak(method, options) + seed

        return attempt.over(SEEDS, train)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, 25, killed, pruner=pruner)
        with (tmp_path / FILE).open("a") as file:
            file.write('{"op_code":4,"wor')
    assert len(run(tmp_path, 15, killed, pruner=pruner)) == 15
    resumed = run(tmp_path, 25, killed, pruner=pruner)
    assert len(trained) == len(set(trained)), "nothing that ended is trained again"
    whole = run(None, 25, killed, pruner=pruner)
    assert found(resumed) == found(whole)
    again = len(trained)
    assert found(run(tmp_path, 25, killed, pruner=pruner)) == found(whole)
    assert len(trained) == again


def test_the_file_is_lines_of_json_and_no_pickle_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("a pickle")

    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler"):
        monkeypatch.setattr(pickle, name, refuse)
    run(tmp_path, 5)
    run(tmp_path, 8)
    assert [each.name for each in tmp_path.iterdir()] == [FILE]
    assert all(isinstance(json.loads(line), dict) for line in (tmp_path / FILE).read_text().splitlines())


def test_hours_are_kept_and_those_of_earlier_calls_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(study, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def slow(method: str, options: Mapping[str, Any], attempt: Attempt) -> float:
        def train(seed: int, tell: Callable[[float, float], None]) -> float:
            for part in range(10):
                clock[0] += 60
                tell(part / 10, 1.0)
            return 1.0

        return attempt.over([0], train)

    said: list[str] = []
    trials = run(tmp_path, None, slow, hours=1.0, tick=said.append)
    assert [each.seconds for each in trials] == [600] * 6
    assert said[0].startswith("budget: 1 h; ")
    assert said[1].endswith("; it took 600 s: time for about 5 more")
    assert len(run(tmp_path, None, slow, hours=1.0)) == 6
    assert len(run(tmp_path, None, slow, hours=1.3)) == 7  # an eighth would end after 80 minutes
    assert len(run(tmp_path, 8, slow, hours=2.0)) == 8
    clock[0] = 0.0
    (late,) = run(None, None, slow, hours=0.1)
    assert (late.state, late.value, late.seconds) == ("failed", None, 420)  # found out at the first look after 360 s


def test_a_trial_without_a_score_fails_and_the_study_goes_on() -> None:
    def broken(method: str, options: Mapping[str, Any], attempt: Attempt) -> float:
        if method == "steep":
            raise FloatingPointError("the loss is nan")
        return float("nan") if options["x"] == 0.5 else peak(method, options)

    said: list[str] = []
    trials = run(None, 12, broken, tick=said.append)
    assert {each.state for each in trials if each.method == "steep"} == {"failed"}
    assert trials[0].state == "failed"
    assert best_of(trials).method == "flat"
    assert any("failed: the loss is nan" in each for each in said)
    with pytest.raises(ValueError, match="none of the 2 trials was trained to its end"):
        best_of(trials[:2])


def test_less_may_be_better() -> None:
    trials = run(greater=False, measure=lambda method, options, attempt: -peak(method, options))
    assert best_of(trials, greater=False).options["kind"] == "b"
    assert best_of(trials, greater=False).value == min(each.value for each in trials if each.state == "complete")


def test_what_cannot_be_a_study_is_refused_before_it_begins(tmp_path: Path) -> None:
    never: Any = None
    with pytest.raises(ValueError, match="1 trials are fewer than the 2 that are tried first"):
        run(tmp_path, 1, never)
    with pytest.raises(ValueError, match="pruner is 'median', 'halving', 'none', not 'best'"):
        run(tmp_path, measure=never, pruner="best")
    with pytest.raises(ValueError, match="trials is how many to run, at least 1, got 0"):
        Budget.of(0, None)
    with pytest.raises(TypeError, match="trials is how many to run, a whole number, got '2'"):
        Budget.of("2", None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hours is how long to run, above 0, got -1"):
        Budget.of(None, -1)
    assert not list(tmp_path.iterdir())
    run(tmp_path, 3)
    with pytest.raises(ValueError, match="holds a study of something else, which differs in seeds: choose another"):
        run(tmp_path, 3, what={"seeds": [5]})


def test_two_processes_do_not_share_a_study(tmp_path: Path) -> None:
    def inside(method: str, options: Mapping[str, Any], attempt: Attempt) -> float:
        with pytest.raises(OSError, match="is in use: another process runs this study"):
            run(tmp_path)
        return 0.0

    assert len(run(tmp_path, 2, inside)) == 2


def test_a_file_of_ones_own_is_not_written_over(tmp_path: Path) -> None:
    assert place_of_best(tmp_path / "new") == tmp_path / "new" / "best.py"
    (tmp_path / "best.py").write_text("mine")
    with pytest.raises(FileExistsError, match=r"best\.py is not of a study"):
        place_of_best(tmp_path)
    (tmp_path / "study.jsonl").touch()
    assert place_of_best(tmp_path).read_text() == "mine"
