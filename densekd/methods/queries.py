"""Queries of a detector or segmenter beside those of its teacher that tell of the same: classes, boxes, masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from densekd.align.matching import Matching, overlap
from densekd.align.memory import Memory
from densekd.methods.registry import method
from densekd.taps.queries import Layer, Shape, heads_of
from densekd.term import Term, two_classes
from kdlosses.ground import full
from kdlosses.reduce import weighted_mean
from kdlosses.resized import resized

What = Literal["classes", "shapes", "embeddings"]
Spec = str | Mapping[str, Any]

WHAT: dict[str, What] = {
    "classes": "classes",
    "boxes": "shapes",
    "giou": "shapes",
    "masks": "shapes",
    "embeddings": "embeddings",
}
"""What of each query an entry compares."""
WEIGHTS: dict[Shape, dict[str, float]] = {"boxes": {"boxes": 5.0, "giou": 2.0}, "masks": {"masks": 5.0}}
"""Weights of shapes where none are given."""
LOSSES = {"boxes": "smooth_l1", "masks": "kl", "embeddings": "cosine", "memory": "pkd"}
"""Losses where none are given."""


@method()
def queries(
    student: nn.Module,
    teacher: nn.Module,
    loss: Spec = "kl",
    classes: float = 1.0,
    boxes: float | None = None,
    giou: float | None = None,
    masks: float | None = None,
    embeddings: float = 0.0,
    memory: float = 0.0,
    box_loss: Spec | None = None,
    mask_loss: Spec | None = None,
    embedding_loss: Spec | None = None,
    memory_loss: Spec | None = None,
    layers: int = 1,
    background: float = 0.1,
    class_map: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    r"""Match the student's queries with the teacher's, and compare what the two of a pair tell.

    Queries have no order that two networks share, and may differ in number: by index they are of other objects. See
    `densekd.align.matching.Matching` for which ones are a pair. Each entry compares rows, of all pairs of a batch:

    | entry | what | weight of a pair |
    | --- | --- | --- |
    | `classes` | class logits, with background where they share a softmax | $s + \beta (1 - s)$ |
    | `boxes` | centre and size, each 0 to 1 of the image | s |
    | `giou` | 1 less the generalised intersection over union | s |
    | `masks` | each pixel's sigmoid, at the student's size | s |
    | `embeddings` | what the class layer reads; a learned layer joins unlike widths | s |

    with s the teacher's greatest probability of a class and $\beta$ that of `background`: what a teacher tells of a
    query without an object means nothing but that there is none. An entry `memory` compares what the decoder attends
    to: the tokens of the encoder as maps, or the mask features and levels of a pixel decoder. Any loss on maps runs on
    them.

    Args:
        student: a detector of mmdet with a head of DETR, Conditional, DAB or Deformable DETR or DINO; or a MaskFormer
            or Mask2Former of mmdet or mmseg.
        teacher: another one that also tells boxes, or also masks. Numbers of queries and layers may differ. Where one
            has a sigmoid a class and the other a softmax, the softmax is read as one class against all others.
        loss: of the class logits, such as `'kd'` or `dict(type='dist')`; one that compares classes sees two for each
            sigmoid. It may not read labels.
        classes: weight of the class logits; 0 for none.
        boxes: weight of the boxes, of detectors; 5 if not given.
        giou: weight of their overlap, of detectors; 2 if not given.
        masks: weight of the masks, of segmenters; 5 if not given.
        embeddings: weight of the embeddings.
        memory: weight of the maps that the decoder attends to.
        box_loss: of the boxes; `smooth_l1` if not given.
        mask_loss: of the masks, `kl` if not given; one that compares classes sees two for each pixel.
        embedding_loss: of the embeddings; `cosine` if not given.
        memory_loss: of the maps, `pkd` if not given; it may read boxes and masks.
        layers: how many layers of the decoders are compared, the last ones, each with the teacher's that is as far from
            the end; each layer is matched anew, and the losses are summed.
        background: $\beta$, 0 to 1: how much a query without an object counts beside one with. Published for the
            cross-entropy of DETR: 0.1.
        class_map: for each of the student's classes the teacher's, without background, where they have others.

    Raises:
        ValueError: a model has no such head, or the two tell other things; classes differ; a loss reads labels, or
            takes no weight; there are fewer layers than `layers`; a weight or loss is given of what is not compared.

    Paper: Chang et al., "DETRDistill: A Universal Knowledge Distillation Framework for DETR-families", ICCV 2023, has
    the matching of predictions; weights are those of Zhu et al., "Deformable DETR", ICLR 2021, and Cheng et al.,
    "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022. There, predictions with and without
    an object are two terms, features are weighed by queries, and the student's queries learn from assignments of the
    teacher's. One weight for each pair, `kl` and `smooth_l1` in place of the losses on labels, masks and unlike heads
    are ours.
    """
    mine, its = heads_of("queries", student, teacher)
    shapes = _weights(mine.shape, boxes=boxes, giou=giou, masks=masks)
    weights = {"classes": classes, **shapes, "embeddings": embeddings, "memory": memory}
    if not any(weights.values()):
        raise ValueError("method 'queries': the weights of all parts are 0: nothing is compared")
    given = {"boxes": box_loss, "masks": mask_loss, "embeddings": embedding_loss, "memory": memory_loss}
    losses: dict[str, Any] = {"classes": loss, "giou": Overlap(), **_losses(weights, given)}
    most = min(mine.depth, its.depth)
    if isinstance(layers, bool) or not isinstance(layers, int) or not 1 <= layers <= most:
        raise ValueError(f"method 'queries': layers must be 1 to {most}, which both decoders have, got {layers!r}")
    if isinstance(background, bool) or not isinstance(background, int | float) or not 0 <= background <= 1:
        raise ValueError(f"method 'queries': background must be a number from 0 to 1, got {background!r}")
    try:
        matching = Matching(mine, its, class_map)
    except ValueError as error:
        raise ValueError(f"method 'queries': {error}") from error
    entries: list[dict[str, Any]] = []
    for name, weight in weights.items():
        if weight == 0:
            continue
        entry: dict[str, Any] = {"loss": losses[name], "weight": weight, "name": name}
        if name == "memory":
            entry |= {"student": mine.memory, "teacher": its.memory, "through": Memory()}
        else:
            over, least = _over_classes(name, losses[name]), background if name == "classes" else 0.0
            through = Matched(matching, WHAT[name], layers, over, least)
            entry |= {"student": mine.tap, "teacher": its.tap, "through": through}
        entries.append(entry)
    return entries


def _weights(shape: Shape, **given: float | None) -> dict[str, float]:
    """Weights of what heads of one kind tell of shapes; one of what they do not tell is refused."""
    for name, weight in given.items():
        if weight and name not in WEIGHTS[shape]:
            raise ValueError(f"method 'queries': {name} has no effect: queries of these models tell {shape}")
    return {name: own if (each := given[name]) is None else each for name, own in WEIGHTS[shape].items()}


def _losses(weights: Mapping[str, Any], given: Mapping[str, Spec | None]) -> dict[str, Any]:
    """The losses that were given, else those of `LOSSES`; one of a part without a weight is refused."""
    for name, loss in given.items():
        if loss is not None and not weights.get(name):
            raise ValueError(f"method 'queries': a loss of the {name} has no effect: their weight is 0 for such models")
    return {name: LOSSES[name] if loss is None else loss for name, loss in given.items()}


def _over_classes(name: str, loss: Any) -> bool:
    """Whether a loss takes a softmax over classes; one that does not run on weighed rows without labels is refused."""
    term = Term(loss, name)
    own = term.loss
    read = [each for each in own.requires if each in ("labels", "label_map", "boxes", "masks")]
    if read:
        wrong = f"reads {read[0]!r}, which pairs of queries have none of"
    elif own.maps and name != "masks":
        wrong = "compares maps, but these are rows: only masks and the memory are maps"
    elif "weight" not in own.needs:
        wrong = "takes no weight, so that pairs without an object would count as much as others"
    else:
        return term.categorical
    raise ValueError(
        f"method 'queries': loss {own.name!r} of the {name} {wrong}: take another, such as 'kl', 'kd' or 'mse'"
    )


class Matched(nn.Module):
    """Rows of the queries of a student and of their partners in the teacher, and how much each counts.

    It stands between the taps and the loss, as `through` of an entry. It has no weights.

    Args:
        matching: which queries are pairs; entries that share it match once a batch.
        what: 'classes', 'shapes', which are boxes or masks, or 'embeddings'.
        layers: how many layers of the decoders, the last ones.
        over_classes: whether the loss takes a softmax over axis 1, so that a sigmoid becomes two classes.
        background: share of a whole pair that one counts without an object.

    `forward`:
        student: tensors of the tap `QueryHead.tap` of the student.
        teacher: those of the teacher's.

    Returns:
        For each layer rows `(N, C)` of both sides, or `(N, C, h, w)` of masks, and a weight of each row or pixel.
    """

    def __init__(
        self, matching: Matching, what: What, layers: int = 1, over_classes: bool = True, background: float = 0.0
    ) -> None:
        super().__init__()
        self.matching, self.what, self.layers = matching, what, layers
        self.over_classes, self.background = over_classes, background

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        mine, its, weights = [], [], []
        for own, other, pairs in self.matching(student, teacher, self.layers):
            rows = [
                _rows(side, numbers)
                for side, numbers in zip(self._read(own, other), (pairs.student, pairs.teacher), strict=True)
            ]
            weight = (pairs.score + self.background * (1 - pairs.score)).flatten()
            if self._binary:
                weight = weight.repeat_interleave(rows[0].shape[1])
                rows = [two_classes(each) for each in rows]
            mine.append(rows[0])
            its.append(rows[1])
            weights.append(weight.view(-1, *(1 for _ in rows[0].shape[2:])).expand(-1, *rows[0].shape[2:]))
        return mine, its, weights

    @property
    def _binary(self) -> bool:
        sigmoids = self.matching.sigmoid if self.what == "classes" else self._masks
        return self.over_classes and sigmoids

    @property
    def _masks(self) -> bool:
        return self.what == "shapes" and self.matching.student.shape == "masks"

    def _read(self, student: Layer, teacher: Layer) -> tuple[Tensor, Tensor]:
        """What is compared of each query `(B, Q, *)`."""
        if self.what == "classes":
            return self.matching.logits(student, teacher)
        if self.what == "embeddings":
            return student.embeddings, teacher.embeddings.detach()
        mine, its = student.shapes, teacher.shapes.detach()
        if not self._masks:
            return mine, its
        return mine.unsqueeze(2), resized("queries", "masks of the teacher", full(its), mine).to(its).unsqueeze(2)


def _rows(side: Tensor, numbers: Tensor) -> Tensor:
    """Those of some queries `(B, Q, *)` of each image, `(B n, *)`."""
    return side[torch.arange(len(numbers), device=numbers.device)[:, None], numbers].flatten(0, 1)


class Overlap(nn.Module):
    r"""One less the generalised intersection over union of boxes, $\sum_i w_i (1 - \mathrm{GIoU}_i) / \sum_i w_i$.

    `forward`:
        student: centres and sizes `(N, 4)`.
        teacher: centres and sizes `(N, 4)`.
        weight: `(N,)`, how much each counts.
    """

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        return weighted_mean(1 - overlap(full(student), full(teacher.detach())), weight)
