"""Compare teachers and methods over seeds: one log of every run, a table, a data frame, a plot, an HTML page."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from graphkd.data import Graph, Setting, as_graph, make_setting, sorted_undirected, undirected
from graphkd.data.kinds import Describe
from graphkd.extras import needs_extra
from graphkd.pipeline import comparison_page
from graphkd.pipeline.arguments import (
    SplitSpec,
    Student,
    as_cache,
    as_json,
    checked_student,
    chosen_split,
    last_step,
    with_run,
)
from graphkd.pipeline.cells import Cells
from graphkd.pipeline.checks import (
    any_ready,
    check_connected,
    check_method_for,
    check_shown,
    check_writable,
    warn_one_way,
)
from graphkd.pipeline.distill_sampled import batched, is_sampled
from graphkd.pipeline.logs import make_log
from graphkd.pipeline.outcome import MethodSpec, Outcome, TeacherSpec
from graphkd.pipeline.plan import as_read, key_of, plan_of
from graphkd.pipeline.teacher_spec import listed
from graphkd.pipeline.train_student import train_student
from graphkd.recipes import check_run, extras_of
from graphkd.spec import plain
from graphkd.training.cache import Cache
from graphkd.training.scoring import ScoringSpec, measures
from graphkd.training.watch import Run
from kdlosses.cli.logs import Log, read, reset_peak_memory, write
from kdlosses.cli.report import table
from kdlosses.options import checked_seeds
from kdlosses.whole import whole


@dataclass(frozen=True)
class Comparison:
    """What `compare` returns: a log for each model that was trained; `print` shows the table of `graphkd report`.

    Attributes:
        logs: dicts with `role` (`teacher`, `control`, `distilled`), `method`, `seed`, `metrics` (shares in per cent),
            `params`, `latency_ms`, `seconds` and more, as in a log of `graphkd distill`.
    """

    logs: Sequence[Log]

    def __repr__(self) -> str:
        return table(self.logs)

    def frame(self) -> Any:
        """A pandas `DataFrame`, a row for each run: `role`, `method`, `seed`, a column for each metric, `seconds`.

        Raises:
            ImportError: pandas is not installed.
        """
        with needs_extra("Comparison.frame"):
            import pandas
        return pandas.DataFrame(
            [
                {key: log[key] for key in ("role", "method", "seed")} | log["metrics"] | {"seconds": log["seconds"]}
                for log in self.logs
            ]
        )

    def plot(self, metric: str | None = None, ax: Any = None) -> Any:
        """Mean and sample standard deviation over seeds of each model, as points with error bars.

        Args:
            metric: a key of `metrics`; the first that all have if not given.
            ax: axes of Matplotlib; of a new figure if not given.

        Returns:
            the axes.

        Raises:
            ImportError: Matplotlib is not installed.
            KeyError: no such metric; names the nearest.
        """
        with needs_extra("Comparison.plot"):
            from matplotlib.figure import Figure
        metric, rows = comparison_page.summary(self.logs, metric)
        if ax is None:
            ax = Figure(figsize=(7, 1 + 0.4 * len(rows)), layout="constrained").subplots()
        for place, row in enumerate(rows):
            ax.errorbar(
                row.mean, -place, xerr=row.deviation, fmt="o", capsize=3, color=comparison_page.COLOURS[row.role]
            )
        ax.set_yticks([-place for place in range(len(rows))], [row.label for row in rows])
        ax.set_xlabel(metric)
        ax.grid(axis="x", alpha=0.3)
        return ax

    def html(self, path: str | Path, metric: str | None = None) -> Path:
        """Write one page with the plot and the table, for which nothing else is needed; it is replaced whole.

        Args:
            path: the file.
            metric: of the plot, see `plot`.
        """
        text = comparison_page.page(self.logs, metric)
        with whole(path) as draft:
            draft.write_text(text, encoding="utf-8")
        return Path(path)


def compare(
    data: Any,
    teachers: TeacherSpec | Sequence[TeacherSpec] = "sage",
    methods: MethodSpec | Sequence[MethodSpec] = "glnn",
    *,
    seeds: int | Sequence[int] = 10,
    settings: Sequence[str] = ("tran",),
    student: Student | None = None,
    split: SplitSpec | None = None,
    isolated: Literal["raise", "keep"] = "raise",
    scoring: ScoringSpec | Sequence[ScoringSpec] | None = None,
    target: str | None = None,
    descriptors: Describe | None = None,
    task: str | None = None,
    scale: Literal["auto", "full", "sampled"] = "auto",
    folder: str | Path | None = None,
    device: Any = None,
    amp: bool = False,
    log: str | Path | None = None,
    name: str = "comparison",
    tick: Callable[[str], object] = lambda said: None,
) -> Comparison:
    """Train the untaught control, each teacher, and each method with each teacher, with several seeds.

    A teacher is trained once for each seed, and all methods learn from that one; the control, once for each seed, is
    the same for all. The splits are those of `distill`.

    Args:
        data: see `distill`.
        teachers: one, or a list of which each teaches by itself, see `distill`.
        methods: one, or a list.
        seeds: how many, from 0, or which.
        settings: `tran`, `ind` or both.
        student: see `distill`.
        split: see `distill`.
        isolated: see `distill`.
        scoring: see `distill`.
        target: see `distill`.
        descriptors: see `distill`.
        task: see `distill`.
        scale: see `distill`; logs of samples say `scale: sampled`, and do not mix with others.
        folder: gets the caches of the teachers that are trained, as `TEACHER/SETTING-SEED`, see `Cache.load`.
        device: see `distill`; a log may go on on another one.
        amp: see `distill`.
        log: a JSON file. It is written whole after each run; called again, what is in there is not trained again, so
            that a run that was stopped goes on, and one with more seeds, methods or teachers trains what is new. (A
            teacher that new methods need is trained again, as it was: its log stays.)
        name: what the table is called.
        tick: called with the name of each run when it ends.

    Raises:
        ValueError: the log holds runs of other data, settings, students or teachers: choose another file. Or as
            `distill`.
        FileExistsError: there is a cache in `folder` of a teacher that is to be trained.
        TypeError, KeyError: as `distill`, before anything is trained.

    >>> from graphkd import StudentClassifier, compare, digits
    >>> quick = StudentClassifier(hidden=(32,), epochs=20)
    >>> found = compare(digits(), dict(type="sage", epochs=10), ["glnn", "krd"], seeds=2, student=quick)
    >>> [(each["role"], each["method"]) for each in found.logs if each["seed"] == 0]
    [('control', 'supervised'), ('teacher', 'sage'), ('distilled', 'glnn'), ('distilled', 'krd')]
    """
    given = as_graph(data, "raise" if split is None else "keep", target=target, descriptors=descriptors, task=task)
    sampled = is_sampled(scale, given)
    graph = sorted_undirected(given) if sampled else undirected(given)
    check_connected(graph, isolated)
    measures(scoring, graph.task, graph.num_classes)
    where = Run.of(device, amp)
    model = with_run(checked_student(batched(student) if sampled else student, graph.task), device, amp)
    last_step(model).check_settings()
    if not callable(tick):
        raise TypeError(f"tick is a function of a name, got {tick!r}")
    chosen, settings = checked_seeds(seeds), _settings(settings)
    taught = [plain(each) for each in (methods if isinstance(methods, list | tuple) else [methods])]
    taught = [each if callable(each) or isinstance(each, dict) else {"type": each} for each in taught]
    for method in taught:
        check_method_for(graph, method)
        check_run(method, where.device, amp)
    ready = [as_cache(each, graph) for each in listed(teachers)]
    cells = Cells(graph, sampled, where, None if folder is None else Path(folder))
    run = _Run(given, cells, split, scoring, settings, model, name, amp)
    plan = plan_of(ready, taught)
    if log is not None:
        check_writable("log", log)
    found = _earlier(Path(log), run, plan) if log is not None else []
    done = {(each["role"], each["method"], each["seed"]) for each in found}
    cells.check(taught, scoring, run.places(plan, chosen, done))
    for setting in settings:
        view, as_given = run.view(chosen[0], setting), run.as_given(chosen[0], setting, ready)
        for each in ready:
            cells.check_teacher(view, each, as_given)
        for seed in chosen[1:] if any(isinstance(each, Cache) for each in ready) else ():
            later = run.view(seed, setting)  # of other seeds other nodes may be seen
            for each in ready:
                if isinstance(each, Cache):
                    check_shown(later, each)
        if setting == settings[0]:
            for each in ready:
                cells.rehearse(view, each, taught, model, chosen[0], as_given)
    warn_one_way(given, ready)

    def keep(outcomes: dict[str, Outcome], role: str, method: str, seed: int, spec: Any) -> None:
        found.append(run.log(outcomes, role, method, seed, spec))
        if log is not None:
            write(Path(log), found)
        tick(f"{method}, seed {seed}")

    extras, trained_any = set().union(*map(extras_of, taught)), False
    for seed in chosen:
        left = [(*each[:3], [own for own in each[3] if ("distilled", own[0], seed) not in done]) for each in plan]
        left = [each for each in left if each[3] or ("teacher", each[0], seed) not in done]
        untaught = ("control", "supervised", seed) not in done
        views = {each: run.view(seed, each) for each in settings} if untaught or left else {}
        if untaught:
            reset_peak_memory()
            alone = {each: train_student(view, None, "supervised", model, seed) for each, view in views.items()}
            keep(alone, "control", "supervised", seed, None)
        for called, teacher, spec, wanted in left:
            reset_peak_memory()
            trained_any = True
            own_view = functools.partial(run.as_given, seed, teachers=[teacher])
            with cells.taught(views, teacher, seed, extras, own_view, called) as trained:
                if ("teacher", called, seed) not in done:
                    keep(trained, "teacher", called, seed, spec)
                for label, method, told in wanted:
                    outcomes = {
                        each: train_student(view, trained[each], method, model, seed) for each, view in views.items()
                    }
                    keep(outcomes, "distilled", label, seed, told)
    if folder is not None and not trained_any:
        warnings.warn(f"folder={str(folder)!r} gets no cache: all is in the log already", stacklevel=2)
    names = {"supervised", *(each[0] for each in plan), *(label for each in plan for label, _, _ in each[3])}
    return Comparison([each for each in found if each["seed"] in chosen and each["method"] in names])


def _settings(settings: Any) -> list[str]:
    found = [settings] if isinstance(settings, str) else list(settings) if isinstance(settings, Iterable) else []
    strange = next((each for each in found if each not in ("tran", "ind")), None)
    if not found or strange is not None or len(set(found)) < len(found):
        raise ValueError(f"settings are 'tran' and 'ind', or one of them, not {settings!r}")
    return found


@dataclass(frozen=True)
class _Run:
    """What all runs of a comparison share."""

    given: Graph
    cells: Cells
    split: SplitSpec | None
    scoring: Any
    settings: Sequence[Any]
    student: Student
    name: str
    amp: bool

    @property
    def graph(self) -> Graph:
        return self.cells.graph

    def places(self, plan: Sequence[Any], seeds: Sequence[int], done: Collection[Any]) -> list[Path]:
        """Where the caches of the teachers go that are to be trained."""
        found = [
            self.cells.place(called, setting, seed)
            for called, teacher, *_ in plan
            for seed in seeds
            if ("teacher", called, seed) not in done and not isinstance(teacher, Cache)
            for setting in self.settings
        ]
        return [each for each in found if each is not None]

    def view(self, seed: int, setting: Any) -> Setting:
        return make_setting(self.graph, chosen_split(self.graph, self.split, seed), setting, seed, self.scoring)

    def as_given(self, seed: int, setting: Any, teachers: Sequence[Any]) -> Setting | None:
        if self.cells.sampled or not any_ready(teachers):
            return None
        return make_setting(self.given, chosen_split(self.graph, self.split, seed), setting, seed, self.scoring)

    def config(self) -> dict[str, Any]:
        """What must be the same in all runs of a log."""
        split = None if self.split is None else chosen_split(self.graph, self.split, 0).fingerprint()
        settings = {**last_step(self.student).get_params(deep=False), "method": None, "random_state": None}
        settings["device"] = None  # which changes no more than rounding
        steps = [
            {type(step).__name__: as_json(step.get_params() if hasattr(step, "get_params") else step)}
            for _, step in getattr(self.student, "steps", [])[:-1]
        ]
        return {
            "data": self.cells.fingerprint,
            "split": split,
            "settings": self.settings,
            "scoring": as_json(self.scoring),
            "student": {type(last_step(self.student)).__name__: as_json(settings)},
            **({"steps": steps} if steps else {}),
            **({"amp": True} if self.amp else {}),
            **({"scale": "sampled"} if self.cells.sampled else {}),
        }

    def log(self, outcomes: dict[str, Outcome], role: str, method: str, seed: int, spec: Any) -> Log:
        config = {"scoring": self.scoring}
        sampled = self.cells.latency if self.cells.sampled else None
        made = make_log(self.graph, config, self.name, seed, role, method, outcomes, sampled)
        return {**made, "config": {**self.config(), "run": spec}}


def _earlier(path: Path, run: _Run, plan: Sequence[Any]) -> list[Log]:
    """The runs that an earlier call left in the file, if they are of this comparison, under their present names."""
    if not path.exists():
        return []
    found, shared = read(path), as_read(run.config())
    known = {key_of(spec): called for called, _, spec, _ in plan}
    known |= {key_of(told): label for *_, own in plan for label, _, told in own}
    taken = {label: key for key, label in known.items()}
    for each in found:
        if not {"config", "role", "method", "seed", "metrics"} <= each.keys():
            raise ValueError(f"{path} holds logs that are no comparison: choose another log, or delete it")
        other = {key: value for key, value in each["config"].items() if key != "run"}
        differs = [key for key in shared.keys() | other.keys() if shared.get(key) != other.get(key)]
        mine = key_of(each["config"].get("run"))
        each["method"] = known.get(mine, each["method"])
        if taken.get(each["method"], mine) != mine:
            differs.append(each["method"])
        if differs:
            raise ValueError(
                f"{path} holds runs of another comparison, which differs in {', '.join(sorted(differs))}: choose "
                "another log, or delete it"
            )
    return found
