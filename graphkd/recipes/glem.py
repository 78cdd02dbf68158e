from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.networks.mlp import MLP
from graphkd.recipes.registry import recipe
from graphkd.recipes.supervised import supervised
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson, check_lam
from graphkd.training.loop import History, Schedule, train
from kdlosses.space import Range


@dataclass
class Alternated(History):
    """A history that also holds the text model, which reads the hidden layer without the graph."""

    text: nn.Module | None = None


@recipe(graph_networks=True, space=dict(alpha=Range(0.0, 1.0)))
def glem(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.5,
    alpha: float = 0.5,
    rounds: int = 4,
    every: int = 25,
    hop: int = 0,
    sure: float = 0.0,
    width: int = 128,
    dropout: float = 0.5,
    lr: float = 0.01,
    epochs: int = 100,
) -> History:
    r"""GLEM: a text model and a graph network train in turns on each other's pseudo-labels.

    Variational EM of the unknown labels $y_U$. The text model q sees the text of a node alone, the graph
    network p the graph. In an E-step q minimises

    $$ (1 - \alpha) \frac{1}{|V_L|} \sum_{i \in V_L} - \log q(y_i \mid t_i)
       + \alpha \frac{1}{|U|} \sum_{i \in U} \mathrm{E}_{y \sim p_i} [ - \log q(y \mid t_i) ], $$

    in the following M-step p, the model that is trained here, minimises

    $$ \lambda \frac{1}{|V_L|} \sum_{i \in V_L} - \log p(y_i \mid x, A)
       + (1 - \lambda) \frac{1}{|\hat U|} \sum_{i \in \hat U} - \log p(\hat y_i \mid x, A), \qquad
       \hat y_i = \arg\max_y q(y \mid t_i), $$

    with $\hat U$ the nodes of U on which q is sure enough. In the first E-step, before there is a p, $\alpha = 0$. An
    M-step lasts E epochs, the last one to the end; p goes on from where it was, and so does q.

    q is an MLP on the embeddings of a frozen language model: the text of a node costs one forward pass, once. The form
    in which the language model itself is tuned in each E-step, as in the paper, is `graphkd.text.alternate`. p reads
    the features of the graph or, with `inputs` in `graphkd.train_teacher`, these embeddings, as in the paper. It may
    also be an MLP, which then is taught without a graph.

    Args:
        model: p, trained in place.
        lesson: with the teacher's hidden layers, see `graphkd.text.embed`; its logits are not looked at.
        lam: $\lambda$, weight of the labels for p; 1 is `supervised`; with 0 labels only teach q.
        alpha: $\alpha$, share of the pseudo-labels for q.
        rounds: number of E-steps; 1 trains q on the labels and p on what it makes of them: self-training.
        every: E.
        hop: which hidden layer of the teacher q reads; 0 is the text of the node alone.
        sure: least $\max_y q(y \mid t_i)$ of $\hat U$; 0 takes all of U.
        width: of q's hidden layer.
        dropout: share of its units dropped.
        lr: its learning rate, of Adam.
        epochs: of an E-step.

    Returns:
        `Alternated`, with q as its last E-step left it.

    Raises:
        ValueError: an option is out of range, or the teacher has no such hidden layer.

    Paper: Zhao et al., "Learning on Large-scale Text-attributed Graphs via Variational Inference" (GLEM), ICLR 2023.
    Its weight of the pseudo-labels for p is $\beta = 1 - \lambda$. There q is a language model tuned in each E-step, p
    reads its embeddings anew in each M-step and may read the pseudo-labels as well. The threshold, the number of turns
    and that all is one training, selected once, are our own.
    """
    check_lam("glem", lam)
    if not (0 <= alpha <= 1 and 0 <= sure <= 1):
        raise ValueError(f"glem: alpha and sure are shares, from 0 to 1, got {alpha} and {sure}")
    if min(rounds, every, epochs) < 1:
        raise ValueError(f"glem: rounds, every and epochs count from 1, got {rounds}, {every} and {epochs}")
    if lam == 1:
        return supervised(model, lesson)
    if not -len(lesson.hidden) <= hop < len(lesson.hidden):
        raise ValueError(
            f"glem: the text model reads hidden layer {hop} of the teacher, which has {len(lesson.hidden)}: see "
            "graphkd.text.embed"
        )
    texts, free = lesson.hidden[hop], lesson.labels < 0
    dtype, nothing = next(model.parameters()).dtype, torch.zeros(())
    classes = lesson.predict(model, torch.arange(1)).shape[1]
    q = MLP(texts.shape[1], [width], classes, dropout).to(dtype)
    schedule = Schedule(lr, epochs=epochs, batch_size=lesson.batch_size)
    named, done = torch.full((len(lesson),), -1), 0

    def e_step() -> None:
        share = alpha if done else 0.0
        belief = lesson.predict(model).softmax(1) if share > 0 else None

        def loss(nodes: Tensor | slice) -> Tensor:
            told = lesson.some_labelled()
            value = (1 - share) * F.cross_entropy(q(rows(texts, told).to(dtype)), lesson.labels[told])
            if belief is None:
                return value
            some = torch.arange(len(lesson))[nodes]
            some = some[free[some]]
            guess = F.cross_entropy(q(rows(texts, some).to(dtype)), belief[some]) if len(some) else nothing
            return value + share * guess

        train(q, loss, len(lesson), schedule=schedule, generator=lesson.generator)
        with torch.no_grad():
            for part in torch.arange(len(lesson)).split(65_536):
                best = q(rows(texts, part).to(dtype)).softmax(1).max(1)
                named[part] = best.indices.where(free[part] & (best.values >= sure), -1)

    def loss(nodes: Tensor | slice) -> Tensor:
        nonlocal done
        if done < rounds and lesson.clock.epoch >= done * every:
            e_step()
            done += 1
        some = torch.arange(len(lesson))[nodes]
        some = some[named[some] >= 0]
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        soft = F.cross_entropy(lesson.logits(model, some), named[some]) if len(some) else nothing
        return lam * hard + (1 - lam) * soft

    history = lesson.train(model, loss, len(lesson))
    return Alternated(**vars(history), text=q.eval())
