from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.training.loop import Schedule
from graphkd.unlearning.deletion import Deletion
from graphkd.unlearning.layers import encoder_of, layered, redrawn
from graphkd.unlearning.links import Links
from graphkd.unlearning.methods.registry import unlearner


@unlearner
def d2dgn(
    deletion: Deletion,
    *,
    alpha: float = 0.5,
    form: Literal["response", "features"] = "response",
    destroyer: Literal["random", "non_edges"] = "random",
    start: Literal["trained", "random"] = "trained",
    tau: float = 1.0,
    epochs: int = 100,
    lr: float | None = None,
    batch_size: int | None = None,
) -> nn.Module:
    r"""D2DGN: distill to delete. One teacher is to be kept, another, which knows nothing, is to be forgotten towards.

    $$ L = \alpha \, \mathrm{KL}\bigl(T_r(D_r) \,\|\, s(D_r)\bigr)
         + (1 - \alpha) \, \mathrm{KL}\bigl(T_f(D_f) \,\|\, s(D_f)\bigr) $$

    The preserver $T_r$ is the trained model, the destroyer $T_f$ a network of the same shape. Messages pass over the
    retained edges alone, for all three. Both teachers are asked once. Retained elements $D_r$ are edges with as many
    newly drawn non-edges, whose classes are edge and none, $(p, 1 - p)$; or all nodes that are left.

    Args:
        deletion: see there.
        alpha: weight of what is retained; at 1 nothing is forgotten but by leaving the graph.
        form: `response` compares answers by `kl`; `features` what each layer yields for the nodes of an element, by the
            sum over the layers of `mse`.
        destroyer: `random` has newly drawn weights; `non_edges`, of links alone, is trained as the model was, with as
            many drawn non-edges in place of the edges.
        start: of the student: from the `trained` model's weights, or from `random` ones.
        tau: temperature of `response`.
        epochs: at most; the one is kept that has the best mean of validation quality and `AUC_d`.
        lr: the trained model's if not given.
        batch_size: retained elements in a step; all if not given.

    Raises:
        ValueError: alpha or tau is out of range, nodes are to be forgotten towards non-edges, or `features` does not
            reach all weights of a student that starts from `random` ones.

    Paper: Sinha, Mandal, Kankanhalli, "Distill to Delete: Unlearning in Graph Networks with Knowledge Distillation",
    2023: two teachers, soft targets by KL or features. No code is published: weights, start, the mean in place of a sum
    over entries, the choice of the epoch, and non-edges that are told by the preserver alone are our form.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"d2dgn: alpha is the weight of what is retained, from 0 to 1, got {alpha}")
    if not tau > 0:
        raise ValueError(f"d2dgn: tau is above 0, got {tau}")
    task, preserver = deletion.after, deletion.model
    student = deletion.start() if start == "trained" else redrawn(preserver, deletion.seed + 1)
    schedule = Schedule(deletion.rate(lr), 0.0, epochs, epochs, batch_size)
    forgetting = redrawn(preserver, deletion.seed)
    if destroyer == "non_edges":
        if not isinstance(task, Links):
            raise ValueError("d2dgn: destroyer='non_edges' is for links, and nodes are to be forgotten here")
        deletion.fit(forgetting, Links(task.x, task.none.sample(task.elements.shape[1], deletion.generator)))
    if form == "response":
        kl = kdlosses.build({"type": "kl", "tau": tau})
        known, unknown = deletion.told(preserver), deletion.told(forgetting)
        nothing = task.logits(forgetting, unknown, deletion.deleted)

        def loss(batch: Tensor | slice) -> Tensor:
            h, kept = task.run(student), task.kept(batch, deletion.generator)
            retained = kl(task.logits(student, h, kept), task.logits(preserver, known, kept))
            return alpha * retained + (1 - alpha) * kl(task.logits(student, h, deletion.deleted), nothing)

    else:
        mse = kdlosses.build("mse")
        knowing, empty = deletion.told_layers(preserver), deletion.told_layers(forgetting)
        gone = task.ends(deletion.deleted)

        def loss(batch: Tensor | slice) -> Tensor:
            kept = task.ends(task.kept(batch, deletion.generator))
            h = layered(encoder_of(student), lambda: task.run(student))
            retained = sum(mse(own[kept], told[kept]) for own, told in zip(h, knowing))
            return alpha * retained + (1 - alpha) * sum(mse(own[gone], told[gone]) for own, told in zip(h, empty))

        if start == "random":
            _check_reached(student, loss(slice(0, 1)))

    deletion.train(student, loss, task.steps_over, schedule)
    return student


def _check_reached(student: nn.Module, loss: Tensor) -> None:
    names, parameters = zip(*student.named_parameters())
    for name, gradient in zip(names, torch.autograd.grad(loss, parameters, allow_unused=True)):
        if gradient is None:
            raise ValueError(
                f"d2dgn: form='features' does not reach {name!r}, and start='random' leaves it random: take "
                "start='trained' or form='response'"
            )
