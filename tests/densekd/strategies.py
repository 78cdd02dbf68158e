"""One of two processes that `test_strategies` starts: trainings by different strategies, one after the other."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from densekd import distill, prepare, read_config, shutdown_distributed, train
from kdlosses import diagnosis

CONFIGS = Path(__file__).parent / "configs"


def main(folder: str) -> None:
    """Train each way, and write what is known of it beside the checkpoints."""
    torch.set_num_threads(1)
    diagnosis.EVERY = 1  # each step is looked at
    told = {}
    for name, strategy, steps, more in (
        ("plain", None, 2, {"model_wrapper_cfg": {"type": "MMDistributedDataParallel", "broadcast_buffers": True}}),
        ("ddp", "ddp", 2, {}),
        ("fsdp", "fsdp", 1, {}),
        ("fsdp", "fsdp", 2, {}),  # goes on
        ("cached", None, 2, {}),
    ):
        config: Any = read_config(CONFIGS / "seg.py")
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        config.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": steps, "val_interval": 99}
        config.param_scheduler = []
        config.default_hooks.checkpoint.interval = 1
        config.experiment_name = f"{name}-{steps}"
        config.update(more)
        cache = {"teacher_cache": f"{folder}/cache"} if name == "cached" else {}
        weights = {"teacher": str(CONFIGS / "seg_teacher.py"), "checkpoint": f"{folder}/teacher.pth", "method": "cwd"}
        goes_on = name == "fsdp" and steps == 2
        runner: Any = train(
            prepare(
                distill(config, **weights, **cache),
                work_dir=f"{folder}/{name}",
                seed=0,
                launcher="slurm",
                strategy=strategy,
                resume=goes_on,
            )
        )
        distributed.barrier()  # process 0 has written its checkpoint
        inner = runner.model.module
        told[f"{name}{steps}"] = {
            "wrapper": type(runner.model).__name__,
            "broadcast": getattr(runner.model, "broadcast_buffers", None),
            "iter": runner.iter,
            "own": sum(p.numel() for p in inner.parameters()),
            "teacher": sum(p.numel() for p in inner.teachers["teacher"].model.parameters()),
            "filled": [hook.told["images"] for hook in runner.hooks if hasattr(hook, "told")],
        }
    Path(folder, f"told{distributed.get_rank()}.json").write_text(json.dumps(told))
    shutdown_distributed()
    sys.stdout.flush()
    os._exit(0)  # whatever threads of gloo are left


if __name__ == "__main__":
    main(sys.argv[1])
