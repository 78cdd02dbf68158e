"""What one call with damaged arguments did: ran, was refused by a sentence of ours, or ended in a fault."""

from __future__ import annotations

import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("graphdensekd", "kdlosses", "graphkd", "densekd", "tools", "benchmarks", "tests")
OURS = tuple(str(ROOT / package) for package in _FOLDERS)
NAMED = ("sklearn/utils/", "sklearn/base.py")  # scikit-learn's checks of X and y name the input: its words are ours
_HERE = str(Path(__file__).parent)
FAULTS = ("library", "late", "silent zero", "silent nan", "hang")
SECONDS = 60  # for one call; a call of these sizes takes well under a second on an idle machine


_steps: list[str] = []  # what has been trained in this call: a mistake is to be found before


@register_optimizer_step_post_hook
def _note(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    _steps.append(type(optimizer).__name__)


class Silent(Exception):
    """The call returned, but with a value that says nothing: its text is the kind of fault."""


@dataclass
class Tally:
    """Verdicts of many cases, and a line for each fault."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, verdict: str, what: str) -> None:
        self.counts[verdict] += 1
        if verdict in FAULTS:
            self.faults.append(f"{verdict}: {what}")

    def __str__(self) -> str:
        cases = sum(self.counts.values())
        return f"{cases} cases: " + ", ".join(f"{self.counts[key]} {key}" for key in ("ran", "refused", *FAULTS))


def judge(call: Callable[[], Any]) -> tuple[str, str]:
    """Run a call; returns its verdict and, where it did not run through, the error in one line."""
    _steps.clear()
    try:
        with _at_most(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except Silent as silent:
        return str(silent), ""
    except TimeoutError:
        return "hang", f"more than {SECONDS} s"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__}: {' '.join(str(error).split())[:150]} ({frame.filename}:{frame.lineno})"
        ours = frame.filename.startswith(OURS) or any(part in frame.filename for part in NAMED)
        # an error that Python raises on a line of ours, such as a missing attribute, names nothing; one that it raises
        # on the call itself names the argument
        named = ours and ("raise" in (frame.line or "raise") or frame.filename.startswith(_HERE))
        return "library" if not named else "late" if _steps else "refused", where
    return "ran", ""


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def expired(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
