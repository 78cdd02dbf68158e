from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from graphkd.training.task import TASKS
from graphkd.training.term import Term
from kdlosses.auto_weight import Task


@recipe(tasks=TASKS)
def terms(
    model: MLP, lesson: Lesson, *, distills: Sequence[Mapping[str, Any]] = ({"loss": "kl"},), lam: float = 0.0
) -> History:
    r"""Any registered losses and policies on logits and hidden layers, as a list like a dense `distills`.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i)
         + (1 - \lambda) \sum_k w_k \, \ell_k(s_k, t_k) $$

    With one `kl` it is `glnn`. Of several labels, or of numbers, the losses on logits must take no softmax of them:
    `binary_kl`, `mse`; CE is the loss of `lesson.task`. A step in a mini-batch shows a loss the edges among the nodes
    of the batch. An entry with weight 'auto' needs $0 < \lambda$: its gradient is compared with that of CE.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits and, for taps of them, its hidden layers.
        distills: entries, see `graphkd.training.term.Term`.
        lam: weight of the labels; 1 is `supervised`.

    Paper: those of its losses.
    """
    check_lam("terms", lam)
    if lam == 1:
        return supervised(model, lesson)
    if not distills:
        raise ValueError("terms: distills is empty: there is nothing to learn from the teacher (lam=1 is the control)")
    each = [Term.parse(entry, model, lesson) for entry in distills]
    measured = [term for term in each if term.auto is not None]
    if measured and lam == 0:
        raise ValueError(
            f"terms: distills entry {measured[0].loss.name!r}: weight 'auto' is measured beside the labels, which "
            "lam=0 leaves out: give lam=0.5, say, or a number"
        )
    parameters = list(model.parameters())
    needs = {name for term in each for name in term.loss.needs}
    nothing = torch.zeros(())

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        outputs, context = model.outputs(rows(lesson.x, nodes)), lesson.context(nodes, needs)
        soft = [term(outputs, nodes, context) for term in each]
        for n, auto in enumerate(term.auto for term in each):
            if auto is not None:
                if auto.measuring and torch.is_grad_enabled():
                    auto.measure(Task(hard, parameters).pull(soft[n], "", []))
                soft[n] = auto.weight * soft[n]
        return lam * hard + (1 - lam) * torch.stack(soft).sum()

    return lesson.train(nn.ModuleList([model, *each]), loss, len(lesson))
