"""Language models as teachers of graphs: embed the texts of nodes once and store the result in a cache."""

from typing import Any

from graphkd.extras import needs_extra
from graphkd.moved import TEXT_NAMES
from kdlosses.moved import moved_name

with needs_extra("graphkd.text"):
    from graphkd.text.align import align
    from graphkd.text.alternate import alternate
    from graphkd.text.embed import Estimate, embed, estimate, explanations, overhead
    from graphkd.text.finetune import finetune
    from graphkd.text.model import LanguageModel
    from graphkd.text.prompts import Prompts

__all__ = [
    "Estimate",
    "LanguageModel",
    "Prompts",
    "align",
    "alternate",
    "embed",
    "estimate",
    "explanations",
    "finetune",
    "overhead",
]


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, TEXT_NAMES)
