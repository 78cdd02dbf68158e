from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.scenes.layers import Attention, Entity, heads_fit, mean_of, mlp, relative_boxes
from graphkd.scenes.lesson import SceneLesson, Shape
from graphkd.scenes.methods.registry import scene_method
from graphkd.scenes.scenes import Scenes
from graphkd.training.loop import History

VIEWS = ("local", "global")


class Seen(NamedTuple):
    """What one graph makes of scenes: a row for each entity in each frame, and logits of each video."""

    nodes: Tensor
    logits: Tensor


class Graph(nn.Module):
    """Graph attention over the entities of a video; logits of actions are the mean of what each entity tells of them.

    Args:
        shape: of the scenes.
        hidden: width of all heads together.
        heads: of each layer.
        layers: how many.
        dropout: of the nodes between layers.
        through_time: whether an entity is joined to itself in other frames, and nodes know when they are; else each
            frame is a graph of its own.
    """

    def __init__(self, shape: Shape, hidden: int, heads: int, layers: int, dropout: float, through_time: bool) -> None:
        super().__init__()
        self.through_time = through_time
        self.entity = Entity(shape, hidden, int(through_time))
        self.layers = nn.ModuleList(Attention(hidden, heads, 5 + 2 * through_time) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.head = mlp(hidden, hidden, shape.answers)

    def forward(self, scenes: Scenes) -> Seen:
        edges, given = self.edges(scenes)
        nodes = self.entity(scenes, *([scenes.time[:, None]] if self.through_time else []))
        for layer in self.layers:
            nodes = layer(self.dropout(nodes), edges, given)
        return Seen(nodes, mean_of(self.head(nodes), scenes.video, scenes.videos))

    def edges(self, scenes: Scenes) -> tuple[Tensor, Tensor]:
        """Edges `(2, E)` and what is known of each, `(E, 5)` or `(E, 7)`."""
        within = scenes.pairs
        if not self.through_time:
            return within, relative_boxes(scenes.boxes, within.flip(0))
        edges = torch.cat([within, scenes.through_time], 1)
        later = (scenes.time[edges[1]] - scenes.time[edges[0]])[:, None]
        same = (torch.arange(edges.shape[1]) < within.shape[1]).float()[:, None]
        return edges, torch.cat([relative_boxes(scenes.boxes, edges.flip(0)), later, same], 1)


class Glidn(nn.Module):
    """A local and a global graph network over the same entities."""

    def __init__(self, shape: Shape, hidden: int = 32, heads: int = 4, layers: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        heads_fit(hidden, heads, "glidn")
        self.built: dict[str, Any] = dict(hidden=hidden, heads=heads, layers=layers, dropout=dropout)
        self.graphs = nn.ModuleDict({view: Graph(shape, **self.built, through_time=view == "global") for view in VIEWS})

    def seen(self, scenes: Scenes) -> dict[str, Seen]:
        """What each graph makes of scenes."""
        return {view: self.graphs[view](scenes) for view in VIEWS}

    def forward(self, scenes: Scenes) -> dict[str, Tensor]:
        """Logits of actions `(V, C)` of each graph."""
        return {view: each.logits for view, each in self.seen(scenes).items()}


@scene_method("actions", Glidn, teach=0.0, features=0.0)
def glidn(
    lesson: SceneLesson,
    *,
    teach: float = 1.0,
    features: float = 0.05,
    tau: float = 2.0,
    hidden: int = 32,
    heads: int = 4,
    layers: int = 2,
    dropout: float = 0.2,
) -> tuple[Glidn, History]:
    r"""Humans and objects in two graphs, one of each frame and one of the whole video, which teach each other actions.

    $$ L = H(y, z^l) + H(y, z^g)
         + \frac{\beta}{2} \Big( \mathrm{KL}_\tau(\bar z^g \,\|\, z^l) + \mathrm{KL}_\tau(\bar z^l \,\|\, z^g) \Big)
         + \gamma \Big( \langle \| n(h^l) - n(\bar h^g) \|^2 \rangle
         + \langle \| n(h^g) - n(\bar h^l) \|^2 \rangle \Big) $$

    with the logits z of a video, the nodes h of entities in frames, the mean over nodes $\langle \cdot \rangle$, unit
    length n, and no gradient through what is barred. The losses on labels H are those of videos whose action is known;
    the graphs teach each other on all videos to learn from. For several actions at once, KL is that of each label.

    The nodes of the local graph hear of the other entities of their frame, with relative boxes on the edges, and the
    mean over all frames does not know their order. Those of the global graph hear of the same entity at earlier times
    as well, with the time between, and know when they are. Either answers alone, the local one also about a single
    frame; `both` is the mean of their logits.

    The paper is known by its abstract. Published are two graphs by graph attention, local ones of a frame and a global
    one of the video, and distillation from each to its counterpart. The edges, the losses and their weights are ours.

    Args:
        lesson: with the videos.
        teach: weight of what the graphs tell each other of actions, $\beta$.
        features: weight of what they tell each other of nodes, $\gamma$.
        tau: temperature.
        hidden: width of the nodes.
        heads: of attention.
        layers: of each graph.
        dropout: of nodes.

    Paper: Almushyti and Li, "Distillation of Human-Object Interaction Contexts for Action Recognition", Computer
    Animation and Virtual Worlds 2022.
    """
    network = Glidn(lesson.shape, hidden, heads, layers, dropout)
    soft = kdlosses.build(dict(type=lesson.task.soft, tau=tau))
    alike = kdlosses.build("cosine")

    def loss(videos: Tensor | slice) -> Tensor:
        batch = lesson.batch(videos)
        seen = network.seen(batch)
        value = sum((lesson.hard_loss(each.logits, batch) for each in seen.values()), torch.zeros(()))
        for taught, teacher in (VIEWS, VIEWS[::-1]):
            own, other = seen[taught], seen[teacher]
            if teach:
                value = value + teach / 2 * soft(own.logits, other.logits.detach())
            if features:
                value = value + 2 * features * alike(own.nodes, other.nodes.detach())
        return value

    return network, lesson.loop(network, loss)
