from __future__ import annotations

from torch import nn

from graphkd.unlearning.deletion import Deletion
from graphkd.unlearning.methods.registry import unlearner


@unlearner
def utu(deletion: Deletion) -> nn.Module:
    r"""Unlink to unlearn: deleted elements leave the graph, and no weight changes.

    $$ \theta' = \theta, \qquad f'(v) = f(v; \, E \setminus E_d) $$

    The control of all others: what it forgets costs nothing. Whoever has the old edges gets the old answers.

    Args:
        deletion: see there.

    Paper: Tan et al., "Unlink to Unlearn: Simplifying Edge Unlearning in GNNs", WWW 2024.
    """
    return deletion.start()
