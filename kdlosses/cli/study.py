"""A study: which method with which options is best on validation data, under a budget, in a file that it goes on from.

Optuna draws the options and stops hopeless trials. What both siblings share of `tune` is here; what a trial trains is
theirs.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kdlosses.cli.mistakes import positive
from kdlosses.cli.mistakes import whole as whole_number
from kdlosses.cli.report import spread
from kdlosses.space import Range, Space

FILE = "study.jsonl"
"""Optuna's journal in the folder of a study: a line of JSON for each change."""
BEST = "best.py"
"""The config that a study ends in, in its folder."""
PARTS = 20
"""A training is looked at as often as this, at most, to be stopped early."""
STARTUP = 10
"""Trials, pruned ones counted, before options are drawn by what was found."""

Tell = Callable[[float, float], None]
"""Is told the share of a training that is done, and its validation score so far; raises where the trial is to end."""


@dataclass(frozen=True)
class Budget:
    """How long a study may be.

    Attributes:
        trials: at most so many.
        hours: no trial begins that is expected to end later, and one that takes longer is stopped. The hours of earlier
            calls count, and those of the control.

    Raises:
        TypeError, ValueError: a number is out of range.
    """

    trials: int | None
    hours: float | None = None

    def __post_init__(self) -> None:
        if self.trials is not None and (isinstance(self.trials, bool) or not isinstance(self.trials, int)):
            raise TypeError(f"trials is how many to run, a whole number, got {self.trials!r}")
        if self.trials is not None and self.trials < 1:
            raise ValueError(f"trials is how many to run, at least 1, got {self.trials}")
        if self.hours is not None and (isinstance(self.hours, bool) or not isinstance(self.hours, int | float)):
            raise TypeError(f"hours is how long to run, a number, got {self.hours!r}")
        if self.hours is not None and not 0 < self.hours < math.inf:
            raise ValueError(f"hours is how long to run, above 0, got {self.hours}")

    @classmethod
    def of(cls, trials: int | None, hours: float | None) -> Budget:
        """The budget that was asked for: 20 trials where nothing was."""
        return cls(20 if trials is None and hours is None else trials, hours)

    def __str__(self) -> str:
        parts = [f"{self.trials} trials"] if self.trials is not None else []
        parts += [f"{self.hours:g} h"] if self.hours is not None else []
        return " and ".join(parts)


@dataclass(frozen=True)
class Trial:
    """One trial of a study.

    Attributes:
        number: from 0.
        state: `complete`, `pruned` (stopped early), or `failed` (without a score).
        method: its name.
        options: those that were searched.
        value: mean of the validation scores over the seeds; of a pruned trial, what it was stopped at.
        seconds: that it took.
        first: what it is, where it was not drawn: 'published weights'.
    """

    number: int
    state: Literal["complete", "pruned", "failed"]
    method: str
    options: Mapping[str, Any]
    value: float | None
    seconds: float
    first: str = ""

    def __str__(self) -> str:
        told = [self.first] if self.first else [f"{key} {_short(value)}" for key, value in self.options.items()]
        return ", ".join([self.method, *told])


@dataclass(frozen=True)
class Study:
    """What `tune` returns; `print` shows control, published options and the best.

    Attributes:
        name: of the config or graph.
        metric: that decides.
        control: validation score of the untaught student for each seed.
        trials: all that ended, in order.
        best: what the best trial trained, as `tune` documents.
        budget: that was kept.
        greater: whether more is better.
        notes: on how to read it.
    """

    name: str
    metric: str
    control: tuple[float, ...]
    trials: tuple[Trial, ...]
    best: Any
    budget: Budget
    greater: bool = True
    notes: tuple[str, ...] = ()

    @property
    def best_trial(self) -> Trial:
        """The trial with the best score, the earliest of equals.

        Raises:
            ValueError: no trial was trained to its end.
        """
        return best_of(self.trials, self.greater)

    def __repr__(self) -> str:
        states = [each.state for each in self.trials]
        counted = f"{states.count('complete')} trained to the end, {states.count('pruned')} stopped early"
        counted += f", {states.count('failed')} failed" if "failed" in states else ""
        untaught = statistics.mean(self.control)
        rows = [["trial", "student", self.metric, "Δ untaught"], ["---"] * 4]
        rows.append(["", "untaught control", spread(self.control, ".4g"), ""])
        found = self.best_trial
        for each in self.trials:
            if each.first or each is found:
                value = "failed" if each.value is None else f"{each.value:.4g}"
                gap = "" if each.value is None else f"{each.value - untaught:+.3g}"
                what = f"{each} (best)" if each is found else str(each)
                rows.append([str(each.number), what, value, gap])
        lines = [
            f"**{self.name}** ({self.metric} on validation data, {len(states)} trials: {counted}; "
            f"{sum(each.seconds for each in self.trials):.0f} s)",
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            *self.notes,
        ]
        worse = found.value is not None and (found.value <= untaught if self.greater else found.value >= untaught)
        if worse:
            lines.append("No trial is better than the untaught control: keep that, or choose another teacher.")
        lines.append(f"The best of {len(states)} is flattered by the choice: what it is worth, new data tell.")
        return "\n".join(lines)


class Attempt:
    """A trial while it is trained."""

    def __init__(self, trial: Any, fixed: bool, deadline: float | None) -> None:
        self._trial = trial
        self._fixed = fixed
        self._deadline = deadline
        self._told = set(trial.storage.get_trial(trial._trial_id).intermediate_values)
        self._start = time.perf_counter()
        self._before = float(trial.user_attrs.get("seconds", 0.0))

    @property
    def number(self) -> int:
        """Of the trial, from 0."""
        return self._trial.number

    @property
    def seconds(self) -> float:
        """That it took so far, in all calls."""
        return self._before + time.perf_counter() - self._start

    def over(self, seeds: Sequence[int], train: Callable[[int, Tell], float]) -> float:
        """Mean over the seeds of `train(seed, tell)`; what an earlier call has done of them is not trained again.

        While the first seed is trained, `tell` may stop the trial; after that, each further seed may.
        """
        done: dict[str, float] = dict(self._trial.user_attrs.get("scores", {}))
        for place, seed in enumerate(seeds):
            if str(seed) not in done:
                done[str(seed)] = float(train(seed, self._tell if place == 0 else self._keep_time))
                self._trial.set_user_attr("scores", done)
            if place < len(seeds) - 1:
                self._report(PARTS + place, statistics.fmean([done[str(each)] for each in seeds[: place + 1]]))
        return statistics.fmean([done[str(each)] for each in seeds])

    def _tell(self, share: float, score: float) -> None:
        self._report(min(int(PARTS * share), PARTS - 1), score)

    def _keep_time(self, share: float, score: float) -> None:
        self._check_time()

    def _report(self, step: int, score: float) -> None:
        import optuna

        self._check_time()
        if step in self._told and step != max(self._told):
            return
        if step not in self._told:
            self._told.add(step)
            self._trial.report(score, step)
            self._trial.set_user_attr("seconds", round(self.seconds, 3))
        if not self._fixed and self._trial.should_prune():
            raise optuna.TrialPruned

    def _check_time(self) -> None:
        if self._deadline is not None and time.perf_counter() > self._deadline:
            raise OutOfTime


class OutOfTime(Exception):
    """The hours of a study are over."""


def check_optuna() -> None:
    """Raise ModuleNotFoundError, which says what to install, where Optuna is not."""
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"tune needs {error.name}: pip install 'graphdensekd[tune]'", name="optuna"
        ) from error


def search(
    space: Space,
    first: Sequence[tuple[str, str, Mapping[str, Any]]],
    measure: Callable[[str, Mapping[str, Any], Attempt], float],
    control: Callable[[], tuple[Sequence[float], str]],
    *,
    budget: Budget,
    what: Mapping[str, Any],
    folder: Path | None = None,
    greater: bool = True,
    pruner: str = "median",
    tick: Callable[[str], object] = lambda said: None,
) -> tuple[tuple[float, ...], str, tuple[Trial, ...]]:
    """Run the trials of a study that are missing.

    A killed study goes on: the trial that was running is trained again with its options, those that ended are not. As
    what is drawn depends on the number of the trial and on those before it alone, it finds what it would have found.

    Args:
        space: by method the options that are searched.
        first: what is tried first, in any case to its end: method, what to call it, options.
        measure: from a method, its options and the attempt to the validation score; `FloatingPointError` fails a trial.
        control: trains the untaught students; their scores, seed by seed, and what the score is called.
        budget: of trials and hours.
        what: what is studied, as JSON; another one is not mixed with it.
        folder: of the study; None keeps it in memory.
        greater: whether more is better.
        pruner: `median`: a trial whose best score so far is below the median of the others at the same point is
            stopped; `halving`: at points 1, 2, 4, ... the better half goes on; `none`.
        tick: is told the budget, then how each trial ended.

    Returns:
        the scores of the control, what the score is called, and the trials.

    Raises:
        ModuleNotFoundError: Optuna is not installed.
        ValueError: the folder holds a study of something else, or none that can be read; the budget is less than what
            is tried first.
        OSError: another process runs this study.
    """
    check_optuna()
    import optuna

    if budget.trials is not None and budget.trials < len(first):
        raise ValueError(
            f"{budget.trials} trials are fewer than the {len(first)} that are tried first ({_names(first)}): raise "
            "trials, or name fewer methods"
        )
    pruners = {
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=max(2, len(first))),
        "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
        "none": optuna.pruners.NopPruner,
    }
    if pruner not in pruners:
        raise ValueError(f"pruner is {', '.join(map(repr, pruners))}, not {pruner!r}")
    direction: Any = "maximize" if greater else "minimize"
    with _quiet(optuna), _storage(optuna, folder) as storage:
        study = optuna.create_study(
            storage=storage, study_name="tune", direction=direction, pruner=pruners[pruner](), load_if_exists=True
        )
        _check_same(study, {**what, "pruner": pruner, "greater": greater, "space": _plain(space)}, folder)
        for method, called, options in first:
            fixed = {"method": method} | {f"{method}.{key}": value for key, value in options.items()}
            study.enqueue_trial(fixed, user_attrs={"first": called}, skip_if_exists=True)
        tick(f"budget: {budget}; first the untaught control, then {_names(first)}")
        if "control" not in study.user_attrs:
            start = time.perf_counter()
            scores, called = control()
            told = {"scores": [float(each) for each in scores], "metric": called}
            study.set_user_attr("control", {**told, "seconds": round(time.perf_counter() - start, 3)})
        while _next(study, budget, optuna):
            _run_one(study, space, measure, budget, greater, tick, optuna)
        untaught = study.user_attrs["control"]
        return tuple(untaught["scores"]), untaught["metric"], _trials(study)


def place_of_best(folder: Path) -> Path:
    """Where the config of the best is written.

    Raises:
        FileExistsError: there is such a file, and no study that wrote it.
    """
    path = folder / BEST
    if path.exists() and not (folder / FILE).exists():
        raise FileExistsError(f"{path} is not of a study, which would write over it: choose another folder")
    return path


def best_of(trials: Sequence[Trial], greater: bool = True) -> Trial:
    """The trial with the best score, the earliest of equals; ValueError if none was trained to its end."""
    ended = [each for each in trials if each.state == "complete" and each.value is not None]
    if not trials:
        raise ValueError("the hours were over with the untaught control, before the first trial: give more")
    if not ended:
        raise ValueError(f"none of the {len(trials)} trials was trained to its end: nothing was found")
    return max(ended, key=lambda each: (each.value if greater else -each.value, -each.number))  # type: ignore[operator]


def _next(study: Any, budget: Budget, optuna: Any) -> bool:
    """Whether there is a trial to run within the budget."""
    trials = study.get_trials(deepcopy=False)
    ended = [each for each in trials if each.state.is_finished()]
    if budget.trials is not None and len(ended) >= budget.trials:
        return False
    if budget.hours is None:
        return True
    left = 3600 * budget.hours - _spent(study)
    full = [each.user_attrs["seconds"] for each in ended if each.state == optuna.trial.TrialState.COMPLETE]
    return left > 0 and left >= max(full, default=0.0)


def _run_one(
    study: Any, space: Space, measure: Any, budget: Budget, greater: bool, tick: Callable[[str], object], optuna: Any
) -> None:
    states = optuna.trial.TrialState
    running = study.get_trials(deepcopy=False, states=(states.RUNNING,))
    trial = optuna.trial.Trial(study, running[0]._trial_id) if running else study.ask()
    method = _drawn(study, trial, "method", list(space), optuna)
    options = {key: _drawn(study, trial, f"{method}.{key}", each, optuna) for key, each in space[method].items()}
    left = None if budget.hours is None else 3600 * budget.hours - _spent(study)
    deadline = None if left is None else time.perf_counter() + left
    attempt = Attempt(trial, "first" in trial.user_attrs, deadline)
    value, state, why = None, states.COMPLETE, ""
    try:
        value = measure(method, options, attempt)
        if not math.isfinite(value):
            value, state, why = None, states.FAIL, f"the score is {value}"
    except optuna.TrialPruned:
        state = states.PRUNED
    except OutOfTime:
        state, why = states.FAIL, "the hours were over"
    except FloatingPointError as error:
        state, why = states.FAIL, str(error)
    trial.set_user_attr("seconds", round(attempt.seconds, 3))
    if why:
        trial.set_user_attr("why", why)
    study.tell(trial, value, state=state)
    trials = _trials(study)
    ended, last = len(trials), next(each for each in trials if each.number == trial.number)
    said = {"complete": "", "pruned": "stopped early at ", "failed": f"failed: {why}"}[last.state]
    said += "" if last.value is None else f"{last.value:.4g}"
    done = [each for each in trials if each.state == "complete"]
    best = f"; best {best_of(trials, greater).value:.4g}" if done else ""
    of = "" if budget.trials is None else f" of {budget.trials}"
    tick(f"[{ended}{of}] {last}: {said}{best}{_left(trials, budget, _spent(study)) if ended == 1 else ''}")


def _left(trials: Sequence[Trial], budget: Budget, spent: float) -> str:
    """What is expected after the first trial."""
    each = trials[0].seconds
    if budget.hours is not None:
        count = int(max(0.0, 3600 * budget.hours - spent) // max(each, 1e-3))
        count = count if budget.trials is None else min(count, budget.trials - 1)
        return f"; it took {each:.0f} s: time for about {count} more"
    assert budget.trials is not None
    return f"; it took {each:.0f} s: {_duration(each * (budget.trials - 1))} more at most, if the others take as long"


def _duration(seconds: float) -> str:
    """A time in words.

    >>> _duration(59), _duration(600), _duration(9000)
    ('59 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _drawn(study: Any, trial: Any, name: str, dimension: Any, optuna: Any) -> Any:
    """One option. What is drawn depends on the trial's number, this name and the trials that ended, on nothing else."""
    if not isinstance(dimension, Range):
        return _sampled(study, trial, name, optuna).suggest_categorical(name, list(dimension))
    return _sampled(study, trial, name, optuna).suggest_float(name, *dimension[:2], log=dimension.log)


def _sampled(study: Any, trial: Any, name: str, optuna: Any) -> Any:
    seed = int.from_bytes(hashlib.blake2b(f"{trial.number} {name}".encode(), digest_size=4).digest(), "big")
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=STARTUP, multivariate=False, constant_liar=False, seed=seed
    )
    return trial


def _trials(study: Any) -> tuple[Trial, ...]:
    names: dict[str, Any] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    found = []
    for each in study.get_trials(deepcopy=False):
        if each.state.is_finished():
            method = each.params["method"]
            options = {k.removeprefix(f"{method}."): v for k, v in each.params.items() if k != "method"}
            told = each.user_attrs
            state, seconds = names[each.state.name], told.get("seconds", 0.0)
            found.append(Trial(each.number, state, method, options, each.value, seconds, told.get("first", "")))
    return tuple(found)


def _spent(study: Any) -> float:
    trials = study.get_trials(deepcopy=False)
    return study.user_attrs["control"]["seconds"] + sum(each.user_attrs.get("seconds", 0.0) for each in trials)


def _check_same(study: Any, what: Mapping[str, Any], folder: Path | None) -> None:
    """Raise ValueError if the study is one of something else, and say of what."""
    told = json.loads(json.dumps(what))
    known = study.user_attrs.get("what")
    if known is None:
        study.set_user_attr("what", told)
    elif known != told:
        differs = sorted(key for key in {*known, *told} if known.get(key) != told.get(key))
        raise ValueError(
            f"{folder} holds a study of something else, which differs in {', '.join(differs)}: choose another folder"
        )


@contextmanager
def _storage(optuna: Any, folder: Path | None) -> Iterator[Any]:
    """The file of a study, for one process at a time, or memory."""
    if folder is None:
        yield optuna.storages.InMemoryStorage()
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    with path.open("ab+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OSError(f"{path} is in use: another process runs this study") from error
        file.seek(0)
        whole = file.read().rpartition(b"\n")
        if whole[2]:  # the line that a killed process wrote
            file.truncate(len(whole[0]) + len(whole[1]))
        (folder / f"{FILE}.lock").unlink(missing_ok=True)  # Optuna's own, of a killed process
        try:
            storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no study that can be read: choose another folder, or move it away") from error
        yield storage


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Optuna neither prints nor warns; it does after that as before."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"optuna\.")
            yield
    finally:
        optuna.logging.set_verbosity(level)


def _plain(space: Space) -> dict[str, Any]:
    return {method: {key: list(each) for key, each in options.items()} for method, options in space.items()}


def _names(first: Sequence[tuple[str, str, Mapping[str, Any]]]) -> str:
    return ", ".join(f"{method} ({called})" for method, called, _ in first)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Add what the commands `tune` of both siblings have in common: the budget, the seeds, who is stopped early."""
    parser.add_argument("--trials", type=whole_number(1), help="at most so many (default: 20, without --hours)")
    parser.add_argument("--hours", type=positive, help="at most so long, what earlier calls took counted")
    parser.add_argument(
        "--seeds", type=whole_number(1), default=1, help="seeds 0 to SEEDS - 1, averaged for each trial (default: 1)"
    )
    parser.add_argument(
        "--pruner",
        choices=("median", "halving", "none"),
        default="median",
        help="who is stopped early: the worse half at each look, the worse half at looks 1, 2, 4, ..., nobody",
    )


def add_range(parser: argparse.ArgumentParser, name: str, default: Sequence[float], what: str) -> None:
    """Add an option of two numbers, LOW and HIGH."""
    low, high = default
    parser.add_argument(
        name,
        nargs=2,
        type=positive,
        default=(low, high),
        metavar=("LOW", "HIGH"),
        help=f"range {what} (default: {low:g} {high:g})",
    )
