"""Image-text models of transformers: crops and names in one space, and boxes that they are sure of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image

from densekd.datasets.digits import draw
from densekd.hub.clip_proposals import certainty, grid, propose
from densekd.hub.image_text import adapt, crop, image_text

from .. import small_clip
from ..small_clip import NAMES
from .checkpoints import saved


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_embeddings_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    folder = small_clip.untrained(tmp_path / kind, kind)
    encoder = image_text(str(folder))
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    means, stds = (
        (np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711]))
        if kind == "clip"
        else (np.full(3, 0.5), np.full(3, 0.5))
    )
    pixels = torch.from_numpy(((image / 255 - means) / stds).transpose(2, 0, 1)).float()[None]
    text = encoder.tokenizer(["a photo of a digit 3"], return_tensors="pt", padding="max_length", max_length=12)
    with torch.no_grad():
        model = encoder.model
        expected = model(input_ids=text["input_ids"], pixel_values=pixels)
    whole = torch.tensor([[0.0, 0, 32, 32]])
    torch.testing.assert_close(encoder.regions(image, whole), torch.nn.functional.normalize(expected.image_embeds))
    torch.testing.assert_close(encoder.names(["digit 3"]), torch.nn.functional.normalize(expected.text_embeds))
    assert encoder.channels == expected.image_embeds.shape[1]


def test_a_crop_is_that_of_pillow() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    found = crop(image, torch.tensor([3.2, 5.0, 22.7, 35.0]), 16)
    square = np.zeros((30, 30, 3), np.uint8)
    square[:, 5:25] = image[5:35, 3:23]
    expected = np.asarray(Image.fromarray(square).resize((16, 16), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1.5)  # Pillow rounds to bytes twice
    outside = crop(image, torch.tensor([-9.0, -9, 10, 10]), 16)
    torch.testing.assert_close(outside, crop(image, torch.tensor([0.0, 0, 10, 10]), 16))
    with pytest.raises(ValueError, match=r"the box .* has no pixel in an image of 50 x 40 pixels"):
        crop(image, torch.tensor([50.0, 0, 60, 9]), 16)


def test_prompts_are_averaged(tmp_path: Path) -> None:
    encoder = image_text(str(small_clip.untrained(tmp_path / "clip")))
    prompts = ["a photo of a {}", "{}"]
    one, other = (encoder.texts([prompt.replace("{}", "digit 1")]).numpy() for prompt in prompts)
    mean = (one + other) / 2
    np.testing.assert_allclose(encoder.names(["digit 1"], prompts), mean / np.linalg.norm(mean), rtol=1e-5)
    with pytest.raises(ValueError, match=r"a prompt holds {} where the name belongs"):
        encoder.names(["digit 1"], ["a photo"])
    with pytest.raises(ValueError, match="distinct names"):
        encoder.names(["digit 1", "digit 1"])
    with pytest.raises(ValueError, match="reads 12: shorten it"):
        encoder.texts(["digit " * 12])


def test_the_grid_covers_the_image_within_it() -> None:
    boxes = grid(50, 70, stride=16, scales=[1.0, 4.0])
    assert boxes.min() >= 0
    assert boxes[:, 2].max() == 70
    assert boxes[:, 3].max() == 50
    assert len(boxes.unique(dim=0)) == len(boxes)
    square = grid(64, 64, stride=16, scales=[1.0], ratios=[1.0])
    assert (square[:, 2:] - square[:, :2]).prod(1).sum() == 64 * 64
    tall = grid(64, 64, stride=64, scales=[0.5], ratios=[2.0])[0]
    assert (tall[3] - tall[1]) / (tall[2] - tall[0]) == pytest.approx(2)


def test_certainty_is_that_of_numpy() -> None:
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    shares = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    expected = (np.log(5) + (shares * np.log(shares)).sum(1)) / np.log(5)
    np.testing.assert_allclose(certainty(logits), expected, rtol=1e-10)


def test_it_is_surest_where_there_are_digits(digits_clip: str) -> None:
    encoder = image_text(digits_clip)
    texts = encoder.names(NAMES)
    gained = []
    for index in range(5):
        scene = draw(index, "train", 64)
        stroke = torch.from_numpy(scene.mask > 0).double()
        found = propose(encoder, scene.image, texts, count=4, stride=16, scales=[1.0, 1.5])
        assert len(found.boxes) == 4
        assert found.weights.diff().max() <= 0  # best first
        torch.testing.assert_close(found.embeddings, encoder.regions(scene.image, found.boxes))
        shares = [stroke[int(y1) : int(y2), int(x1) : int(x2)].mean() for x1, y1, x2, y2 in found.boxes.tolist()]
        gained.append(float(sum(shares) / 4 / stroke.mean()))
    assert np.mean(gained) > 1.5
    with pytest.raises(ValueError, match="give 2 at least, got 1"):
        propose(encoder, scene.image, texts[:1])


def test_layer_normalisations_adapt_to_other_images(digits_clip: str) -> None:
    """Adapted to base classes in dark images, it is better at novel ones, too; nothing else has moved."""
    encoder = image_text(digits_clip)
    texts = encoder.names(NAMES)
    pixels, labels = small_clip.crops("train", 100)
    pixels = 0.3 * pixels
    base = labels < 7
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    of_base, of_novel = (small_clip.right(encoder, pixels, labels, *each) for each in ((0, 7), (7, 10)))
    told = adapt(encoder, pixels[base], labels[base], texts[:7], steps=60, rate=1e-2, batch=48)
    assert np.mean(told[-5:]) < 0.7 * np.mean(told[:5])
    assert small_clip.right(encoder, pixels, labels, 0, 7) > of_base + 0.2
    assert small_clip.right(encoder, pixels, labels, 7, 10) > of_novel
    changed = {key for key, value in encoder.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all("norm" in key and "vision_model" in key for key in changed)
    assert all(weight.requires_grad for weight in encoder.parameters())
    with pytest.raises(ValueError, match="no box of a class to adapt the encoder to"):
        adapt(encoder, pixels[:0], labels[:0], texts, steps=1)


def test_models_that_cannot_serve_are_named(tmp_path: Path) -> None:
    saved("dinov2", tmp_path / "dino")
    with pytest.raises(ValueError, match="is a 'dinov2', which does not embed images and texts in one space"):
        image_text(str(tmp_path / "dino"))
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        image_text(str(tmp_path / "none"))
    folder = small_clip.untrained(tmp_path / "clip")
    wide = tf.CLIPConfig.from_pretrained(folder)
    wide.projection_dim = 30
    wide.save_pretrained(folder)
    with pytest.raises(ValueError, match="lacks 2 weights of CLIPModel"):
        image_text(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match="Unrecognized model"):
        image_text(str(folder))
