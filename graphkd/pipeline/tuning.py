"""Choose a recipe and its options on validation nodes, under a budget."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from graphkd.data import Graph, Setting, as_graph, make_setting, undirected
from graphkd.data.setting import SettingName
from graphkd.extras import needs_extra
from graphkd.pipeline.arguments import (
    SplitSpec,
    Student,
    as_cache,
    as_json,
    checked_student,
    chosen_split,
    last_step,
    name_of,
    with_run,
)
from graphkd.pipeline.checks import (
    any_ready,
    check_connected,
    check_method_for,
    check_teachers,
    check_writable,
)
from graphkd.pipeline.distill_sampled import is_sampled
from graphkd.pipeline.logs import labels
from graphkd.pipeline.outcome import MethodSpec, Outcome, TeacherSpecs
from graphkd.pipeline.plan import plan_of
from graphkd.pipeline.rehearse import rehearse
from graphkd.pipeline.teacher_spec import listed
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes import RECIPES, asks, check_run, extras_of
from graphkd.recipes.registry import SPACES
from graphkd.spec import plain, resolve
from graphkd.training.cache import Cache
from graphkd.training.scoring import ScoringSpec, measures
from graphkd.training.watch import Event, Run
from kdlosses.cli.study import PARTS, Attempt, Budget, Study, Tell, check_optuna, search
from kdlosses.options import check_known, checked_seeds, nearest, options_of
from kdlosses.space import (
    AUTO,
    FACTORS,
    RATIOS,
    TEMPERATURES,
    Dimension,
    Range,
    around_one,
    checked_range,
    has_temperature,
    heated,
    reweighed,
)


def tune(
    data: Any,
    teacher: TeacherSpecs = "sage",
    methods: MethodSpec | Sequence[MethodSpec] = "glnn",
    *,
    trials: int | None = None,
    hours: float | None = None,
    seeds: int | Sequence[int] = 3,
    setting: SettingName = "tran",
    student: Student | None = None,
    split: SplitSpec | None = None,
    isolated: Literal["raise", "keep"] = "raise",
    scoring: ScoringSpec | None = None,
    target: str | None = None,
    descriptors: Callable[[Any], Any] | None = None,
    task: str | None = None,
    space: Mapping[str, Mapping[str, Any]] | None = None,
    factors: Sequence[Any] = FACTORS,
    ratios: Sequence[Any] = RATIOS,
    temperatures: Sequence[Any] = TEMPERATURES,
    pruner: str = "median",
    device: Any = None,
    amp: bool = False,
    out: str | Path | None = None,
    tick: Callable[[str], object] = lambda said: None,
) -> Study:
    """Choose a recipe, and its options, by the validation nodes alone.

    The untaught student is trained first, with each seed, then each method with the options that it was given or has by
    default, `terms` also with measured weights, under names like `terms(kl)_auto`; after that Optuna draws from what is
    searched:

    * `lam`, the weight of the labels, from 0 to 1, and the temperature `tau` of a recipe,
    * what the recipe names, see `graphkd.recipes.registry.SPACES`,
    * of `terms` the factor on the weights of its entries and that on their temperatures,
    * what `space` says.

    A teacher is trained once for each seed. Test nodes have no labels here, and nothing is measured on them.

    Args:
        data: see `graphkd.distill`.
        teacher: see `graphkd.distill`; of a list all teach together.
        methods: recipes by name, as `dict(type=name, **options)` or as functions.
        trials: at most so many; 20 if no budget is given.
        hours: at most so many, trials of earlier calls and the control counted.
        seeds: how many, from 0, or which, each with a split of its own; the score of a trial is the mean over them.
        setting: `tran` or `ind`, of which the nodes are that are seen.
        student: see `graphkd.distill`.
        split: see `graphkd.distill`.
        isolated: see `graphkd.distill`.
        scoring: a scorer of scikit-learn, which selects epochs and trials; more is better.
        target: see `graphkd.distill`.
        descriptors: see `graphkd.distill`.
        task: see `graphkd.distill`.
        space: by method, as it is called in the study, and by option, a range `(low, high)` or `(low, high, True)`,
            logarithmic, or a list of choices; in place of the one above, None to leave an option as it is.
        factors: range of the factor on all weights of `terms`.
        ratios: range of how hard each entry of `terms` pulls where weights are measured, the labels being 1.
        temperatures: range of the factor on temperatures.
        pruner: `median`, `halving` or `none`, see `kdlosses.cli.study.search`. What is tried first is not stopped.
        device: see `graphkd.distill`.
        amp: see `graphkd.distill`.
        out: folder of the study: `study.jsonl`, Optuna's journal, and `teachers`, their caches. A study that was
            stopped goes on at the same call, and with more trials or hours. None keeps it in memory.
        tick: is told the budget, then how each trial ended.

    Returns:
        the study; `best` is the method of its best trial, as `distill` takes it.

    Raises:
        ModuleNotFoundError: Optuna is not installed.
        ValueError: an argument is out of range, the folder holds a study of something else, or as `graphkd.distill`.
        KeyError, TypeError: as `graphkd.distill`, before anything is trained.

    >>> from graphkd import StudentClassifier, digits, tune
    >>> quick = StudentClassifier(hidden=(32,), epochs=20)
    >>> study = tune(digits(), dict(type="sage", epochs=10), ["glnn", "krd"], trials=3, seeds=1, student=quick)
    >>> [(each.method, each.state) for each in study.trials[:2]]
    [('glnn', 'complete'), ('krd', 'complete')]
    >>> sorted(study.best) == sorted(dict(type="krd", **study.best_trial.options)) or study.best["type"] == "glnn"
    True
    """
    told = as_graph(data, "raise" if split is None else "keep", target=target, descriptors=descriptors, task=task)
    return tune_on(
        told,
        lambda seed: teacher,
        methods,
        budget=Budget.of(trials, hours),
        seeds=checked_seeds(seeds),
        setting=setting,
        student=student,
        split=split,
        isolated=isolated,
        scoring=scoring,
        space=space or {},
        ranges=Ranges.of(factors, ratios, temperatures),
        pruner=pruner,
        run=Run.of(device, amp),
        device=device,
        out=None if out is None else Path(out),
        name="study",
        tick=tick,
    )


@dataclass(frozen=True)
class Ranges:
    """What is searched of every method."""

    factor: Range
    ratio: Range
    temperature: Range

    @classmethod
    def of(cls, factors: Any, ratios: Any, temperatures: Any) -> Ranges:
        """Check three ranges of positive numbers."""
        return cls(**around_one(factors, ratios, temperatures))


def tune_on(
    given: Graph,
    teacher_of: Callable[[int], TeacherSpecs],
    methods: MethodSpec | Sequence[MethodSpec],
    *,
    budget: Budget,
    seeds: Sequence[int],
    setting: SettingName,
    student: Student | None,
    split: SplitSpec | None,
    isolated: str,
    scoring: ScoringSpec | None,
    space: Mapping[str, Mapping[str, Any]],
    ranges: Ranges,
    pruner: str,
    run: Run,
    device: Any,
    out: Path | None,
    name: str,
    tick: Callable[[str], object],
) -> Study:
    """Do what `tune` documents; the teacher may be another one for each seed."""
    with needs_extra("graphkd.tune"):
        check_optuna()
    if setting not in ("tran", "ind"):
        raise ValueError(f"setting is 'tran' or 'ind', not {setting!r}")
    if is_sampled("auto", given):
        raise ValueError(
            f"a study is for graphs that fit, this one has {len(given)} nodes: choose on a part of it, then distill "
            "with scale='sampled'"
        )
    graph = undirected(given)
    check_connected(graph, isolated)
    (measure,) = measures(scoring, graph.task, graph.num_classes)[:1]
    model = with_run(checked_student(student, graph.task), device, run.amp)
    last_step(model).check_settings()
    specs = [plain(each) for each in (methods if isinstance(methods, list | tuple) else [methods])]
    if not specs:
        raise ValueError("methods names none: give at least one")
    for each in specs:
        check_method_for(graph, each)
        check_run(each, run.device, run.amp)
    if out is not None:
        check_writable("out", out / "study")
    names = labels([each if isinstance(each, dict | str) else name_of(each) for each in specs])
    if len(set(names)) < len(names):
        raise ValueError(f"two methods have one name: {', '.join(names)}")
    searched = {label: Searched.of(each, ranges) for label, each in zip(names, specs)}
    found_space = spaces(searched, space, ranges)
    ready = functools.lru_cache(None)(lambda seed: [as_cache(each, graph) for each in listed(teacher_of(seed))])
    views: dict[int, Setting] = {}
    given_views: dict[int, Setting] = {}
    marks: list[str] = []
    for seed in seeds:
        parts = chosen_split(graph, split, seed)
        marks.append(parts.fingerprint())
        views[seed] = make_setting(graph, parts, setting, seed, scoring).without_test()
        if any_ready(ready(seed)):
            given_views[seed] = make_setting(given, parts, setting, seed, scoring).without_test()
        check_teachers(views[seed], ready(seed), given_views.get(seed))
    rehearse(views[seeds[0]], ready(seeds[0]), specs, model, seeds[0], given_views.get(seeds[0]))
    for label, each in searched.items():
        for variant in found_space:
            if variant in (label, f"{label}{AUTO}"):
                for options in _bounds(found_space[variant]):
                    check_method_for(graph, each.spec_of(options, variant != label))
    extras = set().union(*map(extras_of, specs))
    scale = 100.0 if measure.share else 1.0
    asked = any(map(asks, specs))  # by whom a teacher is asked, a cache does not do
    teachers: dict[int, Outcome | Cache] = {}

    def teacher_at(seed: int) -> Outcome | Cache:
        if seed not in teachers:
            place = None if out is None or asked else out / "teachers" / f"{setting}-{seed}"
            if place is not None and place.exists():
                teachers[seed] = Cache.load(place, views[seed].whole.fingerprint())
            else:
                told: dict[str, Any] = dict(device=run.device, amp=run.amp)
                taught = train_teacher(views[seed], ready(seed), seed, extras, given_views.get(seed), **told)
                if place is not None and taught.cache is not None:
                    taught.cache.save(place)
                teachers[seed] = taught
        return teachers[seed]

    def trained(spec: MethodSpec, taught: Outcome | Cache | None, seed: int, tell: Tell | None) -> float:
        watch = None if tell is None else _Watch(tell, scale)
        found = train_student(views[seed], taught, spec, model, seed, callback=watch)
        if found.val is None:
            raise ValueError(f"the method {spec!r} leaves no validation score to choose by")
        return scale * found.val

    def control() -> tuple[list[float], str]:
        found = [trained("supervised", None, seed, None) for seed in seeds]
        for seed in seeds:
            teacher_at(seed)
        return found, measure.name

    def one_trial(variant: str, options: Mapping[str, Any], attempt: Attempt) -> float:
        spec = method_of(searched, variant, options)
        return attempt.over(seeds, lambda seed, tell: trained(spec, teacher_at(seed), seed, tell))

    first = [(label, "as given", each.given(found_space[label])) for label, each in searched.items()]
    first += [
        (f"{label}{AUTO}", "weight='auto'", each.given(found_space[f"{label}{AUTO}"], True))
        for label, each in searched.items()
        if f"{label}{AUTO}" in found_space
    ]
    settings = {**last_step(model).get_params(deep=False), "method": None, "random_state": None, "device": None}
    what = {
        "data": [views[seed].whole.fingerprint() for seed in seeds],
        "split": marks,
        "seeds": list(seeds),
        "setting": setting,
        "scoring": as_json(scoring),
        "teacher": [told for seed in seeds for _, _, told, _ in plan_of(ready(seed), [])],
        "methods": {label: as_json(each) for label, each in zip(names, specs)},
        "student": {type(last_step(model)).__name__: as_json(settings)},
        "amp": run.amp,
    }
    kept: dict[str, Any] = dict(budget=budget, what=what, folder=out, pruner=pruner, tick=tick)
    scores, called, trials = search(found_space, first, one_trial, control, **kept)
    study = Study(name, called, scores, trials, None, budget)
    best = study.best_trial
    return replace(study, best=method_of(searched, best.method, best.options))


@dataclass(frozen=True)
class Searched:
    """A method, and what is searched of it.

    Attributes:
        spec: as it was given.
        options: of the recipe, as given or by default.
        space: ranges of its options by name.
        entries: of `terms`; of a recipe with a `loss` that.
    """

    spec: MethodSpec
    options: Mapping[str, Any]
    space: Mapping[str, Dimension]
    entries: Sequence[Mapping[str, Any]] = field(default=())

    @classmethod
    def of(cls, spec: MethodSpec, ranges: Ranges) -> Searched:
        """Find out what is searched of a method."""
        recipe, own = resolve("method", spec, RECIPES)
        stated = {key: each.default for key, each in options_of(recipe).items() if each.default is not each.empty}
        options = {**stated, **own}
        space: dict[str, Dimension] = {}
        if _is_number(options.get("lam")):
            space["lam"] = Range(0.0, 1.0)
        tau = options.get("tau")
        if tau is not None and _is_number(tau) and math.isfinite(tau):
            heat = ranges.temperature
            space["tau"] = Range(heat.low * tau, heat.high * tau, heat.log)
        for key, each in SPACES.get(getattr(recipe, "__name__", ""), {}).items():
            if options.get(key) is not None and _holds(each, options[key]):
                space[key] = each
        entries: Sequence[Mapping[str, Any]] = ()
        if recipe is RECIPES["terms"]:
            entries = options["distills"]
            space["factor"] = ranges.factor
        elif options.get("loss") is not None:
            entries = [{"loss": options["loss"]}]
        if has_temperature(entries):
            space["temperature"] = ranges.temperature
        return cls(spec, options, space, entries)

    @property
    def has_weights(self) -> bool:
        """Whether it has entries whose weights can be measured."""
        return "factor" in self.space

    def whole(self, key: str) -> bool:
        """Whether an option takes whole numbers alone."""
        stated = options_of(resolve("method", self.spec, RECIPES)[0]).get(key)
        return stated is not None and stated.annotation in (int, "int")

    def given(self, space: Mapping[str, Dimension], auto: bool = False) -> dict[str, Any]:
        """The values of what is searched with which it is tried first."""
        middle = {"lam": 0.5} if auto and self.options["lam"] == 0 else {}
        return {key: middle.get(key, self.options.get(key, 1.0)) for key in space}

    def spec_of(self, drawn: Mapping[str, Any], auto: bool = False) -> MethodSpec:
        """The method with these options."""
        factor, heat = drawn.get("ratio" if auto else "factor", 1.0), drawn.get("temperature", 1.0)
        known = {key: value for key, value in drawn.items() if key not in ("factor", "ratio", "temperature")}
        base = dict(self.spec) if isinstance(self.spec, Mapping) else {"type": self.spec}
        found = {**base, **known}
        if self.has_weights:
            entries = [{**each, "weight": "auto"} for each in self.entries] if auto else self.entries
            found["distills"] = [reweighed(each, factor, heat) for each in entries]
        elif heat != 1:
            found["loss"] = heated(self.options["loss"], heat)
        return found


def spaces(
    searched: Mapping[str, Searched], given: Mapping[str, Mapping[str, Any]], ranges: Ranges
) -> dict[str, dict[str, Dimension]]:
    """By method what is searched, with what the user says of it; `terms` with measured weights is one more.

    Raises:
        KeyError: there is no such method; names the nearest.
        TypeError, ValueError: there is no such option, or it is neither a range nor a list of choices.
    """
    found: dict[str, dict[str, Dimension]] = {}
    for label, each in searched.items():
        found[label] = dict(each.space)
        if each.has_weights:
            auto = {key: value for key, value in each.space.items() if key != "factor"}
            found[f"{label}{AUTO}"] = {**auto, "lam": Range(0.1, 0.9), "ratio": ranges.ratio}
    if not isinstance(given, Mapping):
        raise TypeError(f"space is a dict by method, got {given!r}")
    for label, options in given.items():
        if not isinstance(options, Mapping):
            raise TypeError(f"space[{label!r}] is a dict by option, got {options!r}")
        if label not in found:
            raise KeyError(f"space: no method here is called {label!r}; {nearest(label, found)}")
        own = searched.get(label) or searched[label.removesuffix(AUTO)]
        for key, value in options.items():
            check_known(f"space: method {label!r}", [key], {*own.options, *found[label]} - {"distills", "method"})
            if value is None:
                found[label].pop(key, None)
                continue
            where = f"space[{label!r}][{key!r}]"
            choices = isinstance(value, list) and not isinstance(value, Range)
            if not choices and own.whole(key):
                raise TypeError(f"{where}: {key} is a whole number, give a list of choices; got {value!r}")
            dimension: Dimension = list(value) if choices else checked_range(where, value)
            strange = [each for each in dimension if not isinstance(each, str | int | float | None)]
            if strange:
                raise TypeError(f"{where}: choices are numbers, strings, True, False or None, got {strange[0]!r}")
            start = own.given({key: dimension}, label not in searched)[key]
            if not _holds(dimension, start):
                raise ValueError(f"{where} must hold {start!r}, with which the method is tried first; got {value!r}")
            found[label][key] = dimension
    return found


def method_of(searched: Mapping[str, Searched], variant: str, options: Mapping[str, Any]) -> MethodSpec:
    """The method of a trial."""
    own = searched.get(variant)
    return own.spec_of(options) if own is not None else searched[variant.removesuffix(AUTO)].spec_of(options, True)


def _bounds(space: Mapping[str, Dimension]) -> list[dict[str, Any]]:
    """Options with the least and the largest of each range, and with each choice."""
    values = [list(each[:2]) if isinstance(each, Range) else list(each) for each in space.values()]
    longest = max(map(len, values), default=0)
    return [{key: each[min(k, len(each) - 1)] for key, each in zip(space, values)} for k in range(longest)]


def _holds(dimension: Dimension, value: Any) -> bool:
    if isinstance(dimension, Range):
        return _is_number(value) and dimension.low <= value <= dimension.high
    return value in dimension


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


class _Watch:
    """Tells a study the best score so far of the first network that a recipe trains, as often as it looks."""

    def __init__(self, tell: Tell, scale: float) -> None:
        self.tell, self.scale = tell, scale
        self.trainings, self.looked, self.best = 0, 0, -math.inf

    def __call__(self, event: Event) -> None:
        self.trainings += event.epoch == 0
        if self.trainings > 1 or event.score is None:
            return
        self.best = max(self.best, event.score)
        done = event.epoch + 1
        if done < event.epochs and int(PARTS * done / event.epochs) > self.looked:
            self.looked = int(PARTS * done / event.epochs)
            self.tell(done / event.epochs, self.scale * self.best)
