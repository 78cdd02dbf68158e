"""Embed regions of images by an image-text model, and the names of classes: the teacher of `densekd.EZADRoIHead`.

    densekd regions densekd::det/ezad/bccd.py --encoder FOLDER --out work_dirs/regions/bccd
    densekd regions densekd::det/ezad/digits.py --encoder FOLDER --out regions --stride 8 --scales 2 3 4

CONFIG is a detector's with a `densekd.EZADRoIHead`, which says which classes are base and which are novel. FOLDER is
a CLIP or SigLIP of transformers. The regions of each training image are the true boxes of base classes and, of boxes
all over the image, those of which the encoder is sure that they show one of the classes, base or novel. Nothing reads
boxes of novel classes. `--adapt` first moves the encoder to the data: the layer normalisations of its image tower
learn to tell the base classes apart.

The folder holds `texts.safetensors`, embeddings of the names, and `regions-*.safetensors`, boxes, embeddings and
weights of each image by its `img_id`. It is written whole or not at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from densekd import read_config
from densekd.hub.clip_proposals import SCALES, propose
from densekd.hub.image_text import ImageText, adapt, crop, image_text
from densekd.mmlab.config import plain_model
from densekd.regions import Regions, write_regions
from kdlosses.cli.logs import versions
from kdlosses.cli.mistakes import place_to_write, positive, whole
from kdlosses.cli.parser import Parser


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, "densekd regions")
    parser.add_argument("config", help="config of the detector; a path or pkg::path")
    parser.add_argument("--encoder", required=True, help="folder of a CLIP or SigLIP of transformers")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; one that exists is not replaced")
    parser.add_argument(
        "--prompt", nargs="+", default=["a photo of a {}"], help="around the names; several are averaged"
    )
    parser.add_argument("--boxes", type=whole(0), default=200, help="most proposals of an image, beside its true boxes")
    parser.add_argument("--stride", type=whole(1), default=32, help="pixels between the centres of these boxes")
    parser.add_argument("--scales", type=positive, nargs="+", default=list(SCALES), help="their sides, in strides")
    parser.add_argument(
        "--iou", type=positive, default=0.7, help="a box that overlaps a better one by more is left out"
    )
    parser.add_argument("--adapt", type=whole(0), default=0, metavar="STEPS", help="of learning from base classes")
    parser.add_argument("--adapt-images", type=whole(1), default=1000, help="whose true boxes --adapt learns from")
    parser.add_argument("--lr", type=positive, default=1e-4, help="of --adapt")
    parser.add_argument("--batch", type=whole(1), default=64, help="crops that are embedded at once")
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")
    args = parser.parse_args(arguments)
    if args.iou > 1:
        parser.error("--iou must be at most 1")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Load the encoder, adapt it if asked, embed names and regions, write them."""
    args = parse(arguments)
    if args.out.exists():
        raise FileExistsError(f"{args.out} exists: take another name, or delete it")
    place_to_write(args.out.absolute().parent, new=False)
    config = read_config(args.config)
    base, novel = classes_of(config)
    images = Originals(config, base)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    encoder = image_text(args.encoder)
    try:
        encoder.to(device)
    except (AssertionError, RuntimeError) as error:  # torch without CUDA asserts that it has it
        why = str(error).partition("\n")[0]
        raise ValueError(f"--device {device} cannot be used here ({why}): choose another, or cpu") from None
    texts = encoder.names([*base, *novel], args.prompt)
    if args.adapt:
        crops, labels = true_crops(images, encoder, args.adapt_images)
        told = adapt(encoder, crops, labels, texts[: len(base)], args.adapt, args.lr, args.batch)
        print(f"encoder adapted to {len(crops)} boxes: loss {told[0]:.4f} at first, {told[-1]:.4f} at last")
    count = 0

    def embedded() -> Iterator[tuple[Any, tuple[int, int], Regions]]:
        nonlocal count
        for image, pixels, boxes, _ in tqdm(images, desc="images"):
            own = encoder.regions(pixels, boxes, args.batch)
            found = [Regions(boxes, own, own.new_ones(len(own)))]
            if args.boxes:
                sizes = dict(count=args.boxes, stride=args.stride, scales=args.scales, iou=args.iou)
                found.append(propose(encoder, pixels, texts, batch=args.batch, **sizes))
            count += sum(len(each.boxes) for each in found)
            yield image, pixels.shape[:2], Regions(*(torch.cat([each.cpu() for each in part]) for part in zip(*found)))

    facts = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    facts |= dict(base=base, novel=novel, versions=versions("torch", "transformers"))
    write_regions(args.out, dict(zip([*base, *novel], texts)), embedded(), facts)
    print(
        f"{len(base) + len(novel)} names, {count} regions of {len(images)} images, {encoder.channels} wide: {args.out}"
    )


def classes_of(config: Any) -> tuple[list[str], list[str]]:
    """The base and the novel classes of a detector's config.

    Raises:
        ValueError: it has no `EZADRoIHead`.
    """
    head: Any = plain_model(config.get("model") or {}).get("roi_head") or {}
    if not str(head.get("type", "")).endswith("EZADRoIHead"):
        raise ValueError(f"{config.filename} has no roi_head of type densekd.EZADRoIHead: it names the classes")
    return list(head["base"]), list(head.get("novel") or ())


class Originals:
    """The training images of a config before any augmentation, with the true boxes of base classes.

    An iteration yields `img_id`, pixels `(H, W, 3)`, red first, boxes `(n, 4)` with at least a pixel inside the image,
    and their labels `(n,)`.

    Args:
        config: whose `train_dataloader` has one data set; what its pipeline has up to `LoadAnnotations` loads an image.
        base: names of the classes that it must have.

    Raises:
        ValueError: there is no such data set, its pipeline loads no boxes, or it has other classes.
    """

    def __init__(self, config: Any, base: list[str]) -> None:
        from mmdet.registry import DATASETS
        from mmengine.registry import DefaultScope

        found = (config.get("train_dataloader") or {}).get("dataset")
        while found is not None and isinstance(found.get("dataset"), dict):  # repeated or balanced: the same images
            found = found["dataset"]
        steps = [dict(step) for step in (found or {}).get("pipeline", ())]
        loaded = [i for i, step in enumerate(steps) if str(step["type"]).endswith("LoadAnnotations")]
        if found is None or not loaded:
            raise ValueError(
                f"{config.filename} has no train_dataloader with one data set whose pipeline has LoadAnnotations: "
                "regions are of its images"
            )
        with DefaultScope.overwrite_default_scope(config.get("default_scope") or "mmdet"):
            self.dataset: Any = DATASETS.build({**found, "pipeline": steps[: loaded[0] + 1]})
        classes = list(self.dataset.metainfo["classes"])
        if classes != base:
            raise ValueError(
                f"the training data of {config.filename} have the classes {classes}, the base classes are {base}: give "
                "the data set metainfo=dict(classes=<base>)"
            )

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[tuple[Any, np.ndarray, Tensor, Tensor]]:
        for index in range(len(self.dataset)):
            sample = self.dataset[index]
            pixels = np.ascontiguousarray(sample["img"][..., ::-1])
            boxes = getattr(sample["gt_bboxes"], "tensor", sample["gt_bboxes"])
            boxes, labels = torch.as_tensor(boxes).float(), torch.as_tensor(sample["gt_bboxes_labels"])
            height, width = pixels.shape[:2]
            inside = boxes.clamp_min(0).minimum(boxes.new_tensor([width, height, width, height]))
            there = (inside[:, 2:] - inside[:, :2] >= 1).all(1) & ~torch.as_tensor(sample["gt_ignore_flags"]).bool()
            yield sample["img_id"], pixels, inside[there], labels[there]


def true_crops(images: Originals, encoder: ImageText, count: int) -> tuple[Tensor, Tensor]:
    """Crops `(n, 3, size, size)` of the true boxes of the first images, as bytes, and their labels."""
    crops, labels = [], []
    for index, (_, pixels, boxes, of_boxes) in enumerate(images):
        if index == count:
            break
        crops += [crop(pixels, box, encoder.size).round().byte() for box in boxes]
        labels.append(of_boxes)
    if not crops:
        raise ValueError("the training images have no box of a base class: --adapt has nothing to learn from")
    return torch.stack(crops), torch.cat(labels)
