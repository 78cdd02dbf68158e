"""Prepare a config for a run on this machine, check its data, and train."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import FlexibleRunner, Runner
from torch import distributed

from densekd.checkpoint import refuse_unsafe_checkpoints
from densekd.metrics.boundary_iou import beside_iou
from densekd.mmlab.config import is_taught
from densekd.mmlab.masks import check_masks
from densekd.runs.resume import FULL_DISK, last_whole_checkpoint, write_whole_files
from densekd.runs.strategy import distribute_on_cpu, read_environment, use_strategy


def prepare(
    config: Config,
    *,
    work_dir: str | Path,
    seed: int | None = None,
    amp: bool = False,
    resume: bool | str | Path = False,
    launcher: str = "none",
    strategy: str | None = None,
    unsafe: bool = False,
) -> Config:
    """Complete a config for a run: folder, seed, precision, checkpoint, launcher.

    Beside mmseg's `IoUMetric` a validation and a test also measure `densekd.BoundaryIoU`, unless the config does.

    Args:
        config: with the plain or the distilled model, see `densekd.mmlab.config`; changed and returned.
        work_dir: where checkpoints and logs go.
        seed: of all random generators; mmengine draws one if not given.
        amp: mixed precision: float16 with loss scaling on a GPU, bfloat16 on a CPU.
        resume: from the latest whole checkpoint in `work_dir` if True, or from the given one; without one in
            `work_dir` the training starts as it would have.
        launcher: as mmengine's, 'none', 'pytorch', 'slurm' or 'mpi'; without a GPU the processes communicate by gloo.
        strategy: 'ddp', 'fsdp' or 'deepspeed', see `densekd.runs.strategy.use_strategy`; the config's own if not given.
        unsafe: allow checkpoints and data files (.pkl) that need a full unpickling, which runs the code in them.

    Raises:
        FileNotFoundError: the checkpoint to resume from is not there.
        ValueError: the config lacks a part of a split or trains for no step, an entry needs masks that are not loaded,
            no checkpoint is whole, or no launcher started this process.
    """
    for split in ("train", "val", "test"):
        check_split(config, split)
    if is_taught(config):
        check_masks(config)
    measure_boundaries(config)
    for length in ("max_epochs", "max_iters"):
        given = (config.get("train_cfg") or {}).get(length, 1)
        if isinstance(given, Real) and given < 1:
            raise ValueError(f"config {config.filename}: train_cfg.{length} must be at least 1, got {given}")
    read_environment(launcher)
    use_strategy(config, strategy, launcher)
    config.work_dir = str(work_dir)
    config.launcher = launcher
    if seed is not None:
        config.randomness = ConfigDict(config.get("randomness") or {}, seed=seed)
    if amp:
        _use_amp(config)
    if resume or (config.get("resume") and not config.get("load_from")):
        _resume(config, config.work_dir if isinstance(resume, bool) else resume)
    if config.get("train_dataloader"):
        config.train_dataloader["persistent_workers"] = False  # as ExactResume needs
    config.custom_hooks = [*(config.get("custom_hooks") or []), ConfigDict(type="densekd.ExactResume")]
    if is_taught(config) and config.model.get("teacher_cache"):
        given = [hook for hook in config.custom_hooks if hook.get("type") == "densekd.TeacherCache"]
        config.custom_hooks += [] if given else [ConfigDict(type="densekd.TeacherCache")]
    checkpoint = (config.get("default_hooks") or {}).get("checkpoint") or {}
    if checkpoint.get("max_keep_ckpts") == 1:  # the old one is deleted before the new one is written
        checkpoint["max_keep_ckpts"] = 2
    if launcher != "none" and get_device() == "cpu":
        distribute_on_cpu(config)
    write_whole_files()
    refuse_unsafe_checkpoints(not unsafe)
    if unsafe and is_taught(config):
        config.model["unsafe"] = True
    return config


def train(config: Config, hooks: Iterable[Hook] = ()) -> Runner:
    """Build mmengine's runner from a prepared config, check the data, train, and return the runner.

    Args:
        config: see `prepare`.
        hooks: live hooks beside those of the config, which can only hold text.

    Raises:
        OSError: the disk is full; the message names it, and says how to continue.
        ValueError: there is no training data, a split is empty, or `save_best` is no metric of the validation.
    """
    if not config.get("train_dataloader"):
        raise ValueError(f"config {config.filename} has no {_all_of('train')}: there is nothing to train on")
    runner: Any = (FlexibleRunner if config.get("strategy") else Runner).from_cfg(config)
    for split in ("train", "val"):
        if config.get(f"{split}_dataloader"):
            _check_not_empty(runner, split)
    for hook in hooks:
        runner.register_hook(hook)
    with _words_for(config):
        runner.train()
    return runner


def check_split(config: Config, split: str, needed: bool = False) -> None:
    """Check that a config has all parts of a split, 'train', 'val' or 'test', or none of them.

    Raises:
        ValueError: a part is missing, or all are and the split is `needed`.
    """
    missing = [part for part in _PARTS[split] if config.get(part) is None]
    if missing and (needed or len(missing) < len(_PARTS[split])):
        raise ValueError(f"config {config.filename} has no {', '.join(missing)}; give {_all_of(split)}")


def save_best(config: Config) -> list[Any]:
    """The metrics by which a config keeps its best checkpoint."""
    best = ((config.get("default_hooks") or {}).get("checkpoint") or {}).get("save_best")
    return list(best) if isinstance(best, list) else [] if best is None else [best]


def measure_boundaries(config: Config) -> None:
    """Have the IoU near edges measured wherever mmseg's is, see `densekd.metrics.boundary_iou.beside_iou`."""
    for evaluator in ("val_evaluator", "test_evaluator"):
        if config.get(evaluator) is not None:
            config[evaluator] = beside_iou(config[evaluator])


def shutdown_distributed() -> None:
    """Shut down torch.distributed if it was initialised; leftover threads can crash the interpreter's exit."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


_PARTS = {
    "train": ("train_dataloader", "train_cfg", "optim_wrapper"),
    "val": ("val_dataloader", "val_cfg", "val_evaluator"),
    "test": ("test_dataloader", "test_cfg", "test_evaluator"),
}


def _all_of(split: str) -> str:
    *first, last = _PARTS[split]
    return f"{', '.join(first)} and {last}"


def _resume(config: Config, source: str | Path) -> None:
    """Resume from a checkpoint or from the latest one in a folder; start as configured if there is none."""
    path = Path(source)
    found: Any
    if "://" in str(source) or path.is_file():
        found = source
    elif path.is_dir() or path == Path(config.work_dir):
        found = last_whole_checkpoint(path)
    else:
        raise FileNotFoundError(f"there is no checkpoint {source} to resume from")
    for draft in Path(config.work_dir).glob(".*.part"):  # of a process that was killed while it wrote
        draft.unlink(missing_ok=True)
    config.resume = found is not None
    if found is not None:
        config.load_from = str(found)
    else:
        print_log(f"{source} holds no checkpoint yet: the training starts from the beginning", logger="current")


@contextmanager
def _words_for(config: Config) -> Iterator[None]:
    """Replace the errors of a full disk and of a misspelt `save_best` by messages that say what to do."""
    told, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(f"{config.work_dir} takes no more data: {error.strerror}. {FULL_DISK}") from error
    except KeyError as error:
        best = save_best(config)
        if not error.args or error.args[0] not in best:
            raise
        named = best[0] if len(best) == 1 else best
        raise ValueError(f"save_best={named!r} is no metric of the validation; its log line lists them") from error
    finally:
        logging.raiseExceptions = told


def _check_not_empty(runner: Runner, split: str) -> None:
    message = f"the {split} split is empty: its dataset found no samples; check paths and filters"
    try:
        loop = getattr(runner, f"{split}_loop")
    except ValueError as error:
        if "at least one array" in str(error):  # how mmengine fails to pack an empty list of samples
            raise ValueError(message) from error
        raise
    if len(loop.dataloader.dataset) == 0:
        raise ValueError(message)


def _use_amp(config: Config) -> None:
    kind = config.optim_wrapper.get("type", "OptimWrapper")
    kind = getattr(kind, "__name__", kind)  # configs in pure Python hold the class
    if kind != "OptimWrapper":
        raise ValueError(f"mixed precision replaces mmengine's plain OptimWrapper, but the config has {kind}")
    if get_device() == "cpu":
        config.optim_wrapper.type = "densekd.CPUAmpOptimWrapper"
    else:
        config.optim_wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic")
