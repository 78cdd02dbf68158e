from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.utils import softmax

from graphkd.scenes.layers import Entity, heads_fit, mlp
from graphkd.scenes.lesson import SceneLesson, Shape
from graphkd.scenes.methods.registry import scene_method
from graphkd.scenes.scenes import Scenes
from graphkd.scenes.terms import AttractRepel, opposite_apart
from graphkd.training.loop import History


class Local(nn.Module):
    """A pair as a vector: of subject, object and background, in this order.

    Args:
        shape: of the scenes.
        hidden: width.
        heads: of the attention among the three.
        ordered: whether subject and object have parts of their own and the subject comes first; else the two may be
            exchanged.
    """

    def __init__(self, shape: Shape, hidden: int, heads: int, ordered: bool) -> None:
        super().__init__()
        self.ordered = ordered
        self.slots = nn.ModuleList(mlp(hidden + 4, hidden, hidden) for _ in range(1 + ordered))
        self.background = mlp(shape.context + 4, hidden, hidden)
        self.attention = nn.MultiheadAttention(hidden, heads, batch_first=True)
        self.compose = mlp(3 * hidden, hidden, hidden)

    def forward(self, entities: Tensor, scenes: Scenes) -> Tensor:
        boxes = scenes.place[scenes.pairs]
        low, high = boxes[..., :2].amin(0), boxes[..., 2:].amax(0)
        size = (high - low).clamp_min(torch.finfo(boxes.dtype).tiny)
        inside = ((boxes.view(2, -1, 2, 2) - low[:, None]) / size[:, None]).flatten(2)
        around = [torch.cat([low, high], 1)]
        if scenes.context is not None:
            around.append(scenes.context[scenes.pairs[0]])
        s, o = (
            self.slots[-1 if side else 0](torch.cat([entities[scenes.pairs[side]], inside[side]], 1)) for side in (0, 1)
        )
        three = torch.stack([s, o, self.background(torch.cat(around, 1))], 1)
        three = three + self.attention(three, three, three, need_weights=False)[0]
        orders = [(0, 1, 2), (0, 2, 1), (2, 0, 1)]
        if not self.ordered:
            orders += [(1, 0, 2), (1, 2, 0), (2, 1, 0)]
        return torch.stack([self.compose(three[:, order].flatten(1)) for order in orders]).sum(0)


class Interact(nn.Module):
    """One hop of attention among entities and pairs that touch, on a residual.

    Args:
        hidden: width of all heads together.
        heads: how many.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))

    def forward(self, items: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        query, key, value = (
            each(items).view(len(items), self.heads, -1) for each in (self.query, self.key, self.value)
        )
        score = (query[target] * key[source]).sum(2).relu()
        share = softmax(score, target, num_nodes=len(items))
        heard = torch.zeros_like(value).index_add(0, target, share[..., None] * value[source])
        return items + heard.flatten(1).relu()


class Login(nn.Module):
    """Entities and pairs of a frame to predicates."""

    def __init__(self, shape: Shape, hidden: int = 32, heads: int = 4, hops: int = 2, ordered: bool = True) -> None:
        super().__init__()
        heads_fit(hidden, heads, "login")
        self.built = dict(hidden=hidden, heads=heads, hops=hops, ordered=ordered)
        self.entity = Entity(shape, hidden, 4)
        self.local = Local(shape, hidden, heads, ordered)
        self.hops = nn.ModuleList(Interact(hidden, heads) for _ in range(hops))
        self.head = nn.Linear(hidden, shape.answers + 1)

    def embeddings(self, scenes: Scenes) -> Tensor:
        """A vector `(P, hidden)` for each of `scenes.pairs`."""
        entities = self.entity(scenes, scenes.place)
        pairs = self.local(entities, scenes)
        if not len(self.hops):
            return pairs
        items, edges = torch.cat([entities, pairs]), touching(scenes)
        for each in self.hops:
            items = each(items, edges)
        return items[len(entities) :]

    def forward(self, scenes: Scenes) -> Tensor:
        """Logits `(P, C + 1)` of predicates, last that there is none."""
        return self.head(self.embeddings(scenes))


def touching(scenes: Scenes) -> Tensor:
    """Who hears whom `(2, E)`: rows of entities, then pairs.

    Entities of one frame, a pair and its two entities, the two directions of a pair, and each itself.
    """
    (subject, other), count = scenes.pairs, len(scenes)
    pair = count + torch.arange(len(subject))
    every = torch.arange(count + len(subject))
    edges = [scenes.pairs, torch.stack([pair, count + scenes.opposite]), torch.stack([every, every])]
    for end in (subject, other):
        edges += [torch.stack([end, pair]), torch.stack([pair, end])]
    return torch.cat(edges, 1)


@scene_method("relations", Login, ordered=False, hops=0, attract=0.0, apart=0.0)
def login(
    lesson: SceneLesson,
    *,
    ordered: bool = True,
    hops: int = 2,
    attract: float = 0.1,
    apart: float = 0.1,
    margin: float = 0.0,
    hidden: int = 32,
    heads: int = 4,
) -> tuple[Login, History]:
    r"""Scene graphs from local to global: subject, object and background in a fixed order, then all pairs with all.

    $$ e_{so} = f(s, o, b) + f(s, b, o) + f(b, s, o), \qquad
       L = H(y_{so}, W e_{so}) + \alpha L_{AR} + \omega L_{apart} $$

    Subject s, object o and background b have an embedding of their own and attend to each other. f is one MLP of three
    vectors, one after the other: the background may stand anywhere, and the subject comes before the object. So that
    (s, o) is not (o, s). Then entities and pairs hear of each other, hop by hop: entities of one frame, a pair and
    its ends, the two directions of a pair, each by the share $\mathrm{softmax}_j(\mathrm{ReLU}(\langle Q x_i, K x_j
    \rangle))$. H is over predicates and, of pairs that are not listed, none. $L_{AR}$ is
    `graphkd.scenes.terms.AttractRepel`, $L_{apart}$ is `graphkd.scenes.terms.opposite_apart`.

    The three orders, the attention and who hears whom are the authors' code's, as are the two losses but for what is
    said there. Ours: an entity is a row of features with its class and box, where the authors cut feature maps by
    masks; a background is the smallest box around both and, where there are any, the features of the frame; the hops
    are on a residual. Classes of entities are given, and not corrected.

    Args:
        lesson: with the videos.
        ordered: whether the order matters; without, all six orders are summed and subject and object share a part, so
            that both directions get one answer.
        hops: of the global interaction, 0 leaves it out.
        attract: weight of $L_{AR}$, $\alpha$.
        apart: weight of $L_{apart}$, $\omega$.
        margin: cosine that the two directions may have.
        hidden: width of embeddings.
        heads: of attention.

    Paper: Woo, Noh and Kim, "Tackling the Challenges in Scene Graph Generation with Local-to-Global Interactions", IEEE
    Transactions on Neural Networks and Learning Systems 2022.
    """
    network = Login(lesson.shape, hidden, heads, hops, ordered)
    anchors = AttractRepel(lesson.shape.answers, hidden)

    def loss(videos: Tensor | slice) -> Tensor:
        batch = lesson.batch(videos)
        embeddings, targets = network.embeddings(batch), batch.pair_targets
        logits = network.head(embeddings)
        if not len(targets):  # each entity is alone in its frame
            return logits.sum() * 0
        value = F.cross_entropy(logits, targets)
        if attract:
            answer = logits.detach().argmax(1)
            right = (answer < lesson.shape.answers) & (targets.gather(1, answer[:, None])[:, 0] > 0)
            value = value + attract * anchors(embeddings, answer, right)
        if apart:
            holds = targets[:, :-1] > 0
            differ = holds.any(1) & holds[batch.opposite].any(1) & ~(holds & holds[batch.opposite]).any(1)
            value = value + apart * opposite_apart(embeddings, batch.opposite, differ, margin)
        return value

    return network, lesson.loop(network, loss)
