"""One run of a comparison: teacher, student alone (the control) or student taught, under one schedule, and its log."""

from __future__ import annotations

import copy
import hashlib
import math
import numbers
import statistics
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from densekd.cache.teacher import CacheOptions
from densekd.checkpoint import load_weights
from densekd.hub.ready import is_ready_made
from densekd.methods import ONLINE, name_of
from densekd.metrics.boundary_iou import BoundaryIoU
from densekd.mmlab.config import control, is_taught, plain_model, read_config, several_teachers
from densekd.mmlab.masks import check_masks
from densekd.registry import MODELS
from densekd.runs.experiment import check_split, prepare, save_best, train
from densekd.runs.resume import last_whole_checkpoint, random_state, restore_random_state
from densekd.runs.teacher_cache import TeacherCache
from densekd.teacher import OF_THE_STUDENT
from densekd.term import Term
from kdlosses.cli.logs import ROOT, SCHEMA, Log, commit, peak_memory, read, reset_peak_memory, versions, write

SIDES = {"mmseg": "seg", "mmdet": "det", "mmdet3d": "bev"}
METRICS = {
    **{"mIoU": ("mIoU", 1), "bIoU": ("bIoU", 1), "coco/bbox_mAP": ("AP", 100)},
    **{"coco/bbox_mAP_50": ("AP50", 100), "coco/bbox_mAP_75": ("AP75", 100)},
    **{"BEV_AP50": ("BEV AP50", 1), "BEV_AP25": ("BEV AP25", 1)},
    **{"coco/segm_mAP": ("mask AP", 100), "pascal_voc/mAP": ("mAP", 100)},
}
"""What our tables call a metric, and what makes it per cent; any other keeps its name and its unit."""
WARMUP, REPEATS = 3, 20
PROTOCOL = f"one image from preprocessing to prediction, median of {REPEATS} after {WARMUP} warm-ups"
UNTRAINED = ("data_root", "checkpoint", "reported_on", "published")  # these do not change what is trained
PACKAGES = ("torch", "numpy", "mmengine", "mmcv", "mmseg", "mmdet", "mmdet3d")
TRAINED = "trained.json"  # in a run's folder: what is known of it before it is tested

Role = Literal["teacher", "control", "distilled"]


def run(
    config: Config,
    role: Role,
    seed: int,
    work_dir: str | Path,
    *,
    name: str,
    called: str | None = None,
    teacher: str | None = None,
    checkpoint: str | Path | Mapping[str | None, Path | None] | None = None,
    hooks: Sequence[Hook] = (),
    log_level: str = "INFO",
    again: bool = True,
) -> Log:
    """Train one model and measure it on the config's test set, or its validation set where it has no other.

    Nothing is selected: the last weights count. What the figures are of may stand in the config's `reported_on`.

    Args:
        config: names a `densekd.Distiller`; it is not changed.
        role: a teacher of the distiller, its student alone, or its student taught.
        seed: of everything random.
        work_dir: receives mmengine's logs and the weights, see `last_weights`.
        name: of the comparison, for the log.
        called: what the log calls the method; what the config says of it if not given, see `method`.
        teacher: for role 'teacher', which one of several. One whose weights the config names is measured only.
        checkpoint: weights of the teacher that was trained for the comparison, for role 'distilled', by name for
            several; not for one whose weights the config names, that learns, see `learns`, or has none.
        hooks: more mmengine hooks, say one that shows progress.
        log_level: what mmengine prints.
        again: train anew even where a run of the same config was trained in `work_dir` and its test failed.

    Returns:
        The log: scores as the evaluator names them, metrics of the table, parameters, latency in ms, seconds of
        training, peak memory in MiB, versions.

    Raises:
        ValueError: the config names no distiller, see `config_of`; no checkpoint was given, or one for several
            teachers; or nothing was measured.
    """
    plan = config_of(config, role, teacher)
    log: Log = {"schema": SCHEMA, "side": side(config), "name": name, "role": role}
    log |= {"method": called or method(config, role)}
    log |= {"seed": seed, "config": source(plan), "fingerprint": fingerprint(plan)}
    marks = marks_of_weights(config, role, teacher)
    log |= {"teacher_weights": marks} if marks else {}
    weights: Any = given_weights(config).get(teacher) if role == "teacher" else None
    log["schedule"] = "weights given" if weights else _schedule(plan)
    needed = _trained(config) if role == "distilled" and not learns(config) else {}
    if needed:
        if len(needed) > 1 and isinstance(checkpoint, str | Path):
            raise ValueError(
                f"the teachers {', '.join(map(str, needed))} have weights of their own: checkpoint={{name: ...}}"
            )
        found = checkpoint if isinstance(checkpoint, Mapping) else dict.fromkeys(needed, checkpoint)
        if any(found.get(each) is None for each in needed):
            raise ValueError("role 'distilled' needs the weights of the teacher: checkpoint=...")
        set_weights(plan, {**given_weights(config), **{each: str(found[each]) for each in needed}})
    plan.experiment_name = f"{name}-{role}-{seed}-{time.time_ns()}"  # mmengine shares loggers between equal names
    plan.log_level = log_level
    plan.resume = False
    data = tested_on(plan)
    if not needs_validation(plan):
        plan.val_cfg = plan.val_dataloader = plan.val_evaluator = None
    if not weights:
        keep_the_last_weights(plan)
    prepare(plan, work_dir=work_dir, seed=seed)
    done = Path(work_dir) / TRAINED
    if not again and not weights and _was_trained(done, log):
        weights, log = last_weights(work_dir), read(done)[0]
    reset_peak_memory()
    counted = _TeacherForwards()
    if weights:
        plan.load_from = None
        runner = Runner.from_cfg(plan)
        load_weights(runner.model, weights)
        log.setdefault("seconds", 0.0)
    else:
        done.unlink(missing_ok=True)
        start, busy = time.perf_counter(), time.process_time()
        runner = train(plan, [*hooks, counted, _TestSet()])
        log["seconds"] = round(time.perf_counter() - start, 1)
        log["cpu_seconds"] = round(time.process_time() - busy, 1)
        log |= {"teacher_forwards": counted.images} if role == "distilled" else {}
        log |= {"gradients": _gradients(runner)} if role == "distilled" else {}
        for hook in runner.hooks:
            if isinstance(hook, TeacherCache):
                log["teacher_cache"] = hook.told
        log["peak_memory_mb"] = peak_memory()
        write(done, log)
    log["scores"] = finite(runner.test())
    log.setdefault("peak_memory_mb", peak_memory())
    log["metrics"] = named_metrics(log["scores"], save_best(plan))
    if not log["metrics"]:
        raise ValueError(f"the evaluator of {data} returned no number: there is nothing to compare")
    log["selection"] = f"last weights, nothing selected; {plan.get('reported_on') or data}"
    log |= boundary_width(runner)
    log["params"] = count_parameters(runner.model)
    log["latency_ms"] = {"one_image": _latency(runner), "threads": torch.get_num_threads(), "protocol": PROTOCOL}
    log["versions"] = versions(*_distributions())
    log["commit"] = commit()
    done.unlink(missing_ok=True)
    return log


def boundary_width(runner: Runner) -> dict[str, float]:
    """How near an edge the pixels of the boundary IoU of a test lay, for the log."""
    widths = [each.width for each in runner.test_evaluator.metrics if isinstance(each, BoundaryIoU)]
    return {"boundary_width": widths[0]} if widths else {}


def _gradients(runner: Runner) -> dict[str, dict[str, float]]:
    """By entry the ratio and the cosine of its gradient and the task's, in the mean, and a weight that was measured."""
    found: dict[str, dict[str, float]] = {}
    for key, buffer in runner.message_hub.log_scalars.items():
        if key.startswith("train/distill.") and len(buffer.data[0]):
            what, _, name = key.removeprefix("train/distill.").partition("_")
            value = buffer.current() if what == "weight" else buffer.mean()
            if what in ("ratio", "cosine", "weight"):
                found.setdefault(name, {})[what] = float(f"{float(value):.3g}")
    return found


def check(config: Config) -> None:
    """Find what would stop the runs of a config: a split, a checkpoint or a part of the distiller that is not there.

    The distiller is built once, with a teacher yet to be trained as it starts, so that a method that does not fit the
    networks is found, too.

    Raises:
        FileNotFoundError, KeyError, TypeError, ValueError: what is wrong.
    """
    given, trained = given_weights(config), _trained(config)
    if len(given) > 1 and not isinstance(config.model.checkpoint, Mapping):
        raise ValueError(
            f"{config.filename}: checkpoint {config.model.checkpoint} is of one teacher, and there are "
            f"{', '.join(map(str, given))}: name one for each in the config, checkpoint=dict(...)"
        )
    plans = [(config_of(config, "control"), True)]
    plans += [(config_of(config, "teacher", name), name in trained) for name in rows(config)]
    for plan, is_trained in plans:
        tested_on(plan)
        if is_trained:
            check_split(plan, "train", needed=True)
    marks_of_weights(config, "distilled")
    plan = config_of(config, "distilled")
    check_masks(plan)
    if trained and not learns(config):
        set_weights(plan, {**given, **dict.fromkeys(trained, "random")})
    with torch.random.fork_rng(devices=[]), DefaultScope.overwrite_default_scope(plan.get("default_scope")):
        MODELS.build(plan.model)


def check_arguments(config: Config) -> None:
    """Find what is wrong with the arguments of a distiller by themselves, before any of them is read for a name.

    Raises:
        KeyError, TypeError, ValueError: as the distiller itself would.
    """
    model = config.model
    if "method" not in model and "distills" not in model:
        raise ValueError(f"{config.filename}: give either distills=[...] or method='...', got {', '.join(model)}")
    entries, online = model.get("distills") or [], model.get("online", ())
    if not isinstance(entries, list | tuple):
        raise TypeError(f"{config.filename}: distills is a list of entries, got {entries!r}")
    for entry in entries:
        Term.parse(entry)
    if not isinstance(online, list | tuple | set):
        raise TypeError(f"{config.filename}: online is a list of names of teachers, got {online!r}")


def pick(log: Log, metrics: Sequence[str]) -> Log:
    """Return a log with these metrics for its table, first to last; as it is if there are none to pick.

    Raises:
        ValueError: the run has no such metric; the message names those that it has.
    """
    scores: dict[str, float | None] = log.get("scores") or {}
    chosen: dict[str, float | None] = {}
    for metric in metrics:
        if metric not in scores and metric not in log["metrics"]:
            names = ", ".join(dict.fromkeys([*log["metrics"], *scores]))
            raise ValueError(
                f"{log['role']}, seed {log['seed']}, has no metric {metric!r} but {names}. Nothing is lost: its log "
                "holds them all, and the same command with one of them goes on"
            )
        known = metric in scores
        chosen.update(named_metrics({metric: scores[metric]}, ()) if known else {metric: log["metrics"][metric]})
    return {**log, "metrics": chosen} if metrics else log


def config_of(config: Config, role: Role, teacher: str | None = None) -> Config:
    """Return the config that a role is trained with; of a teacher with given weights, the one that it is tested with.

    Raises:
        ValueError: the config names no distiller, or no teacher that can be trained.
    """
    if not is_taught(config):
        raise ValueError(f"{config.filename} names no densekd.Distiller: there is nothing to compare")
    if role != "teacher":
        config = copy.deepcopy(config)
        return control(config) if role == "control" else config
    if teacher in given_weights(config):
        return _as_tested(config, _teachers(config)[teacher])
    trained = _trained(config)
    if not trained:
        raise ValueError(_no_config(config))
    return read_config(trained[teacher] if teacher in trained else next(iter(trained.values())))


def rows(config: Config) -> list[str | None]:
    """Return the names of the teachers that have a row: those whose weights are given, and those that are trained.

    Of several that learn beside the student, and are trained alone for the table only, the first. None is the name of
    the only teacher.
    """
    trained = list(_trained(config))
    return [*given_weights(config), *(trained[:1] if learns(config) else trained)]


def trained_teachers(config: Config) -> list[str | None]:
    """Return the names of the teachers that must be trained before the student, and do not learn beside it."""
    return [] if learns(config) else list(_trained(config))


def has_trained_teacher(config: Config) -> bool:
    """Whether there is a teacher to train: it does not just read labels, and the config names no weights for it."""
    return bool(_trained(config))


def learns(config: Config) -> bool:
    """Whether the teacher learns beside its student: both start untrained then."""
    trained = {name or "teacher" for name in _trained(config)}
    return _online(config) or (bool(trained) and trained <= set(config.model.get("online", ())))


def given_weights(config: Config) -> dict[str | None, str]:
    """The weights that the config names, by teacher; 'random' names none."""
    found = config.model.get("checkpoint")
    weights = {name: found.get(name) if isinstance(found, Mapping) else found for name in _teachers(config)}
    return {name: str(path) for name, path in weights.items() if path not in (None, "random")}


def marks_of_weights(config: Config, role: Role, teacher: str | None = None) -> dict[str, str]:
    """Return by teacher what distinguishes given weights: a short hash of the file, or its address on the web.

    Raises:
        FileNotFoundError: there is no such file.
    """
    given = given_weights(config) if role != "control" else {}
    return {name or "teacher": _mark(path) for name, path in given.items() if role == "distilled" or name == teacher}


def trained_weights(config: Config, role: Role, folder: Path, teacher: str | None = None) -> str | Path:
    """Where the weights of a run of `densekd compare` are: what was given for a teacher, or what was trained.

    Raises:
        FileNotFoundError: it has not been trained.
    """
    given = given_weights(config).get(teacher) if role == "teacher" else None
    found = given or last_weights(folder)
    if found is None:
        raise FileNotFoundError(f"{folder} holds no weights: run `densekd compare` with the same configs first")
    return found


def last_weights(work_dir: str | Path) -> Path | None:
    """Return the weights that a finished run left in its folder, None where there are none."""
    pointer = Path(work_dir) / "last_checkpoint"
    path = Path(work_dir) / Path(pointer.read_text().strip()).name if pointer.is_file() else None
    return path if path is not None and path.is_file() else None


def side(config: Config) -> str:
    """Return 'seg', 'det' or 'bev', from the scope of the config; any other scope as it is."""
    scope = config.get("default_scope")
    return SIDES.get(scope, scope or "dense")


def method(config: Config, role: Role) -> str:
    """Name what was done: the method or the losses of the distiller; 'supervised' for teacher and control."""
    if role != "distilled":
        return "supervised"
    if "method" in config.model:
        return name_of(config.model.method)
    return "+".join(_called(entry["loss"]) for entry in config.model.distills)


def source(config: Config) -> str:
    """Return the path of a config inside the project, or its bare name from elsewhere."""
    path = Path(config.filename or "unnamed").resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def fingerprint(config: Config) -> str:
    """Return a short hash of what a config and its teacher's say, the same wherever project and data lie."""
    plain = _plain(config._cfg_dict)
    if is_taught(config):
        found = _teachers(config).items()
        marks = {name: fingerprint(read_config(path)) for name, path in found if isinstance(path, str)}
        if None in marks:
            plain["model"]["teacher"] = marks[None]
        elif marks:
            plain["model"]["teacher"] = {**plain["model"]["teacher"], **marks}
        if isinstance(config.model.student, str):
            plain["model"]["student"] = _plain(plain_model(config.model))
    return hashlib.sha256(repr(plain).encode()).hexdigest()[:12]


def tested_on(plan: Config) -> str:
    """See that a config can be tested, by its validation set where it has no test set, and say on what.

    Raises:
        ValueError: it has neither, or an evaluator that measures nothing.
    """
    split = "test" if plan.get("test_dataloader") or not plan.get("val_dataloader") else "val"
    check_split(plan, split, needed=True)
    if split == "val":
        plan.test_dataloader, plan.test_evaluator = copy.deepcopy((plan.val_dataloader, plan.val_evaluator))
        plan.test_cfg = ConfigDict(type="TestLoop")
    evaluators = plan.test_evaluator if isinstance(plan.test_evaluator, list) else [plan.test_evaluator]
    if all(isinstance(each, Mapping) and each.get("format_only") for each in evaluators):
        raise ValueError(f"{plan.filename}: {split}_evaluator only formats results (format_only) and measures nothing")
    return f"the config's {split}_dataloader"


def differences(one: Config, other: Config) -> list[str]:
    """Name the fields in which two configs without a teacher differ, as `fingerprint` sees them."""
    return _differences(_plain(one._cfg_dict), _plain(other._cfg_dict))


def _differences(one: Any, other: Any, field: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        return [
            found
            for key in keys
            for found in _differences(one.get(key), other.get(key), f"{field}.{key}" if field else key)
        ]
    return [] if one == other else [field]


def _teachers(config: Config) -> dict[str | None, Any]:
    """The teachers with weights of their own, by name, None the name of the only one: paths or parts of configs.

    The student's moving average has none, nor has a teacher that reads labels, or one that others trained.
    """
    teacher = config.model.teacher
    if isinstance(teacher, dict) and "type" in teacher and getattr(MODELS.get(teacher["type"]), "reads_truth", False):
        return {}
    named = teacher.items() if several_teachers(teacher) else [(None, teacher)]
    return {name: each for name, each in named if each not in [*OF_THE_STUDENT] and not is_ready_made(each)}


def _trained(config: Config) -> dict[str | None, str]:
    """The configs of the teachers that the comparison has to train, by name.

    Raises:
        ValueError: one is not the path of a config.
    """
    given = given_weights(config)
    found = {name: each for name, each in _teachers(config).items() if name not in given}
    if not all(isinstance(each, str) for each in found.values()):
        raise ValueError(_no_config(config))
    return found


def _no_config(config: Config) -> str:
    return (
        f"{config.filename}: a teacher that can be trained is the path of a config; checkpoint=... names the weights "
        "of any other"
    )


def set_weights(plan: Config, weights: dict[str | None, str]) -> None:
    plan.model.checkpoint = weights.get(None, weights)


def _as_tested(config: Config, teacher: Any) -> Config:
    """The config of a teacher that is trained already: on the student's data where it has no data of its own."""
    plan = control(read_config(teacher)) if isinstance(teacher, str) else None
    if plan is not None and (plan.get("test_dataloader") or plan.get("val_dataloader")):
        return plan
    theirs: Any = teacher if plan is None else plan._cfg_dict
    theirs = theirs if "model" in theirs else {"model": theirs}
    model = ConfigDict(copy.deepcopy(dict(plain_model(theirs["model"]))))
    if "data_preprocessor" in theirs:
        model.setdefault("data_preprocessor", theirs["data_preprocessor"])
    plan = control(copy.deepcopy(config))
    plan.model = model
    return plan


@lru_cache
def _mark(path: str) -> str:
    if "://" in path:
        return path
    file = Path(path).expanduser()
    found = last_whole_checkpoint(file) if file.is_dir() else file
    if found is None or not found.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    digest = hashlib.sha256()
    with found.open("rb") as opened:
        while part := opened.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()[:12]


def _schedule(plan: Config) -> str:
    """Say how long a config trains: '600 iterations of 8', '12 epochs of 16'."""
    unit, length = length_of(plan)
    loader = plan.train_dataloader
    batch = loader.get("batch_size") or (loader.get("batch_sampler") or {}).get("batch_size")
    return (f"{length} {unit}" if length else "its own loop") + (f" of {batch}" if batch else "")


def length_of(plan: Config) -> tuple[str, int | None]:
    epochs = plan.train_cfg.get("max_epochs")
    return ("iterations", plan.train_cfg.get("max_iters")) if epochs is None else ("epochs", epochs)


def keep_the_last_weights(plan: Config) -> None:
    """Have one checkpoint written, at the end, into the run's folder."""
    unit, length = length_of(plan)
    hooks = plan.default_hooks = ConfigDict(plan.get("default_hooks") or {})
    hook = hooks.get("checkpoint") or ConfigDict(type="CheckpointHook")
    hook.pop("out_dir", None)
    hook.update(save_optimizer=False, save_last=True, by_epoch=unit == "epochs")
    hook.update(interval=length or -1)
    hooks.checkpoint = hook


def needs_validation(plan: Config) -> bool:
    """Whether the schedule follows the scores of the validation."""
    rates = plan.get("param_scheduler") or []
    found = [*(rates if isinstance(rates, list) else [rates]), *(plan.get("custom_hooks") or [])]
    kinds = [
        getattr(each.get("type"), "__name__", str(each.get("type"))) for each in found if isinstance(each, Mapping)
    ]
    return any("ReduceOnPlateau" in kind or "EarlyStopping" in kind for kind in kinds)


class _TestSet(Hook):
    """Finds before the training what would stop the test after it: data that is not there, an unknown evaluator."""

    priority = "LOWEST"

    def before_train(self, runner: Runner) -> None:
        state = random_state()
        assert runner.test_loop is not None  # built now, when it is first asked for
        restore_random_state(state)


class _TeacherForwards(Hook):
    """Count the images that teachers see during the training; of batches of several sensors, the frames."""

    priority = "VERY_HIGH"  # a cache is filled before the training, too

    def __init__(self) -> None:
        self.images = 0

    def before_train(self, runner: Runner) -> None:
        model: Any = runner.model
        for teacher in getattr(getattr(model, "module", model), "teachers", {}).values():
            teacher.model.register_forward_pre_hook(self._count)

    def _count(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        self.images += len(args[0]) if isinstance(args[0], torch.Tensor) else len(args[1])


def _was_trained(path: Path, log: Log) -> bool:
    """Whether the log of a trained model, not tested yet, is of this very run, and its weights are there."""
    if not path.is_file() or last_weights(path.parent) is None:
        return False
    (found,) = read(path)
    return all(found.get(key) == log.get(key) for key in ("role", "seed", "fingerprint", "teacher_weights", "schedule"))


def finite(scores: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers among scores; None stands for one that is not finite."""
    found = {}
    for key, value in scores.items():
        single = value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
        if isinstance(single, numbers.Real):
            found[key] = float(single) if math.isfinite(single) else None
    return found


def named_metrics(scores: Mapping[str, float | None], first: Sequence[Any]) -> dict[str, float | None]:
    """Metrics for a table: those of `first`, then those that we know, by our names; all where there is none."""
    keys = [key for key in dict.fromkeys([*first, *METRICS]) if key in scores] or list(scores)
    named = [(*METRICS.get(key, (key, 1)), scores[key]) for key in keys]
    return {short: None if value is None else round(factor * value, 4) for short, factor, value in named}


def _online(config: Config) -> bool:
    """Whether the method has all its teachers learn."""
    method = config.model.get("method")
    return method is not None and name_of(method) in ONLINE


def _called(loss: Any) -> str:
    """Name a loss, a policy with what it is around: 'until(cwd)'."""
    if not isinstance(loss, dict):
        return str(getattr(loss, "__name__", loss))
    stages = [each[1] if isinstance(each, list | tuple) else each for each in loss.get("losses", ())]
    inside = [_called(each) for each in ([loss["loss"]] if "loss" in loss else stages) if each is not None]
    return _called(loss["type"]) + (f"({', '.join(inside)})" if inside else "")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _way_to_keep(value[key]) if key == "teacher_cache" else _plain(value[key])
            for key in sorted(value)
            if key not in UNTRAINED
        }
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _way_to_keep(teacher_cache: Any) -> Any:
    """What of a cache changes the outputs that it yields: not where it lies."""
    return {**CacheOptions.parse(teacher_cache)._asdict(), "path": ""} if teacher_cache else None


def count_parameters(model: torch.nn.Module) -> int:
    connectors = getattr(model, "distill", torch.nn.Module())
    return sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in connectors.parameters())


def _first(value: Any) -> Any:
    """The first sample of a batch: dicts, of sensors say, of lists or tensors."""
    return {key: _first(each) for key, each in value.items()} if isinstance(value, dict) else value[:1]


@torch.inference_mode()
def _latency(runner: Runner) -> float:
    model = runner.model.eval()
    batch = next(iter(runner.test_dataloader))
    batch = _first(batch) if isinstance(batch, dict) else batch
    seconds = []
    for _ in range(WARMUP + REPEATS):
        start = time.perf_counter()
        model.test_step(batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[WARMUP:])


def _distributions() -> list[str]:
    """Names under which the packages are installed here: OpenMMLab's own, or those of its continuation."""
    names = packages_distributions()
    return [names[package][0] for package in PACKAGES if package in names]
