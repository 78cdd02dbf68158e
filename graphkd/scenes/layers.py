"""Layers that the networks for scenes share."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch_geometric.utils import softmax

from graphkd.scenes.lesson import Shape
from graphkd.scenes.scenes import Scenes


class Entity(nn.Module):
    """An entity as a vector: its features, its class, whether it is a human and more numbers of it, through an MLP.

    Args:
        shape: of the scenes.
        width: of the vector.
        more: further numbers of an entity.
    """

    def __init__(self, shape: Shape, width: int, more: int = 0) -> None:
        super().__init__()
        self.labels, self.human = shape.labels, shape.human
        self.layers = mlp(shape.features + shape.labels + 1 + more, width, width)

    def forward(self, scenes: Scenes, *more: Tensor) -> Tensor:
        kind = nn.functional.one_hot(scenes.labels, self.labels).float()
        human = (scenes.labels == self.human).float()[:, None]
        return self.layers(torch.cat([scenes.features, kind, human, *more], 1))


class Attention(nn.Module):
    r"""Graph attention, GATv2, that hears what is known of an edge, too, on a residual.

    $$ h_i' = h_i + \mathrm{ELU}\Big(\sum_j \alpha_{ij} (W h_j + U e_{ij})\Big), \qquad
       \alpha_{ij} = \mathrm{softmax}_j \big(a^\top \mathrm{LeakyReLU}(V h_i + W h_j + U e_{ij})\big) $$

    Args:
        hidden: width of all heads together.
        heads: how many.
        edge: numbers of an edge.

    Shape: nodes `(N, hidden)`, edges `(2, E)` from j to i and their numbers `(E, edge)`, to nodes.
    """

    def __init__(self, hidden: int, heads: int, edge: int) -> None:
        super().__init__()
        self.heads = heads
        self.own, self.other = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden, bias=False)
        self.edge = nn.Linear(edge, hidden, bias=False)
        self.score = nn.Parameter(torch.empty(heads, hidden // heads))
        nn.init.xavier_uniform_(self.score)

    def forward(self, nodes: Tensor, edges: Tensor, given: Tensor) -> Tensor:
        source, target = edges
        told = (self.other(nodes)[source] + self.edge(given)).unflatten(1, (self.heads, -1))
        asked = self.own(nodes)[target].unflatten(1, (self.heads, -1))
        score = (nn.functional.leaky_relu(asked + told, 0.2) * self.score).sum(2)
        share = softmax(score, target, num_nodes=len(nodes))
        heard = told.new_zeros(len(nodes), *told.shape[1:]).index_add(0, target, share[..., None] * told)
        return nodes + nn.functional.elu(heard.flatten(1))


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with a ReLU between each two."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(widths):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def relative_boxes(boxes: Tensor, pairs: Tensor) -> Tensor:
    """Where the second box of each pair lies as the first one sees it, `(P, 5)`.

    Offsets x of the centres in widths and heights of the first box, as x / (1 + |x|), so that what is far away does not
    count for more; logarithms of the ratios of widths and of heights; the share of the smaller box that both cover.

    >>> boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]])
    >>> [round(each, 2) for each in relative_boxes(boxes, torch.tensor([[0], [1]]))[0].tolist()]
    [0.33, 0.0, 0.0, 0.0, 0.5]
    """
    boxes = boxes.double()  # areas of tiny and of huge boxes are no numbers of float32
    size, middle = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
    first, second = pairs
    shared = torch.minimum(boxes[first, 2:], boxes[second, 2:]) - torch.maximum(boxes[first, :2], boxes[second, :2])
    area = size.prod(1)
    covered = shared.clamp_min(0).prod(1) / torch.minimum(area[first], area[second])
    offset = (middle[second] - middle[first]) / size[first]
    offset = offset / (1 + offset.abs())
    return torch.cat([offset, (size[second] / size[first]).log(), covered[:, None]], 1).float()


def mean_of(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """The mean of the rows of each group, `(G, d)`; 0 where there is none."""
    total = values.new_zeros(groups, values.shape[1]).index_add(0, group, values)
    return total / torch.bincount(group, minlength=groups).clamp_min(1)[:, None]


def heads_fit(hidden: int, heads: int, what: str) -> None:
    """Raise ValueError unless the width is a multiple of the number of heads."""
    if hidden % heads:
        raise ValueError(f"{what}: hidden ({hidden}) is a multiple of heads ({heads})")
