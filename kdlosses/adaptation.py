"""Adapt a trained model to unlabelled data while it predicts: no labels, and no second training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.class_means import ClassMeans
from kdlosses.moving_average import move
from kdlosses.reduce import labelled, weighted_mean
from kdlosses.registry import build
from kdlosses.resized import labels_at
from kdlosses.taps import Taps, at_rest
from kdlosses.unit import unit


class RobustMeanTeacher(nn.Module):
    r"""RMT: a model and its moving average learn from each batch that they predict.

    $$ L = \tfrac12 \big( \mathrm{sce}(z(x), \bar z(x)) + \mathrm{sce}(z(\tilde x), \bar z(x)) \big) + c \, L_c
         + r \, \mathrm{CE}(z(x_s), y_s), \qquad \bar\theta \leftarrow m \bar\theta + (1 - m) \theta, $$

    one step of Adam a batch, with $\tilde x$ a second view, and the prediction $z(x) + \bar z(x)$. With a tap and
    prototypes, the mean features of the classes of the source, $L_c$ pulls features back to where the model was
    trained: over the views $v$, which are the features of x, those of $\tilde x$ and the prototype that is nearest to
    the former in cosine, of each position,

    $$ L_c = -\frac1n \sum_i \frac1{|P_i|} \sum_{p \in P_i} \log
       \frac{e^{\cos(v_i, v_p) / \tau}}{\sum_{a \ne i} e^{\cos(v_i, v_a) / \tau}}, $$

    with $P_i$ the other views whose nearest prototype is that of i. Data of the source, if there are any, are learned
    along. The model that is given stays as it is; of its parameters those learn that require a gradient, or all if none
    does.

    Args:
        model: from inputs to logits `(N, C, *)`.
        tap: where its features `(N, D, *)` are read, see `kdlosses.taps.Taps`: `'layers.1:in'` is the input of a
            module. Features of another size than the logits' are fine.
        prototypes: `(C, D)`, see `prototypes`; with `tap`.
        augment: from inputs to the second view; `noisy` if not given. Positions stay where they are.
        lr: learning rate of Adam.
        momentum: m, from 0 to less than 1.
        alpha: see `kdlosses.sce`; 0 is the cross-entropy.
        contrast: c.
        tau: temperature.
        draw: positions of a batch that $L_c$ takes, drawn at random: it compares all pairs.
        source: batches `(inputs, labels)` of the source, taken in turn, over and over; labels below 0 and 255 are none.
        replay: r.
        statistics: whether layers of batch normalisation take the statistics of the batch. All else runs as in
            evaluation, without dropout.
        seed: of what is drawn.

    `forward`:
        x: inputs.
        rest: whatever else the model takes, such as edges; it is the same for both views.

    Raises:
        ValueError: an option is out of range, or of tap and prototypes there is only one; the prototypes are not those
            of the classes and features of the model; the batch is too small for its own statistics.
        RuntimeError: in `torch.inference_mode`, where nothing can learn.
        FloatingPointError: the loss is not finite.

    Paper: Doebler et al., "Robust Mean Teacher for Continual and Gradual Test-Time Adaptation", CVPR 2023: weights 1,
    m = 0.999, $\alpha$ = 0.5 and $\tau$ = 0.1; its projection of features, which is warmed up on the source, is left
    out.

    >>> model = nn.Linear(3, 2)
    >>> adapting = RobustMeanTeacher(model, lr=0.01)
    >>> before = model(torch.ones(4, 3))
    >>> first, second = adapting(torch.ones(4, 3)), adapting(torch.ones(4, 3))
    >>> torch.allclose(first, 2 * before), torch.allclose(second, first)
    (True, False)
    """

    means: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        tap: str | None = None,
        prototypes: Tensor | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        *,
        lr: float = 1e-3,
        momentum: float = 0.999,
        alpha: float = 0.5,
        contrast: float = 1.0,
        tau: float = 0.1,
        draw: int = 256,
        source: Iterable[tuple[Tensor, Tensor]] | None = None,
        replay: float = 1.0,
        statistics: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (0 <= momentum < 1 and lr > 0 and tau > 0 and draw > 1 and min(contrast, replay) >= 0):
            raise ValueError(
                "test-time: momentum is from 0 to less than 1, lr and tau are positive, draw is at least 2, contrast "
                f"and replay are not negative; got {momentum}, {lr}, {tau}, {draw}, {contrast} and {replay}"
            )
        if (tap is None) != (prototypes is None):
            raise ValueError(
                "test-time: features have a tap and prototypes, or neither: kdlosses.adaptation.prototypes"
            )
        self.student = copy.deepcopy(model)
        if not any(each.requires_grad for each in self.student.parameters()):
            self.student.requires_grad_(True)
        self.average = copy.deepcopy(model).requires_grad_(False)
        for each in (self.student, self.average):
            each.eval()
            for layer in each.modules() if statistics else ():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.train()
        self.register_buffer("means", None if prototypes is None else prototypes.detach().clone())
        self.tap, self.tau, self.momentum, self.draw = tap, tau, momentum, draw
        self.weights = contrast, replay
        self.alike = build(dict(type="sce", alpha=alpha))
        self.generator = torch.Generator().manual_seed(seed)
        self.augment = augment or (lambda x: noisy(x, generator=self.generator))
        self.batches = None if source is None else _forever(source)
        learning = [each for each in self.student.parameters() if each.requires_grad]
        self.optimiser = torch.optim.Adam(learning, lr=lr)

    def train(self, mode: bool = True) -> RobustMeanTeacher:
        """Nothing: it adapts in whatever mode it is."""
        return self

    @torch.enable_grad()
    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        if torch.is_inference_mode_enabled():
            raise RuntimeError("test-time: it learns while it predicts: torch.no_grad(), not torch.inference_mode()")
        try:
            clean, features = self._run(x, rest)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                "test-time: one position has no statistics for batch normalisation: give more, or statistics=False"
            ) from error
        view, others = self._run(self.augment(x), rest)
        with torch.no_grad():
            told = self.average(x, *rest)
        loss = 0.5 * (self.alike(clean, told) + self.alike(view, told))
        contrast, replay = self.weights
        if self.means is not None and contrast:
            assert features is not None
            assert others is not None
            if self.means.shape != (clean.shape[1], features.shape[1]):
                raise ValueError(
                    f"test-time: prototypes need a row for each class and a column for each feature at {self.tap!r}, "
                    f"{(clean.shape[1], features.shape[1])}, got {tuple(self.means.shape)}"
                )
            loss = loss + contrast * self._contrast(features, others, self.means)
        if self.batches is not None and replay:
            inputs, labels = next(self.batches)
            logits = self.student(inputs)
            wanted, known = labelled(labels, None, 255, logits.shape[1])
            loss = loss + replay * weighted_mean(F.cross_entropy(logits, wanted, reduction="none"), known)
        if not loss.isfinite():
            raise FloatingPointError(f"test-time: the loss is {loss.item()}; lower lr?")
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        move(self.average, self.student, self.momentum)
        return clean.detach() + told

    def _run(self, x: Tensor, rest: tuple[Any, ...]) -> tuple[Tensor, Tensor | None]:
        if self.tap is None:
            return self.student(x, *rest), None
        with Taps(self.student, [self.tap]) as taps:
            logits = self.student(x, *rest)
        return logits, taps[self.tap][0]

    def _contrast(self, features: Tensor, others: Tensor, means: Tensor) -> Tensor:
        one, other = (
            each.flatten(2).movedim(1, 2).flatten(0, 1) if each.ndim > 2 else each for each in (features, others)
        )
        if len(one) > self.draw:
            some = torch.randperm(len(one), generator=self.generator)[: self.draw].to(one.device)
            one, other = one[some], other[some]
        return pull(one, other, means, self.tau)


def pull(features: Tensor, others: Tensor, means: Tensor, tau: float = 0.1) -> Tensor:
    """The contrastive loss $L_c$ of `RobustMeanTeacher`, of two views `(n, D)` and prototypes `(C, D)`."""
    nearest = (unit(features.detach(), dim=1) @ unit(means, dim=1).T).argmax(1)
    views = unit(torch.cat([means[nearest].to(features.dtype), features, others]), dim=1)
    kind = nearest.repeat(3)
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    logits = (views @ views.T / tau).masked_fill(itself, -torch.inf)
    alike = (kind[:, None] == kind) & ~itself
    surprise = logits.logsumexp(1, keepdim=True) - logits
    return (surprise.masked_fill(~alike, 0).sum(1) / alike.sum(1)).mean()


@torch.no_grad()
def prototypes(
    model: nn.Module, tap: str, batches: Iterable[tuple[Any, ...]], classes: int, labels: bool = False
) -> Tensor:
    """Mean feature `(C, D)` of each class of the source, by the model's own prediction.

    Args:
        model: trained; it is run in evaluation mode and left as it was.
        tap: where its features are read, see `kdlosses.taps.Taps`.
        batches: tuples of what the model takes.
        classes: C.
        labels: whether the last entry of each tuple is labels `(N, *)` in place of the prediction; -1 and 255 are none.

    Raises:
        ValueError: a class has no position, or there is one of another class.
    """
    found: ClassMeans | None = None
    for batch in batches:
        inputs = batch[:-1] if labels else batch
        with at_rest(model), Taps(model, [tap]) as taps:
            logits = model(*inputs)
        features = taps[tap][0]
        truth = batch[-1] if labels else logits.argmax(1)
        if features.ndim > 2:
            truth = labels_at(truth, features.shape[2:])
            features = features.flatten(2).movedim(1, 2).flatten(0, 1)
        truth = truth.flatten()
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        found = found or ClassMeans(classes, features.shape[1]).to(features.device)
        found.update(features, *labelled(truth, None, 255 if labels else -1, classes))
    if found is None or not (found.seen > 0).all():
        missing = "all" if found is None else (found.seen == 0).nonzero().flatten().tolist()
        raise ValueError(f"test-time: no position of the source is of the classes {missing}; give more batches")
    return found.mean


def noisy(x: Tensor, share: float = 0.1, generator: torch.Generator | None = None) -> Tensor:
    """Add normal noise of a share of the standard deviation of all entries."""
    return x + share * x.std() * torch.randn(x.shape, generator=generator).to(x)


def _forever(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise ValueError(
                "test-time: the source has no batch, or can be read only once: give a list or a DataLoader"
            )
