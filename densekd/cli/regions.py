"""Embed regions of images by an image-text model, and names, as a teacher of `densekd.EZADRoIHead`, `.OvarNetRoIHead`.

    densekd regions densekd::det/ezad/bccd.py --encoder FOLDER --out work_dirs/regions/bccd
    densekd regions densekd::det/ezad/digits.py --encoder FOLDER --out regions --stride 8 --scales 2 3 4
    densekd regions densekd::det/ovarnet/digits.py --encoder FOLDER --out attributes --learn 300

CONFIG is a detector's with one of these heads, which says which classes are base and which are novel, and, for
OvarNet, which attributes. FOLDER is a CLIP or SigLIP of transformers. The regions of each training image are the true
boxes of base classes and, of boxes all over the image, those of which the encoder is sure that they show one of the
classes, base or novel. Nothing reads boxes of novel classes, nor labels of novel attributes. `--adapt` first moves the
encoder to the data: the layer normalisations of its image tower learn to tell the base classes apart.

`--learn` makes it CLIP-Attr: prompts around the names learn on true boxes of base classes and on base attributes, with
the scale and the offset of the head. `--captions`, a JSON file of captions by `img_id`, teaches attributes that these
name as well, novel ones included. The folder then holds `prompts.safetensors`, for further names.

The folder holds `texts.safetensors`, embeddings of the names, and `regions-*.safetensors`, boxes, embeddings and
weights of each image by its `img_id`. It is written whole or not at all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from densekd import read_config
from densekd.hub.clip_attr import Prompts, Told, annotated, learn, mentioned
from densekd.hub.clip_proposals import SCALES, propose
from densekd.hub.image_text import ImageText, adapt, crop, image_text
from densekd.mmlab.config import plain_model
from densekd.regions import Regions, write_regions
from densekd.texts import attribute_key, with_parents
from kdlosses import nearest
from kdlosses.cli.logs import versions
from kdlosses.cli.mistakes import place_to_write, positive, whole
from kdlosses.cli.parser import Parser

PROMPTS = "prompts.safetensors"
PROMPT = ["a photo of a {}"]
ATTRIBUTE_PROMPT = ["a photo of something {}"]
NEEDS = {
    **dict.fromkeys(("adapt_images", "lr"), "adapt"),
    **dict.fromkeys(("captions", "vectors", "learn_lr", "tower_lr"), "learn"),
    "caption_boxes": "captions",
}
"""Options that another one must be given for."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, "densekd regions")
    parser.add_argument("config", help="config of the detector; a path or pkg::path")
    parser.add_argument("--encoder", required=True, help="folder of a CLIP or SigLIP of transformers")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; one that exists is not replaced")
    parser.add_argument("--prompt", nargs="+", default=PROMPT, help="around the names; several are averaged")
    parser.add_argument(
        "--attribute-prompt", nargs="+", default=ATTRIBUTE_PROMPT, help="around the names of attributes"
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
    parser.add_argument(
        "--learn", type=whole(0), default=0, metavar="STEPS", help="of prompts, on base classes and attributes"
    )
    parser.add_argument("--vectors", type=whole(1), default=30, help="learned vectors of a prompt")
    parser.add_argument("--learn-lr", type=positive, default=2e-3, help="learning rate of these vectors")
    parser.add_argument("--tower-lr", type=positive, help="of --learn for the text tower (default: it is frozen)")
    parser.add_argument(
        "--captions", type=Path, help="JSON file, {img_id: caption}: --learn reads attributes there too"
    )
    parser.add_argument("--caption-boxes", type=whole(1), default=25, help="most proposals of an image with a caption")
    parser.add_argument("--batch", type=whole(1), default=64, help="crops that are embedded at once")
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")
    args = parser.parse_args(arguments)
    if args.iou > 1:
        parser.error("--iou must be at most 1")
    for option, needed in NEEDS.items():
        if getattr(args, option) != parser.get_default(option) and not getattr(args, needed):
            parser.error(f"--{option.replace('_', '-')} is for --{needed}: give that as well")
    if args.learn and args.attribute_prompt != ATTRIBUTE_PROMPT:
        parser.error("--learn learns prompts in place of --attribute-prompt: leave one of them out")
    if args.learn and args.prompt != PROMPT and not args.adapt and not args.captions:
        parser.error("--learn learns prompts in place of --prompt, which --adapt and --captions alone would read")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Load the encoder, adapt it if asked, embed names and regions, write them."""
    args = parse(arguments)
    if args.out.exists():
        raise FileExistsError(f"{args.out} exists: take another name, or delete it")
    place_to_write(args.out.absolute().parent, new=False)
    config = read_config(args.config)
    names = names_of(config)
    base, novel = list(names.base), list(names.novel)
    for option, given in (("learn", args.learn), ("attribute-prompt", args.attribute_prompt != ATTRIBUTE_PROMPT)):
        if given and not names.attributes:
            raise ValueError(
                f"--{option} is for attributes, and {config.filename} has none: its head is no OvarNetRoIHead"
            )
    images = Originals(config, names)
    captions = read_captions(args.captions, images) if args.captions else {}
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
    sizes: dict[str, Any] = dict(stride=args.stride, scales=args.scales, iou=args.iou, batch=args.batch)
    prompts = Prompts(encoder, args.vectors) if args.learn else None
    attributes = {**names.attributes, **names.novel_attributes}
    of_attributes = encoder.names(list(attributes), args.attribute_prompt) if attributes else texts[:0]
    if prompts is not None:
        known = crops_told(images, encoder, names, captions, texts, {**sizes, "count": args.caption_boxes})
        told = learn(
            prompts,
            known,
            attributes,
            names.base,
            args.learn,
            names.scale,
            names.offset,
            args.learn_lr,
            args.tower_lr or 0.0,
            batch=args.batch,
        )
        print(
            f"prompts learned from {len(known.embeddings)} crops: loss {told[0]:.4f} at first, {told[-1]:.4f} at last"
        )
        with torch.no_grad():
            texts, of_attributes = prompts({**names.base, **names.novel}), prompts(attributes)
    count = 0

    def embedded() -> Iterator[tuple[Any, tuple[int, int], Regions]]:
        nonlocal count
        for image, pixels, boxes, *_ in tqdm(images, desc="images"):
            own = encoder.regions(pixels, boxes, args.batch)
            found = [Regions(boxes, own, own.new_ones(len(own)))]
            if args.boxes:
                found.append(propose(encoder, pixels, texts, args.boxes, **sizes))
            count += sum(len(each.boxes) for each in found)
            yield image, pixels.shape[:2], Regions(*(torch.cat([each.cpu() for each in part]) for part in zip(*found)))

    facts = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    facts |= dict(base=base, novel=novel, versions=versions("torch", "transformers"))
    found = dict(zip([*base, *novel], texts)) | dict(zip(map(attribute_key, attributes), of_attributes))

    def write_prompts(folder: Path) -> None:
        if prompts is not None:
            prompts.save(folder / PROMPTS)

    write_regions(args.out, found, embedded(), facts, write_prompts)
    print(f"{len(found)} names, {count} regions of {len(images)} images, {encoder.channels} wide: {args.out}")


class Names(NamedTuple):
    """What the head of a detector tells apart, names with their kinds, and how cosines become logits."""

    base: Mapping[str, str]
    novel: Mapping[str, str]
    attributes: Mapping[str, str]
    novel_attributes: Mapping[str, str]
    scale: float
    offset: float


def names_of(config: Any) -> Names:
    """The names of a detector's config.

    Raises:
        ValueError: it has no `EZADRoIHead` or `OvarNetRoIHead`, or its names are not distinct.
    """
    head: Any = plain_model(config.get("model") or {}).get("roi_head") or {}
    kind = str(head.get("type", "")).rpartition(".")[2]
    if kind not in ("EZADRoIHead", "OvarNetRoIHead"):
        raise ValueError(
            f"{config.filename} has no roi_head of type densekd.EZADRoIHead or densekd.OvarNetRoIHead: it names the "
            "classes"
        )

    def of(key: str) -> dict[str, str]:
        return with_parents(head.get(key) or ())

    scale, offset = float(head.get("scale", 100.0)), float(head.get("offset", 0.0))
    found = Names(of("base"), of("novel"), of("attributes"), of("novel_attributes"), scale, offset)
    twice = [*(found.base.keys() & found.novel), *(found.attributes.keys() & found.novel_attributes)]
    if twice:
        raise ValueError(f"{config.filename} names {twice[0]!r} as base and as novel: leave it out of one")
    return found


class Original(NamedTuple):
    """One training image.

    Attributes:
        image: its `img_id`.
        pixels: `(H, W, 3)`, red first.
        boxes: `(n, 4)`, each with at least a pixel inside the image.
        labels: `(n,)`.
        attributes: what is known of base attributes, `(n, A)`, 1, 0 or -1.
    """

    image: Any
    pixels: np.ndarray
    boxes: Tensor
    labels: Tensor
    attributes: Tensor


class Originals:
    """The training images of a config before any augmentation, with the true boxes of base classes.

    An iteration yields an `Original` of each.

    Args:
        config: whose `train_dataloader` has one data set; what its pipeline has up to `LoadAnnotations` loads an image.
        names: of which it must have the base classes, and may have base attributes.

    Raises:
        ValueError: there is no such data set, its pipeline loads no boxes, it has other classes, or an attribute that
            is not base.
    """

    def __init__(self, config: Any, names: Names) -> None:
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
        self.names, base = names, list(names.base)
        classes = list(self.dataset.metainfo["classes"])
        if classes != base:
            raise ValueError(
                f"the training data of {config.filename} have the classes {classes}, the base classes are {base}: give "
                "the data set metainfo=dict(classes=<base>)"
            )

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Original]:
        for index in range(len(self.dataset)):
            sample = self.dataset[index]
            pixels = np.ascontiguousarray(sample["img"][..., ::-1])
            boxes = getattr(sample["gt_bboxes"], "tensor", sample["gt_bboxes"])
            boxes, labels = torch.as_tensor(boxes).float(), torch.as_tensor(sample["gt_bboxes_labels"])
            height, width = pixels.shape[:2]
            inside = boxes.clamp_min(0).minimum(boxes.new_tensor([width, height, width, height]))
            there = (inside[:, 2:] - inside[:, :2] >= 1).all(1) & ~torch.as_tensor(sample["gt_ignore_flags"]).bool()
            attributes = self._attributes(sample)
            yield Original(sample["img_id"], pixels, inside[there], labels[there], attributes[there])

    def _attributes(self, sample: Mapping[str, Any]) -> Tensor:
        base, novel = list(self.names.attributes), list(self.names.novel_attributes)
        if not base:  # the head is of classes alone
            return torch.zeros(len(sample["instances"]), 0, dtype=torch.long)
        from densekd.datasets import LoadAttributes

        found = LoadAttributes()({**sample})
        where = f"image {sample['img_id']!r}"
        return annotated(torch.from_numpy(found["gt_attributes"]), found["attribute_names"], base, novel, where)


def true_crops(images: Originals, encoder: ImageText, count: int) -> tuple[Tensor, Tensor]:
    """Crops `(n, 3, size, size)` of the true boxes of the first images, as bytes, and their labels."""
    crops, labels = [], []
    for index, (_, pixels, boxes, of_boxes, _) in enumerate(images):
        if index == count:
            break
        crops += [crop(pixels, box, encoder.size).round().byte() for box in boxes]
        labels.append(of_boxes)
    if not crops:
        raise ValueError("the training images have no box of a base class: --adapt has nothing to learn from")
    return torch.stack(crops), torch.cat(labels)


def read_captions(path: Path, images: Originals) -> dict[str, str]:
    """Captions by `img_id`.

    Raises:
        FileNotFoundError, ValueError: there is no such file, it is no JSON of texts by `img_id`, it has one of an image
            that is not trained on, or none that names an attribute.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--captions {path}: there is no such file")
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"--captions {path} is no JSON ({error})") from error
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ValueError(f"--captions {path} must hold an object of captions by img_id")
    known = {str(images.dataset.get_data_info(index)["img_id"]) for index in range(len(images))}
    strange = next((key for key in found if key not in known), None)
    if strange is not None:
        raise ValueError(f"--captions {path}: no training image has the img_id {strange!r}; {nearest(strange, known)}")
    attributes = [*images.names.attributes, *images.names.novel_attributes]
    if not any((mentioned(text, attributes) == 1).any() for text in found.values()):
        raise ValueError(f"--captions {path}: no caption names one of the attributes {', '.join(attributes)}")
    return found


def crops_told(
    images: Originals,
    encoder: ImageText,
    names: Names,
    captions: Mapping[str, str],
    texts: Tensor,
    sizes: Mapping[str, Any],
) -> Told:
    """The true boxes of all images, and, of those with a caption, proposals as well, with what is known of each."""
    attributes = [*names.attributes, *names.novel_attributes]
    further = len(names.novel_attributes)
    found = []
    for number, (image, pixels, boxes, labels, known) in enumerate(tqdm(images, desc="crops")):
        caption = captions.get(str(image))
        embeddings = encoder.regions(pixels, boxes, sizes["batch"])
        if caption is not None:
            more = propose(encoder, pixels, texts, **sizes).embeddings
            embeddings = torch.cat([embeddings, more])
            labels = torch.cat([labels, labels.new_full((len(more),), -1)])
            known = torch.cat([known, known.new_full((len(more), known.shape[1]), -1)])
        known = torch.cat([known, known.new_full((len(known), further), -1)], 1)
        said = mentioned(caption, attributes) if caption else torch.full((len(attributes),), -1)
        count = len(embeddings)
        own = torch.full((count,), number), said.expand(count, -1)
        found.append((embeddings.cpu(), known, labels, *own))
    return Told(*map(torch.cat, zip(*found)))
