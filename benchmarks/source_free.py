"""A detector adapted to shifted images, without its source and without labels.

    python benchmarks/source_free.py digits
    python benchmarks/source_free.py bccd --seeds 3
    densekd report results/det/source_free-digits

A small Faster R-CNN is trained on the source (`configs/det/plain/faster_rcnn_r18_w16_*.py`). All that follows sees its
weights, and the training images of the target: the same scenes in other colours, blurred, smaller. AP is that of the
shifted test images. The control is the source detector as it is, the first row of all the bound: the same detector
trained on for as many steps with the labels of the target. `statistics` learns nothing, its batch normalisation alone
takes in the target; `mean_teacher` has sure pseudo labels alone; `lpld` and `wscol` are the methods. Their configs are
`configs/det/<method>/*.py`. The last weights count. Finished runs are kept.
"""

from __future__ import annotations

import copy
import logging
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from densekd import load_weights, prepare, read_config, train
from densekd.mmlab.config import control
from densekd.runs.comparison import count_parameters, named_metrics
from kdlosses.cli.logs import ROOT, SCHEMA, Log, commit, peak_memory, read, versions, write
from kdlosses.cli.mistakes import one_sentence, whole
from kdlosses.cli.parser import Parser
from kdlosses.cli.report import table

DATA = ("digits", "bccd")
METHODS = ("lpld", "mean_teacher", "wscol", "statistics")


@one_sentence()
def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, write the logs, print the table."""
    parser = Parser(__doc__, "benchmarks/source_free.py")
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=whole(1), default=1)
    parser.add_argument("--source-steps", type=whole(1), help="of the source's training (default: its config's)")
    parser.add_argument("--steps", type=whole(1), help="of each adaptation (default: its config's)")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="val, to choose a setting")
    parser.add_argument("--out", type=Path, help="(default: results/det/source_free-DATA)")
    args = parser.parse_args(arguments)
    if args.out is None and (args.source_steps or args.steps or args.split != "test"):
        parser.error("other steps, or another split, need --out: what is there is not run again, and would be mixed")
    torch.set_num_threads(1)
    out = args.out or ROOT / "results" / "det" / f"source_free-{args.data}"
    place = Path("work_dirs") / out.name
    for seed in range(args.seeds):
        runs = Adaptation(args.data, seed, place, out, args.source_steps, args.steps, args.split)
        runs.run(args.methods)
    print(table(read(out)), flush=True)


class Adaptation:
    """All runs of one seed.

    Args:
        data: 'digits' or 'bccd'.
        seed: of everything random.
        place: for weights.
        out: for logs; what is there is not run again.
        source_steps, steps: of the trainings, those of the configs if not given.
        split: what is measured.
    """

    def __init__(
        self,
        data: str,
        seed: int,
        place: Path,
        out: Path,
        source_steps: int | None = None,
        steps: int | None = None,
        split: str = "test",
    ) -> None:
        self.data, self.seed, self.place, self.out = data, seed, place, out
        self.steps, self.split = steps, split
        self.target = read_config(f"det/mean_teacher/{data}")
        self.source = read_config(f"det/plain/faster_rcnn_r18_w16_{data}")
        _last(self.source, source_steps)
        self.weights = place / f"source-seed{seed}.pth"

    def run(self, methods: list[str]) -> None:
        """Train the source, measure it on the target, adapt it by each method, and with the labels."""
        todo = [("teacher", "labels"), *(("distilled", method) for method in methods)]
        todo = [(role, method) for role, method in todo if not self._file(role, method).is_file()]
        if (todo and not self.weights.is_file()) or not self._file("control", "source").is_file():
            self._source()
        for role, method in todo:
            self._log(role, method, self._labelled() if role == "teacher" else self.adapted(method))

    def adapted(self, method: str) -> Config:
        """The config of an adaptation by a method."""
        still = method == "statistics"
        config = read_config(f"det/{'mean_teacher' if still else method}/{self.data}")
        config.model.checkpoint = str(self.weights)
        if still:
            config.optim_wrapper.optimizer.lr = 0.0
            config.param_scheduler = []
        _last(config, self.steps)
        return config

    def _labelled(self) -> Config:
        """The source's detector, trained on with the labels of the target."""
        config = copy.deepcopy(self.target)
        config.train_dataloader.dataset.pipeline = config.labelled_pipeline
        config.load_from = str(self.weights)
        config.model = control(config).model
        _last(config, self.steps)
        return config

    def _source(self) -> None:
        """Train the source if its weights are not there, and measure it on both domains."""
        own = self._prepared(copy.deepcopy(self.source), "source")
        if not self.weights.is_file():
            start = time.perf_counter()
            runner = train(own)
            told: Log = dict(seconds=round(time.perf_counter() - start, 1), schedule=_schedule(own))
            self.weights.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"state_dict": runner.model.state_dict(), "meta": told}, self.weights)
        measured = []
        for config, name in ((self.source, "on its source"), (control(copy.deepcopy(self.target)), "on the target")):
            config.train_dataloader = config.train_cfg = config.optim_wrapper = config.param_scheduler = None
            runner = Runner.from_cfg(self._prepared(config, name.replace(" ", "_")))
            told = load_weights(runner.model, self.weights)["meta"]
            measured.append(self._measured(runner))
        log = self._row("control", "source", runner, told["schedule"], told["seconds"])
        self._write({**log, "metrics": measured[1], "on_its_source": measured[0]})

    def _log(self, role: str, method: str, config: Config) -> None:
        start = time.perf_counter()
        runner = train(self._prepared(config, method))
        row = self._row(role, method, runner, _schedule(config), round(time.perf_counter() - start, 1))
        self._write({**row, "metrics": self._measured(runner)})

    def _prepared(self, config: Config, name: str) -> Config:
        if self.split == "val":
            config.test_dataloader, config.test_evaluator = config.val_dataloader, config.val_evaluator
        config.test_dataloader.batch_size = 8
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        config.experiment_name = f"source_free-{name}-{self.seed}-{time.time_ns()}"  # loggers of equal names are shared
        config.log_level = logging.WARNING
        return prepare(config, work_dir=self.place / f"{name}-seed{self.seed}", seed=self.seed)

    def _measured(self, runner: Runner) -> dict[str, float | None]:
        return named_metrics(runner.test(), [])

    def _row(self, role: str, method: str, runner: Runner, schedule: str, seconds: float) -> Log:
        model: Any = runner.model
        told = self.target.reported_on if self.split == "test" else "validation images of the target"
        return {
            **dict(schema=SCHEMA, side="det", name=f"source_free-{self.data}", role=role, method=method),
            **dict(seed=self.seed, schedule=schedule, seconds=seconds, latency_ms=None),
            "selection": f"last weights, nothing selected; {told}",
            "params": count_parameters(getattr(model, "teacher", model)),
            "peak_memory_mb": peak_memory(),
            "versions": versions("torch", "numpy", "mmengine", "onedl-mmcv", "onedl-mmdetection"),
            "commit": commit(),
        }

    def _write(self, log: Log) -> None:
        print(f"seed {self.seed}, {log['role']}, {log['method']}: {log['metrics']}", flush=True)
        write(self._file(log["role"], log["method"]), log)

    def _file(self, role: str, method: str) -> Path:
        return self.out / f"{role}-{method}-seed{self.seed}.json"


def _schedule(config: Config) -> str:
    return f"{config.train_cfg.max_iters} iterations of {config.train_dataloader.batch_size}"


def _last(config: Config, steps: int | None) -> None:
    """Train for this many steps and keep the last weights."""
    if steps is not None:
        config.train_cfg.max_iters = config.train_cfg.val_interval = steps
        config.param_scheduler = [dict(type="CosineAnnealingLR", T_max=steps, by_epoch=False, eta_min=1e-6)]
    config.default_hooks.checkpoint = dict(type="CheckpointHook", by_epoch=False, interval=config.train_cfg.max_iters)


if __name__ == "__main__":
    main()
