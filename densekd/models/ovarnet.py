"""OvarNet: a two-stage detector whose classes and attributes are texts, taught by an image-text model on regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi, get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from densekd.hub.clip_attr import annotated, attribute_loss
from densekd.models.ezad import EZADRoIHead, TextClassifier
from densekd.models.mean_teacher import is_number
from densekd.registry import MODELS
from densekd.texts import TextTable, attribute_key, with_parents
from kdlosses import binary_kl, kl, nearest
from kdlosses.ground import full
from kdlosses.unit import unit


@MODELS.register_module()
class OvarNetRoIHead(EZADRoIHead):
    r"""Detect classes and tell attributes by their names, some of which have no label; CLIP-Attr teaches on regions.

    It stands in place of the `StandardRoIHead` of a two-stage detector of mmdet, and is an `EZADRoIHead` for classes:
    f, the embedding of a region, is compared with the texts t of classes. The same f tells attributes, each alone:

    $$q_a = \sigma\big(s \cos(f, t_a) + o\big), \qquad q_c = \mathrm{softmax}_c\big(s \cos(f, t_c)\big)$$

    Boxes are regressed for all classes alike. Labels teach classes as `EZADRoIHead` has it, and attributes on true
    boxes by `densekd.hub.clip_attr.attribute_loss`: what is not annotated teaches nothing. On the regions that `densekd
    regions` has embedded, the teacher's probabilities p of all classes and attributes, novel ones included, teach the
    student's,

    $$\mathcal{L}_{regions} = \frac{2 \lambda}{\sum_i w_i} \sum_i w_i \Big( \tfrac{1}{2} \sum_a
      \mathrm{KL}\big(p_{i,a} \,\|\, q_{i,a}\big) + \mathrm{KL}\big(p_{i,c} \,\|\, q_{i,c}\big) \Big)$$

    with p of the same form as q, of the teacher's embedding of the region with the same s and o.

    In training, samples need `attributes`, of which names that are not among these are refused; see
    `densekd.LoadAttributes`. What is predicted has `attributes` `(n, A)`, the probabilities of all attributes in the
    order of `attribute_names`, of each box that is found. Where samples of a test have true boxes with attributes,
    their `gt_instances` get `attribute_scores`, which `densekd.AttributeMAP` reads: these boxes lie in the original
    image, as the test pipelines of mmdet load them.

    Args:
        base: names of the classes with labels, in the order of the labels; a dict of lists says the kinds of names,
            such as `dict(animal=["cat", "dog"])`, which learned prompts name too.
        attributes: names of the attributes that are annotated, likewise: `dict(color=["red", "blue"])`.
        novel: further classes, likewise.
        novel_attributes: further attributes, likewise.
        regions: folder that `densekd regions` wrote; None for the control, a student without this teacher.
        texts: file with embeddings of the names; that in the folder of regions if not given.
        weight: $\lambda$.
        attribute_weight: of the loss on annotated attributes.
        unknown: how much an attribute that is not annotated counts as missing, see `attribute_loss`.
        scale: s, of classes and attributes.
        offset: o, of attributes.
        **options: of `StandardRoIHead`; the `bbox_head` needs no `num_classes`.

    Attributes:
        attribute_names: base attributes, then novel ones.

    Raises:
        ValueError: see `EZADRoIHead`; attributes that are not distinct; in training, samples without attributes, with
            names that are not known, or with labels of novel ones.
        FileNotFoundError, KeyError: a file is missing, or lacks a name or an image.

    Paper: Chen et al., "OvarNet: Towards Open-vocabulary Object Attribute Recognition", CVPR 2023. The factors 2 and
    1/2 are those of the authors' code, and so is $\lambda$ = 0.5. That code compares attributes by one softmax over all
    of them, though several may be there; a divergence of each is ours, and so is the offset. There a transformer
    encodes a region, the teacher learns on, and classes have binary cross-entropies; here are none of these. There true
    boxes are distilled, here those that the image-text model proposes as well.
    """

    attribute_texts: Tensor

    def __init__(
        self,
        base: Mapping[str, Sequence[str]] | Sequence[str],
        attributes: Mapping[str, Sequence[str]] | Sequence[str],
        novel: Mapping[str, Sequence[str]] | Sequence[str] = (),
        novel_attributes: Mapping[str, Sequence[str]] | Sequence[str] = (),
        regions: str | Path | None = None,
        texts: str | Path | None = None,
        weight: float = 0.5,
        attribute_weight: float = 1.0,
        unknown: float = 0.0,
        scale: float = 100.0,
        offset: float = 0.0,
        **options: Any,
    ) -> None:
        known, further = (list(with_parents(each)) for each in (attributes, novel_attributes))
        names = [*known, *further]
        if not known or len(set(names)) < len(names):
            raise ValueError(
                "OvarNetRoIHead: attributes and novel_attributes must be distinct names, attributes not empty, got "
                f"{names}"
            )
        for name, value in (("attribute_weight", attribute_weight), ("unknown", unknown)):
            if not is_number(value):
                raise ValueError(f"OvarNetRoIHead: {name} must be a number from 0, got {value!r}")
        if not is_number(abs(offset) if isinstance(offset, int | float) else offset):
            raise ValueError(f"OvarNetRoIHead: offset must be a number, got {offset!r}")
        for ours in ("semantic", "learned_scale"):
            if ours in options:
                raise ValueError(
                    f"OvarNetRoIHead: it has no option {ours}, which densekd.EZADRoIHead has: leave it out"
                )
        super().__init__(
            list(with_parents(base)),
            list(with_parents(novel)),
            regions=regions,
            texts=texts,
            weight=weight,
            scale=scale,
            semantic=False,
            **options,
        )
        self.attribute_names, self.base_attributes = tuple(names), tuple(known)
        self.attribute_weight, self.unknown = float(attribute_weight), float(unknown)
        self.scale, self.offset = float(scale), float(offset)
        vectors = TextTable(self.texts_file)([attribute_key(name) for name in names])
        self.register_buffer("attribute_texts", unit(vectors, 1), persistent=False)

    def attribute_logits(self, embeddings: Tensor) -> Tensor:
        """Logits `(n, A)` of attributes, base and novel, of embeddings `(n, E)`."""
        return self._cosines(embeddings, self.attribute_texts) + self.offset

    def class_logits(self, embeddings: Tensor) -> Tensor:
        """Logits `(n, K)` of classes, base and novel, without background."""
        classifier: TextClassifier = self.bbox_head.fc_cls
        return self._cosines(embeddings, classifier.texts)

    def _cosines(self, embeddings: Tensor, texts: Tensor) -> Tensor:
        found = unit(full(embeddings), 1)
        with torch.autocast(found.device.type, enabled=False):
            logits: Tensor = self.scale * found @ texts.to(found).T
        return logits

    def loss(
        self, x: tuple[Tensor, ...], rpn_results_list: Any, batch_data_samples: list[DetDataSample]
    ) -> dict[str, Any]:
        """The losses of the detector, of annotated attributes, and on regions."""
        truth = torch.cat([self._annotated(sample) for sample in batch_data_samples])
        losses = super().loss(x, rpn_results_list, batch_data_samples)
        boxes = [get_box_tensor(sample.gt_instances.bboxes) for sample in batch_data_samples]
        logits = self.attribute_logits(self.embeddings(x, bbox2roi(boxes)))[:, : len(self.base_attributes)]
        losses["loss_attributes"] = self.attribute_weight * attribute_loss(logits, truth, self.unknown)
        return losses

    def _annotated(self, sample: DetDataSample) -> Tensor:
        """What is known of base attributes of the objects of an image, `(n, A)`."""
        image = f"image {sample.get('img_id')!r}"
        if "attributes" not in sample.gt_instances or "attribute_names" not in sample:
            raise ValueError(
                f"{image} comes without attributes: list densekd.LoadAttributes after LoadAnnotations in the pipeline "
                "of the training data, and densekd.PackAttributes at its end"
            )
        novel = self.attribute_names[len(self.base_attributes) :]
        return annotated(sample.gt_instances.attributes, sample.attribute_names, self.base_attributes, novel, image)

    def _loss_of_regions(self, x: tuple[Tensor, ...], samples: Sequence[DetDataSample]) -> Tensor:
        found = [self._seen(sample, x[0].device) for sample in samples]
        boxes, taught, weights = zip(*found)
        return self.region_loss(self.embeddings(x, bbox2roi(list(boxes))), torch.cat(taught), torch.cat(weights))

    def region_loss(self, student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
        r"""The loss on regions without $\lambda$, of embeddings `(n, E)` and weights `(n,)`; 0 where there are none."""
        attributes = binary_kl(self.attribute_logits(student), self.attribute_logits(teacher), weight=weights)
        classes = kl(self.class_logits(student), self.class_logits(teacher), weight=weights)
        loss: Tensor = 2 * (0.5 * attributes + classes)
        return loss

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict[str, Any]],
        rpn_results_list: list[InstanceData],
        rcnn_test_cfg: Any,
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Boxes with their classes and the probabilities of their attributes."""
        found: list[InstanceData] = super().predict_bbox(
            x, batch_img_metas, rpn_results_list, rcnn_test_cfg, rescale=False
        )
        scores = self.attributes_of(x, [each.bboxes for each in found])
        for each, own, meta in zip(found, scores, batch_img_metas):
            each.attributes = own
            if rescale:
                each.bboxes = each.bboxes / _factors(meta, each.bboxes)
        return found

    def predict(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: list[InstanceData],
        batch_data_samples: list[DetDataSample],
        rescale: bool = False,
    ) -> list[InstanceData]:
        """What is found, and, where samples have true boxes with attributes, their `attribute_scores`."""
        found: list[InstanceData] = super().predict(x, rpn_results_list, batch_data_samples, rescale)
        for index, sample in enumerate(batch_data_samples):
            if "gt_instances" not in sample or "attributes" not in sample.gt_instances:
                continue
            places = []
            for name in sample.attribute_names:
                if name not in self.attribute_names:
                    raise ValueError(
                        f"image {sample.get('img_id')!r} has labels of the attribute {name!r}, which the head lacks; "
                        f"{nearest(name, self.attribute_names)}"
                    )
                places.append(self.attribute_names.index(name))
            boxes = get_box_tensor(sample.gt_instances.bboxes).to(x[0])
            boxes = boxes * _factors(sample.metainfo, boxes)
            (scores,) = self.attributes_of([level[index : index + 1] for level in x], [boxes])
            sample.gt_instances.attribute_scores = scores[:, places]
        return found

    def attributes_of(self, x: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Tensor]:
        """Probabilities `(n, A)` of the attributes of boxes `(n, 4)` in each image, in pixels of the view."""
        rois = bbox2roi(list(boxes))
        if not len(rois):  # some heads cannot look at nothing
            return [rois.new_zeros(0, len(self.attribute_names)) for _ in boxes]
        found = self.attribute_logits(self.embeddings(tuple(x), rois)).sigmoid()
        return list(found.split([len(each) for each in boxes]))


def _factors(meta: Mapping[str, Any], like: Tensor) -> Tensor:
    """By how much a view is larger than its image, for x and y of both corners."""
    return like.new_tensor(meta.get("scale_factor", (1.0, 1.0))).repeat(2)
