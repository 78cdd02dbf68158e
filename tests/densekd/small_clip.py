"""Small CLIPs of transformers that have learned digits, and their colours, by their names, from crops of scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from densekd.datasets.digit_scenes_det import ATTRIBUTES, DigitScenesDet
from densekd.datasets.digits import draw
from densekd.hub.image_text import ImageText, crop, image_text

NAMES = [f"digit {digit}" for digit in range(10)]
SIZE = 32


WORDS = ["a", "photo", "of", "digit", "nothing", *map(str, range(10))]
MORE = ["something", "color", "size", *ATTRIBUTES]


def tokenizer(folder: Path, words: list[str] = WORDS) -> None:
    special = ["[PAD]", "<s>", "</s>", "[UNK]"]
    bare = Tokenizer(models.WordLevel({word: k for k, word in enumerate([*special, *words])}, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    bare.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    names = dict(pad_token="[PAD]", bos_token="<s>", eos_token="</s>", unk_token="[UNK]")
    tf.PreTrainedTokenizerFast(tokenizer_object=bare, **names).save_pretrained(folder)


def untrained(folder: Path, kind: str = "clip", words: list[str] = WORDS, context: int = 12) -> Path:
    """Save a random model with its tokenizer."""
    tower = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96)
    text = dict(tower, num_hidden_layers=1, vocab_size=4 + len(words), max_position_embeddings=context)
    text |= dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    vision = dict(tower, image_size=SIZE, patch_size=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "clip":
            model = tf.CLIPModel(tf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
        else:
            model = tf.SiglipModel(tf.SiglipConfig(text_config=text, vision_config=vision))
    model.save_pretrained(folder)
    tokenizer(folder, words)
    return folder


def crops(split: str, scenes: int, nothing: int = 0) -> tuple[Tensor, Tensor]:
    """Crops of digits, a little beside their boxes, and which they are; of each scene some of no digit, of class 10."""
    random = torch.Generator().manual_seed(0)
    found, labels = [], []
    for index in range(scenes):
        scene = draw(index, split, 64)
        for box, digit in zip(torch.from_numpy(scene.boxes), scene.digits.tolist()):
            found.append(crop(scene.image, box + 2 * torch.rand(4, generator=random) - 1, SIZE))
            labels.append(digit)
        for _ in range(nothing):
            side = torch.randint(12, 30, (2,), generator=random)
            left, top = (int(torch.randint(64 - int(each), (), generator=random)) for each in side)
            box = torch.tensor([left, top, left + int(side[0]), top + int(side[1])])
            if scene.mask[top : box[3], left : box[2]].mean() < 0.02:
                found.append(crop(scene.image, box, SIZE))
                labels.append(len(NAMES))
    return torch.stack(found), torch.tensor(labels)


def trained(folder: Path, steps: int = 350) -> Path:
    """Save a model that tells digits by their names, and is not sure where there is none."""
    encoder = image_text(str(untrained(folder)))
    pixels, labels = crops("train", 400, nothing=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = encoder.model.train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
        told = encoder.tokenizer([f"a photo of a {name}" for name in NAMES], return_tensors="pt")
        targets = torch.cat([torch.eye(len(NAMES)), torch.full((1, len(NAMES)), 1 / len(NAMES))])
        for _ in range(steps):
            chosen = torch.randint(len(pixels), (64,))
            found = model(**told, pixel_values=encoder.pixels(pixels[chosen]))
            optimiser.zero_grad()
            F.cross_entropy(found.logits_per_image, targets[labels[chosen]]).backward()
            optimiser.step()
            schedule.step()
    model.save_pretrained(folder)
    return folder


def right(encoder: ImageText, pixels: Tensor, labels: Tensor, first: int = 0, last: int = 10) -> float:
    """Share of crops of some of the digits whose nearest name among these is theirs."""
    chosen = (labels >= first) & (labels < last)
    with torch.no_grad():
        said = (encoder.images(pixels[chosen]) @ encoder.names(NAMES[first:last]).T).argmax(1) + first
    return float((said == labels[chosen]).double().mean())


def crops_with_attributes(split: str, scenes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Crops of coloured digits, which they are, and their `ATTRIBUTES`, 1 or 0."""
    random = torch.Generator().manual_seed(0)
    found, labels, attributes = [], [], []
    dataset = DigitScenesDet(split=split, count=scenes, size=64, with_attributes=True)
    for index in range(scenes):
        info = dataset.get_data_info(index)
        for each in info["instances"]:
            box = torch.tensor(each["bbox"]) + 2 * torch.rand(4, generator=random) - 1
            found.append(crop(info["img"][..., ::-1], box, SIZE))
            labels.append(each["bbox_label"])
            attributes.append(each["attributes"])
    return torch.stack(found), torch.tensor(labels), torch.tensor(attributes)


def trained_on_attributes(folder: Path, steps: int = 300) -> Path:
    """Save a model that has read captions of digits, of which some name a color or a size."""
    encoder = image_text(str(untrained(folder, words=[*WORDS, *MORE], context=16)))
    pixels, labels, attributes = crops_with_attributes("train", 300)
    draw_captions = np.random.default_rng(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = encoder.model.train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
        for _ in range(steps):
            chosen = torch.randint(len(pixels), (64,))
            texts, said = [], []
            for label, own in zip(labels[chosen].tolist(), attributes[chosen].tolist()):
                has = [name for name, there in zip(ATTRIBUTES, own) if there]
                named = [name for name in has[::-1] if draw_captions.random() < 0.4]
                texts.append(" ".join(["a photo of a", *named, NAMES[label]]))
                said.append([label, *(ATTRIBUTES.index(name) for name in named)])
            # a caption is right of each crop that has all that it names
            right = torch.stack([_holds(each, labels[chosen], attributes[chosen]) for each in said], 1).float()
            told = encoder.tokenizer(texts, return_tensors="pt", padding=True)
            found = model(
                input_ids=told["input_ids"],
                attention_mask=told["attention_mask"],
                pixel_values=encoder.pixels(pixels[chosen]),
            )
            loss = F.cross_entropy(found.logits_per_image, right / right.sum(1, keepdim=True))
            loss = loss + F.cross_entropy(found.logits_per_text, (right / right.sum(0)).T)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    model.save_pretrained(folder)
    return folder


def _holds(said: list[int], labels: Tensor, attributes: Tensor) -> Tensor:
    return (labels == said[0]) & attributes[:, said[1:]].all(1)
