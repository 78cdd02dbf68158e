"""How good a scene graph is: Recall@K, mean Recall@K, and whether both directions of a pair are told apart."""

from __future__ import annotations

import torch
from torch import Tensor

from graphkd.scenes.scenes import Scenes
from graphkd.spec import whole


def scene_graph_metrics(scenes: Scenes, logits: Tensor, k: int) -> dict[str, float]:
    r"""Compare logits of all pairs with the relations that hold.

    Each pair proposes its likeliest predicate, and the pairs of a frame are ranked by its probability: with graph
    constraint, boxes and classes of entities given. `recall`: which share of the relations of a frame is among its
    first k, mean over frames that have one. `mean_recall`: the same for the relations of each predicate alone, mean
    over frames that have it, then over predicates: rare ones count as much as frequent ones. `brc`, bidirectional
    relationship classification: of two entities that are related in both directions, how often both directions get a
    predicate that holds.

    Args:
        scenes: with relations.
        logits: `(P, C + 1)` of `scenes.pairs`, last that there is none.
        k: how many pairs of a frame are taken.

    Returns:
        shares from 0 to 1; no `brc` where no two entities are related in both directions.

    Raises:
        ValueError: the scenes have no relations, the logits do not fit or are NaN, or k is no whole number from 1.
    """
    k = whole("k", k, 1)
    if scenes.relations is None or not len(scenes.relations):
        raise ValueError("the scenes have no relations to compare with")
    expected = (scenes.pairs.shape[1], scenes.num_predicates + 1)
    if (shape := tuple(logits.shape)) != expected or logits.isnan().any():
        what = f"of the shape {shape}" if shape != expected else "that are NaN, as after a step too far"
        raise ValueError(f"logits are {expected}, of all pairs and predicates and of none; got some {what}")
    probability, told = logits.softmax(1)[:, :-1].max(1)
    moment = scenes.moment[scenes.pairs[0]]
    order = probability.argsort(descending=True, stable=True)
    order = order[moment[order].argsort(stable=True)]
    count = torch.bincount(moment, minlength=scenes.frames)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - (count.cumsum(0) - count)[moment[order]]
    pair = scenes.place_of(scenes.relations[:, :2].T)
    predicate, frame = scenes.relations[:, 2], scenes.moment[scenes.relations[:, 0]]
    hit = ((told[pair] == predicate) & (rank[pair] < k)).double()
    of_predicate = frame * scenes.num_predicates + predicate
    kinds, by_kind = _mean_by(hit, of_predicate)
    found = {
        "recall": _mean_by(hit, frame)[1].mean().item(),
        "mean_recall": _mean_by(by_kind, kinds % scenes.num_predicates)[1].mean().item(),
    }
    holds = scenes.pair_targets[:, :-1] > 0
    right = holds[torch.arange(len(told)), told]
    back = scenes.opposite
    both = holds.any(1) & holds.any(1)[back]
    if both.any():
        found["brc"] = (right & right[back])[both].double().mean().item()
    return found


def _mean_by(values: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """The groups that there are, and the mean of each."""
    kinds, back, count = group.unique(return_inverse=True, return_counts=True)
    return kinds, torch.zeros(len(kinds), dtype=values.dtype).index_add(0, back, values) / count
