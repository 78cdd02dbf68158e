from __future__ import annotations

from torch import nn

from graphkd.unlearning.deletion import Deletion
from graphkd.unlearning.layers import redrawn
from graphkd.unlearning.methods.registry import unlearner


@unlearner
def retrain(deletion: Deletion) -> nn.Module:
    r"""Train the same network from new weights on what is left: what the others are to come near at less cost.

    $$ \theta' = \arg\min_\theta L(\theta; \, D \setminus D_f) $$

    by the schedule of the trained model.

    Args:
        deletion: see there.
    """
    new = redrawn(deletion.model, deletion.seed)
    deletion.fit(new, deletion.after)
    return new
