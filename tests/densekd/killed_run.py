"""tools/train.py, ended by a signal of its own: `python killed_run.py SIGNAL ITERATION ARGUMENTS...`."""

from __future__ import annotations

import functools
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

import densekd.experiment


class EndBySignal(Hook):
    priority = "LOWEST"

    def __init__(self, sign: int, iteration: int) -> None:
        self.sign = sign
        self.iteration = iteration

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.sign)
            time.sleep(60)  # the signal comes before this is over


if __name__ == "__main__":
    sign, iteration = map(int, sys.argv[1:3])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background it would be ignored
    hooks = [EndBySignal(sign, iteration)]
    densekd.experiment.train = functools.partial(densekd.experiment.train, hooks=hooks)  # type: ignore[assignment]
    train = Path(__file__).parents[2] / "tools" / "train.py"
    sys.argv = [str(train), *sys.argv[3:]]
    runpy.run_path(str(train), run_name="__main__")
