"""Attributes of objects beside their classes: what a data set says of them, and what a pipeline hands on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import PackDetInputs

from densekd.registry import DATASETS, TRANSFORMS
from kdlosses import nearest

HAS, LACKS, UNKNOWN = 1, 0, -1
"""What an annotation says of an attribute; the last one is that it says nothing."""


@DATASETS.register_module()
class CocoAttributes(CocoDataset):
    """mmdet's `CocoDataset` of which each annotation has `"attributes": {"red": 1, "small": 0}` as well.

    1 is that an object has an attribute, 0 that it lacks it; what is not named is not known. The attributes that are
    read are `metainfo=dict(attributes=[...])`, in that order; others stay unread, like classes that are not listed.

    Raises:
        ValueError: no attributes are listed, one of them is in no annotation, an annotation has no `"attributes"`, or
            says something else than 0 or 1.
    """

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the annotations."""
        if not self.metainfo.get("attributes"):
            raise ValueError(f"{self.ann_file}: say which attributes are read, by metainfo=dict(attributes=[...])")
        self._named: set[str] = set()
        found: list[dict[str, Any]] = super().load_data_list()
        for name in self.metainfo["attributes"]:
            if name not in self._named:
                raise ValueError(
                    f"{self.ann_file}: no annotation says anything of the attribute {name!r}; "
                    f"{nearest(name, self._named)}"
                )
        return found

    def parse_data_info(self, raw_data_info: dict[str, Any]) -> dict[str, Any]:
        """One image; each annotation alone, as some are left out."""
        info: dict[str, Any] = super().parse_data_info({**raw_data_info, "raw_ann_info": []})
        info["attribute_names"] = tuple(self.metainfo["attributes"])
        for annotation in raw_data_info["raw_ann_info"]:
            said = self._said(annotation, info["attribute_names"])
            one = super().parse_data_info({**raw_data_info, "raw_ann_info": [annotation]})["instances"]
            if one:
                info["instances"].append({**one[0], "attributes": said})
        return info

    def _said(self, annotation: dict[str, Any], names: Sequence[str]) -> list[int]:
        where = f"{self.ann_file}: annotation {annotation.get('id')!r}"
        said = annotation.get("attributes")
        if not isinstance(said, dict):
            raise ValueError(
                f'{where} has no "attributes": give a dict of names with 1 (has it) or 0 (lacks it), which is empty '
                "where nothing is known"
            )
        for name, value in said.items():
            if value not in (HAS, LACKS):
                raise ValueError(f"{where} says {value!r} of the attribute {name!r}: it must be 1, 0, or left out")
        self._named.update(said)
        return [int(said.get(name, UNKNOWN)) for name in names]


@TRANSFORMS.register_module()
class LoadAttributes(BaseTransform):
    """Load the attributes of the objects of an image, right after `LoadAnnotations`.

    A data set tells them as `attribute_names` of an image and as `attributes` of each of its `instances`, a list in
    that order: 1 for one that the object has, 0 for one that it lacks, -1 where that is not known.
    `densekd.CocoAttributes` and `densekd.DigitScenesDet(with_attributes=True)` do. `densekd.PackAttributes` hands them
    on.

    Raises:
        ValueError: there are no names, an object without attributes, another number of them, another value, or another
            number of boxes than of objects.

    >>> objects = [{"attributes": [1, -1]}, {"attributes": [0, 1]}]
    >>> found = LoadAttributes()(
    ...     {"attribute_names": ("red", "small"), "instances": objects, "gt_bboxes": np.zeros((2, 4))}
    ... )
    >>> found["gt_attributes"].tolist()
    [[1, -1], [0, 1]]
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add `gt_attributes`, `(n, A)`, and the numbers by which objects are known after some are left out."""
        image = f"image {results.get('img_id')!r}"
        names = results.get("attribute_names")
        if not names:
            raise ValueError(
                f"{image} comes without attribute_names: take a data set that has attributes, such as "
                "densekd.CocoAttributes, or leave LoadAttributes out"
            )
        instances = results["instances"]
        if "gt_bboxes" not in results or len(results["gt_bboxes"]) != len(instances):
            raise ValueError(f"{image}: list LoadAttributes right after LoadAnnotations with its boxes")
        found = np.zeros((len(instances), len(names)))
        for index, instance in enumerate(instances):
            said = instance.get("attributes")
            if said is None or len(said) != len(names):
                has = "no attributes" if said is None else f"{len(said)} attributes"
                raise ValueError(
                    f"{image}: object {index} has {has}, its data set has {len(names)}: give {UNKNOWN} where it is not "
                    "known"
                )
            found[index] = said
        if not np.isin(found, (HAS, LACKS, UNKNOWN)).all():
            raise ValueError(f"{image}: an attribute is 1, 0 or -1 (not known), got {np.unique(found).tolist()}")
        results["gt_attributes"], results["gt_instances_ids"] = found.astype(np.int64), np.arange(len(instances))
        return results


@TRANSFORMS.register_module()
class PackAttributes(PackDetInputs):
    """mmdet's `PackDetInputs` that packs attributes as well, as `gt_instances.attributes` `(n, A)`.

    The sample says which they are, by `attribute_names`. Boxes that `RandomCrop` of mmdet leaves out take theirs along.

    Args:
        meta_keys: see `PackDetInputs`.

    Raises:
        ValueError: the pipeline has no `LoadAttributes`, or another transform has left boxes out, but no attributes.
    """

    mapping_table = {**PackDetInputs.mapping_table, "gt_attributes": "attributes"}  # noqa: RUF012  as its parent has it

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack image, truth and attributes."""
        if "gt_attributes" not in results:
            raise ValueError(
                "PackAttributes: the pipeline has no densekd.LoadAttributes, list it after LoadAnnotations"
            )
        kept = results["gt_attributes"][results["gt_instances_ids"]]
        if len(kept) != len(results["gt_bboxes"]):
            raise ValueError(
                f"image {results.get('img_id')!r} has {len(results['gt_bboxes'])} boxes and attributes of {len(kept)} "
                "objects: a transform of its pipeline leaves out boxes without their attributes"
            )
        packed: dict[str, Any] = super().transform({**results, "gt_attributes": kept})
        packed["data_samples"].set_metainfo({"attribute_names": tuple(results["attribute_names"])})
        return packed
