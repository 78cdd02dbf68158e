from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.recommendation.lesson import RecommendationLesson
from graphkd.recommendation.network import Ties, WeightedGCN, high_order
from graphkd.recommendation.partners import partners as strongest_partners
from graphkd.recommendation.recipes.registry import recommendation_recipe
from graphkd.recommendation.terms import margins, uniformity
from graphkd.training.loop import History


@recommendation_recipe
def lightgnn(
    model: WeightedGCN,
    lesson: RecommendationLesson,
    *,
    soft: float = 1.0,
    embed: float = 0.01,
    uniform: float = 1.0,
    tau: float = 0.03,
    embed_tau: float = 0.1,
    uniform_tau: float = 1.0,
    score_share: float = 1.0,
    weight_share: float = 0.05,
    layers: int = 6,
    epochs: int | None = None,
    partners: int = 10,
    triples: int = 20_000,
    draw: int = 1024,
) -> History:
    r"""LightGNN: prune a student of weighted edges, guided by a teacher and by an augmented network between them.

    First the network between is trained, on the edges and on those between two users, or two items, with most
    neighbours in common; its teacher is the lesson's. Then the student is trained, whose teacher it is. Both minimise

    $$ L = \mathrm{bpr} + s \, \mathrm{CE}\bigl(\sigma(d^t / \tau), \sigma(d^s / \tau)\bigr)
         + c \, \mathrm{infonce}\Bigl(E^s, \sum_{l \ge 2} E^{t,(l)}\Bigr)
         + r \sum_{a, b} \frac1n \sum_i \log \sum_j e^{e_i \cdot e_j / \tau_r} $$

    with the margin d of a user between two random items, and a and b users or items, in all four ways. After each run
    the student loses its weakest edges, by $w_e + a_1 \sigma(y^m_e) + a_2 w^m_e$ with the score y and the weight w of
    the edge in the network between, m; and the smallest entries of its embedding. See `RecommendationLesson.prune`.

    Args:
        model: the student, trained in place.
        lesson: with the edges and a teacher of two layers or more.
        soft: s, weight of the predictions.
        embed: c, weight of the embeddings, of users and of items.
        uniform: r, weight of the uniformity.
        tau: $\tau$ of the predictions.
        embed_tau: temperature of `infonce`.
        uniform_tau: $\tau_r$.
        score_share: $a_1$.
        weight_share: $a_2$.
        layers: of the network between.
        epochs: of its training, at most; those of one run of the student if not given.
        partners: so many users, or items, with most in common are joined to each, see
            `graphkd.recommendation.partners`.
        triples: random triples in a step.
        draw: users, and items, that embeddings and uniformity are compared among in a step, drawn anew.

    Paper: Chen et al., "LightGNN: Simple Graph Neural Network for Recommendation", WSDM 2025. Weights are those of the
    paper, $\tau_r$ is not given there. Ours: both directions of an edge have one weight and are pruned together,
    self-loops stay; the network between keeps the strongest edges of two steps and not all; embeddings and uniformity
    are compared among a draw and not among all; 20,000 triples for 100,000. The cross-entropy is that above the entropy
    of the teacher, which is a constant. The contrast of nodes whose masks overlap is left out.
    """
    taught = lesson.layers()
    if len(taught) < 3:
        raise ValueError("lightgnn needs a teacher of 2 layers or more, whose second tells of what is two steps away")
    between = WeightedGCN(_augmented(lesson, partners), model.embedding.shape[1], layers)
    binary, infonce = (
        kdlosses.build(dict(type="binary_kl", tau=tau)),
        kdlosses.build(dict(type="infonce", tau=embed_tau)),
    )

    def loss_of(network: nn.Module, teacher: Sequence[Tensor]) -> Callable[[Tensor | slice], Tensor]:
        final, high = torch.stack(list(teacher)).sum(0), high_order(teacher)

        def loss(batch: Tensor | slice) -> Tensor:
            own = network()
            value = lesson.hard_loss(own, batch)
            if soft:
                drawn = lesson.any_triples(triples)
                told = (margins(each, drawn).unsqueeze(1) for each in (own, final))
                value = value + soft / tau**2 * binary(*told)
            sides = lesson.some(draw) if embed or uniform else ()
            for side in sides if embed else ():
                value = value + embed * infonce(own[side], high[side])
            for a in sides if uniform else ():
                value = value + uniform * sum(uniformity(own[a], own[b], uniform_tau) for b in sides)
            return value

        return loss

    guided = lesson.loop(between, loss_of(between, taught), epochs)
    with torch.no_grad():
        layers_between = between.spread()
        final = torch.stack(layers_between).sum(0)
        user, item = lesson.edges
        told = score_share * (final[user] * final[item]).sum(1).sigmoid() + weight_share * between.weight[: len(lesson)]
    history = lesson.prune(model, loss_of(model, layers_between), lambda student: student.weight + told[student.kept])
    history.seconds = guided.seconds + history.seconds
    return history


def _augmented(lesson: RecommendationLesson, partners: int) -> Ties:
    """The edges, then those between users, and items, that have most in common."""
    return Ties(
        torch.cat([lesson.edges, strongest_partners(lesson.edges, lesson.users, lesson.nodes, partners)], 1),
        lesson.nodes,
    )
