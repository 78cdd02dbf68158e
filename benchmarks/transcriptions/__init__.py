"""Losses once more, typed straight from their formulas in plain eager torch, for `benchmark.py losses`.

No masks, no care for extreme values, nothing held in blocks: what a reader of the paper would write on a first day. A
function takes `student, teacher`, the context that the loss requires, and, as `own`, the built loss where that has
parameters or a memory, so that both compute the same value. The form of a new loss stands in its own test file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor

from kdlosses.cli.logs import ROOT
from transcriptions import contrastive, feature, graph, logit, relation

sys.path.append(str(ROOT / "tests"))

from contract.entry import LossContract, entries, entry_of

TRANSCRIPTIONS: dict[str, Callable[..., Tensor]] = {
    name: function
    for module in (logit, feature, relation, contrastive, graph)
    for name, function in vars(module).items()
    if getattr(function, "__module__", None) == module.__name__ and name != "linear"
}


def entry(key: str) -> Any:
    """What the test file of a loss says of it."""
    return entry_of(LossContract, key)


def plain_forms() -> dict[str, Callable[..., Tensor]]:
    """Those of this folder, and those that stand as `plain` in the entries of losses."""
    return TRANSCRIPTIONS | {key: each.plain for key, each in entries(LossContract).items() if each.plain}
