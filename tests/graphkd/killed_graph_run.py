"""Kill writers of the graph side at random times, and count: `python tests/graphkd/killed_graph_run.py --kills 10`.

`run`: `graphkd distill`, killed in the middle of its seeds and called again until it is done; its metrics must be
those of a run that was not killed, to the bit. `cache`: a cache being written over an old one; what is there afterwards
must be the old or the new one, and the next writer must succeed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from graphkd import Cache
from graphkd.cli import distill as distill_graph

CONFIG = """
data = "digits"
settings = ["tran"]
teacher = dict(type="gcn", hidden=8, epochs=4)
student = dict(hidden=[8], epochs=4)
methods = ["glnn"]
"""
SEEDS = 4


def killed_after(seconds: float | None, work: Callable[[], object]) -> bool:
    """Do `work` in a process of its own, which is killed after so many seconds; whether that stopped it."""
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed by itself"
    return os.WIFSIGNALED(status)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    assert not killed_after(None, work)
    return time.perf_counter() - start


def measured(path: Path) -> list[Any]:
    """All that a run says but how long it took."""
    return [(log["seed"], log["role"], log["metrics"], log["config"]) for log in json.loads(path.read_text())]


def kill_runs(folder: Path, kills: int, draw: random.Random) -> int:
    """Kill a run so many times, each time at another moment of what is left; returns how many kills stopped it."""
    (folder / "config.py").write_text(CONFIG)

    def run(log: Path) -> Callable[[], object]:
        def work() -> None:
            sys.argv = ["distill_graph.py", str(folder / "config.py"), "--seeds", str(SEEDS), "--out", str(log)]
            distill_graph.main()

        return work

    whole, log, stopped = folder / "whole.json", folder / "killed.json", 0
    seconds = timed(run(whole))
    for _ in range(kills):
        if log.exists() and len(measured(log)) == len(measured(whole)):
            log.unlink()  # done: from the start again
        stopped += killed_after(draw.uniform(0.05, 0.9) * seconds, run(log))
        assert not log.exists() or measured(log) == measured(whole)[: len(measured(log))]
    timed(run(log))
    assert measured(log) == measured(whole)
    return stopped


def kill_caches(folder: Path, kills: int, draw: random.Random) -> int:
    """Kill a writer of a cache so many times; returns how many kills stopped it."""
    folder = folder / "caches"

    def cache(value: float) -> Cache:
        logits = np.full((200_000, 8), value, np.float32)
        return Cache(logits, np.arange(len(logits)), np.ones(len(logits), bool), f"of {value}", (logits, logits))

    old, new, stopped = cache(0.0), cache(1.0), 0
    seconds = timed(lambda: new.save(folder / "timed"))
    for _ in range(kills):
        old.save(folder / "cache", overwrite=True)
        stopped += killed_after(draw.uniform(0, 1) * seconds, lambda: new.save(folder / "cache", overwrite=True))
        if (folder / "cache").exists():  # else it was killed between the two renames
            found = Cache.load(folder / "cache")
            assert set(np.unique(found.logits)) == {float(found.fingerprint != old.fingerprint)}
    new.save(folder / "cache", overwrite=True)
    assert (Cache.load(folder / "cache", new.fingerprint).hidden[1] == 1).all()
    assert sorted(file.name for file in folder.iterdir()) == ["cache", "timed"]
    return stopped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    for name, kill in {"run": kill_runs, "cache": kill_caches}.items():
        with tempfile.TemporaryDirectory() as folder:
            stopped = kill(Path(folder), args.kills, random.Random(args.seed))
        print(f"{name}: {args.kills} kills, {stopped} of them in the middle, same result to the bit, nothing left over")


if __name__ == "__main__":
    main()
