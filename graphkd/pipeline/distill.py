"""Distill a graph network into a student without a graph: teacher, control and student in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from sklearn.pipeline import Pipeline

from graphkd.data import as_graph, make_setting, undirected
from graphkd.data.setting import SettingName
from graphkd.pipeline.arguments import (
    SplitSpec,
    Student,
    as_cache,
    checked_seed,
    checked_student,
    chosen_split,
    fitted_steps,
    last_step,
    with_run,
)
from graphkd.pipeline.checks import (
    any_ready,
    check_connected,
    check_method_for,
    check_teachers,
    warn_if_no_better,
    warn_one_way,
)
from graphkd.pipeline.distill_sampled import batched, check_for_samples, distill_sampled, folders, is_sampled
from graphkd.pipeline.measure import measure_latency, network_of
from graphkd.pipeline.outcome import MethodSpec, Outcome, Result, TeacherSpecs
from graphkd.pipeline.rehearse import rehearse
from graphkd.pipeline.teacher_spec import listed
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes import extras_of, inputs_of
from graphkd.spec import plain
from graphkd.training.cache import Cache
from graphkd.training.parallel import processes
from graphkd.training.scoring import ScoringSpec, measures
from graphkd.training.watch import Callback, Run


def distill(
    data: Any,
    teacher: TeacherSpecs = "sage",
    method: MethodSpec = "glnn",
    *,
    student: Student | None = None,
    split: SplitSpec | None = None,
    seed: int = 0,
    setting: Literal["all", "tran", "ind"] = "all",
    isolated: Literal["raise", "keep"] = "raise",
    scale: Literal["auto", "full", "sampled"] = "auto",
    folder: str | Path | None = None,
    device: Any = None,
    amp: bool = False,
    progress: bool = False,
    callback: Callback | None = None,
    target: str | None = None,
    descriptors: Callable[[Any], Any] | None = None,
    task: str | None = None,
    scoring: ScoringSpec | Sequence[ScoringSpec] | None = None,
) -> Result:
    """Train a teacher on a graph, distill it into a student, and train the same student without a teacher as control.

    Args:
        data: a `Graph`, a PyG `Data`, or anything with `x`, `edge_index` and `y`, see `Graph.of`. Edges count in both
            directions, with a warning if some have no reverse; a ready module is run on the edges as they are.
            `edge_weight` is for teachers that take weights; what ignores them is refused. Also a PyG `HeteroData`, of
            which the nodes `target` are predicted, and a list of `Data`, or a dataset, each with a `y`, of which whole
            graphs are; there the student has the features of the target, or `descriptors` of a graph, see `as_graph`,
            and a teacher is called as `graphkd.data.reads` says.
        teacher: a builder of `graphkd.teachers` by name, as `dict(type=name, **options)` (options of the builder and of
            `Schedule`) or as a function `(in_features, classes) -> Module`, to be trained here; a module
            `(x, edge_index) -> logits`, taken as it is, in evaluation mode; the cache of a teacher trained elsewhere;
            or its logits `(N, C)`. `dict(module=network, taps=['convs.0'])`, and `taps` in the dict of a builder, say
            where its hidden layers are read, see `train_teacher`. A list of these teaches together, see there. There is
            a warning about a ready teacher that does not say on what split it was trained, see there.
        method: a recipe of `graphkd.recipes` by name, as `dict(type=name, **options)` or as a function.
            Default: `glnn`, which reads no edge. What learns from edges may end above it or below; measure both.
        student: with the settings wanted; its method and random state are replaced. Or a `Pipeline` whose last step is
            a student: the steps before are fitted on the features that are seen, and the result is a `Pipeline`, too
            (see `StudentClassifier.from_pipeline` for how to save it). Default: `StudentClassifier()`.
        split: training, validation and test nodes: a `Split`, three masks or lists of ids, or a dict of these, see
            `graphkd.data.split.as_split`; a number chooses a column of the graph's masks `(N, k)`. If not given that of
            the graph, or else `cpf_split(y, seed)`. Nodes may be in no part, with a label of -1 or any other.
        seed: of the split, the parameters and whatever is drawn.
        setting: `tran`, `ind` or both, see `Setting`; a cache, and logits, have but one.
        isolated: what to do about nodes without edges: a graph cannot teach them anything.
        scale: `full` takes the whole graph in each step of the teacher. `sampled` is for graphs that do not fit, in
            memory or memory-mapped: the teacher, a stack of layers such as `sage`, `gcn` or `gat`, is trained on
            sampled neighbourhoods (`dict(type='sage', fanout=10, batch_size=1024, epochs=20)`: these are the defaults;
            a list is one fanout a layer), then applied layer by layer over all neighbours; its logits, and no hidden
            layer, go to disk in shards, from which students learn in batches (of 4,096, 10 epochs, if no student is
            given). `auto` samples if the graph has more than a million nodes or 30 million edges.
        folder: gets the teacher's cache, in a folder for each setting, see `Cache.load`. Without one a full teacher's
            cache stays in memory, a sampled one's lies in a temporary folder.
        device: where teacher and students are trained: `cpu`, `cuda`, `cuda:1`, or `auto`, CUDA where there is one. If
            not given, the teacher on the CPU and the student where its settings say. All come back on the CPU.
        amp: train them with products in bfloat16.
        progress: show a bar of the epochs of each training; else nothing is printed.
        callback: called with a `graphkd.training.watch.Event` after each epoch of teacher, control and student.
        target: see `data`.
        descriptors: see `data`.
        task: `single-label`, `multi-label` (`y` of 0 and 1, `(N, L)`) or `regression` (floats); by `y` if not given,
            see `Graph.of`. Of the last two a method has to know, see `graphkd.recipes.registry.TASKS_OF`. Numbers may
            have any units: networks learn standardised ones, by mean and deviation of the training nodes; predictions,
            caches and metrics are in the units of `y`.
        scoring: a scorer of scikit-learn by name, or a function `(estimator, X, y) -> number`, in place of the
            accuracy: it chooses the epoch on the validation nodes, and is what `metrics` hold. Of a list the first
            chooses, the others are reported too. Default: `accuracy`, of several labels `f1_micro`, of numbers `r2`.

    Raises:
        ValueError: graph, split, cache or teacher do not fit together; raised before anything is trained.
        TypeError: student, teacher or seed is nothing of the kind; likewise.
        KeyError: unknown teacher or method; names the nearest.
        FileExistsError: there is a cache in `folder`.

    >>> from graphkd import StudentClassifier
    >>> from graphkd.data import digits
    >>> quick = StudentClassifier(hidden=(64,), epochs=60, lr=0.01)
    >>> result = distill(digits(), dict(type="sage", epochs=40), "glnn", student=quick, setting="tran")
    >>> result.metrics["student"]["tran"] > result.metrics["control"]["tran"]
    True
    """
    seed, method = checked_seed(seed), plain(method)
    run = Run.of(device, amp, progress, callback)
    kept: Literal["raise", "keep"] = "raise" if split is None else "keep"
    given = as_graph(data, kept, target=target, descriptors=descriptors, task=task)
    asked, student = student, with_run(checked_student(student, given.task), device, amp)
    measures(scoring, given.task, given.num_classes)
    if not isinstance(setting, str):
        raise ValueError(f"no setting is called {setting!r}; known: 'all', 'tran', 'ind'")
    names: tuple[SettingName, ...] = ("tran", "ind") if setting == "all" else (setting,)
    check_method_for(given, method)
    if is_sampled(scale, given):
        check_for_samples(given, [method], scoring)
        asked = with_run(batched(asked), device, amp)
        return distill_sampled(given, listed(teacher), method, asked, split, seed, names, isolated, folder, run)
    places = folders(folder, names)
    graph = undirected(given)
    check_connected(graph, isolated)
    chosen = chosen_split(graph, split, seed)
    teachers = [as_cache(each, graph) for each in listed(teacher)]
    cached = next((each for each in teachers if isinstance(each, Cache)), None)
    if setting == "all" and cached is not None:
        names = ("tran",) if cached.observed.all() else ("ind",)
    views = [make_setting(graph, chosen, name, seed, scoring) for name in names]
    own = [make_setting(given, chosen, name, seed, scoring) if any_ready(teachers) else None for name in names]
    last_step(student).check_settings()
    for view, as_given in zip(views, own):
        check_teachers(view, teachers, as_given)
        fitted_steps(student, inputs_of(method)(view, seed) if isinstance(student, Pipeline) else None)
    warn_one_way(given, teachers)
    rehearse(views[0], teachers, [method], student, seed, own[0])
    told: dict[str, Any] = {"progress": progress, "callback": callback}
    taught = [
        train_teacher(view, teachers, seed, extras_of(method), as_given, device=run.device, amp=amp, **told)
        for view, as_given in zip(views, own)
    ]
    for place, outcome in zip(places, taught):
        if outcome.cache is not None and processes()[0] == 0:
            outcome.cache.save(place)
    outcomes: dict[str, dict[SettingName, Outcome]] = {"teacher": {}, "control": {}, "student": {}}
    for view, of_teacher in zip(views, taught):
        control = train_student(view, None, "supervised", student, seed, **told)
        outcomes["teacher"][view.name], outcomes["control"][view.name] = of_teacher, control
        outcomes["student"][view.name] = train_student(view, of_teacher, method, student, seed, **told)
        warn_if_no_better(view.name, of_teacher, control)
    first = {role: by_setting[names[0]] for role, by_setting in outcomes.items()}
    latency = {
        role: measure_latency(network, graph, needs_edges=role == "teacher", x=first[role].x)
        for role, network in (("teacher", first["teacher"].model), ("student", network_of(first["student"].model)))
        if network is not None
    }
    return Result.of(outcomes, latency)
