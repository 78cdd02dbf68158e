"""What every training run has in common: a config prepared for this machine, and a check of the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import distributed

from densekd.checkpoint import refuse_unsafe_checkpoints
from densekd.config import is_taught


def prepare(
    config: Config,
    *,
    work_dir: str | Path,
    seed: int | None = None,
    amp: bool = False,
    resume: bool | str | Path = False,
    launcher: str = "none",
    unsafe: bool = False,
) -> Config:
    """Fill in what a run needs beside its config.

    Args:
        config: with the plain or the taught model, see `densekd.config`; changed and returned.
        work_dir: where checkpoints and logs go.
        seed: of all random generators; mmengine draws one if not given.
        amp: mixed precision: float16 with loss scaling on a GPU, bfloat16 on a CPU.
        resume: from the latest checkpoint in `work_dir` if True, or from the given one.
        launcher: as mmengine's, 'none' or 'pytorch'; without a GPU the processes talk through gloo.
        unsafe: allow checkpoints and data files (.pkl) that need a full unpickling, which runs the code in them.
    """
    config.work_dir = str(work_dir)
    config.launcher = launcher
    if seed is not None:
        config.randomness = ConfigDict(config.get("randomness") or {}, seed=seed)
    if amp:
        _use_amp(config)
    if resume:
        config.resume = True
        config.load_from = None if resume is True else str(resume)
    if config.get("train_dataloader"):
        config.train_dataloader["persistent_workers"] = False  # as ExactResume needs
    config.custom_hooks = [*(config.get("custom_hooks") or []), ConfigDict(type="densekd.ExactResume")]
    checkpoint = (config.get("default_hooks") or {}).get("checkpoint") or {}
    if checkpoint.get("max_keep_ckpts") == 1:  # the old one is deleted before the new one is written
        checkpoint["max_keep_ckpts"] = 2
    if launcher != "none" and get_device() == "cpu":
        _distribute_on_cpu(config)
    refuse_unsafe_checkpoints(not unsafe)
    if unsafe and is_taught(config):
        config.model["unsafe"] = True
    return config


def train(config: Config, hooks: Iterable[Hook] = ()) -> Runner:
    """Build mmengine's runner from a prepared config, check the data, train, and return the runner.

    Args:
        config: see `prepare`.
        hooks: live hooks beside those of the config, which can only hold what is text.

    Raises:
        ValueError: a split is empty.
    """
    runner = Runner.from_cfg(config)
    for split in ("train", "val"):
        if config.get(f"{split}_dataloader"):
            _check_not_empty(runner, split)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


def leave() -> None:
    """Part from the other processes, if there are any; threads that still listen can abort the interpreter's exit."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def _check_not_empty(runner: Runner, split: str) -> None:
    message = f"the {split} split is empty: its dataset found nothing to use, check paths and filters"
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


def _distribute_on_cpu(config: Config) -> None:
    """Do what mmengine's launcher leaves to GPUs: it would select a CUDA device and hand DDP a list of them."""
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    config.model_wrapper_cfg = ConfigDict(
        type="MMDistributedDataParallel",
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=config.get("find_unused_parameters", False),
    )
    synced = [node for node in _nodes(config._cfg_dict) if node.get("type") == "SyncBN"]
    for node in synced:
        node["type"] = "BN"
    if synced:
        print_log(f"SyncBN runs on GPUs only: BN in {len(synced)} places instead", logger="current")


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from _nodes(child)
