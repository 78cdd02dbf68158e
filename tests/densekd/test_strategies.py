"""mmengine's strategies and the launchers, by two processes on CPUs; what cannot be used is refused by name."""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict

from densekd.checkpoint import load_weights, read
from densekd.mmlab.building import build_model
from densekd.mmlab.config import distill
from densekd.runs.strategy import distribute_on_cpu, read_environment, use_strategy

HERE = Path(__file__).parent


def test_each_strategy_trains_the_same_student(tmp_path: Path, seg_teacher: dict[str, str]) -> None:
    """DDP, its strategy and FSDP, started as slurm does: the same weights, and checkpoints of the plain student."""
    os.symlink(seg_teacher["checkpoint"], tmp_path / "teacher.pth")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    root = str(HERE.parents[1])
    processes = []
    for rank in (0, 1):
        names = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NTASKS": "2"}
        names |= {"SLURM_NODELIST": "localhost", "MASTER_PORT": port, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("RANK", "WORLD", "LOCAL_R"))
        }
        command = [sys.executable, str(HERE / "strategies.py"), str(tmp_path)]
        with (tmp_path / f"log{rank}").open("w") as log:
            processes.append(subprocess.Popen(command, env=inherited | names, stdout=log, stderr=subprocess.STDOUT))
    codes = [process.wait(timeout=600) for process in processes]
    assert codes == [0, 0], "".join((tmp_path / f"log{rank}").read_text()[-3000:] for rank in (0, 1))
    told = [json.loads((tmp_path / f"told{rank}.json").read_text()) for rank in (0, 1)]
    assert [told[0][name]["wrapper"] for name in ("plain2", "ddp2", "fsdp2")] == [
        *2 * ["MMDistributedDataParallel"],
        "MMFullyShardedDataParallel",
    ]
    assert told[0]["plain2"]["broadcast"] is True  # what the user wrote
    whole, parts = told[0]["ddp2"]["own"], [each["fsdp2"]["own"] for each in told]
    assert sum(parts) == whole  # each process holds its part of the student,
    assert {each["fsdp2"]["teacher"] for each in told} == {told[0]["ddp2"]["teacher"]}  # and a whole teacher
    assert [each["fsdp2"]["iter"] for each in told] == [2, 2]
    expected = read(tmp_path / "plain" / "iter_2.pth")["state_dict"]
    for name in ("ddp", "fsdp"):
        found = read(tmp_path / name / "iter_2.pth")["state_dict"]
        assert list(found) == list(expected)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, atol=1e-6, rtol=1e-5)
        load_weights(build_model(HERE / "configs" / "seg.py")[0], tmp_path / name / "iter_2.pth")
    assert sorted(each["cached2"]["filled"] for each in told) == [[0], [16]]  # one shard, one process


def config_with(seg: Config, **fields: Any) -> Config:
    config = distill(copy.deepcopy(seg), teacher="ema" if fields.pop("ema", False) else "t.py", method="cwd")
    config.update(fields)
    return config


@pytest.mark.parametrize(
    ("name", "launcher", "fields", "error", "words"),
    [
        ("fsdp", "none", {}, ValueError, "several processes"),
        ("ddp", "slurm", {"strategy": {"type": "FSDPStrategy"}}, ValueError, "FSDPStrategy"),
        (
            "fsdp",
            "slurm",
            {"model_wrapper_cfg": {"type": "MMDistributedDataParallel"}},
            ValueError,
            "model_wrapper_cfg",
        ),
        ("ddp", "slurm", {"find_unused_parameters": True}, ValueError, "find_unused_parameters"),
        ("fsdp", "slurm", {"ema": True}, ValueError, "--strategy ddp"),
        (None, "slurm", {"strategy": "ddp"}, ValueError, "a dict with a 'type'"),
        ("deepspeed", "slurm", {}, ModuleNotFoundError, "pip install deepspeed"),
    ],
)
def test_what_a_strategy_cannot_do_is_refused(
    seg: Config, name: str | None, launcher: str, fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        use_strategy(config_with(seg, **fields), name, launcher)


def test_the_configs_own_strategy_is_kept(seg: Config) -> None:
    own = {"type": "FSDPStrategy", "state_dict_cfg": "local", "model_wrapper": {"sharding_strategy": "SHARD_GRAD_OP"}}
    config = config_with(seg, strategy=own)
    use_strategy(config, "fsdp", "slurm")
    assert config.strategy == own
    untouched = config_with(seg)
    use_strategy(untouched, None, "slurm")
    assert "strategy" not in untouched


def test_a_wrapper_with_a_gpu_is_refused_on_a_cpu(seg: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_with(seg, model_wrapper_cfg=ConfigDict(type="MMDistributedDataParallel", device_ids=[0]))
    with pytest.raises(ValueError, match="device_ids"):
        distribute_on_cpu(config)
    config.model_wrapper_cfg = ConfigDict(type="NoSuchWrapper")
    with pytest.raises(ValueError, match="NoSuchWrapper"):
        distribute_on_cpu(config)
    config.model_wrapper_cfg = ConfigDict(type="MMSeparateDistributedDataParallel", find_unused_parameters=True)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", port)):
        monkeypatch.setenv(name, value)
    distribute_on_cpu(config)
    torch.distributed.destroy_process_group()
    assert config.model_wrapper_cfg.type == "MMSeparateDistributedDataParallel"
    assert config.model_wrapper_cfg.find_unused_parameters is True


def test_environments_of_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "before")  # so that what is set below is undone
        monkeypatch.delenv(name)
    for launcher, words in (("pytorch", "torch.distributed.run"), ("slurm", "srun"), ("mpi", "mpirun")):
        with pytest.raises(ValueError, match=words):
            read_environment(launcher)
    for name, value in (("PROCID", "3"), ("NTASKS", "8"), ("LOCALID", "1"), ("NODELIST", "node[1-2]")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="MASTER_ADDR"):
        read_environment("slurm")
    monkeypatch.setenv("SLURM_NODELIST", "node1")
    read_environment("slurm")
    found = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}
    assert found == {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
