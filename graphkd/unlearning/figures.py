"""What a report says of an unlearned model."""

from __future__ import annotations

import torch
from torch import nn

from graphkd.links.metrics import auc
from graphkd.unlearning.deletion import Deletion
from graphkd.unlearning.flops import counted
from graphkd.unlearning.membership import Attack
from graphkd.unlearning.task import Task

Figures = dict[str, float]


@torch.no_grad()
def figures(
    deletion: Deletion, model: nn.Module, attack: Attack | None = None, retrained: nn.Module | None = None
) -> Figures:
    """Figures of a model after a deletion; messages pass over the edges that are left.

    - `AUC_t` of links: area under the ROC curve of test edges against non-edges; `accuracy` of nodes: on test nodes.
    - `AUC_d`: how often a retained element of the training is surer than a deleted one. Sureness is the score of an
      edge, and the probability of a node's own class. It is the mean over all subsets of retained elements.
    - `MI ratio`: the mean probability, by the attack, that the trained model has learned from a deleted element, over
      the same of this model; above 1 the deleted elements look less like learned ones than before.
    - `distance`: how far the answers lie from those of a retrained model, as the mean total variation over deleted
      elements and those of the test, 0 to 1.
    - `weights`: the Euclidean distance of the parameters from those of the retrained model, where they are the same.
    - `MFLOP`: of one forward pass over the graph, in millions, see `counted`.
    """
    task, deleted = deletion.after, deletion.deleted
    found = _answers(deletion, task, model.eval())
    if attack is not None:
        was = attack(deletion.before, deletion.model, deleted).mean()
        found["MI ratio"] = float(was / attack(task, model, deleted).mean())
    if retrained is not None:
        asked = torch.cat([deleted, task.held_out()], -1)
        one, other = (task.logits(each, task.run(each), asked).softmax(1) for each in (model, retrained))
        found["distance"] = (one - other).abs().sum(1).mean().item() / 2
        if (gap := _gap(model, retrained)) is not None:
            found["weights"] = gap
    with counted() as flops:
        task.run(model)
    return {**found, "MFLOP": flops() / 1e6}


@torch.no_grad()
def figures_before(deletion: Deletion) -> Figures:
    """`AUC_t` or `accuracy`, and `AUC_d`, of the trained model over all edges, as it was."""
    return _answers(deletion, deletion.before, deletion.model)


def _answers(deletion: Deletion, task: Task, model: nn.Module) -> Figures:
    h = task.run(model)
    quality = task.test(model, h)
    sure = (task.confidence(model, h, each) for each in (deletion.after.elements, deletion.deleted))
    return {"AUC_d": auc(*sure), **({} if quality is None else {task.quality: quality})}


def _gap(model: nn.Module, other: nn.Module) -> float | None:
    """The Euclidean distance of the parameters of two networks, None where they have not the same."""
    one, two = (dict(each.named_parameters()) for each in (model, other))
    if one.keys() != two.keys():
        return None
    return torch.cat([(one[name] - two[name]).flatten() for name in one]).norm().item()
