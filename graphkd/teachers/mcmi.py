from __future__ import annotations

from torch import Tensor, nn

from graphkd.data import Setting
from graphkd.teachers.call import call
from graphkd.teachers.registry import tune
from graphkd.training.loop import History, Schedule, train
from kdlosses.rules.mcmi import mcmi as loss_of


@tune
def mcmi(
    network: nn.Module,
    setting: Setting,
    *,
    lam: float = 0.15,
    lr: float = 0.01,
    weight_decay: float = 5e-4,
    epochs: int = 20,
) -> History:
    r"""Fine-tune a trained teacher to spread its predictions within a class, see `kdlosses.rules.mcmi`.

    The last epoch is kept: to choose one by its accuracy would choose the least change. On a graph the training labels
    are few, and what is spread is their nodes alone.

    Args:
        network: called as `network(x, edge_index)`, tuned in place.
        setting: what the teacher may see.
        lam: weight of the spread; 0 goes on with cross-entropy.
        lr: learning rate of Adam (paper: 0.05, of SGD).
        weight_decay: of Adam.
        epochs: as many steps, on all nodes.

    Paper: Ye et al., "Bayes Conditional Distribution Estimation for Knowledge Distillation Based on Conditional Mutual
    Information", ICLR 2024.
    """
    seen, nodes = setting.seen, setting.train

    def loss(batch: Tensor | slice) -> Tensor:
        logits = call(network, seen.x, seen.edge_index, seen.edge_weight, seen.num_classes)
        return loss_of(logits[nodes], seen.y[nodes], lam=lam)

    return train(network, loss, len(seen), schedule=Schedule(lr, weight_decay, epochs))
