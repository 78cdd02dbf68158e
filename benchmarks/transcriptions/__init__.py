"""Each registered loss once more, typed straight from its formula in plain eager torch, for `benchmark.py losses`.

No masks, no care for extreme values, nothing held in blocks: what a reader of the paper would write on a first day. A
function takes `student, teacher`, the context that the loss requires, and, as `own`, the built loss where that has
parameters or a memory, so that both compute the same value.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from transcriptions import contrastive, feature, graph, logit, relation

TRANSCRIPTIONS: dict[str, Callable[..., Tensor]] = {
    name: function
    for module in (logit, feature, relation, contrastive, graph)
    for name, function in vars(module).items()
    if getattr(function, "__module__", None) == module.__name__ and name != "linear"
}
