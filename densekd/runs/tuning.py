"""Choose method, weights and temperatures of a student on its validation data, under a budget."""

from __future__ import annotations

import copy
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from densekd.methods import method_entries, name_of
from densekd.mmlab.config import cache_in, distill, is_taught, read_config
from densekd.registry import MODELS
from densekd.runs.comparison import (
    METRICS,
    check_arguments,
    config_of,
    fingerprint,
    finite,
    given_weights,
    keep_the_last_weights,
    last_weights,
    length_of,
    marks_of_weights,
    method,
    needs_validation,
    set_weights,
    trained_teachers,
)
from densekd.runs.experiment import check_split, prepare, save_best, train
from kdlosses.cli.mistakes import place_to_write
from kdlosses.cli.study import Attempt, Budget, Study, Tell, check_optuna, place_of_best, search
from kdlosses.options import checked_seeds, nearest
from kdlosses.space import AUTO, FACTORS, RATIOS, TEMPERATURES, Dimension, around_one, has_temperature, reweighed
from kdlosses.whole import whole

LOOKS = 5
"""A training is validated as often as this, at least, to be stopped early."""
_READING = ("pipeline", "test_mode", "lazy_init", "serialize_data", "metainfo", "backend_args", "_scope_")


class _Taught(NamedTuple):
    """A method as it is published: its config, its entries, and the teachers that learn."""

    config: Config
    entries: list[dict[str, Any]]
    online: list[str]


def tune(
    config: Config | str | Path,
    teacher: Any = None,
    methods: Sequence[str] | None = None,
    *,
    checkpoint: str | Path | Mapping[str, str | Path] | None = None,
    trials: int | None = None,
    hours: float | None = None,
    seeds: int | Sequence[int] = 1,
    metric: str | None = None,
    greater: bool = True,
    factors: Sequence[Any] = FACTORS,
    ratios: Sequence[Any] = RATIOS,
    temperatures: Sequence[Any] = TEMPERATURES,
    pruner: str = "median",
    teacher_cache: str | Path | None = None,
    out: str | Path,
    tick: Callable[[str], object] = lambda said: None,
) -> Study:
    """Choose a method, the factor on its weights and that on its temperatures, on validation data alone.

    The untaught student is trained first, with each seed, then each method with its published weights, then each with
    `balance='auto'`, called `<method>_auto`; after that Optuna draws from what is searched. All share the schedule of
    the config. The last weights of a training count, and no test set is read. A teacher that has no weights yet is
    trained once, with seed 0.

    A study that was stopped goes on at the same call, within a trial, too, from its last checkpoint; more trials or
    hours go on as well.

    Args:
        config: of the student, or of a `densekd.Distiller`; a config, a path or `pkg::path`. It is not changed.
        teacher: as `densekd.Distiller` takes it, with the config of a student alone.
        methods: names, see `densekd.methods`; what the distiller of the config has if not given.
        checkpoint: weights of the teacher, as `densekd.Distiller` takes them.
        trials: at most so many; 20 if no budget is given.
        hours: at most so many, trials of earlier calls and the control counted.
        seeds: how many, from 0, or which; the score of a trial is the mean over them.
        metric: as the evaluator names it; `save_best` of the config, or else its first, if not given.
        greater: whether more of it is better.
        factors: range `(low, high)` of the factor on all weights of a method.
        ratios: range of how hard all entries of a method pull together where weights are measured, the task being 1.
        temperatures: range of the factor on the temperatures `tau` of a method's losses.
        pruner: `median`, `halving` or `none`, see `kdlosses.cli.study.search`. Methods as published are not stopped.
        teacher_cache: folder of the teacher's outputs, see `densekd.Distiller`.
        out: folder of the study. It gets `study.jsonl`, Optuna's journal; `teacher`, the weights of one that was
            trained; `work`, logs of the trials; and `best.py`, the config of the best, for `densekd train`.
        tick: is told the budget, then how each trial ended.

    Returns:
        the study; `best` is the config of its best trial, that of `best.py`.

    Warns:
        UserWarning: validation and test read the same data, or there is no test set.

    Raises:
        ModuleNotFoundError: Optuna is not installed.
        ValueError: the config has no validation or training data, a method does not fit the networks, an argument is
            out of range, or the folder holds a study of something else.
        KeyError: no such method; names the nearest.
    """
    check_optuna()
    budget, seeds = Budget.of(trials, hours), checked_seeds(seeds)
    ranges = around_one(factors, ratios, temperatures)
    given = config if isinstance(config, Config) else read_config(config)
    configs = _configs(given, teacher, methods, checkpoint)
    first_config = next(iter(configs.values()))
    notes = check_data(first_config)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    folder = place_to_write(Path(out), new=False)
    path = place_of_best(folder)
    for each in configs.values() if teacher_cache is not None else ():
        cache_in(each, str(teacher_cache))
    taught = {name: _published(each) for name, each in configs.items()}
    space: dict[str, dict[str, Dimension]] = {}
    for name, each in taught.items():
        heat = {"temperature": ranges["temperature"]} if has_temperature(each.entries) else {}
        space[name] = {"factor": ranges["factor"], **heat}
        space[f"{name}{AUTO}"] = {"ratio": ranges["ratio"], **heat}
    first = [(name, "published weights", dict.fromkeys(space[name], 1.0)) for name in taught]
    first += [(f"{name}{AUTO}", "balance='auto'", dict.fromkeys(space[f"{name}{AUTO}"], 1.0)) for name in taught]
    what = {
        "config": {name: fingerprint(each.config) for name, each in taught.items()},
        "teacher weights": marks_of_weights(first_config, "distilled"),
        "seeds": seeds,
        "metric": metric,
    }
    plan = config_of(first_config, "control")
    if metric is not None:
        _check_metric(plan, metric)

    def chosen(name: str, options: Mapping[str, Any]) -> Config:
        """The config of a trial, its teacher trained."""
        own = taught[name if name in taught else name.removesuffix(AUTO)]
        found = _with(own, options, name not in taught)
        weights = _trained_teachers(found, folder)
        if weights:
            set_weights(found, {**given_weights(found), **weights})
        return found

    def control() -> tuple[list[float], str]:
        found = [_score(plan, folder / "work" / f"control-seed{seed}", seed, metric) for seed in seeds]
        _trained_teachers(first_config, folder)
        return [score for score, _ in found], found[0][1]

    def measure(name: str, options: Mapping[str, Any], attempt: Attempt) -> float:
        config = chosen(name, options)

        def one(seed: int, tell: Tell) -> float:
            return _score(config, folder / "work" / f"trial{attempt.number}-seed{seed}", seed, metric, tell)[0]

        return attempt.over(seeds, one)

    kept: dict[str, Any] = dict(budget=budget, what=what, folder=folder, greater=greater, pruner=pruner, tick=tick)
    scores, called, found = search(space, first, measure, control, **kept)
    notes += (f"The best is {path}: `densekd train {path}`, `densekd compare {path} --seeds 3` for its test scores.",)
    study = Study(_name(given), called, scores, found, None, budget, greater, notes)
    best = chosen(study.best_trial.method, study.best_trial.options)
    with whole(path) as draft:
        head = f"# The best of {len(found)} trials on validation data: {study.best_trial}.\n"
        draft.write_text(head + best.pretty_text, encoding="utf-8")
    return replace(study, best=best)


def check_data(config: Config) -> tuple[str, ...]:
    """See that a config can be trained and validated, and say where its validation is no better than its test.

    Raises:
        ValueError: it has no training or validation data.
    """
    plan = config_of(config, "control")
    name = plan.filename or "the config"
    if not plan.get("val_dataloader"):
        raise ValueError(
            f"{name} has no validation (val_dataloader, val_cfg, val_evaluator), and tune chooses by nothing else: "
            "hold some of the training data out for it; the test data are not for choosing"
        )
    for split in ("train", "val"):
        check_split(plan, split, needed=True)
    own = _read(plan.val_dataloader.get("dataset"))
    if not plan.get("test_dataloader"):
        return (f"{name} has no test set: the validation scores of what is chosen by them are too high",)
    if own == _read(plan.test_dataloader.get("dataset")):
        return (f"{name} validates on its test data: the choice sees the test, whose scores are too high then",)
    return ()


def _read(dataset: Any) -> Any:
    """What of a dataset's config says which data it reads."""
    if isinstance(dataset, Mapping):
        return {key: _read(value) for key, value in dataset.items() if key not in _READING}
    return [_read(each) for each in dataset] if isinstance(dataset, list | tuple) else dataset


def _configs(given: Config, teacher: Any, methods: Sequence[str] | None, checkpoint: Any) -> dict[str, Config]:
    """By method the config that is taught by it."""
    weights = {} if checkpoint is None else {"checkpoint": checkpoint}
    named = methods is None or (isinstance(methods, Sequence) and all(isinstance(each, str) for each in methods))
    if not named or isinstance(methods, str) or (methods is not None and not methods):
        raise TypeError(f"methods is a list of names, got {methods!r}")
    if not is_taught(given):
        if teacher is None or methods is None:
            raise ValueError(f"{given.filename} names no densekd.Distiller: give a teacher and methods")
        names = [name_of(each).rpartition(":")[2] for each in dict.fromkeys(methods)]
        if len(set(names)) < len(names):
            raise ValueError(f"two methods have one name: {', '.join(names)}")
        return {
            name: distill(copy.deepcopy(given), teacher=teacher, method=each, **weights)
            for name, each in zip(names, dict.fromkeys(methods))
        }
    if teacher is not None:
        raise ValueError(f"{given.filename} names densekd.Distiller already: it has a teacher")
    found: dict[str, Config] = {}
    for each in [None] if methods is None else dict.fromkeys(methods):
        config = copy.deepcopy(given)
        config.model.update(weights)
        if each is not None:
            config.model.pop("distills", None)
            config.model.method = each
        if config.model.get("balance") is not None:
            raise ValueError(f"{given.filename} has balance={config.model.balance!r}: leave it out, tune tries both")
        check_arguments(config)
        found[method(config, "distilled")] = config
    return found


def _published(config: Config) -> _Taught:
    """Build the distiller of a config once, with a teacher yet to be trained as it starts, and read its entries.

    Raises:
        FileNotFoundError, KeyError, TypeError, ValueError: what would stop a training.
    """
    plan = config_of(config, "distilled")
    names = trained_teachers(config)
    for name in names:
        check_split(config_of(config, "teacher", name), "train", needed=True)
    if names:
        set_weights(plan, {**given_weights(config), **dict.fromkeys(names, "random")})
    with torch.random.fork_rng(devices=[]), DefaultScope.overwrite_default_scope(plan.get("default_scope")):
        model: Any = MODELS.build(copy.deepcopy(plan.model))
    models = {name: each.model for name, each in model.teachers.items()}
    entries = plan.model.distills if "distills" in plan.model else method_entries(plan.model.method, model, models)
    return _Taught(config, [dict(each) for each in entries], [each.name for each in model._peers()])


def _with(taught: _Taught, options: Mapping[str, Any], auto: bool) -> Config:
    """The config of a method with other weights and temperatures; as it was where they are the published ones."""
    config = copy.deepcopy(taught.config)
    factor, heat = options.get("factor", 1.0), options.get("temperature", 1.0)
    if factor != 1 or heat != 1:
        config.model.pop("method", None)
        config.model.distills = [
            reweighed(each, 1.0 if each.get("back") else factor, heat) for each in copy.deepcopy(taught.entries)
        ]
        if taught.online:
            config.model.online = taught.online
    if auto:
        ratio = options["ratio"]
        config.model.balance = "auto" if ratio == 1 else dict(type="auto", ratio=ratio)
    return config


def _trained_teachers(config: Config, folder: Path) -> dict[str | None, str]:
    """The weights of the teachers that are trained here, which are trained now if they are not."""
    found: dict[str | None, str] = {}
    for name in trained_teachers(config):
        place = folder / ("teacher" if name is None else f"teacher_{name}")
        if last_weights(place) is None:
            plan = config_of(config, "teacher", name)
            keep_the_last_weights(plan)
            if not needs_validation(plan):
                plan.val_cfg = plan.val_dataloader = plan.val_evaluator = None
            _fit(plan, place, 0)
        found[name] = str(last_weights(place).resolve())  # type: ignore[union-attr]
    return found


def _score(
    plan: Config, folder: Path, seed: int, metric: str | None, tell: Tell = lambda share, score: None
) -> tuple[float, str]:
    """Train, from the last checkpoint of an earlier call if there is one, and return the last score and its name."""
    plan = copy.deepcopy(plan)
    _, length = length_of(plan)
    if length and not needs_validation(plan):
        interval = plan.train_cfg.get("val_interval", 1)
        plan.train_cfg.val_interval = max(1, min(interval, length // LOOKS))
    scores = _Scores(_wanted(plan, metric), tell)
    try:
        runner = _fit(plan, folder, seed, [scores], resume=True)
        if scores.last is None:  # the training had ended before
            runner.val_loop.run()
    except Exception:
        _remove_checkpoints(folder)
        raise
    _remove_checkpoints(folder)
    assert scores.last is not None
    return scores.last, scores.name


def _remove_checkpoints(folder: Path) -> None:
    """Of a training that ended; one that is killed leaves its own, to be resumed from."""
    for path in [*folder.glob("*.pth"), folder / "last_checkpoint"]:
        path.unlink(missing_ok=True)


def _fit(plan: Config, folder: Path, seed: int, hooks: Sequence[Hook] = (), resume: bool = False) -> Runner:
    """Train without a test set."""
    _leave_out_the_test(plan, folder.name)
    return train(prepare(plan, work_dir=folder, seed=seed, resume=resume), hooks)


def _leave_out_the_test(plan: Config, name: str) -> None:
    plan.test_cfg = plan.test_dataloader = plan.test_evaluator = None
    plan.experiment_name = f"{name}-{time.time_ns()}"  # mmengine shares loggers between equal names
    plan.log_level = "ERROR"  # a weight that is drawn may well be too large, which is no news


def _wanted(plan: Config, metric: str | None) -> str | None:
    """The metric that decides, as far as it is known before the validation."""
    best = next(iter(save_best(plan)), None)
    return metric or (best if isinstance(best, str) and best != "auto" else None)


class _Scores(Hook):
    """Keeps the last validation score, and tells each."""

    priority = "LOW"

    def __init__(self, wanted: str | None, tell: Tell) -> None:
        self.wanted, self.tell = wanted, tell
        self.last: float | None = None
        self.name = ""

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        found = finite(metrics or {})
        self.name = self.wanted or next((key for key in METRICS if key in found), next(iter(found), ""))
        _check_known(self.name, found)
        value = found[self.name]
        self.last = math.nan if value is None else value
        if runner.iter < runner.max_iters:
            self.tell(runner.iter / runner.max_iters, self.last)


def _check_known(metric: str, found: Mapping[str, Any]) -> None:
    if metric not in found:
        raise ValueError(f"the validation has no metric {metric!r}; {nearest(metric, found)}")


def _check_metric(plan: Config, metric: str) -> None:
    """Raise ValueError if the evaluator does not measure this, as far as one batch of an untrained student tells."""
    plan = copy.deepcopy(plan)
    _leave_out_the_test(plan, "metric")
    with tempfile.TemporaryDirectory() as scratch, torch.random.fork_rng(devices=[]):
        runner = Runner.from_cfg(prepare(plan, work_dir=scratch, seed=0))
        model, loop = runner.model.eval(), runner.val_loop
        batch = next(iter(loop.dataloader))
        with torch.no_grad():
            outputs = model.val_step(batch)
        loop.evaluator.process(data_samples=outputs, data_batch=batch)
        found = finite(loop.evaluator.evaluate(len(outputs)))
    if found:
        _check_known(metric, found)


def _name(config: Config) -> str:
    path = Path(config.filename or "config")
    return f"{path.stem}-{path.resolve().parent.name}" if is_taught(config) else path.stem
