"""Networks with low-bit weights: a straight-through estimator, or learned quantisation points."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize


class EvenPoints(nn.Module):
    r"""Round weights to even steps between the least and greatest of their bucket, with a straight-through gradient.

    $$ q(w) = l + \frac{h - l}{s} \, \mathrm{round}\Big( s \, \frac{w - l}{h - l} \Big), \quad s = 2^b - 1, \qquad
       \frac{\partial q}{\partial w} := 1 $$

    Args:
        bits: b; from 32 on the weights are left as they are.
        bucket: neighbouring weights that share l and h.

    Paper: Polino et al., "Model Compression via Distillation and Quantization", ICLR 2018.

    >>> EvenPoints(bits=1)(torch.tensor([0.0, 0.2, 0.7, 1.0]))
    tensor([0., 0., 1., 1.])
    """

    def __init__(self, bits: int, bucket: int = 256) -> None:
        super().__init__()
        if bits < 1 or bucket < 2:
            raise ValueError(f"quantise: at least 1 bit and 2 weights in a bucket, got {bits} and {bucket}")
        self.bits, self.bucket = bits, bucket

    def forward(self, weight: Tensor) -> Tensor:
        if self.bits >= 32:
            return weight
        unit, low, width = to_unit(weight.detach(), self.bucket)
        steps = 2**self.bits - 1
        rounded = from_unit((unit * steps).round() / steps, low, width, weight.shape)
        return rounded + (weight - weight.detach())  # adds exactly 0, and the gradient


class LearntPoints(nn.Module):
    r"""Replace each weight by the nearest of k points, and learn the points instead of the weights.

    $$ q(w) = l + (h - l) \, p_{j(w)}, \quad j(w) = \arg\min_j \Big| \frac{w - l}{h - l} - p_j \Big|, \qquad
       \frac{\partial L}{\partial p_j} = \sum_{w: j(w) = j} (h - l) \frac{\partial L}{\partial q(w)} $$

    Args:
        weight: the points start at its quantiles $(j + 1/2) / k$.
        bits: there are $k = 2^b$ points.
        bucket: neighbouring weights that share l and h.

    Attributes:
        points: p `(k,)`, within 0 and 1 at the start; a step may change their order, which means nothing.

    Paper: Polino et al., "Model Compression via Distillation and Quantization", ICLR 2018.
    """

    def __init__(self, weight: Tensor, bits: int, bucket: int = 256) -> None:
        super().__init__()
        if not 1 <= bits <= 16 or bucket < 2:
            raise ValueError(f"quantise: 1 to 16 bits and at least 2 weights in a bucket, got {bits} and {bucket}")
        self.bucket = bucket
        unit = to_unit(weight.detach(), bucket)[0].flatten().sort().values
        middle = (torch.arange(2**bits, device=unit.device) + 0.5) / 2**bits  # of as many groups of equal size
        self.points = nn.Parameter(unit[(middle * (len(unit) - 1)).round().long()])

    def forward(self, weight: Tensor) -> Tensor:
        unit, low, width = to_unit(weight.detach(), self.bucket)
        points = self.points.sort().values
        nearest = torch.bucketize(unit, (points[1:] + points[:-1]).detach() / 2)
        return from_unit(points[nearest], low, width, weight.shape)


def quantise(network: nn.Module, bits: int, bucket: int = 256, learnt: bool = False, ends: bool = True) -> nn.Module:
    """Make the linear layers and convolutions of a network compute with quantised weights, biases left out.

    The weights in full precision stay beneath and are what an optimiser moves; with `learnt` they are frozen with all
    else, and only the points learn. State dicts have other keys until `bake`.

    Args:
        network: changed in place.
        bits: see `EvenPoints` and `LearntPoints`.
        bucket: likewise.
        learnt: learn the points.
        ends: quantise the first and the last layer too.

    Returns:
        the network.

    Raises:
        ValueError: there is no layer to quantise.

    Paper: Polino et al., "Model Compression via Distillation and Quantization", ICLR 2018.

    >>> layer = bake(quantise(nn.Sequential(nn.Linear(8, 8)), bits=2))[0]
    >>> len(layer.weight.unique()) <= 4
    True
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
    layers = layers if ends else layers[1:-1]
    if not layers:
        raise ValueError(f"quantise: no linear layer or convolution{'' if ends else ' between the first and the last'}")
    if learnt:
        network.requires_grad_(False)
    for layer in layers:
        points = LearntPoints(layer.weight, bits, bucket) if learnt else EvenPoints(bits, bucket)
        parametrize.register_parametrization(layer, "weight", points)
    return network


def bake(network: nn.Module) -> nn.Module:
    """Replace the parametrization by plain quantised weights under their own names, trainable again."""
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return network.requires_grad_(True)


def to_unit(weight: Tensor, bucket: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights in buckets `(buckets, size)` scaled to 0..1, with their least value and their width `(buckets, 1)`."""
    size = min(bucket, max(1, weight.numel()))
    flat = weight.flatten()
    rest = -len(flat) % size
    flat = F.pad(flat[None], (0, rest), mode="replicate")[0] if rest else flat  # the last weight again: no new extreme
    buckets = flat.view(-1, size)
    low, high = buckets.aminmax(dim=1, keepdim=True)
    width = high - low
    return (buckets - low) / width.masked_fill(width == 0, 1), low, width


def from_unit(unit: Tensor, low: Tensor, width: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `to_unit`."""
    return (low + width * unit).flatten()[: shape.numel()].view(shape)
