"""WSCoL: what a weak view shows says which proposals of the strong view are alike."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmcv.ops import nms
from mmdet.structures.bbox import bbox2roi, bbox_overlaps
from mmengine.logging import MessageHub
from torch import Tensor, nn

from densekd.models.mean_teacher import OfProposals, Told, asked
from densekd.registry import MODELS
from kdlosses.ground import full
from kdlosses.reduce import weighted_mean
from kdlosses.unit import cosines, unit


@MODELS.register_module()
class WSCoL(OfProposals):
    r"""Adapt a two-stage detector to images without labels; weak features of the teacher group strong ones.

    As `MeanTeacher`. On the teacher's proposals class logits are compared, $\mathrm{KL}(p_T \,\|\, p_S)$, and features,
    which a learned map (two layers and a linear one) takes to a common space: $w_i$ of the teacher, without gradient,
    and $s_i$ of the student.

    1. Prototypes $\mu_c \leftarrow m \mu_c + (1 - m)\, \mathrm{mean}(w)$ over the last `memory` boxes of a high score
       of each class.
    2. Labels $y_i$ of proposals: `cluster` on w, from the prototypes; those on a box of a high score keep its class.
    3. `contrast` of s: positives are of the same label, and near in w (`trusted`), which weak features decide alone. So
       strong features become what strong disturbance took from them.
    4. Where objectness is uncertain, that is where the number of boxes left by non-maximum suppression at overlaps of 0
       to 0.5 has a variance above `variance`, background takes no part.
    5. The map itself learns to bring both views of the same box together (`mapping_weight`), and to have gradients of
       one direction from both (`gradient_weight`), by the student's own classifier.

    Args:
        semi_train_cfg: as `MeanTeacher`; `consistency_weight` of the KL, `contrast_weight`, `tau`, `steps` of
            clustering, `prototype_momentum`, m, `memory`, `width` of the common space, `variance`, `objectness`, least
            of the proposals that are counted, `match_iou`, least overlap with a box of a high score, `warmup`, share of
            the training in which clusters of unmapped features count, too, less and less.

    Paper: Yang et al., "Rethinking Weak-to-Strong Augmentation in Source-Free Domain Adaptive Object Detection", 2024.
    Constants are those of the authors' code, which runs on one image a step: here each image of a batch is grouped for
    itself. There the map reads RoI maps of a ResNet's last stage by convolutions, here what the classifier reads; there
    an anchor is also a positive of itself, here it is skipped where it has no other; there the map sees the weak view
    through the student, here through the teacher.

    >>> WSCoL.DEFAULTS["tau"], WSCoL.DEFAULTS["contrast_weight"]
    (0.07, 0.5)
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {
        **OfProposals.DEFAULTS,
        "cls_pseudo_thr": 0.9,
        "consistency_weight": 1.0,
        "contrast_weight": 0.5,
        "tau": 0.07,
        "steps": 4,
        "prototype_momentum": 0.6,
        "memory": 10,
        "width": 512,
        "variance": 20.0,
        "objectness": 0.5,
        "match_iou": 0.5,
        "mapping_weight": 0.01,
        "gradient_weight": 0.1,
        "warmup": 0.0,
    }
    SHARES: ClassVar[tuple[str, ...]] = (
        *OfProposals.SHARES,
        *("prototype_momentum", "objectness", "match_iou", "warmup"),
    )

    prototypes: Tensor
    bank: Tensor
    held: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = self.semi_train_cfg
        for name in ("steps", "memory", "width"):
            if not isinstance(options[name], int) or options[name] < 1:
                raise ValueError(f"{self._called}: {name} must be a whole number, at least 1, got {options[name]!r}")
        if not options["tau"] > 0:
            raise ValueError(f"{self._called}: tau must be positive, got {options['tau']!r}")
        head: Any = self.teacher.roi_head.bbox_head
        classes, width = head.num_classes, head.fc_cls.in_features
        self.mapping = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.projection = nn.Sequential(nn.ReLU(), nn.Linear(width, options["width"]))
        self.register_buffer("prototypes", torch.zeros(classes, options["width"]))
        self.register_buffer("bank", torch.zeros(classes, options["memory"], width))
        self.register_buffer("held", torch.zeros(classes, dtype=torch.long))  # how many boxes each class has had

    def mapped(self, features: Tensor) -> Tensor:
        """Features `(n, D)` in the common space, `(n, width)`."""
        return self.projection(self.mapping(features))

    def loss_by_proposals(self, scores: Tensor, features: Tensor, told: Told) -> dict[str, Tensor]:
        """The losses between logits and features of the two views."""
        options = self.semi_train_cfg
        apart = F.kl_div(scores.log_softmax(1), told.logits.softmax(1), reduction="sum") / max(len(scores), 1)
        strong = self.mapped(features)
        nothing = strong.sum() * 0
        pulled, brought, turned = [], [], []
        self._remember(told)
        with torch.no_grad():
            weak = self.mapped(told.features)
        for image, (boxes, labels) in enumerate(zip(told.pseudo, told.labels)):
            rows = (told.images == image).nonzero().flatten()
            if not len(boxes) or not len(rows):
                continue
            owner = matches(told.rois[rows, 1:], boxes, options["match_iou"])
            known = labels[owner.clamp_min(0)].where(owner >= 0, -1)
            pulled.append(self._contrast(strong[rows], weak[rows], known, told, rows))
            both = torch.cat([told.features[rows], features[rows].detach()])
            again = owner.where(owner >= 0, len(boxes)).repeat(2)
            brought.append(contrast(self.mapped(both), again, tau=options["tau"]))
            turned.append(self._discrepancy(told.features[rows], features[rows].detach(), known))
        return {
            "loss_consistency": options["consistency_weight"] * apart,
            "loss_contrast": options["contrast_weight"] * _mean(pulled, nothing),
            "loss_mapping": options["mapping_weight"] * _mean(brought, nothing),
            "loss_gradient": options["gradient_weight"] * _mean(turned, nothing),
        }

    def _contrast(self, strong: Tensor, weak: Tensor, known: Tensor, told: Told, rows: Tensor) -> Tensor:
        options, classes = self.semi_train_cfg, len(self.prototypes)
        means = self.prototypes if (self.held > 0).all() else None
        labels = cluster(weak, told.logits[rows], means, known, options["steps"], *self._unmapped(told, rows))
        chosen = labels < classes
        if chosen.sum() <= 2:
            return strong.sum() * 0
        if not self.uncertain(told.rois[rows, 1:], told.objectness[rows]):
            chosen = torch.ones_like(chosen)
        near = trusted(weak, labels, classes)
        return contrast(strong[chosen], labels[chosen], near[chosen][:, chosen], options["tau"])

    def _unmapped(self, told: Told, rows: Tensor) -> tuple[Tensor | None, float]:
        """Features of proposals and of remembered boxes as they are, and how much the mapped ones count beside them."""
        until = self.semi_train_cfg["warmup"]
        hub = MessageHub.get_current_instance()
        if not until or "max_iters" not in hub.runtime_info:
            return None, 1.0
        progress = hub.get_info("iter") / max(hub.get_info("max_iters"), 1) / until
        return (told.features[rows], progress) if progress < 1 else (None, 1.0)

    def uncertain(self, boxes: Tensor, objectness: Tensor) -> bool:
        """Whether the number of boxes depends on how much they may overlap."""
        likely = objectness > self.semi_train_cfg["objectness"]
        if not likely.any():
            return False
        counts = [len(nms(boxes[likely], objectness[likely], share / 10)[1]) for share in range(6)]
        return torch.tensor(counts, dtype=torch.double).var(unbiased=False).item() > self.semi_train_cfg["variance"]

    @torch.no_grad()
    def _remember(self, told: Told) -> None:
        """Take boxes of a high score into the memory, and move the prototypes."""
        if not sum(map(len, told.pseudo)):
            return
        found = asked(self.teacher, told.levels, bbox2roi(told.pseudo))[1]
        size = self.bank.shape[1]
        for feature, label in zip(found, torch.cat(told.labels).tolist()):
            self.bank[label, int(self.held[label]) % size] = feature
            self.held[label] += 1
        for label in self.held.nonzero().flatten().tolist():
            count = int(self.held[label])
            mean = self.mapped(self.bank[label, : min(count, size)]).mean(0)
            fresh = not self.prototypes[label].any()
            self.prototypes[label] = moved(
                self.prototypes[label], mean, self.semi_train_cfg["prototype_momentum"], fresh
            )

    def _discrepancy(self, weak: Tensor, strong: Tensor, known: Tensor) -> Tensor:
        """One less the cosine between the gradients of the map from both views, of proposals whose class is known."""
        rows = known >= 0
        if not rows.any() or not torch.is_grad_enabled():
            return sum((each.sum() * 0 for each in self.mapping.parameters()), weak.sum() * 0)
        head: Any = self.student.roi_head.bbox_head.fc_cls
        weights = list(self.mapping.parameters())
        views = []
        for each in (weak, strong):
            logits = F.linear(self.mapping(each[rows]), head.weight.detach(), head.bias.detach())
            loss = F.cross_entropy(logits, known[rows])
            views.append(torch.autograd.grad(loss, weights, create_graph=each is strong))
        apart = [weighted_mean(1 - cosines(a, b, dim=-1), a.any(-1) | b.any(-1)) for a, b in zip(*views)]
        return torch.stack(apart).mean()


def moved(mean: Tensor, fresh: Tensor, momentum: float, first: bool = False) -> Tensor:
    """A prototype after the next mean of its class.

    >>> moved(torch.tensor([1.0]), torch.tensor([2.0]), 0.6)
    tensor([1.4000])
    """
    return fresh if first else momentum * mean + (1 - momentum) * fresh


def matches(boxes: Tensor, sure: Tensor, iou: float) -> Tensor:
    """Number of the box among `sure` `(m, 4)` that each of `boxes` `(n, 4)` lies on, `(n,)`; -1 for none."""
    overlap, owner = bbox_overlaps(boxes, sure).max(1)
    return owner.where(overlap >= iou, -1)


def _cosines(features: Tensor) -> Tensor:
    """Cosines of all pairs `(n, n)`, in full precision."""
    with torch.autocast(features.device.type, enabled=False):
        rows = unit(full(features), dim=1)
        return rows @ rows.T


def _with_one(features: Tensor) -> Tensor:
    return unit(torch.cat([features, features.new_ones(len(features), 1)], dim=1), dim=1)


def cluster(
    features: Tensor,
    logits: Tensor,
    prototypes: Tensor | None,
    known: Tensor,
    steps: int = 4,
    unmapped: Tensor | None = None,
    progress: float = 1.0,
) -> Tensor:
    r"""Labels `(n,)` of proposals of an image: those of the nearest centre, of the labels that there are.

    Features get a 1 as a last number, and length 1. The first centres are means weighed by the teacher's probabilities,
    replaced by the prototypes where all classes have one; the next ones means of those with the label.

    Args:
        features: in the common space, `(n, width)`.
        logits: of the teacher, the last class background, `(n, K + 1)`.
        prototypes: `(K, width)`.
        known: labels that stay, -1 for none, `(n,)`.
        steps: how often centres are taken.
        unmapped: features `(n, D)` whose clusters count as well, if they are of the same labels.
        progress: how much the mapped ones count beside them, 0 to 1.

    >>> features = torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    >>> logits = torch.tensor([[2.0, 0, 0], [0, 0.1, 0], [0, 2, 0], [0.1, 0, 0]])
    >>> cluster(features, logits, None, torch.tensor([-1, -1, -1, -1])).tolist()
    [0, 0, 1, 1]
    """
    labels, present, distance = _grouped(features, logits, prototypes, known, steps)
    if unmapped is not None and distance is not None:
        _, others, further = _grouped(unmapped, logits, None, known, 2)
        if further is not None and torch.equal(present, others):
            labels = present[((1 - progress) * further + progress * distance).argmin(1)]
    return known.where(known >= 0, labels)


def _grouped(
    features: Tensor, logits: Tensor, prototypes: Tensor | None, known: Tensor, steps: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    rows, share = _with_one(features.detach()), logits.detach().softmax(1)
    labels, distance = known.where(known >= 0, share.argmax(1)), None
    present = labels.unique()
    for step in range(steps):
        centres = share.T @ rows / (1e-8 + share.sum(0)[:, None])
        if not step and prototypes is not None:
            centres[:-1] = _with_one(prototypes)
        present = labels.unique()
        if len(present) < 2:
            break
        distance = torch.cdist(rows, centres[present])
        labels = known.where(known >= 0, present[distance.argmin(1)])
        share = F.one_hot(labels, logits.shape[1]).to(share)
    return labels, present, distance


def trusted(weak: Tensor, labels: Tensor, background: int) -> Tensor:
    """Which pairs of one label are near in the weak view, `(n, n)` bool.

    Of a proposal whose class has c proposals they are those among its c - 1 nearest, by cosine; of background all.

    >>> weak = torch.tensor([[1.0, 0], [0.9, 0.1], [-1, 0], [0.8, 0.3]])
    >>> trusted(weak, torch.tensor([0, 0, 0, 1]), background=2)[0].tolist()
    [False, True, False, False]
    """
    same = labels[:, None] == labels
    same.fill_diagonal_(False)
    alike = _cosines(weak)
    alike.fill_diagonal_(-torch.inf)
    place = alike.argsort(1, descending=True).argsort(1)
    return same & ((place < same.sum(1, keepdim=True)) | (labels == background)[:, None])


def contrast(strong: Tensor, labels: Tensor, trusted: Tensor | None = None, tau: float = 0.07) -> Tensor:
    r"""Pull features of one label together, and others apart:

    $$-\frac{1}{2 |A|} \sum_{i \in A} \frac{1}{|P_i|} \sum_{p \in P_i}
    \log \frac{e^{\cos(s_i, s_p) / \tau}}{\sum_{a \ne i} e^{\cos(s_i, s_a) / \tau}}$$

    over the anchors A that have positives $P_i$; 0 if none has.

    Args:
        strong: `(n, D)`.
        labels: `(n,)`.
        trusted: pairs that may be positives, `(n, n)` bool; all of one label if not given.
        tau: temperature.

    >>> features = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    >>> bool(contrast(features, torch.tensor([0, 0, 1])) < contrast(features, torch.tensor([0, 1, 0])))
    True
    """
    itself = torch.eye(len(strong), dtype=torch.bool, device=strong.device)
    positives = (labels[:, None] == labels) & ~itself
    if trusted is not None:
        positives &= trusted
    anchors = positives.any(1)
    if not anchors.any():
        return strong.sum() * 0
    logits = (_cosines(strong) / tau).masked_fill(itself, -torch.inf)
    surprise = (logits.logsumexp(1, keepdim=True) - logits).masked_fill(~positives, 0).sum(1)
    return (surprise[anchors] / positives.sum(1)[anchors]).mean() / 2


def _mean(values: list[Tensor], nothing: Tensor) -> Tensor:
    return torch.stack(values).mean() + nothing if values else nothing
