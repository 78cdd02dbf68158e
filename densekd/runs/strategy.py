"""Several processes: what the launcher set, and mmengine's strategies (DDP, FSDP, DeepSpeed) on GPUs and on CPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import MODEL_WRAPPERS
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from densekd.mmlab.config import is_taught, several_teachers
from densekd.teacher import OF_THE_STUDENT

STRATEGIES = {"ddp": "DDPStrategy", "fsdp": "FSDPStrategy", "deepspeed": "DeepSpeedStrategy"}
_SET = {
    "pytorch": {"RANK": "RANK", "WORLD_SIZE": "WORLD_SIZE", "LOCAL_RANK": "LOCAL_RANK"},
    "slurm": {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"},
    "mpi": {
        "RANK": "OMPI_COMM_WORLD_RANK",
        "WORLD_SIZE": "OMPI_COMM_WORLD_SIZE",
        "LOCAL_RANK": "OMPI_COMM_WORLD_LOCAL_RANK",
    },
}
_HOW = {"pytorch": "python -m torch.distributed.run", "slurm": "srun", "mpi": "mpirun"}


def read_environment(launcher: str) -> None:
    """Give this process the variables of `torch.distributed` from those that a launcher set.

    Raises:
        ValueError: the launcher did not start this process, or the address of the first one is unknown.
    """
    if launcher == "none":
        return
    for name, source in _SET[launcher].items():
        if source not in os.environ:
            raise ValueError(
                f"launcher {launcher!r} needs ${source}, which the launcher sets: start the processes with "
                f"{_HOW[launcher]}"
            )
        os.environ.setdefault(name, os.environ[source])
    os.environ.setdefault("MASTER_PORT", "29500")
    if "MASTER_ADDR" not in os.environ:
        os.environ["MASTER_ADDR"] = _first_host(launcher)


def _first_host(launcher: str) -> str:
    nodes = os.environ.get("SLURM_NODELIST", "")
    if launcher == "slurm" and nodes and not set(nodes) & set(",["):
        return nodes
    if launcher == "slurm" and nodes and shutil.which("scontrol"):
        told = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=False)
        if told.stdout.strip():
            return told.stdout.split()[0]
    raise ValueError(f"launcher {launcher!r}: set $MASTER_ADDR, the address of the host of process 0")


def use_strategy(config: Config, name: str | None, launcher: str) -> None:
    """Set a strategy of mmengine in a config, or complete the one that it has; without either nothing changes.

    FSDP writes checkpoints of the whole plain student, unless the config's own `state_dict_cfg` says otherwise.

    Args:
        config: changed.
        name: 'ddp', 'fsdp' or 'deepspeed'; None for the config's own `strategy`, if it has one.
        launcher: 'none' for a single process.

    Raises:
        ValueError: the config has another strategy, or one that cannot be used with the rest of it.
        ModuleNotFoundError: DeepSpeed is not installed.
    """
    given = config.get("strategy")
    if name is None and given is None:
        return
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"config {config.filename}: strategy must be a dict with a 'type', got {given!r}")
    held = (given or {}).get("type")
    found = getattr(held, "__name__", held)
    kind = STRATEGIES[name] if name else found
    if found not in (None, kind) or kind is None:
        raise ValueError(f"config {config.filename} has strategy=dict(type={found!r}), --strategy is {name}")
    if launcher == "none" and kind != "SingleDeviceStrategy":
        raise ValueError(f"strategy {name or kind} needs several processes: give --launcher pytorch, slurm or mpi")
    for field in ("model_wrapper_cfg", "sync_bn", "find_unused_parameters"):
        if config.get(field):
            where = "find_unused_parameters in its model_wrapper" if field.startswith("find") else "it"
            raise ValueError(
                f"config {config.filename} has {field}, which mmengine does not read beside a strategy: put {where} "
                f"into strategy=dict(type={kind!r}, ...)"
            )
    config.strategy = ConfigDict(given or {}, type=kind)
    if config.get("env_cfg") is None:  # which mmengine's FlexibleRunner does without by failing
        config.env_cfg = ConfigDict(dist_cfg={"backend": "nccl"})
    if kind in ("FSDPStrategy", "DeepSpeedStrategy"):
        _refuse_averages(config, kind)
    if kind == "FSDPStrategy":
        config.strategy.setdefault("state_dict_cfg", "full")
    if kind == "DeepSpeedStrategy":
        _use_deepspeed(config)


def _refuse_averages(config: Config, kind: str) -> None:
    """A moving average needs the student's whole weights, of which each process holds a part."""
    teacher: Any = config.model.get("teacher") if is_taught(config) else None
    names = teacher.values() if several_teachers(teacher) else [teacher]
    for each in (each for each in names if isinstance(each, str) and each in OF_THE_STUDENT):
        raise ValueError(
            f"teacher {each!r} follows the student's weights, which {kind} divides among the processes: use --strategy "
            "ddp"
        )


def _use_deepspeed(config: Config) -> None:
    if find_spec("deepspeed") is None:
        raise ModuleNotFoundError(
            "strategy deepspeed needs the package deepspeed: pip install deepspeed, or use --strategy fsdp, which "
            "divides weights and optimiser with torch alone",
            name="deepspeed",
        )
    wrapper = config.optim_wrapper
    if getattr(wrapper.get("type"), "__name__", wrapper.get("type", "OptimWrapper")) == "OptimWrapper":
        wrapper.type = "DeepSpeedOptimWrapper"
    if wrapper.get("clip_grad"):
        raise ValueError(
            "DeepSpeed clips gradients itself: remove optim_wrapper.clip_grad, and give "
            f"strategy=dict(type='DeepSpeedStrategy', gradient_clipping={wrapper.clip_grad.get('max_norm')})"
        )


def distribute_on_cpu(config: Config) -> None:
    """Join the processes by gloo on CPUs, where mmengine would select a CUDA device and give the wrapper its number.

    Raises:
        ValueError: the config's own wrapper names devices, or its strategy runs on GPUs only.
    """
    strategy = config.get("strategy")
    if strategy is None:
        config.model_wrapper_cfg = _on_cpu(
            config.get("model_wrapper_cfg"), find_unused_parameters=config.get("find_unused_parameters", False)
        )
    elif strategy.type == "FSDPStrategy":
        wrapper = {"type": "MMFullyShardedDataParallel", **(strategy.get("model_wrapper") or {})}
        _check_devices(wrapper, "device_id")
        strategy.model_wrapper = ConfigDict(wrapper, device_id="cpu")
        if strategy.state_dict_cfg == "full":  # which offloads to CPUs; there torch frees what it has handed over
            strategy.state_dict_cfg = ConfigDict(
                state_dict_type="FULL_STATE_DICT",
                state_dict_config={"type": "FullStateDictConfig", "rank0_only": True},
                optim_state_dict_config={"type": "FullOptimStateDictConfig", "rank0_only": True},
            )
    elif strategy.type == "DDPStrategy":
        strategy.model_wrapper = _on_cpu(strategy.get("model_wrapper"))
    else:
        raise ValueError(f"strategy {strategy.type} runs on GPUs; on CPUs use --strategy ddp or fsdp")
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    synced = [node for node in _nodes(config._cfg_dict) if node.get("type") == "SyncBN"]
    for node in synced:
        node["type"] = "BN"
    if synced:
        print_log(f"SyncBN runs on GPUs only: BN in {len(synced)} places instead", logger="current")


def _on_cpu(given: Any, **defaults: Any) -> ConfigDict:
    """The config of a wrapper of the model: the user's own, without the number of a GPU."""
    told = given or {"broadcast_buffers": False, **defaults}
    wrapper = ConfigDict({"type": "MMDistributedDataParallel", **told})
    kind = wrapper.type if isinstance(wrapper.type, type) else MODEL_WRAPPERS.get(wrapper.type)
    if kind is None:
        raise ValueError(f"model_wrapper_cfg: no wrapper is called {wrapper.type!r}")
    _check_devices(wrapper, "device_ids")
    if issubclass(kind, DistributedDataParallel):
        wrapper.device_ids = None
    return wrapper


def _check_devices(wrapper: Mapping[str, Any], key: str) -> None:
    if wrapper.get(key) not in (None, "cpu"):
        raise ValueError(
            f"the config's wrapper of the model, {wrapper['type']}, names {key}={wrapper[key]!r}, but this machine has "
            "no GPU: remove it"
        )


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from _nodes(child)
