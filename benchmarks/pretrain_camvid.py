"""A backbone taught without labels, then fine-tuned on 20 labelled frames, against the same from scratch; on CamVid.

    python benchmarks/pretrain_camvid.py

A ResNet-18 of half width learns from EfficientNet-Lite2 (ImageNet weights) on the frames of drives 0001TP and 0016E5,
without their labels. A Semantic FPN on it is then fine-tuned on 20 of these frames. The learning rate of the
fine-tuning is chosen for each of the two by validation frames of 0016E5, with seed 0; reported is the mIoU on drive
0006R0, which nothing has seen. Finished runs are not run again.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner

from densekd import prepare, read_config, train
from densekd.cli import pretrain
from densekd.runs.comparison import boundary_width
from kdlosses.cli.logs import ROOT, SCHEMA, Log, commit, peak_memory, read, reset_peak_memory, versions, write
from kdlosses.cli.mistakes import one_sentence, whole
from kdlosses.cli.parser import Parser
from kdlosses.cli.report import table

CONFIG = "seg/plain/semantic_fpn_r18_w32_camvid_few"
TEACHER = "lite2"
RATES = (1e-3, 3e-3)
SELECTION = (
    "last weights; learning rate by 101 validation frames of drive 0016E5, with seed 0; drive 0006R0, 101 frames "
    "that nothing else has seen"
)
ARMS = {"control": "from scratch", "distilled": f"pre-trained by {TEACHER}"}


@one_sentence()
def main(arguments: list[str] | None = None) -> None:
    """Pre-train and fine-tune for each seed, choose the rates with the first, write the logs, print the table."""
    parser = Parser(__doc__, "benchmarks/pretrain_camvid.py")
    parser.add_argument("--seeds", type=whole(1), default=3)
    parser.add_argument("--steps", type=whole(1), default=600, help="of the pre-training, of 8 crops")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "pretrain" / "camvid_few")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "work_dirs" / "pretrain" / "camvid_few")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    logs: list[Log] = []
    chosen: dict[str, float] = {}
    tried: dict[str, dict[str, float]] = {arm: {} for arm in ARMS}
    for seed in range(args.seeds):
        taught = pretrained(seed, args.steps, args.work_dir / f"backbone-seed{seed}")
        for arm in ARMS:
            runs = {}
            for rate in [chosen[arm]] if seed else RATES:
                done = args.work_dir / f"{arm}-{rate:g}-seed{seed}"
                if not (done / "log.json").exists():
                    write(done / "log.json", finetuned(arm, rate, seed, done, taught))
                (runs[rate],) = read(done / "log.json")
                print(f"{arm}, rate {rate:g}, seed {seed}: mIoU of validation {runs[rate]['validation']}", flush=True)
            if not seed:
                chosen[arm] = max(runs, key=lambda rate: runs[rate]["validation"])
                tried[arm] = {f"{rate:g}": log["validation"] for rate, log in runs.items()}
            log = {**runs[chosen[arm]], "tried": tried[arm], "selection": SELECTION}
            write(args.out / f"{arm}-seed{seed}.json", log)
            logs.append(log)
    print(table(logs))


def pretrained(seed: int, steps: int, out: Path) -> Path:
    """Pre-train a backbone, go on with it, or find it; return its file."""
    file = out / "backbone.pth"
    if not file.exists():
        images = Path(read_config(CONFIG).train_dataloader.dataset.data_root) / "images" / "train"
        command = [CONFIG, "--teacher", TEACHER, "--images", str(images), "--match", "0001TP_*", "0016E5_*"]
        command += ["--out", str(out), "--steps", str(steps), "--batch", "8", "--size", "96", "128"]
        command += ["--seed", str(seed), *(["--resume"] if (out / "training.pth").exists() else [])]
        pretrain.main(command)
    return file


def finetuned(arm: str, rate: float, seed: int, work_dir: Path, taught: Path) -> Log:
    """Fine-tune on the labelled frames; validate and test the last weights."""
    config = read_config(CONFIG)
    config.optim_wrapper.optimizer.lr = rate
    config.log_level = "WARNING"
    config.experiment_name = f"{arm}-{rate}-{seed}-{time.time_ns()}"
    config.train_cfg.val_interval = config.train_cfg.max_iters
    if arm == "distilled":
        init = dict(type="Pretrained", checkpoint=str(taught), prefix="backbone.")
        config.model.backbone.init_cfg = init
    prepare(config, work_dir=work_dir, seed=seed)
    reset_peak_memory()
    start = time.perf_counter()
    runner: Runner = train(config)
    seconds = time.perf_counter() - start
    log: dict[str, Any] = dict(schema=SCHEMA, side="seg", name="camvid_few", role=arm, method=ARMS[arm], seed=seed)
    log |= dict(config=f"configs/{CONFIG}.py", rate=rate, schedule=f"{config.train_cfg.max_iters} iterations of 8")
    log |= dict(seconds=round(seconds, 1), peak_memory_mb=peak_memory())
    log["validation"] = round(float(runner.val_loop.run()["mIoU"]), 2)
    scores = runner.test()
    log["metrics"] = {key: round(float(scores[key]), 2) for key in ("mIoU", "bIoU")}
    log |= boundary_width(runner)
    log |= dict(params=sum(weight.numel() for weight in runner.model.parameters()), latency_ms=None)
    if arm == "distilled":
        log["pretraining"] = read(taught.with_suffix(".json"))[0]
    return log | dict(versions=versions("torch", "onedl-mmengine", "onedl-mmsegmentation"), commit=commit())


if __name__ == "__main__":
    main()
