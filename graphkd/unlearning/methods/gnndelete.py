from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.training.loop import Schedule
from graphkd.unlearning.deletion import Deletion
from graphkd.unlearning.layers import encoder_of, layered, layers_of
from graphkd.unlearning.methods.registry import unlearner
from graphkd.unlearning.operator import Deleting, put


@unlearner
def gnndelete(
    deletion: Deletion,
    *,
    lam: float = 0.5,
    start: Literal["identity", "small"] = "identity",
    epochs: int = 500,
    lr: float = 1e-3,
) -> nn.Module:
    r"""GNNDelete: a matrix behind each layer changes the rows near deleted elements; the network itself is frozen.

    $$ h'^{\,l}_i = h^l_i W_l \;\text{ for } i \in S_l, \qquad
       L^l = \lambda \, \mathrm{MSE}\bigl([h'^{\,l}_u; h'^{\,l}_v], [h^l_p; h^l_q]\bigr)
           + (1 - \lambda) \, \mathrm{MSE}\bigl(h'^{\,l}_w, h^l_w\bigr) $$

    $S_l$ are the nodes at most l hops from a deleted element, before it is deleted. (u, v) are deleted edges, (p, q)
    newly drawn non-edges, w the nodes of $S_l$ that are no end of a deleted edge, and h what the trained network says
    over the retained edges. A deleted node is compared with any node, drawn anew. The loss of a layer teaches the
    matrix of that layer alone.

    Args:
        deletion: see there.
        lam: $\lambda$, weight of what is deleted.
        start: of the matrices: the `identity`, or `small`: 1/1000 everywhere, of rank 1.
        epochs: at most; the one is kept that has the best mean of validation quality and `AUC_d`.
        lr: of the matrices.

    Returns:
        The network with its layers wrapped; it answers for this graph alone.

    Paper: Cheng et al., "GNNDelete: A General Strategy for Unlearning in Graph Neural Networks", ICLR 2023, with
    matrices of 1/1000 and negatives drawn once; the identity, new draws and the choice of the epoch are our form.
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"gnndelete: lam is the weight of what is deleted, from 0 to 1, got {lam}")
    task, model = deletion.after, deletion.start().requires_grad_(False).eval()
    network = encoder_of(model)
    mse = kdlosses.build("mse")
    plain = deletion.told_layers(deletion.model)
    gone, weights, near = task.ends(deletion.deleted), nn.ParameterList(), []
    for hops, ((path, layer), h) in enumerate(zip(layers_of(network).items(), plain), 1):
        reached = deletion.reach(hops)
        operator = Deleting(layer, reached.nonzero().flatten(), h, 1e-3 if start == "small" else None)
        put(network, path, operator)
        weights.append(operator.weight)
        near.append((reached & ~deletion.forgotten).nonzero().flatten())

    def loss(batch: Tensor | slice) -> Tensor:
        any_ends = task.ends(task.strangers(deletion.deleted.shape[-1], deletion.generator))
        total = torch.zeros(())
        for own, told, others in zip(layered(network, lambda: task.run(model), apart=True), plain, near):
            total = total + lam * mse(own[gone], told[any_ends])
            if len(others):
                total = total + (1 - lam) * mse(own[others], told[others])
        return total

    deletion.train(weights, loss, 1, Schedule(lr, 0.0, epochs, epochs), answers=model)
    return model
