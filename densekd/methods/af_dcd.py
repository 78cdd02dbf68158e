"""Augmentation-free dense contrast on the last map of the backbone (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.pixels import logits
from densekd.methods.registry import method


@method()
def af_dcd(
    student: nn.Module,
    teacher: nn.Module,
    kd: float = 1.0,
    feature: float = 0.0164,
    contrast: float = 0.005,
    pool: int = 4,
    patch: int = 4,
    groups: int = 16,
) -> list[dict[str, Any]]:
    """Generate the teacher's last map from the masked one of the student, with a contrast in patches, and match pixels.

    Class probabilities are matched at each pixel, temperature 1.

    Args:
        student: a segmenter with a backbone.
        teacher: another one.
        kd: weight of the class probabilities. Published: 1, for ADE20K and COCO-Stuff 0.5.
        feature: weight of the generated map, default that of Cityscapes; see the loss `af_dcd` for other data.
        contrast: weight of the contrast.
        pool: side of the windows that are max-pooled before: maps of CamVid are not pooled, `pool=1`.
        patch: side of a patch.
        groups: groups of channels.

    Raises:
        ValueError: the student is no segmenter, or one of both has no backbone.

    Paper: Fan et al., "Augmentation-free Dense Contrastive Knowledge Distillation for Efficient Semantic Segmentation",
    NeurIPS 2023. There the gradients of the learned parts are clipped to a norm of 15 of their own; here the norm of
    the config's `clip_grad` holds for all.
    """
    entry = {"loss": "kl", **logits("af_dcd", student, teacher), "weight": kd}
    for model in (student, teacher):
        if not hasattr(model, "backbone"):
            raise ValueError(f"{type(model).__name__} has no backbone: write distills entries with module paths")
    loss = dict(type="af_dcd", feature=feature, contrast=contrast, pool=pool, patch=patch, groups=groups)
    return [entry, {"loss": loss, "student": "backbone:-1", "teacher": "backbone:-1"}]
