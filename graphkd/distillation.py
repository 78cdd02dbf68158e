"""From a graph to a student that needs none: `distill`, and the two steps it is made of, `teach` and `study`."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import clone
from torch import Tensor, nn

from graphkd.cache import Cache
from graphkd.data import Graph, Setting, Split, observe, part, split_of, undirected
from graphkd.data.setting import UNSEEN_SHARE, SettingName
from graphkd.features import rows
from graphkd.latency import student_latencies, teacher_latencies
from graphkd.lesson import Lesson
from graphkd.recipes import OF_GRAPH_NETWORKS, RECIPES, asked, inputs_of
from graphkd.spec import resolve
from graphkd.student import StudentClassifier
from graphkd.teachers import TEACHERS, TUNES, WEIGHT_DECAY
from graphkd.teachers.ensemble import Ensemble
from graphkd.teachers.gnn import GNN
from graphkd.training import Clock, History, Schedule, Score, score, train
from kdlosses.policy.ensemble import experts, mixture

TeacherSpec = str | Mapping[str, Any] | Callable[..., nn.Module] | nn.Module | Cache
TeacherSpecs = TeacherSpec | Sequence[TeacherSpec]
MethodSpec = str | Mapping[str, Any] | Callable[..., History]


@dataclass
class Outcome:
    """One trained model and what it reached in one setting.

    Attributes:
        model: a network for a teacher (None if only its cache is known; an `Ensemble` for several), a
            `StudentClassifier` for a student.
        metrics: accuracies. In `tran`: `tran`, on the test nodes. In `ind`: `observed` and `ind`, on the test nodes
            that were seen and that were not; `prod`, their mean weighted 0.8 to 0.2; `cold`, on those that were not,
            without an edge.
        oracle_test_best: the best accuracy of any epoch on the test nodes that were seen: what selecting on them would
            have reported as `tran` or `observed`; None for several teachers, which have no epoch in common.
        val: validation accuracy, by which the epoch was chosen.
        seconds: wall-clock time of the training.
        cache: what a teacher leaves.
        x: features of all nodes as the model sees them, where they are not those of the graph: see
            `graphkd.recipes.INPUTS` for students, `inputs` in `teach` for teachers.
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
        student: the distilled student, of the transductive run if there was one.
        metrics: accuracies of `teacher`, `control` and `student`, see `Outcome.metrics`.
        oracle_test_best: likewise, see there.
        latency: milliseconds of an answer of `teacher` and `student`, about all nodes and about new ones, see
            `graphkd.latency`.
        outcomes: by setting and role, with models and caches.
    """

    student: StudentClassifier
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
    student: StudentClassifier | None = None,
    split: Split | None = None,
    seed: int = 0,
    setting: Literal["all", "tran", "ind"] = "all",
    isolated: Literal["raise", "keep"] = "raise",
) -> Result:
    """Train a teacher on a graph, teach a student, and train the same student untaught beside it.

    Args:
        data: a `Graph`, a PyG `Data`, or anything with `x`, `edge_index` and `y`. Edges count in both directions.
        teacher: a builder of `graphkd.teachers` by name, as `dict(type=name, **options)` (options of the builder and of
            `Schedule`) or as a function `(in_features, classes) -> Module`, to be trained here; a module
            `(x, edge_index) -> logits`, taken as it is; or the cache of a teacher trained elsewhere. A list of these
            teaches together, see `teach`.
        method: a recipe of `graphkd.recipes` by name, as `dict(type=name, **options)` or as a function.
            Default: `glnn`, which reads no edge. What learns from edges may end above it or below; measure both.
        student: with the settings wanted; its method and random state are replaced. Default: one hidden layer
            of 256 units with dropout 0.5, at most 500 epochs.
        split: training, validation and test nodes; if not given that of the graph, or else `cpf_split(y, seed)`.
        seed: of the split, the parameters and whatever is drawn.
        setting: `tran`, `ind` or both, see `Setting`; a cache has but one.
        isolated: what to do about nodes without edges: a graph cannot teach them anything.

    Raises:
        ValueError: graph, split, cache or teacher do not fit together; raised before anything is trained.
        KeyError: unknown teacher or method; names the nearest.

    >>> from graphkd.data import digits
    >>> quick = StudentClassifier(hidden=(64,), epochs=60, lr=0.01)
    >>> result = distill(digits(), dict(type="sage", epochs=40), "glnn", student=quick, setting="tran")
    >>> result.metrics["student"]["tran"] > result.metrics["control"]["tran"]
    True
    """
    graph = undirected(Graph.of(data))
    _check_connected(graph, isolated)
    resolve("method", method, RECIPES)
    inputs_of(method)
    split = split or split_of(graph, seed)
    names: tuple[SettingName, ...] = ("tran", "ind") if setting == "all" else (setting,)
    given = next((each for each in _listed(teacher) if isinstance(each, Cache)), None)
    if setting == "all" and given is not None:
        names = ("tran",) if given.observed.all() else ("ind",)
    views = [observe(graph, split, name, seed) for name in names]
    taught = [teach(view, teacher, seed, asked(method)) for view in views]
    outcomes: dict[SettingName, dict[str, Outcome]] = {
        view.name: {
            "teacher": lessons,
            "control": study(view, None, "supervised", student, seed),
            "student": study(view, lessons.cache, method, student, seed),
        }
        for view, lessons in zip(views, taught)
    }
    first = outcomes[names[0]]
    return Result(
        first["student"].model,
        {role: {k: v for name in names for k, v in outcomes[name][role].metrics.items()} for role in first},
        {role: {name: outcomes[name][role].oracle_test_best for name in names} for role in first},
        {
            role: measure_latency(network, graph, needs_edges=role == "teacher", x=first[role].x)
            for role, network in (("teacher", first["teacher"].model), ("student", first["student"].model.network_))
            if network is not None
        },
        outcomes,
    )


def teach(setting: Setting, teacher: TeacherSpecs = "sage", seed: int = 0, tells: Collection[str] = ()) -> Outcome:
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
    """
    listed = _listed(teacher)
    if len(listed) > 1:
        for each in listed:  # a typo in the last is found before the first is trained
            if not isinstance(each, Cache | nn.Module):
                _parse(each)
        return _joined(setting, [_teach(setting, each, seed + 1000 * k, seed) for k, each in enumerate(listed)])
    return _teach(setting, listed[0], seed, seed, tells)


def _teach(setting: Setting, teacher: TeacherSpec, seed: int, deal: int, tells: Collection[str] = ()) -> Outcome:
    if isinstance(teacher, Cache):
        return _from_cache(setting, teacher, tells)
    history, view = History(), setting
    told: dict[str, Any]
    taught: dict[str, Any] = {}
    if isinstance(teacher, nn.Module):
        network, told = teacher.eval(), {"type": type(teacher).__name__}
        view = _readable(network, view)
    else:
        builder, options, schedule, share, tune, taught = _parse(teacher)
        told = {"type": builder.__name__, **options, **vars(schedule), **share, **({"tune": tune} if tune else {})}
        view = part(setting, **share, seed=deal)
        if taught:
            source = taught["source"]
            told |= {**taught, "source": source.settings.get("teacher")}
            _check_shown(setting, source)
            view = _reading(view, source, taught.get("inputs"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = builder(view.seen.x.shape[1], view.seen.num_classes, **options)
            view = _readable(network, view)
            if "method" in taught:
                history = _train_taught(network, view, schedule, taught["source"], taught["method"], seed)
            else:
                history = _train_teacher(network, view, schedule, tune)
    hidden, logits = _outputs(network, view)
    more, params = _told(network, view, tells, seed)
    cache = Cache(
        logits.numpy(),
        setting.whole.node_id.numpy(),
        torch.zeros(len(setting.whole), dtype=torch.bool).index_fill(0, setting.observed, True).numpy(),
        setting.whole.fingerprint(),
        tuple(layer.numpy() for layer in hidden),
        {"teacher": told, "setting": setting.name, "seed": seed},
        own_tasks="task" in told,
        more=more,
        params=params,
    )
    metrics = _teacher_metrics(network, view, logits)
    x = view.whole.x if "inputs" in taught else None
    return Outcome(network, metrics, history.oracle, history.score, sum(history.seconds), cache, x)


def study(
    setting: Setting, cache: Cache | None, method: MethodSpec, student: StudentClassifier | None = None, seed: int = 0
) -> Outcome:
    """Train a student on what the setting shows it; without a cache on the labels alone.

    A method may show it more than the features of the graph, see `graphkd.recipes.INPUTS`.
    """
    whole, seen = setting.whole, setting.seen
    features = inputs_of(method)(setting, seed)
    learner: StudentClassifier = clone(student or StudentClassifier(hidden=(256,), dropout=0.5, epochs=500))
    learner.set_params(method=method, random_state=seed)
    learner.fit(
        features.seen,
        seen.y,
        teacher=None if cache is None else cache.take(setting.observed.numpy()),
        edge_index=seen.edge_index,
        labelled=setting.train,
        validation=(rows(features.seen, setting.val), seen.y[setting.val]),
        monitor=(rows(features.linked, setting.test), whole.y[setting.test]),
    )
    history = learner.history_
    linked = torch.from_numpy(learner.predict(features.linked))
    alone = linked if features.alone is features.linked else torch.from_numpy(learner.predict(features.alone))
    metrics = _metrics(setting, linked, linked, alone)
    x = None if features.linked is whole.x else rows(features.linked)
    return Outcome(learner, metrics, history.oracle, history.score, sum(history.seconds), x=x)


def measure_latency(network: nn.Module, graph: Graph, needs_edges: bool, x: Tensor | None = None) -> dict[str, float]:
    """Milliseconds of an answer about all nodes (`all_nodes`) and about new ones, see `graphkd.latency`.

    `x` is what it sees in place of the graph's features; what it takes to make that is not measured.
    """
    x = graph.x if x is None else x
    if needs_edges:
        return teacher_latencies(network, _features(network, x), graph.edge_index)
    return student_latencies(network, x)


def _listed(teacher: TeacherSpecs) -> list[TeacherSpec]:
    """Teachers as a list; a module that is a sequence of layers is one teacher."""
    if not isinstance(teacher, Sequence) or isinstance(teacher, str | nn.Module):
        return [teacher]
    if not teacher:
        raise ValueError("the list of teachers is empty")
    return list(teacher)


def _parse(
    teacher: TeacherSpec,
) -> tuple[Callable[..., nn.Module], dict[str, Any], Schedule, dict[str, Any], Any, dict[str, Any]]:
    """Builder, its options, schedule, share, fine-tuning and teacher of a teacher that is to be trained here."""
    options: dict[str, Any] = dict(teacher) if isinstance(teacher, Mapping) else {"type": teacher}
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
    builder, options = resolve("teacher", options, TEACHERS)
    decay = WEIGHT_DECAY.get(builder.__name__, 5e-4)
    return builder, options, Schedule(**{"weight_decay": decay, "epochs": 200, **wanted}), share, tune, taught


def _joined(setting: Setting, outcomes: Sequence[Outcome]) -> Outcome:
    """Several teachers as one."""
    networks = [outcome.model for outcome in outcomes]
    own = [_features(nn.Identity(), setting.whole.x) if each.x is None else each.x for each in outcomes]
    unlike = any(outcome.x is not None for outcome in outcomes)  # what they read
    widths = [x.shape[1] for x in own] if unlike else []
    network = None if None in networks else Ensemble(networks, widths).eval()
    cache = Cache.join([outcome.cache for outcome in outcomes if outcome.cache is not None])
    if cache.own_tasks:
        keys = outcomes[0].metrics.keys()
        metrics = {key: statistics.mean(outcome.metrics[key] for outcome in outcomes) for key in keys}
        return Outcome(network, metrics, None, None, sum(outcome.seconds for outcome in outcomes), cache)
    classes, view = setting.whole.num_classes, setting if network is None else _readable(network, setting)
    logits = mixture(experts(torch.from_numpy(cache.logits), classes, "teach"))
    val = score(logits[setting.observed][setting.val], setting.seen.y[setting.val])[0]
    metrics = (
        _metrics(setting, logits.argmax(1))
        if network is None
        else _teacher_metrics(lambda x, edges: mixture(experts(network(x, edges), classes, "teach")), view, logits)
    )
    x = torch.cat(own, 1) if unlike else None
    return Outcome(network, metrics, None, val, sum(outcome.seconds for outcome in outcomes), cache, x)


def _check_connected(graph: Graph, isolated: str) -> None:
    if isolated not in ("raise", "keep"):
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
    seen, whole = (replace(graph, x=_features(network, graph.x)) for graph in (setting.seen, setting.whole))
    return replace(setting, seen=seen, whole=whole)


def _features(network: nn.Module, x: Tensor) -> Tensor:
    """Dense features, unless the network says that it takes sparse ones: many layers of PyG do not."""
    return x if x.layout is torch.strided or getattr(network, "sparse", False) else x.to_dense()


def _train_teacher(network: nn.Module, setting: Setting, schedule: Schedule, tune: Any = None) -> History:
    seen, labels = setting.seen, setting.seen.y
    auxiliary = getattr(network, "auxiliary_loss", None)

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = F.cross_entropy(network(seen.x, seen.edge_index)[setting.train], labels[setting.train])
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
            logits = network(seen.x, seen.edge_index)
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
    outputs: list[Tensor] = (
        network.outputs(seen.x, seen.edge_index) if isinstance(network, GNN) else [network(seen.x, seen.edge_index)]
    )
    if outputs[-1].shape != (len(seen), seen.num_classes):
        raise ValueError(
            f"the teacher gives {tuple(outputs[-1].shape)}; expected {len(seen)} nodes by {seen.num_classes} classes"
        )
    *hidden, logits = [_spread(out, setting) for out in outputs]
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
        more = {**more, "noisy": network(seen.x.to_dense() + noise, seen.edge_index)}
    if "weights" in tells:
        params = {**params, **network.state_dict()}
    return (
        {name: _spread(told, setting).numpy() for name, told in more.items()},
        {name: told.numpy() for name, told in params.items()},
    )


@torch.inference_mode()
def _teacher_metrics(network: Callable[..., Tensor], setting: Setting, logits: Tensor) -> dict[str, float]:
    whole = setting.whole
    if setting.name == "tran":
        return _metrics(setting, logits.argmax(1))
    linked = network(whole.x, whole.edge_index).argmax(1)
    alone = network(whole.x, setting.observed[setting.seen.edge_index]).argmax(1)
    return _metrics(setting, logits.argmax(1), linked, alone)


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


def _from_cache(setting: Setting, cache: Cache, tells: Collection[str] = ()) -> Outcome:
    _check_shown(setting, cache)
    missing = sorted(set(tells) - {*cache.more, *cache.params})
    if missing:
        raise ValueError(
            f"the method needs {missing} of the teacher, which its cache has not: teach(..., tells={missing})"
        )
    several = [torch.from_numpy(np.array(each.logits)) for each in cache.split()]
    if cache.own_tasks or not cache.logits.shape[1]:
        return Outcome(None, {}, None, None, 0.0, cache)  # nobody here knows their tasks, or they answer none
    for logits in several:
        if logits.shape[1] != setting.whole.num_classes:
            raise ValueError(f"the cache has {logits.shape[1]} classes, the graph {setting.whole.num_classes}")
    logits = mixture(torch.stack(several, 1)) if len(several) > 1 else several[0]
    val = score(logits[setting.observed][setting.val], setting.seen.y[setting.val])[0]
    return Outcome(None, _metrics(setting, logits.argmax(1)), None, val, 0.0, cache)


def _check_shown(setting: Setting, cache: Cache) -> None:
    """Raise ValueError unless the cache is of this graph and of the nodes that this setting shows."""
    cache.check(setting.whole.fingerprint())
    mask = torch.from_numpy(cache.observed.copy())
    if not torch.equal(mask.nonzero().flatten(), setting.observed):
        raise ValueError(
            f"the cache observed {int(mask.sum())} nodes, the setting {setting.name!r} shows {len(setting.observed)} "
            "(or others): it was written for another setting or seed"
        )
