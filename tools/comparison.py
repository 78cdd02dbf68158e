"""One run of a comparison: teacher, student alone (the control) or student taught, under one schedule, and its log."""

from __future__ import annotations

import copy
import hashlib
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Literal

import torch
from logs import ROOT, SCHEMA, Log, commit, peak_memory, reset_peak_memory, versions
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from densekd.config import control, is_taught, read_config
from densekd.experiment import prepare, train
from densekd.methods import ONLINE, name_of
from densekd.registry import MODELS

SIDES = {"mmseg": "seg", "mmdet": "det", "mmdet3d": "bev"}
METRICS = {
    **{"mIoU": ("mIoU", 1), "bIoU": ("bIoU", 1), "coco/bbox_mAP": ("AP", 100), "coco/bbox_mAP_50": ("AP50", 100)},
    **{"BEV_AP50": ("BEV AP50", 1), "BEV_AP25": ("BEV AP25", 1)},
}
WARMUP, REPEATS = 3, 20
PROTOCOL = f"one image from preprocessing to prediction, median of {REPEATS} after {WARMUP} warm-ups"
UNTRAINED = ("data_root", "checkpoint", "reported_on", "published")  # these do not change what is trained
PACKAGES = ("torch", "numpy", "mmengine", "mmcv", "mmseg", "mmdet", "mmdet3d")

Role = Literal["teacher", "control", "distilled"]


def run(
    config: Config,
    role: Role,
    seed: int,
    work_dir: str | Path,
    *,
    name: str,
    called: str | None = None,
    checkpoint: str | Path | None = None,
    hooks: Sequence[Hook] = (),
    log_level: str = "INFO",
) -> Log:
    """Train one model and measure it on the config's test set.

    Nothing is selected: the last weights count. What the figures are of stands in the config's `reported_on`.

    Args:
        config: names a `densekd.Distiller`; it is not changed.
        role: the teacher of the distiller, its student alone, or its student taught.
        seed: of everything random.
        work_dir: receives mmengine's logs and the weights, see `last_weights`.
        name: of the comparison, for the log.
        called: what the log calls the method; what the config says of it if not given, see `method`.
        checkpoint: the teacher's weights, for role 'distilled'; not for a teacher that learns beside its student, see
            `learns`, or that has none, see `has_trained_teacher`.
        hooks: more mmengine hooks, say one that shows progress.
        log_level: what mmengine prints.

    Returns:
        The log: metrics in per cent, parameters, latency in ms, seconds of training, peak memory in MiB, versions.

    Raises:
        ValueError: the config names no distiller with one teacher to be trained, or no checkpoint was given.
    """
    plan = config_of(config, role)
    log: Log = {"schema": SCHEMA, "side": side(config), "name": name, "role": role}
    log |= {"method": called or method(config, role)}
    log |= {"seed": seed, "config": source(plan), "fingerprint": fingerprint(plan)}
    log |= {"schedule": f"{plan.train_cfg.max_iters} iterations of {plan.train_dataloader.batch_size}"}
    if role == "distilled" and has_trained_teacher(config) and not learns(config):
        if checkpoint is None:
            raise ValueError("role 'distilled' needs the weights of the teacher: checkpoint=...")
        name_of = _trained(config)[0]
        plan.model.checkpoint = str(checkpoint) if name_of is None else {name_of: str(checkpoint)}
    plan.experiment_name = f"{name}-{role}-{seed}-{time.time_ns()}"  # mmengine shares loggers between equal names
    plan.log_level = log_level
    plan.val_cfg = plan.val_dataloader = plan.val_evaluator = None
    plan.default_hooks.checkpoint.update(interval=plan.train_cfg.max_iters, save_optimizer=False)
    prepare(plan, work_dir=work_dir, seed=seed)
    reset_peak_memory()
    start = time.perf_counter()
    runner = train(plan, hooks)
    log["seconds"] = round(time.perf_counter() - start, 1)
    log["peak_memory_mb"] = peak_memory()
    scores = runner.test()
    known = {key: METRICS[key] for key in METRICS if key in scores}
    log["metrics"] = {short: round(factor * float(scores[key]), 4) for key, (short, factor) in known.items()}
    log["selection"] = f"last weights, nothing selected; {plan.reported_on}"
    log["params"] = _count(runner.model)
    log["latency_ms"] = {"one_image": _latency(runner), "threads": torch.get_num_threads(), "protocol": PROTOCOL}
    log["versions"] = versions(*_distributions())
    log["commit"] = commit()
    return log


def config_of(config: Config, role: Role) -> Config:
    """Return the config that a role is trained with.

    Raises:
        ValueError: the config names no distiller with one teacher to be trained.
    """
    if not is_taught(config):
        raise ValueError(f"{config.filename} names no densekd.Distiller: there is nothing to compare")
    if role == "teacher":
        return read_config(_trained(config)[1])
    config = copy.deepcopy(config)
    return control(config) if role == "control" else config


def has_trained_teacher(config: Config) -> bool:
    """Whether the distiller has a teacher that can be trained, and does not just read the labels."""
    return bool(_teachers(config))


def learns(config: Config) -> bool:
    """Whether the teacher learns beside its student: both start untrained then."""
    return _online(config) or (_trained(config)[0] or "teacher") in config.model.get("online", ())


def last_weights(work_dir: str | Path) -> Path | None:
    """Return the weights that a finished run left in its folder, None where there are none."""
    pointer = Path(work_dir) / "last_checkpoint"
    path = Path(work_dir) / Path(pointer.read_text().strip()).name if pointer.is_file() else None
    return path if path is not None and path.is_file() else None


def side(config: Config) -> str:
    """Return 'seg', 'det' or 'bev', from the scope of the config."""
    return SIDES[config.default_scope]


def method(config: Config, role: Role) -> str:
    """Name what was done: the method or the losses of the distiller; 'supervised' for teacher and control."""
    if role != "distilled":
        return "supervised"
    if "method" in config.model:
        return name_of(config.model.method)
    return "+".join(_called(entry["loss"]) for entry in config.model.distills)


def source(config: Config) -> str:
    """Return the path of a config inside the project, or its bare name from elsewhere."""
    path = Path(config.filename).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def fingerprint(config: Config) -> str:
    """Return a short hash of what a config and its teacher's say, the same wherever project and data lie."""
    plain = _plain(config._cfg_dict)
    if is_taught(config):
        marks = {name: fingerprint(read_config(path)) for name, path in _teachers(config).items()}
        plain["model"]["teacher"] = marks[None] if None in marks else {**plain["model"]["teacher"], **marks}
    return hashlib.sha256(repr(plain).encode()).hexdigest()[:12]


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


def _trained(config: Config) -> tuple[str | None, str]:
    """Return the name (None where there is one teacher only) and the config of the teacher that is to be trained.

    Of several that learn beside the student, and are trained alone for the table only, the first.
    """
    return next(iter(_teachers(config).items()))


def _teachers(config: Config) -> dict[str | None, str]:
    """The configs of the teachers, by name: one, None its name where it has none, or several that learn.

    None at all where the teacher reads labels and has nothing to train.
    """
    teacher = config.model.teacher
    if isinstance(teacher, dict) and "type" in teacher and getattr(MODELS.get(teacher["type"]), "reads_truth", False):
        return {}
    several = isinstance(teacher, dict) and "type" not in teacher and "model" not in teacher
    found = {name: each for name, each in (teacher.items() if several else [(None, teacher)]) if each != "ema"}
    if not all(isinstance(each, str) for each in found.values()) or not (len(found) == 1 or _online(config)):
        raise ValueError(f"{config.filename}: a teacher that can be trained is the path of a config, and there is one")
    return found


def _online(config: Config) -> bool:
    """Whether the method has all its teachers learn."""
    method = config.model.get("method")
    return method is not None and name_of(method) in ONLINE


def _called(loss: Any) -> str:
    """Name a loss, a policy with what it is around: 'until(cwd)'."""
    if not isinstance(loss, dict):
        return loss
    stages = [each[1] if isinstance(each, list | tuple) else each for each in loss.get("losses", ())]
    inside = [_called(each) for each in ([loss["loss"]] if "loss" in loss else stages) if each is not None]
    return loss["type"] + (f"({', '.join(inside)})" if inside else "")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value) if key not in UNTRAINED}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _count(model: torch.nn.Module) -> int:
    connectors = getattr(model, "distill", torch.nn.Module())
    return sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in connectors.parameters())


def _first(value: Any) -> Any:
    """The first sample of a batch, of a dict of sensors as well."""
    return {key: each[:1] for key, each in value.items()} if isinstance(value, dict) else value[:1]


@torch.inference_mode()
def _latency(runner: Runner) -> float:
    model = runner.model.eval()
    batch = next(iter(runner.test_dataloader))
    batch = {key: _first(value) for key, value in batch.items()}
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
