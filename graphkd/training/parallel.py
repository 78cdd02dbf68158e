"""Training in several processes, `torchrun --nproc-per-node 2 script.py`, once the script has called
`torch.distributed.init_process_group("gloo")`: every process fits the same student on the same data.

Each takes its part of every batch. The gradients are added, weighted by the parts, so that a loss that is a mean over
the nodes of a batch, or over labelled nodes that are drawn for it, trains as in one process, to rounding. What else
differs from one process: dropout (the parts drop different units, other ones than the whole batch would), losses over
pairs of nodes (the pairs within a part) and batch normalisation (the statistics of a part), edges drawn by a recipe
(the same ones in each process, as many as its part needs). An optimiser of a recipe's own stays in its process.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def processes() -> tuple[int, int]:
    """Return (rank, world_size); (0, 1) without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def barrier() -> None:
    """Wait until all processes are here."""
    if processes()[1] > 1:
        dist.barrier()


def share(tensors: list[Tensor]) -> None:
    """Broadcast the tensors of the first process to all."""
    if processes()[1] > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


def gathered(values: Tensor, nodes: Tensor | slice, count: int) -> tuple[Tensor, Tensor | slice]:
    """Numbers `(n,)` of the nodes of this process's part and of all other parts, and these nodes, of `count` in all."""
    if processes()[1] == 1:
        return values, nodes
    found = torch.zeros(2, count, dtype=torch.float64)
    found[0, nodes], found[1, nodes] = values.double(), 1.0
    dist.all_reduce(found)
    there = found[1].nonzero().flatten()
    return found[0, there] / found[1, there], there


def backward(loss: Callable[[Tensor | slice], Tensor], batch: Tensor | slice, nodes: int, model: nn.Module) -> Tensor:
    """Compute the gradients of a batch split over processes; return the loss of the whole batch.

    Args:
        loss: from nodes to a mean over them.
        batch: ids of nodes, or `slice(None)` for all; the same in every process.
        nodes: how many there are.
        model: whose gradients are added.
    """
    rank, size = processes()
    if size == 1:
        value = loss(batch)
        value.backward()
        return value.detach()
    ids = torch.arange(nodes) if isinstance(batch, slice) else batch
    part = ids.tensor_split(size)[rank]
    weight = len(part) / max(1, len(ids))
    value = loss(part if len(part) else ids)  # whatever it draws, it draws in every process
    value.backward()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    used = value.new_tensor([parameter.grad is not None for parameter in parameters])
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    joined = torch.cat([(weight * value.detach()).view(1), used, *(weight * grad.flatten() for grad in gradients)])
    dist.all_reduce(joined)
    value, used, *summed = joined.split([1, len(parameters), *(p.numel() for p in parameters)])
    for parameter, grad, count in zip(parameters, summed, used.tolist()):
        parameter.grad = grad.view_as(parameter).clone() if count else None  # Adam leaves alone what has no gradient
    return value[0]
