"""EZAD: a two-stage detector whose classes are texts, taught by an image-text model on regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from torch import Tensor, nn

from densekd.models.mean_teacher import bare, homography, is_number, projected
from densekd.regions import TEXTS, RegionStore
from densekd.registry import MODELS
from densekd.taps.reader import Taps
from densekd.texts import TextTable
from kdlosses.ground import full
from kdlosses.unit import unit

NO_PART = -1e4
"""Logit of a class that takes no part: its probability is 0, and no product with it is undefined."""
VISIBLE = 0.5
"""Least share of a region that a view must show, so that the region's embedding still says what is seen."""


@MODELS.register_module()
class TextClassifier(nn.Module):
    r"""Class logits of features: cosines between their embedding and texts, scaled.

    $$z_c = s\, \frac{f}{\|f\|} \cdot t_c, \qquad z_{bg} = s\, \frac{f}{\|f\|} \cdot b, \qquad f = W x + w$$

    with fixed texts t of length 1, and a learned vector b for background. The texts are no part of the state dict: the
    same weights tell other classes with other texts. Novel classes take no part while it trains.

    Args:
        in_features: width of x.
        out_features: classes and background.
        texts: file of a `TextTable`.
        classes: names, in the order of the labels, those of novel classes last.
        novel: how many of them are novel.
        scale: s.
        learned_scale: whether s is learned, from there.

    Raises:
        ValueError: another number of classes than of outputs, no class that is not novel, or a scale that is not
            positive.
        FileNotFoundError, KeyError: there is no such file, or it lacks a name.
    """

    texts: Tensor
    closed: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        texts: str | Path,
        classes: Sequence[str],
        novel: int = 0,
        scale: float = 100.0,
        learned_scale: bool = False,
    ) -> None:
        super().__init__()
        if out_features != len(classes) + 1:
            raise ValueError(
                f"{len(classes)} classes and background have {len(classes) + 1} logits, not {out_features}"
            )
        if not 0 <= novel < len(classes):
            raise ValueError(f"novel must be less than the {len(classes)} classes, and 0 at least, got {novel}")
        if not is_number(scale) or not scale:
            raise ValueError(f"scale must be a positive number, got {scale!r}")
        vectors = unit(TextTable(texts)(classes), 1)
        self.register_buffer("texts", vectors, persistent=False)
        closed = torch.arange(out_features) >= len(classes) - novel
        closed[-1] = False
        self.register_buffer("closed", closed, persistent=False)
        self.embed = nn.Linear(in_features, vectors.shape[1])
        self.background = nn.Linear(vectors.shape[1], 1, bias=False)
        exponent = torch.tensor(float(scale)).log()
        if learned_scale:
            self.exponent = nn.Parameter(exponent)
        else:
            self.register_buffer("exponent", exponent, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Logits `(n, K + 1)` of features `(n, in_features)`, the last one of background."""
        found = unit(full(self.embed(features)), 1)
        vectors = torch.cat([self.texts, self.background.weight]).to(found)
        with torch.autocast(found.device.type, enabled=False):  # it would round cosines before they are scaled
            logits = full(self.exponent).exp() * (found @ vectors.T)
        return logits.masked_fill(self.closed, NO_PART) if self.training else logits


@MODELS.register_module()
class TextRegression(nn.Module):
    r"""Box deltas of features for each class, of which only the text tells it apart: $W x + U t_c + w$.

    That is one linear layer on a feature and the text of a class, side by side, shared by all classes.

    Args:
        in_features: width of x.
        out_features: four for each class.
        texts: file of a `TextTable`.
        classes: names, in the order of the labels.

    Raises:
        ValueError: another number of classes than of outputs.
        FileNotFoundError, KeyError: there is no such file, or it lacks a name.
    """

    texts: Tensor

    def __init__(self, in_features: int, out_features: int, texts: str | Path, classes: Sequence[str]) -> None:
        super().__init__()
        if out_features != 4 * len(classes):
            raise ValueError(f"boxes of {len(classes)} classes have {4 * len(classes)} deltas, not {out_features}")
        vectors = unit(TextTable(texts)(classes), 1)
        self.register_buffer("texts", vectors, persistent=False)
        self.of_feature = nn.Linear(in_features, 4)
        self.of_text = nn.Linear(vectors.shape[1], 4, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Deltas `(n, 4 K)` of features `(n, in_features)`."""
        deltas: Tensor = self.of_feature(features)[:, None] + self.of_text(self.texts)
        return deltas.flatten(1)


@MODELS.register_module()
class EZADRoIHead(StandardRoIHead):
    r"""Detect classes by their names, of which some have no boxes; an image-text model teaches the features of regions.

    It stands in place of the `StandardRoIHead` of a two-stage detector of mmdet. Its box head classifies by
    `TextClassifier`: base classes in training, base and novel ones in evaluation. It regresses by `TextRegression`. On
    regions that `densekd regions` has embedded beforehand, true boxes of base classes and boxes that the image-text
    model is sure of, the student's embedding f learns the teacher's v:

    $$\frac{\lambda}{n} \sum_i w_i \sum_d \left| \frac{f_{i,d}}{\|f_i\|} - \frac{v_{i,d}}{\|v_i\|} \right|$$

    with weights of which the mean is 1 in each image. Regions lie in the original image and are moved to the view by
    the homography that mmdet's transforms record: list `'homography_matrix'` in the `meta_keys` of `PackDetInputs`. A
    region of which the view shows less than half teaches nothing.

    Args:
        base: names of the classes with labels, in the order of the labels.
        novel: names of further classes, which are in no label of the training; they are tested with the labels that
            follow. Others may be named in another config, with the same weights.
        regions: folder that `densekd regions` wrote; None for the control, a student without this teacher.
        texts: file with embeddings of the names; that in the folder of regions if not given.
        weight: $\lambda$.
        scale, learned_scale: see `TextClassifier`.
        semantic: whether boxes are regressed by the text of their class; else by one regression for all classes.
        **options: of `StandardRoIHead`; the `bbox_head` needs no `num_classes`.

    Raises:
        ValueError: names that are not distinct, a box head that is not one with fully connected layers, an option of it
            that is set here; in training, labels of novel classes or a view whose place in its image is not known.
        FileNotFoundError, KeyError: a file is missing, or lacks a name or an image.

    Paper: Liu et al., "Efficient Feature Distillation for Zero-shot Annotation Object Detection", WACV 2024. Constants
    are those of the authors' code, which calls the weight 1 and multiplies a mean over channels by their number. There
    a tested box is regressed for its most probable class alone, here for each class that it may be; there 200 regions
    are drawn of an image, with replacement, here all count.
    """

    def __init__(
        self,
        base: Sequence[str],
        novel: Sequence[str] = (),
        regions: str | Path | None = None,
        texts: str | Path | None = None,
        weight: float = 1.0,
        scale: float = 100.0,
        learned_scale: bool = False,
        semantic: bool = True,
        bbox_head: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        classes = [*base, *novel]
        if not base or len(set(classes)) < len(classes):
            raise ValueError(
                f"{type(self).__name__}: base and novel must be distinct names, base not empty, got {classes}"
            )
        if not is_number(weight):
            raise ValueError(f"{type(self).__name__}: weight must be a number from 0, got {weight!r}")
        if regions is None and texts is None:
            raise ValueError(f"{type(self).__name__}: give texts=, the file with embeddings of the names, or regions=")
        if not isinstance(bbox_head, Mapping):
            raise ValueError(
                f"{type(self).__name__}: bbox_head= must be the config of one box head, got {type(bbox_head).__name__}"
            )
        ours = ("cls_predictor_cfg", "reg_predictor_cfg", "reg_class_agnostic")
        for name in ours:
            if name in bbox_head:
                raise ValueError(f"{type(self).__name__}: it sets {name} of its box head itself: leave it out")
        if bbox_head.get("num_classes", len(classes)) != len(classes):
            raise ValueError(
                f"{type(self).__name__}: base and novel are {len(classes)} classes, num_classes of its box head is "
                f"{bbox_head['num_classes']}: leave it out"
            )
        store = None if regions is None else RegionStore(regions)
        file = Path(regions) / TEXTS if texts is None and regions is not None else texts
        given: dict[str, Any] = {"texts": str(file), "classes": classes}
        told = {"novel": len(novel), "scale": scale, "learned_scale": learned_scale}
        head = {
            **bbox_head,
            "num_classes": len(classes),
            "reg_class_agnostic": not semantic,
            "cls_predictor_cfg": {"type": "densekd.TextClassifier", **given, **told},
        }
        if semantic:
            head["reg_predictor_cfg"] = {"type": "densekd.TextRegression", **given}
        super().__init__(bbox_head=head, **options)
        self.texts_file = str(file)
        classifier = getattr(self.bbox_head, "fc_cls", None)
        if not isinstance(classifier, TextClassifier):
            raise ValueError(
                f"{type(self).__name__}: a {type(self.bbox_head).__name__} does not classify by one layer: take one "
                "such as Shared2FCBBoxHead or ConvFCBBoxHead"
            )
        if store is not None and store.channels != classifier.texts.shape[1]:
            raise ValueError(
                f"{type(self).__name__}: regions in {regions} are {store.channels} wide, texts in {file} "
                f"{classifier.texts.shape[1]}: they must be of one encoder"
            )
        self.base, self.novel, self.weight, self.store = tuple(base), tuple(novel), float(weight), store

    def loss(
        self, x: tuple[Tensor, ...], rpn_results_list: Any, batch_data_samples: list[DetDataSample]
    ) -> dict[str, Any]:
        """The losses of the detector, and that on regions."""
        for sample in batch_data_samples:
            labels = sample.gt_instances.labels
            if len(labels) and int(labels.max()) >= len(self.base):
                raise ValueError(
                    f"image {sample.get('img_id')!r} has a label {int(labels.max())}, but the base classes are labels "
                    f"0 to {len(self.base) - 1}: novel classes have no labels in training. Give the training data "
                    "metainfo=dict(classes=<base>)"
                )
        losses: dict[str, Any] = super().loss(x, rpn_results_list, batch_data_samples)
        if self.store is not None and self.weight:
            losses["loss_regions"] = self.weight * self._loss_of_regions(x, batch_data_samples)
        return losses

    def _loss_of_regions(self, x: tuple[Tensor, ...], samples: Sequence[DetDataSample]) -> Tensor:
        found = [self._seen(sample, x[0].device) for sample in samples]
        boxes, taught, weights = zip(*found)
        embedded = self.embeddings(x, bbox2roi(list(boxes)))
        return region_loss(embedded, torch.cat(taught), torch.cat(weights))

    def embeddings(self, x: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """Embeddings `(n, E)` of any boxes `(n, 5)`, image and corners in pixels, from levels of the neck."""
        tap = "bbox_head.fc_cls.embed"
        with Taps(self, [tap]) as taps:
            self._bbox_forward(x, rois)
        found: Tensor = taps[tap][0]
        return found

    def _seen(self, sample: DetDataSample, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes of the regions that a view shows, in its pixels, their embeddings and weights, of mean 1."""
        assert self.store is not None
        if "img_id" not in sample:
            raise ValueError("a sample has no img_id, by which its regions are found: list it in the meta_keys")
        regions = self.store(sample.img_id, sample.ori_shape)
        boxes, taught, weights = (each.to(device) for each in regions)
        way = homography(bare(sample), boxes)
        moved = projected(boxes, way, sample.img_shape)
        there = (_area(moved) >= VISIBLE * _area(projected(boxes, way, None)).clamp_min(1)) & (weights > 0)
        weights = weights[there]
        return moved[there], taught[there], weights / weights.mean() if len(weights) else weights


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(1)


def region_loss(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """The loss of `EZADRoIHead` on regions, without its weight; 0 where there are none.

    Args:
        student: `(n, E)`.
        teacher: likewise.
        weights: of each region, `(n,)`.

    >>> region_loss(torch.tensor([[3.0, 0], [0, 1]]), torch.tensor([[1.0, 0], [2, 0]]), torch.tensor([1.0, 0.5]))
    tensor(0.5000)
    """
    if not len(student):
        return full(student).sum()
    apart = (unit(full(student), 1) - unit(full(teacher).detach(), 1)).abs().sum(1)
    return (weights * apart).mean()
