from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kdlosses.reduce import by_sample, weighted_mean
from kdlosses.registry import register


@register(match="positions")
def at(
    student: Tensor,
    teacher: Tensor,
    p: float = 2.0,
    form: Literal["squared", "norm"] = "squared",
    weight: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    r"""Attention transfer: match the spatial attention maps of two layers, whatever their numbers of channels.

    With the attention map $A = a / \|a\|_2$ of a sample, $a_i = \mathrm{mean}_c |f_{ic}|^p$,

    $$ \text{squared: } L = \mathrm{mean}_{n,i} (A^s_{ni} - A^t_{ni})^2, \qquad
       \text{norm: } L = \mathrm{mean}_n \|A^s_n - A^t_n\|_2. $$

    Rescaling a sample, permuting or (p = 2) rotating its channels changes nothing; student and teacher may differ in
    channels. On nodes the positions of a sample are the nodes of a graph.

    Args:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        p: power.
        form: `squared`, as in the authors' code, or `norm`, as in the paper's text.
        weight: `(N, *)`, positions to count.
        batch: `(N,)`, graph of each node; without it all nodes are one graph.

    Raises:
        ValueError: one position a sample, where every attention map is 1.

    Paper: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017. Factor 1 in the squared form, whose
    usual weight is 1000 summed over layers.

    >>> import torch
    >>> at(torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]]]])).item()
    1.0
    """
    student, teacher, weight = by_sample(student, teacher, weight, batch)
    if student.shape[2] == 1:
        raise ValueError("at needs more than one position a sample: the attention map of a single one is always 1")
    if weight is None:
        weight = student.new_ones(student.shape[0], student.shape[2])
    weight = weight.to(student.dtype)
    difference = _attention(student, weight, p) - _attention(teacher, weight, p)
    if form == "squared":
        return weighted_mean(difference.square(), weight)
    norms = torch.linalg.vector_norm(difference * weight.sqrt(), dim=1)
    return weighted_mean(norms, (weight > 0).any(1))


def _attention(features: Tensor, weight: Tensor, p: float) -> Tensor:
    energy = (features.square() if p == 2 else features.abs().pow(p)).mean(1)
    root = weight.sqrt()
    return energy / torch.linalg.vector_norm(energy * root, dim=1, keepdim=True).clamp_min(1e-12)
