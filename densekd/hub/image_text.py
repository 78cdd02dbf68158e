"""Models of transformers that embed images and texts in one space, on crops of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekd.hub.families import FAMILIES, check_filled, normalisation, reading, side
from densekd.hub.features import Pixels
from kdlosses.options import nearest
from kdlosses.unit import unit

MODELS = {"clip": "CLIPModel", "siglip": "SiglipModel"}
"""Classes of transformers by the `model_type` of their configs."""
MARK = "{}"
"""What stands for a name in a prompt."""


class ImageText(nn.Module):
    """An image-text model: embeddings of crops and of texts, of length 1, whose cosines compare them.

    Args:
        name: in messages.
        model: with `get_image_features` and `get_text_features`, as transformers has them.
        tokenizer: of its texts.
        pixels: normalises its images.
        padded: whether each text is padded to the model's context, as SigLIP learned it.

    Attributes:
        size: side of its images in pixels.
        channels: width of an embedding.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, pixels: Pixels, padded: bool = False) -> None:
        super().__init__()
        self.name, self.model, self.tokenizer, self.pixels, self.padded = name, model, tokenizer, pixels, padded
        self.size = side(model.config.vision_config.image_size)
        self.context = int(model.config.text_config.max_position_embeddings)
        self.channels = self.texts([""]).shape[1]

    @property
    def scale(self) -> Tensor:
        """The factor of cosines that the model learned."""
        return self.model.logit_scale.exp()

    def images(self, crops: Tensor) -> Tensor:
        """Embed squares `(n, 3, size, size)` of 0 to 255, red first; `(n, channels)`."""
        return unit(vectors_of(self.model.get_image_features(pixel_values=self.pixels(crops))), 1)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts, `(n, channels)`.

        Raises:
            ValueError: a text has more tokens than the model reads.
        """
        for text in texts:
            if (count := len(self.tokenizer(text)["input_ids"])) > self.context:
                raise ValueError(f"{text!r} has {count} tokens; {self.name} reads {self.context}: shorten it")
        how = {"padding": "max_length", "max_length": self.context} if self.padded else {"padding": True}
        given = self.tokenizer(list(texts), return_tensors="pt", **how).to(self.scale.device)
        known = {key: given[key] for key in ("input_ids", "attention_mask") if key in given}
        if self.padded:
            known.pop("attention_mask", None)  # it has learned to read the padding
        return unit(vectors_of(self.model.get_text_features(**known)), 1)

    def names(self, names: Sequence[str], prompts: Sequence[str] = ("a photo of a {}",)) -> Tensor:
        """Embed names in prompts: the mean over prompts, of length 1; `(n, channels)`.

        Raises:
            ValueError: no names, a duplicate, an empty one, or a prompt without `{}`.
        """
        if not names or len(set(names)) < len(names) or not all(map(str.strip, names)):
            raise ValueError(f"classes must be distinct names that are not empty, got {list(names)}")
        if not prompts or any(MARK not in prompt for prompt in prompts):
            raise ValueError(f"a prompt holds {MARK} where the name belongs, got {list(prompts)}")
        asked = [self.texts([prompt.replace(MARK, name) for name in names]) for prompt in prompts]
        return unit(torch.stack(asked).mean(0), 1)

    @torch.no_grad()
    def regions(self, image: np.ndarray, boxes: Tensor, batch: int = 64) -> Tensor:
        """Embed boxes `(n, 4)` of an image `(H, W, 3)`, uint8, red first; `(n, channels)`."""
        found = [self.images(each) for each in self._crops(image, boxes, batch)]
        return torch.cat(found) if found else torch.zeros(0, self.channels, device=self.scale.device)

    def _crops(self, image: np.ndarray, boxes: Tensor, batch: int) -> Iterator[Tensor]:
        for some in boxes.split(batch) if len(boxes) else ():
            yield torch.stack([crop(image, box, self.size) for box in some]).to(self.scale.device)


def image_text(source: str) -> ImageText:
    """Return a CLIP or SigLIP of transformers with its tokenizer.

    Images are normalised as its `preprocessor_config.json` says, else as the family was published. Weights are read
    from safetensors alone, and no code that comes with a model is run.

    Args:
        source: a folder that `save_pretrained` wrote, or a name in transformers' cache.

    Raises:
        FileNotFoundError: there is no such model, or it has no safetensors or no tokenizer.
        ValueError: a model of another kind, or weights that do not fill it.
        ModuleNotFoundError: transformers is not installed.
    """
    import transformers

    where = str(Path(source).expanduser())
    if not Path(where).is_dir():
        if source.startswith((".", "/", "~")) or source.count("/") != 1:
            raise FileNotFoundError(f"encoder {source}: there is no such folder")
        where = source
    with reading(source):
        config = transformers.AutoConfig.from_pretrained(where, trust_remote_code=False)
        if config.model_type not in MODELS:
            raise ValueError(
                f"encoder {source} is a {config.model_type!r}, which does not embed images and texts in one space as "
                f"far as is known here; {nearest(config.model_type, MODELS)}"
            )
        kind = getattr(transformers, MODELS[config.model_type])
        model, report = kind.from_pretrained(
            where, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    check_filled(f"encoder {source}", kind.__name__, report)
    (mean, std, rgb), _ = normalisation(where, FAMILIES[config.model_type], config.model_type)
    return ImageText(source, model.eval(), tokenizer, Pixels(mean, std, rgb), padded=config.model_type == "siglip")


def crop(image: np.ndarray, box: Tensor, size: int) -> Tensor:
    """Cut a box out of an image, in the middle of a black square of `size` pixels: `(3, size, size)`, 0 to 255.

    The box grows to whole pixels and keeps its proportions; it is resized bicubically.

    Args:
        image: `(H, W, 3)`, uint8.
        box: x1, y1, x2, y2 in pixels, right and lower edge exclusive.
        size: side of the square.

    Raises:
        ValueError: no pixel of the image is in the box.

    >>> crop(np.full((9, 9, 3), 200, np.uint8), torch.tensor([2.0, 1, 5, 7]), 6)[0, 2].tolist()
    [0.0, 200.0, 200.0, 200.0, 0.0, 0.0]
    """
    height, width = image.shape[:2]
    left, top = (max(0, int(value)) for value in box[:2].floor())
    right, bottom = (min(most, int(value)) for most, value in zip((width, height), box[2:].ceil()))
    if right <= left or bottom <= top:
        raise ValueError(f"the box {box.tolist()} has no pixel in an image of {width} x {height} pixels")
    cut = torch.from_numpy(np.ascontiguousarray(image[top:bottom, left:right])).permute(2, 0, 1).float()
    across, down = max(0, bottom - top - (right - left)), max(0, right - left - (bottom - top))
    square = F.pad(cut, (across // 2, across - across // 2, down // 2, down - down // 2))
    return F.interpolate(square[None], (size, size), mode="bicubic", antialias=True)[0].clamp(0, 255)


def adapt(
    encoder: ImageText,
    crops: Tensor,
    labels: Tensor,
    texts: Tensor,
    steps: int,
    rate: float = 1e-4,
    batch: int = 64,
    seed: int = 0,
) -> list[float]:
    r"""Move an encoder towards a domain: its image tower's layer normalisations alone learn to tell crops of classes.

    $$\mathcal{L} = \frac{1}{nK} \sum_{i, c} \mathrm{BCE}\big(\sigma(s \cos(v_i, t_c)), [y_i = c]\big)$$

    with the texts t and the scale s of the encoder as they are.

    Args:
        encoder: is changed.
        crops: `(n, 3, size, size)`, of 0 to 255, bytes or numbers.
        labels: class of each.
        texts: embeddings of the classes, `(K, channels)`.
        steps: of AdamW.
        rate: its learning rate.
        batch: crops of a step.
        seed: of their order.

    Returns:
        The loss of each step.

    Raises:
        ValueError: there are no crops, or the encoder has no layer normalisation to learn.

    Paper: Liu et al., "Efficient Feature Distillation for Zero-shot Annotation Object Detection", WACV 2024.
    """
    if not len(crops):
        raise ValueError("there is no box of a class to adapt the encoder to: leave it as it is, or give boxes")
    norms = [each for each in encoder.model.vision_model.modules() if isinstance(each, nn.LayerNorm)]
    learned = [weight for each in norms for weight in each.parameters()]
    if not learned:
        raise ValueError(f"{encoder.name} has no layer normalisation that could learn")
    optimiser = torch.optim.AdamW(learned, lr=rate)
    draw, where = torch.Generator().manual_seed(seed), texts.device
    told, scale = [], encoder.scale.detach()
    with learning(encoder, learned):
        for _ in range(steps):
            chosen = torch.randint(len(crops), (min(batch, len(crops)),), generator=draw)
            logits = scale * encoder.images(crops[chosen].to(where).float()) @ texts.T
            truth = F.one_hot(labels[chosen].to(where), len(texts)).to(logits)
            loss = F.binary_cross_entropy_with_logits(logits, truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            told.append(loss.item())
    return told


@contextmanager
def learning(encoder: nn.Module, weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """Have these weights of an encoder alone take gradients, for as long as it lasts.

    >>> encoder = nn.Linear(2, 2)
    >>> with learning(encoder, [encoder.bias]):
    ...     inside = encoder.weight.requires_grad, encoder.bias.requires_grad
    >>> inside, encoder.weight.requires_grad
    ((False, True), True)
    """
    before = {weight: weight.requires_grad for weight in encoder.parameters()}
    encoder.requires_grad_(False)
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        for weight, asked in before.items():
            weight.requires_grad_(asked)


def vectors_of(found: Any) -> Tensor:
    """Embeddings, as one or another release of transformers returns them."""
    vectors: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return vectors.float()
