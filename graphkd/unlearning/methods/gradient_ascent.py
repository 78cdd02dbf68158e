from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.training.loop import Schedule
from graphkd.unlearning.deletion import Deletion
from graphkd.unlearning.methods.registry import unlearner


@unlearner
def gradient_ascent(deletion: Deletion, *, epochs: int = 20, lr: float | None = None) -> nn.Module:
    r"""Undo the training on the deleted elements: climb their loss.

    $$ \theta \leftarrow \theta + \eta \, \nabla_\theta \, \mathrm{CE}(f_\theta(D_f), y_f) $$

    by Adam; of edges the label is that they are there. What is retained is not looked at but to choose the epoch.

    Args:
        deletion: see there.
        epochs: at most; the loss has no minimum.
        lr: a tenth of the trained model's if not given.

    Raises:
        ValueError: the model has learned no label of a deleted node.

    Paper: the plainest form of unlearning, a baseline of GNNDelete and of others.
    """
    task = deletion.after
    truth = task.truth(deletion.deleted)
    if not (truth >= 0).any():
        raise ValueError(
            "gradient_ascent climbs the loss of labels, and of no deleted node one was learned: take another method"
        )
    student = deletion.start()

    def loss(batch: Tensor | slice) -> Tensor:
        logits = task.logits(student, task.run(student), deletion.deleted)
        return -F.cross_entropy(logits, truth, ignore_index=-1)

    deletion.train(student, loss, 1, Schedule(deletion.rate(lr, 0.1), 0.0, epochs, epochs))
    return student
