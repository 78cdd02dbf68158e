"""Boxes of an image that an image-text model is sure about: places where something with one of the names may be."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from densekd.hub.image_text import ImageText
from densekd.regions import Regions

SCALES, RATIOS = (2.0, 4.0, 8.0, 16.0, 32.0), (0.5, 1.0, 2.0)


def grid(
    height: int, width: int, stride: int = 32, scales: Sequence[float] = SCALES, ratios: Sequence[float] = RATIOS
) -> Tensor:
    """Boxes of several sizes and proportions all over an image, cut at its edges, each once: `(n, 4)`.

    Args:
        height: of the image in pixels.
        width: likewise.
        stride: from centre to centre.
        scales: sides of the squares, in strides.
        ratios: of height to width.

    >>> grid(8, 8, 4, [1.0], [1.0]).tolist()
    [[0.0, 0.0, 4.0, 4.0], [0.0, 4.0, 4.0, 8.0], [4.0, 0.0, 8.0, 4.0], [4.0, 4.0, 8.0, 8.0]]
    """
    y, x = (torch.arange(math.ceil(side / stride)) * stride + stride / 2 for side in (height, width))
    centres = torch.cartesian_prod(x, y)[:, None]
    half = stride / 2 * torch.tensor([[scale / ratio**0.5, scale * ratio**0.5] for scale in scales for ratio in ratios])
    boxes = torch.cat([centres - half, centres + half], dim=2).flatten(0, 1)
    most = boxes.new_tensor([width, height, width, height])
    boxes = boxes.clamp_min(0).minimum(most)
    return boxes[(boxes[:, 2:] - boxes[:, :2] >= 1).all(1)].unique(dim=0)


def certainty(logits: Tensor) -> Tensor:
    r"""How far an answer is from no answer, 0 to 1: $1 - H(\mathrm{softmax}(z)) / \log K$; `(n,)`.

    >>> certainty(torch.tensor([[0.0, 0, 0], [0, 99, 0]])).tolist()
    [0.0, 1.0]
    """
    logs = logits.log_softmax(1)
    return (1 + (logs.exp() * logs).sum(1) / math.log(logits.shape[1])).clamp(0, 1)


def propose(
    encoder: ImageText,
    image: np.ndarray,
    texts: Tensor,
    count: int = 200,
    stride: int = 32,
    scales: Sequence[float] = SCALES,
    iou: float = 0.7,
    batch: int = 64,
) -> Regions:
    r"""Boxes of which an image-text model is sure that they show one of some names, whichever.

    All boxes of `grid` are embedded, and scored by `certainty` of $s \cos(v, t)$ over the names. Non-maximum
    suppression leaves the `count` best ones; the score is what they count.

    Args:
        encoder: the model, with its scale s.
        image: `(H, W, 3)`, uint8, red first.
        texts: embeddings t of all names, of novel classes as well, `(K, E)`, K at least 2.
        count: boxes at most.
        stride: see `grid`.
        scales: likewise.
        iou: boxes that overlap a better one by more are left out.
        batch: crops that are embedded at once.

    Raises:
        ValueError: there are less than two names, between which to be sure.

    Paper: Liu et al., "Efficient Feature Distillation for Zero-shot Annotation Object Detection", WACV 2024: "CLIP
    proposals", with the constants of the authors' code. There the score is $\log K$ times as large, and centres stand
    on the corners of the cells.
    """
    from mmcv.ops import nms

    if len(texts) < 2:
        raise ValueError(
            f"proposals are scored by how sure the encoder is between names: give 2 at least, got {len(texts)}"
        )
    boxes = grid(image.shape[0], image.shape[1], stride, scales)
    found = encoder.regions(image, boxes, batch)
    scores = certainty(encoder.scale.detach() * found @ texts.T)
    kept = nms(boxes.to(scores), scores, iou)[1][:count] if len(boxes) else scores.new_zeros(0, dtype=torch.long)
    return Regions(boxes[kept.cpu()], found[kept], scores[kept])
