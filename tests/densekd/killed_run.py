"""`densekd train`, ended by signals of its own.

python killed_run.py SIGNAL ITERATION ARGUMENTS...      one signal after an iteration
python killed_run.py random KILLS SEED ARGUMENTS...     SIGKILLs at random moments, resumed after each

The second form trains once without them, too; it prints how many fell where, and fails unless weights and scores are
the same to the bit and nothing of the killed processes is left. ARGUMENTS have a --work-dir, for both runs. Ten kills:

python tests/densekd/killed_run.py random 10 0 configs/seg/plain/semantic_fpn_r18_w16_digits.py --control --seed 0 \
    --work-dir work_dirs/killed --cfg-options train_cfg.max_iters=24 train_cfg.val_interval=2 \
    default_hooks.checkpoint.interval=1 default_hooks.checkpoint.save_best=mIoU train_dataloader.batch_size=2 \
    train_dataloader.dataset.count=16 val_dataloader.dataset.count=4
"""

from __future__ import annotations

import functools
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from densekd.checkpoint import read
from densekd.cli import train as command
from kdlosses.cli.mistakes import one_sentence

MOMENTS = {"step": 0.2, "checkpoint": 0.05, "validation": 0.2}
"""In what a kill falls, and at most how many seconds after its start."""


class EndBySignal(Hook):
    priority = "LOWEST"

    def __init__(self, sign: int, iteration: int) -> None:
        self.sign = sign
        self.iteration = iteration

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.sign)
            time.sleep(60)  # the signal comes before this is over


class KillAtRandom(Hook):
    """Kills this process a random time after the start of the n-th step, checkpoint or validation."""

    priority = "VERY_HIGH"

    def __init__(self, moment: str, number: int, delay: float) -> None:
        self.moment = moment
        self.number = number
        self.delay = delay

    def _count(self, moment: str) -> None:
        self.number -= moment == self.moment
        if self.number < 0 and moment == self.moment:
            threading.Timer(self.delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self._count("step")

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        self._count("checkpoint")

    def before_val(self, runner: Any) -> None:
        self._count("validation")


def train(arguments: Sequence[str], *hooks: Hook) -> None:
    command.train = functools.partial(command.train, hooks=hooks)  # type: ignore[assignment]
    with one_sentence():
        command.main([*arguments])


def in_a_child(arguments: Sequence[str], *hooks: Hook) -> int:
    """Train in a process of its own, and return its status as `os.waitpid` does."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        train(arguments, *hooks)
        status = 0
    except SystemExit as error:
        print(error, file=sys.stderr)
    finally:
        sys.stdout.flush()
        os._exit(status)


def lives(kills: int, seed: int, arguments: Sequence[str]) -> Counter[str]:
    """Train, killed at random moments and resumed, to the end; return how many kills fell in what."""
    draw, counts = random.Random(seed), Counter[str]()
    while True:
        moment = draw.choice(list(MOMENTS))
        hook = KillAtRandom(moment, draw.randrange(2), draw.uniform(0, MOMENTS[moment]))
        status = in_a_child([*arguments, "--resume"], *([hook] if counts.total() < kills else []))
        if status == 0:
            return counts
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            raise SystemExit(f"after {counts.total()} kills the run does not go on")
        counts[moment] += 1


def ending(folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    """The last validation's scores and the weights that a run left."""
    logs = sorted(folder.glob("*/*.log"), key=lambda path: path.stat().st_mtime_ns)
    scores = [found for log in logs for found in re.findall(r"\(val\).*?(mIoU: .*?)  data_time", log.read_text())]
    return scores[-1], read(folder)["state_dict"]


def same_ending(kills: int, seed: int, arguments: list[str]) -> bool:
    """Train whole and killed, print the counts, and compare."""
    torch.set_num_threads(1)
    folder = Path(arguments[arguments.index("--work-dir") + 1])
    ways = {name: [*arguments, "--work-dir", str(folder / name)] for name in ("whole", "killed")}
    if in_a_child(ways["whole"]):
        raise SystemExit("the run fails without any kill")
    counts = lives(kills, seed, ways["killed"])
    (scores, weights), (found, resumed) = ending(folder / "whole"), ending(folder / "killed")
    same = scores == found and list(weights) == list(resumed)
    same = same and all(torch.equal(weights[key], resumed[key]) for key in weights)
    left = [path.name for path in (folder / "killed").rglob(".*.part")]
    fell = ", ".join(f"{counts[moment]} in a {moment}" for moment in MOMENTS)
    print(f"{counts.total()} kills: {fell}; the same to the bit: {same}; left over: {left or 'nothing'}; {found}")
    return same and not left


if __name__ == "__main__":
    if sys.argv[1] == "random":
        sys.exit(not same_ending(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
    sign, iteration = map(int, sys.argv[1:3])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background it would be ignored
    train(sys.argv[3:], EndBySignal(sign, iteration))
