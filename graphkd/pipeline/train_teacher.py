"""Train a teacher on the visible part of a setting."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.data import Setting, restrict
from graphkd.pipeline.arguments import (
    as_cache,
    as_json,
    bound_options,
    built,
    built_on,
    checked_seed,
    name_of,
)
from graphkd.pipeline.checks import check_classes, check_shown, check_teachers, warn_unless
from graphkd.pipeline.measure import (
    evaluation,
    measures_of,
    metrics_of,
    readable_setting,
    setting_outputs,
    spread,
    teacher_metrics,
)
from graphkd.pipeline.outcome import MethodSpec, Outcome, TeacherSpec, TeacherSpecs
from graphkd.pipeline.teacher_spec import listed, parse_teacher
from graphkd.recipes import OF_GRAPH_NETWORKS
from graphkd.spec import resolve
from graphkd.teachers import TEACHERS, TUNES
from graphkd.teachers.call import call, call_some, outputs, place_of
from graphkd.teachers.ensemble import Ensemble
from graphkd.teachers.live import Live
from graphkd.teachers.taps import with_taps
from graphkd.teachers.units import in_units
from graphkd.training.cache import Cache, warn_of_probabilities
from graphkd.training.lesson import Lesson
from graphkd.training.loop import Clock, History, Loss, Schedule, train, with_own
from graphkd.training.task import TASKS
from graphkd.training.units import Units
from graphkd.training.watch import HERE, Callback, Run
from kdlosses.experts import experts
from kdlosses.taps import at_rest


def train_teacher(
    setting: Setting,
    teacher: TeacherSpecs = "sage",
    seed: int = 0,
    extras: Collection[str] = (),
    as_given: Setting | None = None,
    *,
    device: Any = None,
    amp: bool = False,
    progress: bool = False,
    callback: Callback | None = None,
) -> Outcome:
    """Train a teacher on the visible part of a setting and store its outputs in a cache.

    A teacher may say by `taps`, paths of modules as `dict(type=builder, taps=['convs.0'])` or `dict(module=network,
    taps=['convs.0'])`, where its hidden layers are read, see `graphkd.teachers.taps`.

    The dict of a teacher to be trained here may also have the options `shard`, `known`, `task` and
    `soft` of `graphkd.data.restrict`, which restrict its labels, change its task or make its targets tolerant.

    It may itself be taught by the cache of another teacher, `source`, such as that of a language model, with `method`,
    one of `graphkd.recipes.OF_GRAPH_NETWORKS`. With `inputs`, a number, it reads that hidden layer of the source in
    place of the graph's features; with `inputs=dict(top=k)` which classes the source finds most probable, from the
    first to the k-th, each as C columns of which one is 1.

    With `tune`, one of `graphkd.teachers.TUNES` like `dict(type='mcmi', lam=0.15)`, it is fine-tuned for its students
    after that. With `epochs=0` it keeps its random initial weights: the control for a trained teacher.

    Several teachers are trained one by one, number k with `seed + 1000 k`, and leave one cache, see `Cache.join`. Their
    prediction is the mean of theirs; if they have tasks of their own, their metrics are the means of their own metrics.

    `extras` names outputs of a single teacher beyond logits and hidden layers, see `graphkd.recipes.EXTRAS`: `noisy`,
    its logits when every feature has a normal number added, or `weights`, its parameters under their names. A network
    with a method `extras(x, edge_index) -> (more, params)` adds what that returns, by name, of each node and of itself.

    A module that comes ready is run as it is, in evaluation mode and in its own dtype, on `as_given` if there is one:
    the same setting with the edges as they were before `undirected`. It says on what split it was trained by an
    attribute `trained_on`, the `Split.fingerprint` of that; a cache by `split` in its settings, where this function
    writes it. Of one that says nothing, or another split, there is a warning: it may have seen test nodes.

    Of numbers it learns standardised ones, with the mean and the deviation of the training nodes, and answers in the
    user's units, see `graphkd.teachers.units.in_units`; so do its cache and its metrics.

    A teacher that learns from labels is trained on `device` (the CPU, `cuda`, `auto`), with `amp` in bfloat16, and
    comes back on the CPU. `callback` and a bar, with `progress`, are told of each epoch, see `graphkd.training.watch`.
    """
    seed, run = checked_seed(seed), Run.of(device, amp, progress, callback)
    teachers = [as_cache(each, setting.whole) for each in listed(teacher)]
    check_teachers(setting, teachers, as_given)  # a typo in the last is found before the first is trained
    if len(teachers) > 1:
        outcomes = [
            _train_one(setting, each, seed + 1000 * k, seed, as_given=as_given, run=run)
            for k, each in enumerate(teachers)
        ]
        views = [as_given or setting if isinstance(each, nn.Module) else setting for each in teachers]
        return _joined(setting, outcomes, views)
    return _train_one(setting, teachers[0], seed, seed, extras, as_given, run)


def _train_one(
    setting: Setting,
    teacher: TeacherSpec,
    seed: int,
    deal: int,
    extras: Collection[str] = (),
    as_given: Setting | None = None,
    run: Run = HERE,
) -> Outcome:
    if isinstance(teacher, Cache):
        return _from_cache(setting, teacher, deal, extras)
    if isinstance(teacher, nn.Module):
        trained_on = getattr(teacher, "trained_on", None)
        warn_unless(trained_on == setting.mark(), f"the {type(teacher).__name__}", trained_on is not None)
        with at_rest(teacher):
            told: dict[str, Any] = {"type": type(teacher).__name__}
            return _answered(setting, teacher, as_given or setting, told, seed, extras, trained_on, History())
    builder, options, schedule, share, tune, taught, taps = parse_teacher(teacher)
    told = {"type": name_of(builder), **bound_options(builder), **options, **vars(schedule), **share}
    told |= ({"tune": tune} if tune else {}) | ({"taps": taps} if taps else {})
    view = restrict(setting, **share, seed=deal)
    if taught:
        source = taught["source"]
        told |= {**taught, "source": source.settings.get("teacher")}
        view = _reading(view, source, taught.get("inputs"))
    if "method" in taught and (run.amp or run.device.type != "cpu"):
        raise ValueError(f"a teacher that is itself taught learns on the CPU, in float32, not on {str(run.device)!r}")
    with torch.random.fork_rng(devices=[]), run.watched("teacher") as tell:
        torch.manual_seed(seed)
        network = with_taps(built_on(view.seen, builder, options), taps)
        view = readable_setting(network, view)
        before = getattr(network, "before_training", None)
        if before is not None and view.seen.reads is None:
            before(view)
        if builder not in TEACHERS.values():  # one of the user's own, which may read something else
            with at_rest(network), torch.no_grad():
                outputs(network, view.seen)
        if "method" in taught:
            history = _train_taught(network, view, schedule, taught["source"], taught["method"], seed, tell)
        else:
            history = _train_from_labels(network, view, schedule, tune, run, tell)
    network.trained_on = setting.mark()  # type: ignore[assignment]
    outcome = _answered(setting, network, view, told, seed, extras, setting.mark(), history)
    if "inputs" in taught:
        outcome.x, outcome.live = view.whole.x, None  # it reads no features of the graph
    return outcome


def _answered(
    setting: Setting,
    network: nn.Module,
    view: Setting,
    told: dict[str, Any],
    seed: int,
    extras: Collection[str],
    trained_on: str | None,
    history: History,
) -> Outcome:
    """Outputs of a trained network on the nodes of `view`, which has features and edges as the network reads them."""
    view = readable_setting(network, view)
    hidden, logits = setting_outputs(network, view)
    if setting.whole.task == "single-label":
        warn_of_probabilities(logits, np.isfinite(logits[:, 0].numpy()), stacklevel=6)
    more, params = _extras(network, view, extras, seed)
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
    metrics = teacher_metrics([network], [view], view, logits)
    live = Live([network], [view.seen]) if view.seen.reads is None else None
    return Outcome(network, metrics, history.oracle, history.score, sum(history.seconds), cache, live=live)


def _joined(setting: Setting, outcomes: Sequence[Outcome], views: Sequence[Setting]) -> Outcome:
    """Join several teachers into one outcome; each is evaluated on its own view."""
    networks = [outcome.model for outcome in outcomes]
    own = [readable_setting(nn.Identity(), setting).whole.x if each.x is None else each.x for each in outcomes]
    unlike = any(outcome.x is not None for outcome in outcomes)  # what they read
    widths = [x.shape[1] for x in own] if unlike else []
    cache = Cache.join([outcome.cache for outcome in outcomes if outcome.cache is not None])
    lives = [outcome.live for outcome in outcomes]
    live = Live(networks, [graph for each in lives if each for graph in each.graphs]) if all(lives) else None
    marks = {outcome.cache.settings.get("split") for outcome in outcomes if outcome.cache is not None}
    cache = replace(cache, settings={**cache.settings, "split": marks.pop() if len(marks) == 1 else None})
    classes = setting.whole.num_classes
    network = None if None in networks else Ensemble(networks, widths, None if cache.own_tasks else classes)
    if network is not None:
        network.training = False  # its members stay in the modes in which they are
    if cache.own_tasks:
        keys = outcomes[0].metrics.keys()
        metrics = {key: statistics.mean(outcome.metrics[key] for outcome in outcomes) for key in keys}
        return Outcome(network, metrics, None, None, sum(outcome.seconds for outcome in outcomes), cache, live=live)
    logits = TASKS[setting.whole.task].together(experts(torch.from_numpy(cache.logits), classes, "teach"))
    val = measures_of(setting)[0].both(logits[setting.observed][setting.val], setting.seen.y[setting.val])[0]
    metrics = metrics_of(setting, logits) if network is None else teacher_metrics(networks, views, setting, logits)
    x = torch.cat(own, 1) if unlike else None
    return Outcome(network, metrics, None, val, sum(outcome.seconds for outcome in outcomes), cache, x, live=live)


def _train_from_labels(
    network: nn.Module, setting: Setting, schedule: Schedule, tune: Any, run: Run, tell: Callback | None
) -> History:
    network.to(run.device)
    moved = {key: getattr(setting.seen, key) for key in ("x", "edge_index", "edge_weight")}
    moved = {key: None if each is None else each.to(run.device) for key, each in moved.items()}
    seen, labels = replace(setting.seen, **moved), setting.seen.y
    units = None
    if seen.task == "regression" and not isinstance(network, torch.jit.ScriptModule):  # which takes no hook
        units = Units.of(labels[setting.train])
        labels = units.standard(labels)
    setting = replace(setting, seen=seen)

    def loss(nodes: Tensor | slice) -> Tensor:
        with run.autocast():
            logits = call_some(network, seen, setting.train)
        return TASKS[seen.task].hard(logits, labels[setting.train])

    evaluate = evaluation(network, setting, units)
    history = train(network, with_own(loss, network), len(seen), schedule=schedule, evaluate=evaluate, callback=tell)
    network.eval()  # also after no epoch at all
    if units is not None:
        with torch.no_grad():
            in_units(network, units, place_of(network, seen))
    if tune is not None:
        tuned, options = resolve("tune", tune, TUNES)
        history.seconds += tuned(network, setting, **options).seconds
        (history.score, _), monitored = evaluate()
        history.oracle = monitored if monitored is None else max(history.oracle or 0.0, monitored)
    network.cpu()
    return history


def _train_taught(
    network: nn.Module,
    setting: Setting,
    schedule: Schedule,
    source: Cache,
    method: MethodSpec,
    seed: int,
    tell: Callback | None,
) -> History:
    """Train a graph network as the student of another teacher."""
    recipe, options = resolve("method", method, OF_GRAPH_NETWORKS)
    seen, shown = setting.seen, source.take(setting.observed.numpy())
    labels = torch.full((len(seen),), -1)
    labels[setting.train] = seen.y[setting.train]
    generator, clock = torch.Generator().manual_seed(seed), Clock()
    evaluate = evaluation(network, setting)
    known: dict[str, Any] = dict(schedule=schedule, evaluate=evaluate, generator=generator, clock=clock, callback=tell)

    def loop(model: nn.Module, loss: Loss, nodes: int, **options: Any) -> History:
        return train(model, with_own(loss, network), nodes, **{**known, **options})

    lesson = Lesson(
        *(seen.x, labels, loop, generator, shown.logits if shown.logits.shape[1] else None, seen.edge_index),
        *(schedule.batch_size, shown.hidden, clock, shown.parts, shown.own_tasks, shown.more),
    )
    history = recipe(network, lesson, **options)
    network.eval()
    return history


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
            "a teacher that reads another one's hidden layer has it for seen nodes only; use the setting 'tran'"
        )
    if isinstance(inputs, Mapping):
        scores = torch.from_numpy(np.array(source.logits))
        ranked = scores.argsort(dim=1, descending=True, stable=True)[:, : inputs["top"]]
        x = F.one_hot(ranked, classes).flatten(1).float()
    else:
        x = torch.from_numpy(np.array(source.hidden[inputs], dtype=np.float32))
    return replace(setting, seen=replace(setting.seen, x=x), whole=replace(setting.whole, x=x))


@torch.inference_mode()
def _extras(
    network: nn.Module, setting: Setting, extras: Collection[str], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Extra outputs of a teacher, of each node and of itself, see `train_teacher`."""
    seen = setting.seen
    own = getattr(network, "extras", None) or _old_extras(network)
    more, params = ({}, {}) if own is None or seen.reads is not None else own(seen.x, seen.edge_index)
    if "noisy" in extras and seen.reads is not None:
        raise ValueError(f"the method adds noise to the features of nodes; it is not for {seen.reads.what}")
    if "noisy" in extras:
        noise = torch.randn(seen.x.shape, generator=torch.Generator().manual_seed(seed))
        noisy = call(network, seen.x.to_dense() + noise, seen.edge_index, seen.edge_weight, seen.num_classes)
        more = {**more, "noisy": noisy}
    if "weights" in extras:
        params = {**params, **network.state_dict()}
    return (
        {name: spread(_on_cpu(told), setting).numpy() for name, told in more.items()},
        {name: _on_cpu(told).numpy() for name, told in params.items()},
    )


def _old_extras(network: nn.Module) -> Any:
    own = getattr(network, "tells", None)
    if own is not None:
        warnings.warn(
            f"the method {type(network).__name__}.tells is now called extras; the old name is removed in the next "
            "version",
            DeprecationWarning,
            stacklevel=2,
        )
    return own


def _on_cpu(told: Tensor) -> Tensor:
    """As NumPy has it: there is no bfloat16."""
    return told.cpu().float() if told.dtype is torch.bfloat16 else told.cpu()


def _from_cache(setting: Setting, cache: Cache, seed: int, extras: Collection[str] = ()) -> Outcome:
    check_shown(setting, cache)
    if cache.logits.shape[1]:
        saw, before = cache.settings.get("split"), "split" not in cache.settings
        alike = all(cache.settings.get(k) == v for k, v in (("setting", setting.name), ("seed", seed)))
        warn_unless(saw == setting.mark() or (before and alike), "the cached teacher", saw is not None)
    missing = sorted(set(extras) - {*cache.more, *cache.params})
    if missing:
        raise ValueError(
            f"the method needs {missing} of the teacher, which its cache does not have: pass extras={missing} to "
            "train_teacher"
        )
    check_classes(setting, cache)
    for each in () if cache.own_tasks or setting.whole.task != "single-label" else cache.split():
        warn_of_probabilities(each.logits, cache.observed, stacklevel=6)
    live = _revived(setting, cache)
    if cache.own_tasks or not cache.logits.shape[1]:
        return Outcome(None, {}, None, None, 0.0, cache, live=live)  # with unknown tasks, or without logits
    several = [torch.from_numpy(np.array(each.logits)) for each in cache.split()]
    logits = TASKS[setting.whole.task].together(torch.stack(several, 1)) if len(several) > 1 else several[0]
    val = measures_of(setting)[0].both(logits[setting.observed][setting.val], setting.seen.y[setting.val])[0]
    return Outcome(None, metrics_of(setting, logits), None, val, 0.0, cache, live=live)


def _revived(setting: Setting, cache: Cache) -> Live | None:
    """The network of a cache that holds its weights, if it was built by a name of `graphkd.teachers`."""
    told, seen = cache.settings.get("teacher"), setting.seen
    if not isinstance(told, Mapping) or not cache.params or "inputs" in told or seen.reads is not None:
        return None
    if told.get("type") not in TEACHERS or seen.task != "single-label":
        return None
    about = ("tune", "taps", "source", "method", "shard", "known", "task")
    try:
        spec = {key: value for key, value in told.items() if key not in about}
        builder, options, *_ = parse_teacher(spec)
        with torch.random.fork_rng(devices=[]):
            network = built(builder, seen.x.shape[1], cache.logits.shape[1], options)
        kept = {name: torch.from_numpy(np.array(cache.params[name])) for name in network.state_dict()}
        network.load_state_dict(kept)
    except (KeyError, TypeError, ValueError, RuntimeError):  # weights of something else
        return None
    return Live([network.eval()], [replace(seen, num_classes=cache.logits.shape[1])])
