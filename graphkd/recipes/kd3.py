from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.networks.with_output import WithOutput
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import Matrix, rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History
from kdlosses.policy.confident import Confident, confidence
from kdlosses.rules.mix_statistics import mix_statistics
from kdlosses.rules.mixup import mixup as drawn
from kdlosses.space import Range


@recipe(
    asks=True, network=WithOutput, space=dict(feature=Range(0.01, 1.0, log=True), contrast=Range(0.001, 0.1, log=True))
)
def kd3(
    model: WithOutput,
    lesson: Lesson,
    *,
    lam: float = 0.0,
    loss: Any = "kl",
    kappa: float = 0.3,
    feature: float = 0.1,
    contrast: float = 0.01,
    points: int = 512,
    alpha: float = 1.0,
    tau: float = 0.1,
    ask: bool = True,
) -> History:
    r"""KD3: distillation on data whose distribution differs from that of the teacher's training data.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z^s_i, y_i) + (1 - \lambda) \Big(
         \frac{\sum_i w_i \ell_i}{\sum_i w_i} + f \, \frac{\sum_i w_i \tfrac1d \|A h^s_i - f^t_i\|^2}{\sum_i w_i}
         + c \, \mathrm{InfoNCE}\big(h^s(\tilde x), h^s(x)\big) \Big) $$

    with $w_i$ how sure teacher and student are together, 0 below $\kappa$, see `Confident`; $h^s$ the student's last
    hidden layer; A a linear layer that is learnt; and $\tilde x$ the features with mean and spread moved, channel by
    channel, towards those of the nodes that the teacher takes for one class, drawn in each step, see
    `mix_statistics`. A student that is to recognise $\tilde x$ cannot go by what a whole distribution has in common.

    The teacher's classifier is the student's, frozen: $z^s = W_t A h^s + b_t$, where $W_t$ is the last linear layer of
    the teacher, and $b_t$ what else it says of a node without neighbours, see `kdlosses.outputs.SharedClassifier`. A
    graph network mixes neighbours around that layer, which a student without edges cannot. So what its features are
    compared with are those of the teacher, $h^t$, moved as little as makes that classifier say what the teacher says,

    $$ f^t_i = h^t_i + W_t^+ (z^t_i - W_t h^t_i - b_t): $$

    a student with these features has the teacher's logits. Where the teacher mixes nothing, they are $h^t$.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits, and itself; with `ask=False` its last hidden layer, for f > 0.
        lam: weight of the labels; 1 is `supervised`.
        loss: $\ell$ between logits, what `kdlosses.build` takes; with a weight.
        kappa: least confidence that counts; 0 selects all.
        feature: f.
        contrast: c.
        points: nodes to contrast in a step, at most.
        alpha: of the Beta distribution of the share of x's own statistics that is kept.
        tau: temperature of InfoNCE.
        ask: whether the teacher's classifier is shared; if not, as where there are only its outputs, the student has
            its own, and $f^t$ is the teacher's last hidden layer.

    Raises:
        ValueError: the student has no hidden layer; there is no network to ask, or none of the teacher's layers is a
            linear classifier; or, with `ask=False` and f > 0, the cache has no hidden layer.

    Paper: Tang et al., "Distribution Shift Matters for Knowledge Distillation with Webly Collected Images", ICCV 2023.
    Its formulas were not at hand: the parts are the paper's, their form and weights our own, and so is $f^t$. Of
    several teachers the last one's classifier is shared.
    """
    check_lam("kd3", lam)
    if lam == 1:
        return supervised(model, lesson)
    teacher = lesson.teacher_logits()
    if len(model.layers) < 2 or (feature > 0 and not (ask or lesson.hidden)):
        raise ValueError(
            "kd3: it takes a hidden layer of the student and, with ask=False, one of the teacher from its cache "
            "(or feature=0)"
        )
    soft = kdlosses.build(Confident(loss, kappa))
    parts = nn.ModuleDict({"soft": soft})
    adapter: Any
    states: Matrix
    if ask:
        adapter, states = _share(model, lesson)
    elif feature > 0:
        states = lesson.hidden[-1]
        adapter = nn.Linear(model.widths[-2], states.shape[1]).to(next(model.parameters()).dtype)
        parts["adapter"] = adapter
    mse, infonce = kdlosses.build("mse"), kdlosses.build(dict(type="infonce", tau=tau))
    nothing = torch.zeros(())

    def contrast_loss(x: Tensor, hidden: Tensor, target: Tensor) -> Tensor:
        if len(x) < 2:
            return nothing
        named = target.argmax(1)
        group = x[named == named[torch.randint(len(x), (), generator=lesson.generator)]]
        _, keep = drawn(1, lesson.generator, alpha)
        some = torch.randperm(len(x), generator=lesson.generator)[:points]
        moved = mix_statistics(x, group, keep[0].to(x.dtype))[some]
        return infonce(model.outputs(moved)[-2], hidden[some])

    def soft_loss(nodes: Tensor | slice) -> Tensor:
        x, target = rows(lesson.x, nodes).to_dense(), rows(teacher, nodes)
        *_, hidden, logits = model.outputs(x)
        value = soft(logits, target, **lesson.context(nodes, soft.needs))
        if feature > 0:
            weight = confidence(logits, target, kappa)
            value = value + feature * mse(adapter(hidden), rows(states, nodes), weight=weight)
        return value + contrast * contrast_loss(x, hidden, target) if contrast > 0 else value

    def step(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        return lam * hard + (1 - lam) * soft_loss(nodes)

    return lesson.train(nn.ModuleList([model, parts]), step, len(lesson))


@torch.no_grad()
def _share(model: WithOutput, lesson: Lesson) -> tuple[nn.Module, Tensor]:
    """Give the student the teacher's classifier; the layer before it, and the features that it is to have."""
    live = lesson.live_teacher("kd3")
    try:
        features, linear = live.classifier()
    except ValueError as error:
        raise ValueError(f"kd3: {error}; with ask=False the student has a classifier of its own") from error
    output: Any = model.give(dict(type="shared", wide=features.shape[1]))
    output.share(linear.weight, linear.bias)
    missing = rows(lesson.teachers()[-1][1]).to(features) - linear(features)
    return output.layer, (features + missing @ torch.linalg.pinv(linear.weight).t()).to(model.layers[0].weight.dtype)
