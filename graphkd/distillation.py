"""From a graph to a student that needs none: `distill`, and the two steps it is made of, `teach` and `study`."""

from __future__ import annotations

import functools
import statistics
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

import kdlosses
from graphkd.arguments import (
    SplitSpec,
    Student,
    as_cache,
    as_json,
    bound_options,
    built,
    check_options,
    check_spec,
    checked_seed,
    checked_student,
    chosen_split,
    fitted_steps,
    last_step,
    name_of,
)
from graphkd.cache import Cache, warn_of_probabilities
from graphkd.data import Graph, Setting, observe, one_way, part, undirected
from graphkd.data.positions import Inputs
from graphkd.data.setting import UNSEEN_SHARE, SettingName
from graphkd.features import rows
from graphkd.latency import latency, student_latencies, teacher_latencies
from graphkd.lesson import Lesson
from graphkd.recipes import (
    EDGE_READERS,
    OF_GRAPH_NETWORKS,
    RECIPES,
    asked,
    check_method,
    inputs_of,
    nested,
    own_features,
)
from graphkd.spec import plain, resolve
from graphkd.student import StudentClassifier
from graphkd.teachers import TEACHERS, TUNES, WEIGHT_DECAY
from graphkd.teachers.call import call, kind_of, outputs, readable, resting, uses_weights
from graphkd.teachers.ensemble import Ensemble
from graphkd.training import Clock, History, Schedule, Score, rehearsal, score, train
from kdlosses.policy.ensemble import experts, mixture

TeacherSpec = str | Mapping[str, Any] | Callable[..., nn.Module] | nn.Module | Cache | np.ndarray | Tensor
TeacherSpecs = TeacherSpec | Sequence[TeacherSpec]
MethodSpec = str | Mapping[str, Any] | Callable[..., History]


@dataclass
class Outcome:
    """One trained model and what it reached in one setting.

    Attributes:
        model: a network for a teacher (None if only its cache is known; an `Ensemble` for several), a
            `StudentClassifier` for a student, or a `Pipeline` that ends in one.
        metrics: accuracies. In `tran`: `tran`, on the test nodes. In `ind`: `observed` and `ind`, on the test nodes
            that were seen and that were not; `prod`, their mean weighted 0.8 to 0.2; `cold`, on those that were not,
            without an edge.
        oracle_test_best: the best accuracy of any epoch on the test nodes that were seen: what selecting on them would
            have reported as `tran` or `observed`; None for several teachers, which have no epoch in common.
        val: validation accuracy, by which the epoch was chosen.
        seconds: wall-clock time of the training.
        cache: what a teacher leaves.
        x: features of all nodes as the network sees them, where they are not those of the graph: see
            `graphkd.recipes.INPUTS` for students and the steps of a `Pipeline`, `inputs` in `teach` for teachers.
    """

    model: Any
    metrics: dict[str, float]
    oracle_test_best: float | None
    val: float | None
    seconds: float
    cache: Cache | None = None
    x: Tensor | None = None


@dataclass
class Result:
    """What `distill` returns.

    Attributes:
        student: the distilled student, of the transductive run if there was one. Where the labels of the graph came as
            names it answers with these.
        metrics: accuracies of `teacher`, `control` and `student`, see `Outcome.metrics`.
        oracle_test_best: likewise, see there.
        latency: milliseconds of an answer of `teacher` and `student`, about all nodes and about new ones, see
            `graphkd.latency`.
        outcomes: by setting and role, with models and caches.
    """

    student: StudentClassifier | Any
    metrics: dict[str, dict[str, float]]
    oracle_test_best: dict[str, dict[str, float | None]]
    latency: dict[str, dict[str, float]]
    outcomes: dict[SettingName, dict[str, Outcome]]

    @property
    def cache(self) -> Cache:
        """What the teacher of `student` left."""
        cache = next(iter(self.outcomes.values()))["teacher"].cache
        assert cache is not None
        return cache


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
) -> Result:
    """Train a teacher on a graph, teach a student, and train the same student untaught beside it.

    Args:
        data: a `Graph`, a PyG `Data`, or anything with `x`, `edge_index` and `y`, see `Graph.of`. Edges count in both
            directions, with a warning if some have no reverse; a ready module is run on the edges as they are.
            `edge_weight` is for teachers that take weights; what ignores them is refused.
        teacher: a builder of `graphkd.teachers` by name, as `dict(type=name, **options)` (options of the builder and of
            `Schedule`) or as a function `(in_features, classes) -> Module`, to be trained here; a module
            `(x, edge_index) -> logits`, taken as it is, in evaluation mode; the cache of a teacher trained elsewhere;
            or its logits `(N, C)`. A list of these teaches together, see `teach`. Of a teacher that comes ready and
            does not say on what split it was trained, see `teach`, there is a warning.
        method: a recipe of `graphkd.recipes` by name, as `dict(type=name, **options)` or as a function.
            Default: `glnn`, which reads no edge. What learns from edges may end above it or below; measure both.
        student: with the settings wanted; its method and random state are replaced. Or a `Pipeline` whose last step is
            a student: the steps before are fitted on the features that are seen, and the result is a `Pipeline`, too
            (see `StudentClassifier.from_pipeline` for how to save it). Default: one hidden layer of 256 units
            with dropout 0.5, at most 500 epochs.
        split: training, validation and test nodes: a `Split`, three masks or lists of ids, or a dict of these, see
            `graphkd.data.split.as_split`; a number chooses a column of the graph's masks `(N, k)`. If not given that of
            the graph, or else `cpf_split(y, seed)`. Nodes may be in no part, with a label of -1 or any other.
        seed: of the split, the parameters and whatever is drawn.
        setting: `tran`, `ind` or both, see `Setting`; a cache, and logits, have but one.
        isolated: what to do about nodes without edges: a graph cannot teach them anything.

    Raises:
        ValueError: graph, split, cache or teacher do not fit together; raised before anything is trained.
        TypeError: student, teacher or seed is nothing of the kind; likewise.
        KeyError: unknown teacher or method; names the nearest.

    >>> from graphkd.data import digits
    >>> quick = StudentClassifier(hidden=(64,), epochs=60, lr=0.01)
    >>> result = distill(digits(), dict(type="sage", epochs=40), "glnn", student=quick, setting="tran")
    >>> result.metrics["student"]["tran"] > result.metrics["control"]["tran"]
    True
    """
    seed, method = checked_seed(seed), plain(method)
    student = checked_student(student)
    given = Graph.of(data, "raise" if split is None else "keep")
    graph = undirected(given)
    _check_connected(graph, isolated)
    check_spec("method", method)
    check_method(method)
    inputs_of(method)
    _check_method(graph, method)
    chosen = chosen_split(graph, split, seed)
    if not isinstance(setting, str):
        raise ValueError(f"no setting is called {setting!r}; known: 'all', 'tran', 'ind'")
    names: tuple[SettingName, ...] = ("tran", "ind") if setting == "all" else (setting,)
    listed = [as_cache(each, graph) for each in _listed(teacher)]
    cached = next((each for each in listed if isinstance(each, Cache)), None)
    if setting == "all" and cached is not None:
        names = ("tran",) if cached.observed.all() else ("ind",)
    views = [observe(graph, chosen, name, seed) for name in names]
    own = [observe(given, chosen, name, seed) if _runs(listed) else None for name in names]
    last_step(student).check_settings()
    for view, as_given in zip(views, own):
        _check_teachers(view, listed, as_given)
        fitted_steps(student, inputs_of(method)(view, seed) if isinstance(student, Pipeline) else None)
    if count := one_way(given):
        warnings.warn(
            f"{count} of {given.edge_index.shape[1]} edges have no reverse: they count in both directions"
            + (", but for the ready module" if _runs(listed) else ""),
            stacklevel=2,
        )
    rehearse(views[0], listed, method, student, seed, own[0])
    taught = [teach(view, listed, seed, asked(method), as_given) for view, as_given in zip(views, own)]
    outcomes: dict[SettingName, dict[str, Outcome]] = {
        view.name: {
            "teacher": lessons,
            "control": study(view, None, "supervised", student, seed),
            "student": study(view, lessons.cache, method, student, seed),
        }
        for view, lessons in zip(views, taught)
    }
    for name in names:
        _warn_if_no_better(name, outcomes[name]["teacher"], outcomes[name]["control"])
    first = outcomes[names[0]]
    return Result(
        first["student"].model,
        {role: {k: v for name in names for k, v in outcomes[name][role].metrics.items()} for role in first},
        {role: {name: outcomes[name][role].oracle_test_best for name in names} for role in first},
        {
            role: measure_latency(network, graph, needs_edges=role == "teacher", x=first[role].x)
            for role, network in (("teacher", first["teacher"].model), ("student", network_of(first["student"].model)))
            if network is not None
        },
        outcomes,
    )


def teach(
    setting: Setting,
    teacher: TeacherSpecs = "sage",
    seed: int = 0,
    tells: Collection[str] = (),
    as_given: Setting | None = None,
) -> Outcome:
    """Train a teacher on what the setting shows it, and keep what it says in a cache.

    The dict of a teacher to be trained here may also have the options `shard`, `known` and `task` of
    `graphkd.data.part`, which tell it less than all, or something else.

    It may itself be taught by the cache of another teacher, `source`, such as that of a language model, with `method`,
    one of `graphkd.recipes.OF_GRAPH_NETWORKS`. With `inputs`, a number, it reads that hidden layer of the source in
    place of the graph's features; with `inputs=dict(top=k)` which classes the source finds most probable, from the
    first to the k-th, each as C columns of which one is 1.

    With `tune`, one of `graphkd.teachers.TUNES` like `dict(type='mcmi', lam=0.15)`, it is fine-tuned for its students
    after that. With `epochs=0` it stays as random as it was made: the control for what a teacher knows.

    Several teachers are trained one by one, number k with `seed + 1000 k`, and leave one cache, see `Cache.join`. Their
    prediction is the mean of theirs; if they have tasks of their own, their metrics are the means of their own metrics.

    `tells` names what a single teacher is asked beyond logits and hidden layers, see `graphkd.recipes.TELLS`: `noisy`,
    its logits when every feature has a normal number added, or `weights`, its parameters under their names. A network
    with a method `tells(x, edge_index)` tells what that returns, `(more, params)`, in any case.

    A module that comes ready is run as it is, in evaluation mode and in its own dtype, on `as_given` if there is one:
    the same setting with the edges as they were before `undirected`. It says on what split it was trained by an
    attribute `trained_on`, the `Split.fingerprint` of that; a cache by `split` in its settings, where `teach` writes
    it. Of one that says nothing, or another split, there is a warning: it may have seen test nodes.
    """
    seed = checked_seed(seed)
    listed = [as_cache(each, setting.whole) for each in _listed(teacher)]
    _check_teachers(setting, listed, as_given)  # a typo in the last is found before the first is trained
    if len(listed) > 1:
        outcomes = [_teach(setting, each, seed + 1000 * k, seed, as_given=as_given) for k, each in enumerate(listed)]
        views = [as_given or setting if isinstance(each, nn.Module) else setting for each in listed]
        return _joined(setting, outcomes, views)
    return _teach(setting, listed[0], seed, seed, tells, as_given)


def _teach(
    setting: Setting,
    teacher: TeacherSpec,
    seed: int,
    deal: int,
    tells: Collection[str] = (),
    as_given: Setting | None = None,
) -> Outcome:
    if isinstance(teacher, Cache):
        return _from_cache(setting, teacher, deal, tells)
    if isinstance(teacher, nn.Module):
        trained_on = getattr(teacher, "trained_on", None)
        _warn_unless(trained_on == setting.mark(), f"the {type(teacher).__name__}", trained_on is not None)
        with resting(teacher):
            told: dict[str, Any] = {"type": type(teacher).__name__}
            return _answered(setting, teacher, as_given or setting, told, seed, tells, trained_on, History())
    builder, options, schedule, share, tune, taught = parse_teacher(teacher)
    told = {"type": name_of(builder), **bound_options(builder), **options, **vars(schedule), **share}
    told |= {"tune": tune} if tune else {}
    view = part(setting, **share, seed=deal)
    if taught:
        source = taught["source"]
        told |= {**taught, "source": source.settings.get("teacher")}
        view = _reading(view, source, taught.get("inputs"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = built(builder, view.seen.x.shape[1], view.seen.num_classes, options)
        view = _readable(network, view)
        if builder not in TEACHERS.values():  # one of the user's own, which may read something else
            with resting(network), torch.no_grad():
                outputs(network, view.seen)
        if "method" in taught:
            history = _train_taught(network, view, schedule, taught["source"], taught["method"], seed)
        else:
            history = _train_teacher(network, view, schedule, tune)
    network.trained_on = setting.mark()  # type: ignore[assignment]
    outcome = _answered(setting, network, view, told, seed, tells, setting.mark(), history)
    outcome.x = view.whole.x if "inputs" in taught else None
    return outcome


def _answered(
    setting: Setting,
    network: nn.Module,
    view: Setting,
    told: dict[str, Any],
    seed: int,
    tells: Collection[str],
    trained_on: str | None,
    history: History,
) -> Outcome:
    """What a trained network says of the nodes of `view`, which has features and edges as the network reads them."""
    view = _readable(network, view)
    hidden, logits = _outputs(network, view)
    warn_of_probabilities(logits, np.isfinite(logits[:, 0].numpy()), stacklevel=6)
    more, params = _told(network, view, tells, seed)
    cache = Cache(
        logits.numpy(),
        setting.whole.node_id.numpy(),
        torch.zeros(len(setting.whole), dtype=torch.bool).index_fill(0, setting.observed, True).numpy(),
        setting.whole.fingerprint(),
        tuple(layer.numpy() for layer in hidden),
        {"teacher": as_json(told), "setting": setting.name, "seed": seed, "split": trained_on},
        own_tasks="task" in told,
        more=more,
        params=params,
    )
    metrics = _teacher_metrics([network], [view], view, logits)
    return Outcome(network, metrics, history.oracle, history.score, sum(history.seconds), cache)


def study(
    setting: Setting, cache: Cache | None, method: MethodSpec, student: Student | None = None, seed: int = 0
) -> Outcome:
    """Train a student on what the setting shows it; without a cache on the labels alone.

    A method may show it more than the features of the graph, see `graphkd.recipes.INPUTS`. The steps of a `Pipeline`
    before the student are fitted on the features that are seen.
    """
    seed, method = checked_seed(seed), plain(method)
    whole = setting.whole
    if cache is not None:
        _check_method(whole, method)
    given = inputs_of(method)(setting, seed)
    model = clone(checked_student(student))
    features, steps = fitted_steps(model, given)
    learner = _fitted(last_step(model), setting, cache, method, features, seed)
    history = learner.history_
    linked = torch.from_numpy(learner.predict(features.linked))
    alone = linked if features.alone is features.linked else torch.from_numpy(learner.predict(features.alone))
    metrics = _metrics(setting, linked, linked, alone)
    if whole.named:
        learner.classes_ = np.array(whole.class_names)[learner.classes_]
    x = None if features.linked is whole.x else rows(features.linked)
    model = Pipeline([*steps, model.steps[-1]]) if isinstance(model, Pipeline) else model
    return Outcome(model, metrics, history.oracle, history.score, sum(history.seconds), x=x)


def _fitted(
    learner: StudentClassifier, setting: Setting, cache: Cache | None, method: MethodSpec, features: Inputs, seed: int
) -> StudentClassifier:
    """The student, trained on what the setting shows it."""
    seen = setting.seen
    learner.set_params(method=method, random_state=seed)
    return learner.fit(
        features.seen,
        seen.y,
        teacher=None if cache is None else cache.take(setting.observed.numpy()),
        edge_index=None if seen.edge_weight is not None else seen.edge_index,
        labelled=setting.train,
        validation=(rows(features.seen, setting.val), seen.y[setting.val]),
        monitor=(rows(features.linked, setting.test), setting.whole.y[setting.test]),
    )


def rehearse(
    setting: Setting,
    teacher: TeacherSpecs,
    method: MethodSpec,
    student: Student | None = None,
    seed: int = 0,
    as_given: Setting | None = None,
) -> None:
    """Run one of our own methods up to its first step, after a teacher that knows nothing yet.

    It takes as long as an epoch of the teacher. Features of a method's own are left out, see `graphkd.recipes.INPUTS`.

    Raises:
        ValueError: student, teacher and method do not fit together, or an option is out of range.
        TypeError: likewise.
    """
    if any(name not in RECIPES for name in nested(method)):
        return
    untrained = [
        each if isinstance(each, Cache | nn.Module) else _untrained(each)
        for each in (as_cache(each, setting.whole) for each in _listed(teacher))
    ]
    model = clone(checked_student(student))
    features, _ = fitted_steps(model, own_features(setting, seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come when it is trained
        told = teach(setting, untrained, seed, asked(method), as_given)
        with rehearsal():
            _fitted(last_step(model), setting, told.cache, method, features, seed)


def _untrained(teacher: Any) -> dict[str, Any]:
    """A teacher that is to be trained here, as it is before that."""
    options = dict(teacher) if isinstance(teacher, Mapping) else {"type": teacher}
    dropped = {"tune", "method"} | ({"source"} if "inputs" not in options else set())
    return {**{key: value for key, value in options.items() if key not in dropped}, "epochs": 0}


def network_of(student: Any) -> nn.Module:
    """The network of a student, or of one that stands at the end of a `Pipeline`."""
    return last_step(student).network_


def measure_latency(network: nn.Module, graph: Graph, needs_edges: bool, x: Tensor | None = None) -> dict[str, float]:
    """Milliseconds of an answer about all nodes (`all_nodes`) and about new ones, see `graphkd.latency`.

    `x` is what it sees in place of the graph's features; what it takes to make that is not measured.
    """
    x = graph.x if x is None else x
    if not needs_edges:
        return student_latencies(network, x)
    x = readable(network, replace(graph, x=x)).x
    with resting(network):
        if graph.edge_weight is not None:
            return {"all_nodes": latency(lambda: call(network, x, graph.edge_index, graph.edge_weight))}
        if kind_of(network) != (torch.device("cpu"), torch.float32):
            network = Ensemble([network])  # which hands it what it takes
        return teacher_latencies(network, x, graph.edge_index)


def _listed(teacher: TeacherSpecs) -> list[TeacherSpec]:
    """Teachers as a list; a module that is a sequence of layers is one teacher."""
    if not isinstance(teacher, Sequence) or isinstance(teacher, str | nn.Module):
        return [teacher]
    if not teacher:
        raise ValueError("the list of teachers is empty")
    return list(teacher)


def parse_teacher(
    teacher: TeacherSpec,
) -> tuple[Callable[..., nn.Module], dict[str, Any], Schedule, dict[str, Any], Any, dict[str, Any]]:
    """Builder, its options, schedule, share, fine-tuning and teacher of a teacher that is to be trained here."""
    options: dict[str, Any] = plain(dict(teacher)) if isinstance(teacher, Mapping) else {"type": teacher}
    kind = options.get("type")
    if isinstance(kind, nn.Module | Cache) or not (isinstance(kind, str) or callable(kind)):
        what = type(kind).__name__ if kind is teacher else f"a dict with a {type(kind).__name__} as type"
        raise TypeError(
            "a teacher is a name of graphkd.teachers, dict(type=name, **options), a function (in_features, classes) -> "
            f"Module, a trained module, a Cache or logits (N, C); got {what}"
        )
    if isinstance(kind, functools.partial) and kind.func in TEACHERS.values() and not kind.args:
        options = {**plain(kind.keywords), **options, "type": kind.func}
    wanted = {field.name: options.pop(field.name) for field in fields(Schedule) if field.name in options}
    share: dict[str, Any] = {key: options.pop(key) for key in ("shard", "known", "task") if key in options}
    tune = options.pop("tune", None)
    if tune is not None:
        resolve("tune", tune, TUNES)
    taught: dict[str, Any] = {key: options.pop(key) for key in ("source", "method", "inputs") if key in options}
    if "method" in taught:
        resolve("method", taught["method"], OF_GRAPH_NETWORKS)
    if taught and not isinstance(taught.get("source"), Cache):
        raise ValueError(f"a teacher that is itself taught, or reads {sorted(taught)}, needs a Cache as its 'source'")
    if taught.keys() == {"source"}:
        raise ValueError("a teacher with a 'source' needs a 'method' that teaches it, or 'inputs', or both")
    if tune is not None and "method" in taught:
        raise ValueError("a teacher that is taught by a 'method' is not fine-tuned: leave 'tune' out")
    try:
        builder, options = resolve("teacher", options, TEACHERS)
    except ValueError as error:  # it has no signature
        raise TypeError(f"the teacher {name_of(kind)!r} is no function (in_features, classes): {error}") from error
    if builder in TEACHERS.values():
        check_options(builder, options)
    decay = WEIGHT_DECAY.get(name_of(builder), 5e-4)
    return builder, options, Schedule(**{"weight_decay": decay, "epochs": 200, **wanted}), share, tune, taught


def _joined(setting: Setting, outcomes: Sequence[Outcome], views: Sequence[Setting]) -> Outcome:
    """Several teachers as one; each answers on its view."""
    networks = [outcome.model for outcome in outcomes]
    own = [_readable(nn.Identity(), setting).whole.x if each.x is None else each.x for each in outcomes]
    unlike = any(outcome.x is not None for outcome in outcomes)  # what they read
    widths = [x.shape[1] for x in own] if unlike else []
    cache = Cache.join([outcome.cache for outcome in outcomes if outcome.cache is not None])
    marks = {outcome.cache.settings.get("split") for outcome in outcomes if outcome.cache is not None}
    cache = replace(cache, settings={**cache.settings, "split": marks.pop() if len(marks) == 1 else None})
    classes = setting.whole.num_classes
    network = None if None in networks else Ensemble(networks, widths, None if cache.own_tasks else classes)
    if network is not None:
        network.training = False  # its members stay in the modes in which they are
    if cache.own_tasks:
        keys = outcomes[0].metrics.keys()
        metrics = {key: statistics.mean(outcome.metrics[key] for outcome in outcomes) for key in keys}
        return Outcome(network, metrics, None, None, sum(outcome.seconds for outcome in outcomes), cache)
    logits = mixture(experts(torch.from_numpy(cache.logits), classes, "teach"))
    val = score(logits[setting.observed][setting.val], setting.seen.y[setting.val])[0]
    metrics = (
        _metrics(setting, logits.argmax(1)) if network is None else _teacher_metrics(networks, views, setting, logits)
    )
    x = torch.cat(own, 1) if unlike else None
    return Outcome(network, metrics, None, val, sum(outcome.seconds for outcome in outcomes), cache, x)


def _check_connected(graph: Graph, isolated: str) -> None:
    if not isinstance(isolated, str) or isolated not in ("raise", "keep"):
        raise ValueError(f"isolated is 'raise' or 'keep', not {isolated!r}")
    if not graph.edge_index.shape[1]:
        raise ValueError("the graph has no edges: there is nothing that a graph could teach; fit a StudentClassifier")
    alone = (torch.bincount(graph.edge_index[1], minlength=len(graph)) == 0).nonzero().flatten()
    if len(alone) and isolated == "raise":
        raise ValueError(
            f"{len(alone)} of {len(graph)} nodes have no edge, the first is node {int(alone[0])}: keep the largest "
            "component with graphkd.data.prepare(data), or pass isolated='keep'"
        )


def _readable(network: nn.Module, setting: Setting) -> Setting:
    """The setting with its features as the network takes them."""
    return replace(setting, seen=readable(network, setting.seen), whole=readable(network, setting.whole))


def _train_teacher(network: nn.Module, setting: Setting, schedule: Schedule, tune: Any = None) -> History:
    seen, labels = setting.seen, setting.seen.y
    auxiliary = getattr(network, "auxiliary_loss", None)

    def loss(nodes: Tensor | slice) -> Tensor:
        logits = call(network, seen.x, seen.edge_index, seen.edge_weight, seen.num_classes)
        hard = F.cross_entropy(logits[setting.train], labels[setting.train])
        return hard if auxiliary is None else hard + auxiliary()

    evaluate = _evaluation(network, setting)
    history = train(network, loss, len(seen), schedule=schedule, evaluate=evaluate)
    network.eval()  # also after no epoch at all
    if tune is not None:
        tuned, options = resolve("tune", tune, TUNES)
        history.seconds += tuned(network, setting, **options).seconds
        (history.score, _), monitored = evaluate()
        history.oracle = max(history.oracle or 0.0, monitored)
    return history


def _train_taught(
    network: nn.Module, setting: Setting, schedule: Schedule, source: Cache, method: MethodSpec, seed: int
) -> History:
    """Train a graph network as the student of another teacher."""
    recipe, options = resolve("method", method, OF_GRAPH_NETWORKS)
    seen, shown = setting.seen, source.take(setting.observed.numpy())
    labels = torch.full((len(seen),), -1)
    labels[setting.train] = seen.y[setting.train]
    generator, clock = torch.Generator().manual_seed(seed), Clock()
    evaluate = _evaluation(network, setting)
    loop = functools.partial(train, schedule=schedule, evaluate=evaluate, generator=generator, clock=clock)
    lesson = Lesson(
        *(seen.x, labels, loop, generator, shown.logits if shown.logits.shape[1] else None, seen.edge_index),
        *(schedule.batch_size, shown.hidden, clock, shown.parts, shown.own_tasks, shown.more),
    )
    history = recipe(network, lesson, **options)
    network.eval()
    return history


def _evaluation(network: nn.Module, setting: Setting) -> Callable[[], tuple[Score, float]]:
    """A function that scores a network, as it is when called, on the validation and on the watched test nodes."""
    seen, labels = setting.seen, setting.seen.y
    watched = setting.test if setting.name == "tran" else torch.searchsorted(setting.observed, setting.test)
    truth = setting.whole.y[setting.test]

    def evaluate() -> tuple[Score, float]:
        with torch.inference_mode():
            logits = call(network, seen.x, seen.edge_index, seen.edge_weight, seen.num_classes)
        return score(logits[setting.val], labels[setting.val]), score(logits[watched], truth)[0]

    return evaluate


def _reading(setting: Setting, source: Cache, inputs: int | Mapping[str, int] | None) -> Setting:
    """The setting with a hidden layer of a teacher, or with its ranking of the classes, in place of the features."""
    if inputs is None:
        return setting
    classes = source.logits.shape[1]
    if isinstance(inputs, Mapping):
        if inputs.keys() != {"top"} or not 1 <= inputs["top"] <= classes:
            raise ValueError(
                f"inputs is dict(top=k) with k from 1 to the {classes} classes that the source scores, or the number "
                f"of a hidden layer, not {inputs!r}"
            )
    elif not -len(source.hidden) <= inputs < len(source.hidden):
        raise ValueError(f"inputs is the number of a hidden layer of the source, which has {len(source.hidden)}")
    if setting.name != "tran":
        raise ValueError(
            "a teacher that reads another one's hidden layer knows it of the nodes seen alone: only 'tran'"
        )
    if isinstance(inputs, Mapping):
        scores = torch.from_numpy(np.array(source.logits))
        ranked = scores.argsort(dim=1, descending=True, stable=True)[:, : inputs["top"]]
        x = F.one_hot(ranked, classes).flatten(1).float()
    else:
        x = torch.from_numpy(np.array(source.hidden[inputs], dtype=np.float32))
    return replace(setting, seen=replace(setting.seen, x=x), whole=replace(setting.whole, x=x))


@torch.inference_mode()
def _outputs(network: nn.Module, setting: Setting) -> tuple[list[Tensor], Tensor]:
    """Hidden layers, where the network tells them, and logits, for the whole graph; NaN where unseen."""
    seen = setting.seen
    found = outputs(network, seen)
    if found[-1].shape != (len(seen), seen.num_classes):
        raise ValueError(
            f"the teacher gives {tuple(found[-1].shape)}; expected {len(seen)} nodes by {seen.num_classes} classes"
        )
    *hidden, logits = [_spread(out, setting) for out in found]
    return hidden, logits


def _spread(seen: Tensor, setting: Setting) -> Tensor:
    """Rows of the nodes that are seen as rows of the whole graph, NaN where unseen."""
    full = seen.new_full((len(setting.whole), *seen.shape[1:]), torch.nan)
    return full.index_copy_(0, setting.observed, seen)


@torch.inference_mode()
def _told(
    network: nn.Module, setting: Setting, tells: Collection[str], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What a teacher tells beyond its layers, of each node and of itself; see `teach`."""
    seen = setting.seen
    own = getattr(network, "tells", None)
    more, params = ({}, {}) if own is None else own(seen.x, seen.edge_index)
    if "noisy" in tells:
        noise = torch.randn(seen.x.shape, generator=torch.Generator().manual_seed(seed))
        noisy = call(network, seen.x.to_dense() + noise, seen.edge_index, seen.edge_weight, seen.num_classes)
        more = {**more, "noisy": noisy}
    if "weights" in tells:
        params = {**params, **network.state_dict()}
    return (
        {name: _spread(_on_cpu(told), setting).numpy() for name, told in more.items()},
        {name: _on_cpu(told).numpy() for name, told in params.items()},
    )


def _on_cpu(told: Tensor) -> Tensor:
    """As NumPy has it: there is no bfloat16."""
    return told.cpu().float() if told.dtype is torch.bfloat16 else told.cpu()


@torch.inference_mode()
def _teacher_metrics(
    networks: Sequence[nn.Module], views: Sequence[Setting], setting: Setting, logits: Tensor
) -> dict[str, float]:
    """Accuracies of networks together, each on its view; `logits` are theirs of the nodes that are seen."""
    if setting.name == "tran":
        return _metrics(setting, logits.argmax(1))
    found: list[list[Tensor]] = [[], []]
    for network, view in zip(networks, views):
        whole, seen = view.whole, view.seen
        x = readable(network, whole).x
        known = (view.observed[seen.edge_index], seen.edge_weight)
        with resting(network):
            for answers, edges in zip(found, ((whole.edge_index, whole.edge_weight), known)):
                answers.append(call(network, x, *edges, whole.num_classes))
    several = len(networks) > 1
    linked, alone = (
        mixture(experts(torch.cat(each, 1), setting.whole.num_classes, "teach")) if several else each[0]
        for each in found
    )
    return _metrics(setting, logits.argmax(1), linked.argmax(1), alone.argmax(1))


def _metrics(
    setting: Setting, observed: Tensor, linked: Tensor | None = None, alone: Tensor | None = None
) -> dict[str, float]:
    """Accuracies from the classes predicted for all nodes: with the seen edges, with all edges, and without any."""

    def accuracy(predicted: Tensor, nodes: Tensor) -> float:
        return (predicted[nodes] == setting.whole.y[nodes]).double().mean().item()

    seen = accuracy(observed, setting.test)
    if setting.name == "tran":
        return {"tran": seen}
    if linked is None or alone is None:
        return {"observed": seen}
    unseen = accuracy(linked, setting.unseen)
    prod = (1 - UNSEEN_SHARE) * seen + UNSEEN_SHARE * unseen
    return {"observed": seen, "ind": unseen, "prod": prod, "cold": accuracy(alone, setting.unseen)}


def _from_cache(setting: Setting, cache: Cache, seed: int, tells: Collection[str] = ()) -> Outcome:
    _check_shown(setting, cache)
    if cache.logits.shape[1]:
        saw, before = cache.settings.get("split"), "split" not in cache.settings
        alike = all(cache.settings.get(k) == v for k, v in (("setting", setting.name), ("seed", seed)))
        _warn_unless(saw == setting.mark() or (before and alike), "the cached teacher", saw is not None)
    missing = sorted(set(tells) - {*cache.more, *cache.params})
    if missing:
        raise ValueError(
            f"the method needs {missing} of the teacher, which its cache has not: teach(..., tells={missing})"
        )
    _check_classes(setting, cache)
    for each in () if cache.own_tasks else cache.split():
        warn_of_probabilities(each.logits, cache.observed, stacklevel=6)
    if cache.own_tasks or not cache.logits.shape[1]:
        return Outcome(None, {}, None, None, 0.0, cache)  # nobody here knows their tasks, or they answer none
    several = [torch.from_numpy(np.array(each.logits)) for each in cache.split()]
    logits = mixture(torch.stack(several, 1)) if len(several) > 1 else several[0]
    val = score(logits[setting.observed][setting.val], setting.seen.y[setting.val])[0]
    return Outcome(None, _metrics(setting, logits.argmax(1)), None, val, 0.0, cache)


def _check_classes(setting: Setting, cache: Cache) -> None:
    """Raise ValueError unless each teacher has the graph's classes, tasks of its own, or no logits at all."""
    for columns, _ in cache.parts or ((cache.logits.shape[1], 0),):
        if columns not in (0, setting.whole.num_classes) and not cache.own_tasks:
            raise ValueError(f"the cache has {columns} classes, the graph {setting.whole.num_classes}")


def _check_shown(setting: Setting, cache: Cache) -> None:
    """Raise ValueError unless the cache is of this graph and of the nodes that this setting shows."""
    cache.check(setting.whole.fingerprint())
    if not np.array_equal(cache.node_id, setting.whole.node_id.numpy()):
        raise ValueError(
            "the cache has other node ids than the graph, or has them in another order: bring its arrays into the "
            "order of graph.node_id"
        )
    mask = torch.from_numpy(cache.observed.copy())
    if not torch.equal(mask.nonzero().flatten(), setting.observed):
        raise ValueError(
            f"the cache observed {int(mask.sum())} nodes, the setting {setting.name!r} shows {len(setting.observed)} "
            "(or others): it was written for another setting or seed"
        )


def _runs(teachers: Sequence[TeacherSpec]) -> bool:
    return any(isinstance(each, nn.Module) for each in teachers)


def _check_teachers(setting: Setting, teachers: Sequence[TeacherSpec], as_given: Setting | None) -> None:
    """Raise for what can be found wrong with teachers before one is trained."""
    weighted = setting.whole.edge_weight is not None
    for each in teachers:
        if isinstance(each, Cache):
            _check_shown(setting, each)
            _check_classes(setting, each)
        elif isinstance(each, nn.Module):
            _check_weights(each, weighted)
            if len(teachers) > 1:
                with resting(each):
                    _outputs(each, _readable(each, as_given or setting))
        else:
            builder, options, *_, taught = parse_teacher(each)
            if taught:
                _check_shown(setting, taught["source"])
            if weighted and "method" in taught:
                raise ValueError(_unused(f"a teacher taught by {taught['method']!r}", "one that is trained itself"))
            if weighted or len(teachers) > 1:
                with torch.random.fork_rng(devices=[]):
                    network = built(builder, setting.seen.x.shape[1], setting.seen.num_classes, options)
                    _check_weights(network, weighted, name_of(builder))


def _check_weights(network: nn.Module, weighted: bool, name: str | None = None) -> None:
    if weighted and not uses_weights(network):
        able = "gcn, sage, appnp, sgc, or a module whose forward has the argument edge_weight"
        raise ValueError(_unused(f"the teacher {name or type(network).__name__!r}", able))


def _unused(what: str, able: str) -> str:
    return f"the graph has edge_weight, which {what} does not use; remove it, or choose {able}"


def _check_method(graph: Graph, method: MethodSpec) -> None:
    if graph.edge_weight is None:
        return
    entries = method.get("distills", ()) if isinstance(method, Mapping) else ()
    names = [name for name in nested(method) if name in EDGE_READERS]
    for entry in entries:
        try:
            loss = kdlosses.build(entry["loss"])
        except (KeyError, TypeError, ValueError):  # named where the method runs
            continue
        names += [loss.name] if "edge_index" in loss.needs else []
    if names:
        raise ValueError(_unused(f"the method {names[0]!r}", "a method that reads no edges, such as 'glnn'"))


def _warn_unless(sure: bool, who: str, says: bool) -> None:
    if not sure:
        how = (
            "says that it was trained on another split"
            if says
            else "comes ready, and nothing says what it was trained on"
        )
        warnings.warn(
            f"{who} {how}: if it has seen labels of test nodes, all accuracies here are too high (see graphkd.teach)",
            stacklevel=5,
        )


def _warn_if_no_better(name: str, teacher: Outcome, control: Outcome) -> None:
    own_tasks = teacher.cache is not None and teacher.cache.own_tasks
    if own_tasks or teacher.val is None or control.val is None or teacher.val > control.val:
        return
    warnings.warn(
        f"{name}: no teacher is better than the student without one ({teacher.val:.3f} and {control.val:.3f} on the "
        "validation nodes): there is little to distil; train the teacher longer, choose another, or keep the control",
        stacklevel=3,
    )
