"""Language models as teachers of graphs: embed the texts of nodes once and store the result in a cache."""

from graphkd.extras import needs_extra

with needs_extra("graphkd.text"):
    from graphkd.text.align import align
    from graphkd.text.alternate import alternate
    from graphkd.text.embed import Estimate, embed, estimate, explanations, overhead
    from graphkd.text.model import LanguageModel
    from graphkd.text.prompts import Prompts
    from graphkd.text.tune import tune

__all__ = [
    "Estimate",
    "LanguageModel",
    "Prompts",
    "align",
    "alternate",
    "embed",
    "estimate",
    "explanations",
    "overhead",
    "tune",
]
