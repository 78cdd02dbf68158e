from __future__ import annotations

from torch import Tensor

from kdlosses.reduce import by_sample, weighted_mean
from kdlosses.registry import register
from kdlosses.unit import unit


@register(match="positions")
def nst(
    student: Tensor,
    teacher: Tensor,
    degree: int = 2,
    offset: float = 0.0,
    weight: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    r"""Neuron selectivity transfer: match the distribution of the channels' activation patterns, whatever their number.

    A channel c of a sample is one point $x_c = f_c / \|f_c\|_2$, its activations at all positions scaled to length 1.
    The loss is the squared maximum mean discrepancy between the points of both sides,

    $$ L = \mathrm{mean}_n \Big[ \mathrm{mean}_{c,c'} k(x^t_{nc}, x^t_{nc'}) + \mathrm{mean}_{c,c'} k(x^s_{nc},
       x^s_{nc'}) - 2 \, \mathrm{mean}_{c,c'} k(x^t_{nc}, x^s_{nc'}) \Big], \qquad k(x, y) = (x \cdot y + o)^d. $$

    Neither the order nor the scale, nor for even d the sign, of a channel changes anything. With d = 1 and no offset
    only the mean pattern is matched; with d = 2 it is also which positions are active together. On nodes the positions
    of a sample are the nodes of a graph.

    Args:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        degree: d.
        offset: o.
        weight: `(N, *)`, positions to count.
        batch: `(N,)`, graph of each node; without it all nodes are one graph.

    Raises:
        ValueError: one position a sample, where every pattern is 1 or -1.

    Paper: Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017. Factor 1. The
    weight in RepDistiller, with which the field compares, is 50 summed over layers.

    >>> import torch
    >>> f = torch.eye(2).view(1, 2, 1, 2)  # two channels, each active at a position of its own
    >>> nst(f.flip(1), 3 * f).item(), nst(f[:, :1], f).item()
    (0.0, 0.5)
    """
    student, teacher, weight = by_sample(student, teacher, weight, batch)
    if student.shape[2] == 1:
        raise ValueError("nst needs more than one position a sample: the pattern of a single one is always 1 or -1")
    if weight is not None:
        root = weight.to(student.dtype).sqrt().unsqueeze(1)
        student, teacher = student * root, teacher * root
    s, t = unit(student, dim=2), unit(teacher, dim=2)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.mT + offset).pow(degree).mean((1, 2))

    apart = kernel(t, t) + kernel(s, s) - 2 * kernel(t, s)
    return weighted_mean(apart, None if weight is None else (weight > 0).any(1))
