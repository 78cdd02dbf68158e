"""CLIP-Attr: prompts that learn tell attributes better than a fixed text, novel ones among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from densekd.datasets.digit_scenes_det import ATTRIBUTES
from densekd.hub.clip_attr import Prompts, Told, attribute_loss, caption_loss, learn, mentioned
from densekd.hub.image_text import ImageText, image_text
from densekd.metrics.attribute_map import average_precision

from .. import small_clip

BASE = {"red": "color", "green": "color", "blue": "color", "cyan": "color", "small": "size", "large": "size"}
NOVEL = {"yellow": "color", "purple": "color"}
CLASSES = dict.fromkeys(small_clip.NAMES, "")


@pytest.fixture
def encoder(tmp_path: Path) -> ImageText:
    return image_text(
        str(small_clip.untrained(tmp_path / "clip", words=[*small_clip.WORDS, *small_clip.MORE], context=16))
    )


def told(count: int = 12, width: int = 24, seed: int = 0) -> Told:
    draw = torch.Generator().manual_seed(seed)
    attributes = torch.randint(-1, 2, (count, len(BASE)), generator=draw)
    return Told(torch.randn(count, width, generator=draw), attributes, torch.randint(-1, 10, (count,), generator=draw))


def test_vectors_in_place_of_words_are_that_text(encoder: ImageText) -> None:
    table = encoder.model.text_model.embeddings.token_embedding
    ids = encoder.tokenizer("a photo of something", add_special_tokens=False)["input_ids"]
    prompts = Prompts(encoder, 3)
    with torch.no_grad():
        prompts.vectors.copy_(table.weight[ids[:3]])
        expected = encoder.texts(["a red photo color of", "a digit 3 photo of"])
        torch.testing.assert_close(prompts({"red": "color", "digit 3": ""}), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(prompts({"digit 3": ""}), expected[1:], atol=1e-5, rtol=1e-4)  # padding is not read
    assert not list(table._forward_hooks)


def test_a_siglip_reads_its_padding(tmp_path: Path) -> None:
    encoder = image_text(str(small_clip.untrained(tmp_path / "siglip", "siglip")))
    table = encoder.model.text_model.embeddings.token_embedding
    ids = encoder.tokenizer("a photo of", add_special_tokens=False)["input_ids"]
    prompts = Prompts(encoder, 3)
    with torch.no_grad():
        prompts.vectors.copy_(table.weight[ids])
        expected = encoder.texts(["a digit 3 photo of", "a nothing photo of"])
        torch.testing.assert_close(prompts({"digit 3": "", "nothing": ""}), expected, atol=1e-5, rtol=1e-4)


def test_the_losses_are_those_of_numpy() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(8, 5, generator=draw, dtype=torch.double)
    truth = torch.randint(-1, 2, (8, 5), generator=draw)
    z, y = logits.numpy(), truth.numpy()
    p = 1 / (1 + np.exp(-z))
    bce = -np.where(y == 1, np.log(p), np.log(1 - p))
    expected = bce[y >= 0].mean()
    np.testing.assert_allclose(attribute_loss(logits, truth), expected, rtol=1e-10)
    np.testing.assert_allclose(attribute_loss(logits, truth, 0.15), expected + 0.15 * bce[y < 0].mean(), rtol=1e-10)
    assert attribute_loss(logits[:0], truth[:0]) == 0
    assert attribute_loss(logits, torch.full_like(truth, -1)) == 0
    images = torch.tensor([3, 3, 3, 5, 5, 7, 7, 7])
    said = torch.full((8, 5), -1)
    said[:3, 1] = said[:3, 4] = said[3:5, 0] = 1
    named = [p[:3, 1].max(), p[:3, 4].max(), p[3:5, 0].max()]
    np.testing.assert_allclose(caption_loss(logits, images, said), -np.log(named).mean(), rtol=1e-10)
    assert caption_loss(logits, images, torch.full((8, 5), -1)) == 0


def test_a_step_is_of_what_is_told_alone(encoder: ImageText) -> None:
    """Two crops of one image, whose caption names a color; of one the class is known."""
    draw = torch.Generator().manual_seed(0)
    said = torch.tensor([[1, 0, -1, -1, -1, 0], [-1] * 6])
    caption = torch.tensor([[-1, -1, 1, -1, -1, -1]] * 2)
    known = Told(torch.randn(2, 24, generator=draw), said, torch.tensor([3, -1]), torch.tensor([8, 8]), caption)
    prompts = Prompts(encoder, 3)
    with torch.no_grad():
        v = F.normalize(known.embeddings, dim=1)
        z = (9 * v @ prompts(BASE).T - 2).double().numpy()
        c = (9 * v @ prompts(CLASSES).T).double().numpy()
    of_attributes = -np.log([1 / (1 + np.exp(-z[0, 0])), 1 / (1 + np.exp(z[0, 1])), 1 / (1 + np.exp(z[0, 5]))]).mean()
    of_class = -np.log(np.exp(c[0, 3]) / np.exp(c[0]).sum())
    of_caption = np.log1p(np.exp(-z[:, 2].max()))
    before = {name: weight.clone() for name, weight in encoder.named_parameters()}
    (first,) = learn(prompts, known, BASE, CLASSES, 1, 9.0, -2.0, batch=1)  # the other crop of the image comes along
    assert first == pytest.approx(of_attributes + of_class + of_caption, rel=1e-4)
    assert not prompts.vectors.equal(Prompts(encoder, 3).vectors)
    for name, weight in encoder.named_parameters():
        assert weight.equal(before[name]), name  # prompts alone have learned
        assert weight.requires_grad


def test_federated_sets_teach_what_they_know(encoder: ImageText) -> None:
    """Crops without attributes do not move what attributes are, and the other way round."""
    known = told(40)
    of_classes = known._replace(attributes=torch.full_like(known.attributes, -1))
    (loss,) = learn(Prompts(encoder, 3), of_classes, BASE, CLASSES, 1, 9.0)
    assert loss > 0
    of_attributes = known._replace(classes=torch.full_like(known.classes, -1))
    losses = learn(Prompts(encoder, 3), of_attributes, BASE, CLASSES, 60, 9.0, rate=0.05)
    assert np.mean(losses[-5:]) < losses[0]
    nothing = of_classes._replace(classes=of_attributes.classes)
    with pytest.raises(ValueError, match="nothing is told of any crop"):
        learn(Prompts(encoder, 3), nothing, BASE, CLASSES, 1, 9.0)


def test_they_are_read_again(encoder: ImageText, tmp_path: Path) -> None:
    for rate in (0.0, 1e-3):
        prompts = Prompts(encoder, 4)
        learn(prompts, told(), BASE, CLASSES, 3, 9.0, tower_rate=rate)
        path = tmp_path / f"{rate}.safetensors"
        prompts.save(path)
        fresh = image_text(str(tmp_path / "clip"))
        with torch.no_grad():
            torch.testing.assert_close(Prompts.load(path, fresh)(NOVEL), prompts(NOVEL))
    with pytest.raises(FileNotFoundError, match="there are no learned prompts"):
        Prompts.load(tmp_path / "none", encoder)
    other = image_text(str(small_clip.untrained(tmp_path / "other", "siglip")))
    with pytest.raises(ValueError, match="holds no prompts of"):
        Prompts.load(path, other)


def test_wrong_input_is_named(encoder: ImageText) -> None:
    with pytest.raises(ValueError, match="prompts have from 1 to 13 learned vectors"):
        Prompts(encoder, 14)
    with pytest.raises(ValueError, match=r"'digit 3' with 13 learned vectors has 17 tokens; .* reads 16"):
        Prompts(encoder, 13)({"digit 3": ""})
    with pytest.raises(ValueError, match="there is no name to embed"):
        Prompts(encoder, 3)({})
    with pytest.raises(ValueError, match=r"expected attributes .12, 2."):
        learn(Prompts(encoder, 3), told(), NOVEL, CLASSES, 1, 9.0)
    with pytest.raises(ValueError, match=r"a crop has the class \d, there are 1 classes"):
        learn(Prompts(encoder, 3), told(), BASE, {"digit 0": ""}, 1, 9.0)


def test_words_of_a_caption() -> None:
    names = ["red", "light blue", "blue", "all"]
    assert mentioned("Reddish, light-blue: ALL", names).tolist() == [-1, 1, 1, 1]


def test_a_learned_prompt_tells_attributes_better_than_a_fixed_one(attributes_clip: str) -> None:
    """On other digits than it has learned from, and of colours that it has not learned as well."""
    encoder = image_text(attributes_clip)
    base, novel = list(BASE), list(NOVEL)
    known, other = (small_clip.crops_with_attributes(split, 150) for split in ("train", "val"))
    with torch.no_grad():
        seen, unseen = encoder.images(known[0]), encoder.images(other[0])
    prompts = Prompts(encoder, 6)
    told = Told(seen, known[2][:, [ATTRIBUTES.index(name) for name in base]], known[1])
    learn(prompts, told, BASE, CLASSES, 120, SCALE, rate=1e-2)
    with torch.no_grad():
        learned = {"base": prompts(BASE), "novel": prompts(NOVEL)}
    for template in ("a photo of a {}", "{}"):
        for which, names in (("base", base), ("novel", novel)):
            truth = other[2][:, [ATTRIBUTES.index(name) for name in names]]
            fixed = scored(unseen, encoder.names(names, [template]), truth)
            own = scored(unseen, learned[which], truth)
            assert own["loss"] < 0.8 * fixed["loss"]
            assert own["right"] > fixed["right"] + 0.02
            assert own["AP"] > fixed["AP"] - 0.02


SCALE = 15.0


def scored(embeddings: torch.Tensor, texts: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """Cross-entropy, share of attributes that are told right, and mean average precision."""
    logits = SCALE * embeddings @ texts.T
    each = [average_precision(truth[:, k].numpy(), logits[:, k].numpy()) for k in range(truth.shape[1])]
    right = ((logits > 0) == truth.bool()).double().mean()
    return {"loss": attribute_loss(logits, truth).item(), "right": right.item(), "AP": float(np.mean(each))}
