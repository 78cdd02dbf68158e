from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kdlosses
from graphkd.losses.layer_infonce import LayerInfoNCE
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.rules.level_weights import LevelWeights
from graphkd.sparse.rows import Matrix, rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History


@recipe(graph_networks=True)
def lingugkd(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.5,
    tau: float = 0.07,
    reach: Literal["train", "all"] = "all",
    adapt: float | None = 1.0,
    dropout: float = 0.2,
    draw: int | None = 256,
    both: bool = False,
) -> History:
    r"""LinguGKD: match each hidden layer of a graph network to a language model's features of the same hop.

    $$ L = w_0 \frac{1}{\log C} \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i)
         + w_1 \sum_l v_l \frac{1}{\log n} L_l + T \, \mathrm{KL}(w \,\|\, (\lambda, 1 - \lambda))
         + T \, \mathrm{KL}(v \,\|\, \mathrm{uniform}) $$

    with $L_l$ the loss `layer_infonce` of the student's hidden layer l, on n nodes, and the teacher's l: in a cache of
    `graphkd.text.embed` what the language model makes of the l-hop prompt. What is projected is the language model's
    side alone, and the last matrix of the projection is one for all levels of one width. If one of them has fewer
    levels, its last ones are paired with the last of the other. The weights w and v are learned, see `LevelWeights`;
    each loss counts in units of what a guess would cost.

    The student may be a graph network, see `graphkd.train_teacher`, or an MLP.

    Args:
        model: the student, trained in place; hidden layers are what its `outputs` gives before the logits.
        lesson: with the teacher's hidden layers, and the edges for a graph network.
        lam: $\lambda$, share of the labels with which the weights start; 1 is `supervised`; with 0 labels only show
            which pairs are no negatives.
        tau: temperature of $L_l$.
        reach: nodes of $L_l$: the labelled ones, as in the paper, or all. Two nodes without a label are taken for one
            class if the same class mean, over labelled nodes and in the teacher's last level, is nearest to both.
        adapt: T; None keeps the weights where they start, 0 lets them go where they will.
        dropout: see `layer_infonce`.
        draw: how many of these nodes $L_l$ is taken on in a step, drawn anew each time; None takes all of the step.
        both: our own form: a matrix for each level, that the student's side goes through as well, see `layer_infonce`.

    Paper: Hu et al., "Large Language Model Meets Graph Neural Network in Knowledge Distillation", 2024. In its code
    `reach` is `train`, `draw` None, each loss in nats, `adapt` 0, with which the weights drift to the easiest loss, and
    learning takes AdamW at 1e-4 with a rate that falls; these defaults are our own. The authors' code selects on test
    nodes.
    """
    check_lam("lingugkd", lam)
    if lam == 1:
        return supervised(model, lesson)
    if reach not in ("train", "all"):
        raise ValueError(f"lingugkd: reach is 'train' or 'all', not {reach!r}")
    widths = _widths(model, lesson)
    count = min(len(widths), len(lesson.hidden))
    if not count:
        raise ValueError(
            f"lingugkd: the student has {len(widths)} hidden layers, the teacher {len(lesson.hidden)}; each needs one: "
            "see graphkd.text.embed"
        )
    told = lesson.hidden[-count:]
    dtype = next(model.parameters()).dtype
    option: dict[str, Any] = dict(type="layer_infonce", tau=tau, dropout=dropout, both=both)
    levels = nn.ModuleList(
        kdlosses.build(option, student_channels=width, teacher_channels=hop.shape[1])
        for width, hop in zip(widths[-count:], told)
    ).to(dtype)
    if not both:
        matrices: dict[int, nn.Module] = {}
        for level, width in zip(levels, widths[-count:]):
            inner = cast(LayerInfoNCE, level.loss)
            inner.shared = matrices.setdefault(width, inner.shared)
    among = LevelWeights([1.0] * count, adapt).to(dtype)
    between = LevelWeights([lam, 1 - lam], adapt).to(dtype) if lam > 0 else None
    classes = _classes(lesson, told[-1], reach)
    guess = math.log(max(2, 1 + int(lesson.labels.max())))

    def loss(nodes: Tensor | slice) -> Tensor:
        *hidden, logits = lesson.outputs(model, nodes)
        ids = torch.arange(len(lesson))[nodes]
        place = torch.arange(len(ids)) if reach == "all" else (lesson.labels[ids] >= 0).nonzero().flatten()
        if draw is not None and draw < len(place):
            place = place[torch.randperm(len(place), generator=lesson.generator)[:draw]]
        kept = ids[place]
        each = [
            level(layer[place], rows(hop, kept).to(dtype), labels=classes[kept])
            for level, layer, hop in zip(levels, hidden[-count:], told)
        ]
        soft = among(torch.stack(each) / math.log(max(2, len(kept))))
        if between is None:
            return soft
        labelled = lesson.labelled
        hard = (
            F.cross_entropy(logits[labelled], lesson.labels[labelled])
            if isinstance(nodes, slice)
            else lesson.hard_loss(model)
        )
        return between(torch.stack([hard / guess, soft]))

    parts: list[nn.Module] = [model, levels, among] + ([] if between is None else [between])
    return lesson.train(nn.ModuleList(parts), loss, len(lesson))


@torch.no_grad()
def _widths(model: nn.Module, lesson: Lesson) -> list[int]:
    """Widths of the student's hidden layers."""
    training = model.training
    *hidden, _ = lesson.outputs(model.eval(), torch.arange(1))
    model.train(training)
    return [layer.shape[1] for layer in hidden]


def _classes(lesson: Lesson, hop: Matrix, reach: str) -> Tensor:
    """The label of each node, or else the class whose mean, over the labelled ones, is nearest by cosine."""
    labels, told = lesson.labels, lesson.labelled
    if reach == "train" or len(told) == len(labels):
        return labels
    count = int(labels.max()) + 1
    vectors = F.normalize(rows(hop, told).float(), dim=1)
    means = vectors.new_zeros(count, vectors.shape[1]).index_add_(0, labels[told], vectors)
    means = F.normalize(means, dim=1)
    nearest = torch.cat(
        [(rows(hop, part).float() @ means.T).argmax(1) for part in torch.arange(len(labels)).split(65_536)]
    )
    return labels.where(labels >= 0, nearest)
