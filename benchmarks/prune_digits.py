"""What pruning costs a detector of digit scenes, and what spatial attention of the unpruned one gives back.

    python benchmarks/prune_digits.py
    densekd report results/det/digits-pruned

A detector is trained with the policy `sparse_scales`, pruned to 20 % of the scales of its last stage and half of all
others, and trained again, from labels alone (the control) and with the method `sad` (distilled), under one schedule.
`pruned` is measured before that. The shares were set before any accuracy was seen; nothing is selected. Each log has
parameters, FLOPs and the median latency of a forward on one image, which take turns. Finished seeds are kept.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from densekd import distill, read_config
from densekd.runs import comparison
from densekd.runs.pruning import CONFIG, WEIGHTS, Cost, prune, write
from kdlosses.cli import logs
from kdlosses.cli.mistakes import one_sentence, whole
from kdlosses.cli.parser import Parser
from kdlosses.cli.report import table

SPARSE = logs.ROOT / "configs" / "det" / "plain" / "gfl_r18_w32_sparse_digits.py"
KEEP = {"": 0.5, "backbone.layer4": 0.2}
NAME, SIZE = "digits-pruned", (64, 64)


@one_sentence()
def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, write the logs, print the table."""
    parser = Parser(__doc__, "benchmarks/prune_digits.py")
    parser.add_argument("--seeds", type=whole(1), default=1)
    parser.add_argument("--steps", type=whole(1), default=600, help="of the sparse training (default: 600)")
    parser.add_argument("--again", type=whole(1), default=200, help="of the training after it (default: 200)")
    parser.add_argument("--out", type=Path, default=logs.ROOT / "results" / "det" / NAME)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found: list[logs.Log] = []
    for seed in range(args.seeds):
        file = args.out / f"seed{seed}.json"
        if not file.exists():
            logs.write(file, run_seed(seed, args.steps, args.again))
        own = logs.read(file)
        kept = [int(log["schedule"].split()[0]) for log in own if log["method"] != "pruned"]
        if kept != [args.steps, args.again, args.again]:
            raise ValueError(
                f"{file} is of {kept[0]} steps and {kept[1]} after them: say so by --steps and --again, or give "
                "another --out"
            )
        found += own
    print(table(found))
    for log in found:
        print(
            f"{log['method']:<22}seed {log['seed']}  {log['params']:,} parameters, {log['flops']:,} FLOP, "
            f"{log['forward_ms']} ms, AP {log['metrics']['AP']}"
        )


def run_seed(seed: int, steps: int, again: int) -> list[logs.Log]:
    """Logs of the sparse detector, the pruned one, and what is made of it with and without the unpruned one."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sparse = lasting(read_config(SPARSE), steps)
        sparse.dump(folder / "sparse.py")
        taught: dict[str, Any] = dict(teacher=str(folder / "sparse.py"), method="sad")
        quiet: dict[str, Any] = dict(name=NAME, log_level="WARNING")
        whole_log = comparison.run(
            distill(read_config(SPARSE), **taught), "teacher", seed, folder / "sparse", called="sparse_scales", **quiet
        )
        weights = comparison.last_weights(folder / "sparse")
        assert weights is not None
        done = prune(read_config(folder / "sparse.py"), weights, KEEP, size=SIZE)
        write(done, folder / "pruned")
        student = lasting(read_config(folder / "pruned" / CONFIG), again)
        student.load_from = str(folder / "pruned" / WEIGHTS)
        config = distill(copy.deepcopy(student), **taught)
        measured = distill(copy.deepcopy(student), teacher=str(folder / "pruned" / CONFIG), method="sad")
        measured.model.checkpoint = student.load_from
        pruned = comparison.run(measured, "teacher", seed, folder / "as it is", called="pruned", **quiet)
        pruned["role"] = "control"
        control = comparison.run(config, "control", seed, folder / "control", called="pruned, labels", **quiet)
        recovered = comparison.run(
            config, "distilled", seed, folder / "sad", called="pruned, sad", checkpoint=weights, **quiet
        )
    logging.shutdown()  # mmengine's files in the folder
    kept = {name: list(counts) for name, counts in done.found.groups.items()}
    return [
        with_costs(whole_log, done.before),
        *(
            with_costs({**log, "config": whole_log["config"], "kept": kept}, done.after)
            for log in (pruned, control, recovered)
        ),
    ]


def lasting(config: Config, steps: int) -> Config:
    """The config with this many steps; its warm-up is a tenth of them."""
    warm = max(1, steps // 10)
    config.train_cfg.update(max_iters=steps, val_interval=steps)
    config.default_hooks.checkpoint.interval = steps
    first, rest = config.param_scheduler
    first.end = rest.begin = warm
    rest.update(T_max=steps - warm, end=steps)
    return config


def with_costs(log: logs.Log, cost: Cost) -> logs.Log:
    assert log["params"] == cost.parameters
    return {**log, "flops": cost.flops, "forward_ms": round(cost.milliseconds, 2), "image": list(SIZE)}


if __name__ == "__main__":
    main()
