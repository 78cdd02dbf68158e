"""Reductions: the one place where masks and empty selections are handled.

A `weight` of shape `(N, *)`, bool or non-negative, counts positions: weight 2 means the same as the position standing
there twice, weight 0 the same as its absence. An empty selection gives 0 and keeps the autograd graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from kdlosses.ground import readable
from kdlosses.unit import length


def weighted_mean(values: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Mean of per-position values, $\sum_i w_i l_i / \sum_i w_i$.

    Args:
        values: `(N, *)`, one loss value a position.
        weight: `(N, *)`, bool or non-negative; all ones if not given.

    >>> weighted_mean(torch.tensor([1.0, 3.0]), torch.tensor([True, False])).item()
    1.0
    >>> weighted_mean(torch.tensor([1.0, 3.0]), torch.zeros(2)).item()
    0.0
    """
    if weight is None:
        if not _processes:
            return values.mean()
        weight = torch.ones_like(values)  # processes may differ in size, and all must meet
    weight = weight.to(values.dtype)
    values = torch.where(weight > 0, values, 0)  # 0 * nan is nan: a masked value must not be multiplied
    total = (values * weight).sum()
    if _processes and not values.requires_grad:  # a statistic that other values are made of: it is that of all
        total = _mean_of_processes(total)
    return total / _count_of_a_process(weight)


def sum_over(values: Tensor, counted: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Sum of per-position values over a number of something else, $\sum_i w_i l_i / \max(1, \sum_j c_j)$.

    Args:
        values: `(N, *)`, one loss value a position.
        counted: of any shape, bool or non-negative: what it is divided by, such as objects.
        weight: `(N, *)`, bool or non-negative; all ones if not given.

    >>> sum_over(torch.tensor([1.0, 3.0]), torch.tensor([True, True, False])).item()
    2.0
    >>> sum_over(torch.tensor([1.0, 3.0]), torch.tensor([False]), torch.tensor([True, False])).item()
    1.0
    """
    total = counted.sum().to(values.dtype)
    total = (_mean_of_processes(total) if _processes else total).clamp_min(1)
    if weight is not None:
        values = torch.where(weight > 0, values, 0) * weight.to(values.dtype)
    return values.sum() / total


def shares(weight: Tensor) -> Tensor:
    """What the value of each position counts in the `weighted_mean`, `(N, *)`.

    >>> shares(torch.tensor([1.0, 3.0]))
    tensor([0.2500, 0.7500])
    """
    return weight / _count_of_a_process(weight)


_processes = 0
"""How many processes share the batch; 0 outside of `over_processes`."""


@contextmanager
def over_processes() -> Iterator[None]:
    """Normalise weighted means over all processes of `torch.distributed`.

    Inside, a process divides by the mean weight of all of them. The mean of the losses over the processes, and of their
    gradients, which is what DDP makes, is then that of one process with the whole batch, however unevenly weights are
    spread. Every process must call the same losses in the same order; without a process group nothing changes.
    """
    global _processes
    before = _processes
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    _processes = dist.get_world_size() if several else 0
    try:
        yield
    finally:
        _processes = before


def check_rows(name: str, levels: Sequence[Tensor]) -> None:
    """Check that every process has a row where features are rows `(N, C)`, such as voxels or proposals.

    Raises:
        ValueError: a process has none, in every process: the others would wait for its share of the means for ever.
    """
    if not _processes or all(level.ndim > 2 for level in levels):
        return
    empty = torch.tensor(float(any(not len(level) for level in levels)), device=levels[0].device)
    dist.all_reduce(empty)
    if empty > 0:
        raise ValueError(
            f"{name}: {int(empty)} of {_processes} processes have no row in this batch; use more samples a process, or "
            "filter samples without rows from the data set"
        )


def _count_of_a_process(weight: Tensor) -> Tensor:
    """`count`, inside of `over_processes` in the mean over all of them."""
    return count(_mean_of_processes(weight.sum()) if _processes else weight)


def _mean_of_processes(total: Tensor) -> Tensor:
    total = total.detach().clone()
    dist.all_reduce(total)
    return total / _processes


def nothing(student: Tensor) -> Tensor:
    """Return 0, attached to the autograd graph, for a loss that is off.

    >>> nothing(torch.ones(2, 3, requires_grad=True))
    tensor(0., grad_fn=<SumBackward0>)
    """
    return student.flatten()[:0].sum()


def count(weight: Tensor) -> Tensor:
    """Sum of weights, bounded away from 0 so that an empty selection gives 0."""
    return weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def labelled(
    labels: Tensor, weight: Tensor | None, ignore_index: int, classes: int | None = None
) -> tuple[Tensor, Tensor]:
    """Labels safe for indexing, and a weight that is 0 where the label is negative or `ignore_index`.

    `classes` is the number of classes, where labels are compared with that.

    Raises:
        ValueError: a label that counts is no class; on a GPU, where each look would wait for the device, unseen.

    >>> labelled(torch.tensor([2, 255, -1]), None, 255, classes=3)
    (tensor([2, 0, 0]), tensor([ True, False, False]))
    """
    valid = (labels >= 0) & (labels != ignore_index)
    if weight is not None:
        valid &= weight > 0
    if classes is not None and readable(labels) and bool((wrong := valid & (labels >= classes)).any()):
        raise ValueError(
            f"labels name class {labels[wrong].max().item()} where there are {classes}: 0 to {classes - 1}; negative "
            f"ones and ignore_index={ignore_index} are left out"
        )
    return labels.where(valid, 0), valid if weight is None else weight * valid


def centred(values: Tensor, weight: Tensor | None, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    r"""Values minus their weighted mean over `axes`, times $\sqrt{w}$, with their norm and the number of positions.

    With $x = \sqrt w (v - \bar v)$ the sum of products over `axes` is a weighted covariance times n.

    Args:
        values: `(N, C, *)`.
        weight: `(N, *)` or None; only meaningful where `axes` are axes of positions.
        axes: axes to reduce.

    Returns:
        centred values `(N, C, *)`, their 2-norm and n = sum of weights, both with the reduced axes kept.
    """
    if weight is None:
        mean, root = values.mean(axes, keepdim=True), None
        n = values.new_tensor(values.numel() / mean.numel())
    else:
        weight = weight.to(values.dtype).unsqueeze(1)
        n, root = count(weight), weight.sqrt()
        mean = (values * weight).sum(axes, keepdim=True) / n
    x = values - mean if root is None else (values - mean) * root
    # the gradient of either is 0 at 0, that of sqrt is not
    norm = length(x, 1, keepdim=True) if axes == (1,) else torch.linalg.vector_norm(x, dim=axes, keepdim=True)
    return x, norm, n


def by_sample(
    student: Tensor, teacher: Tensor, weight: Tensor | None = None, batch: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Reshape a pair to `(samples, C, positions)`; a map or a graph is one sample.

    Maps `(N, C, *)` are flattened. Nodes `(N, C)` are the positions of one graph, or of the graphs that `batch`
    numbers; graphs are padded to the largest with weight 0.

    Returns:
        student, teacher and weight `(samples, positions)` (None: all ones).

    >>> s, t, w = by_sample(torch.ones(3, 2), torch.ones(3, 5), batch=torch.tensor([0, 0, 1]))
    >>> s.shape, t.shape, w.tolist()
    (torch.Size([2, 2, 2]), torch.Size([2, 5, 2]), [[1.0, 1.0], [1.0, 0.0]])
    """
    if student.ndim > 2:
        return student.flatten(2), teacher.flatten(2), None if weight is None else weight.flatten(1)
    if batch is None:
        return student.t()[None], teacher.t()[None], None if weight is None else weight[None]
    graph = torch.unique(batch, return_inverse=True)[1]
    size = torch.bincount(graph)
    order = torch.argsort(graph, stable=True)
    slot = torch.empty_like(order)
    slot[order] = torch.arange(len(order), device=order.device) - (size.cumsum(0) - size)[graph[order]]

    def pad(values: Tensor) -> Tensor:
        out = values.new_zeros(len(size), int(size.max()), *values.shape[1:])
        return out.index_put((graph, slot), values)

    ones = torch.ones_like(graph, dtype=student.dtype) if weight is None else weight.to(student.dtype)
    return pad(student).transpose(1, 2), pad(teacher).transpose(1, 2), pad(ones)
