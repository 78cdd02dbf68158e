"""Two complementary online teachers, with few labels (semi-supervised segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import is_segmenter, tap


@method(online=True)
def mgd_semi(student: nn.Module, wide: nn.Module, deep: nn.Module, detach: bool = False) -> list[dict[str, Any]]:
    """Match pixels with both teachers, images with the deep one, and regions with the wide one.

    Student and teachers all learn, from the labels that there are and from each other: `pseudo` between the student and
    each teacher, both ways, on images with and without labels, weight 1; `gap_l1` of the logits between student and
    deep teacher, weight 0.672; `cell_similarity` of the features between student and wide teacher, weight 100. Those
    are the authors' weights for a ResNet-18 on Pascal VOC at our reduction. In their code the last two teach the
    teacher as well; here each is two entries, one for each direction, with the same gradients.

    The teachers have these names: `teacher=dict(wide=..., deep=...)`. Images without labels come through
    `densekd.WithoutLabels`; they are mixed by `densekd.CutMixPreProcessor` before any network sees them, so that pseudo
    labels are made on the mixed image, where the authors mix those of the two images: our own form. Pseudo labels are
    made at the size of the logits.

    Args:
        student: a segmenter.
        wide: its wide teacher.
        deep: its deep teacher.
        detach: the terms of images and regions train the student alone.

    Raises:
        ValueError: one of them is no segmenter.

    Paper: Qin et al., "Multi-Granularity Distillation Scheme Towards Lightweight Semi-Supervised Semantic
    Segmentation", ECCV 2022.
    """
    for model in (student, wide, deep):
        if not is_segmenter(model):
            raise ValueError(f"method 'mgd_semi' is for segmenters, {type(model).__name__} has no decode head")
    entries: list[dict[str, Any]] = []
    for back in (False, True):
        end = "_back" if back else ""
        for source, model in (("wide", wide), ("deep", deep)):
            taps = {"student": tap(student, "logits"), "teacher": tap(model, "logits")}
            entries.append({"loss": "pseudo", **taps, "source": source, "back": back, "name": f"{source}{end}"})
        if back and detach:
            break
        taps = {"student": tap(student, "logits"), "teacher": tap(deep, "logits")}
        image = {"loss": "gap_l1", **taps, "source": "deep", "weight": 0.672}
        region = {"loss": "cell_similarity", "student": regions(student), "teacher": regions(wide), "source": "wide"}
        entries += [
            {**image, "back": back, "name": f"image{end}"},
            {**region, "weight": 100.0, "back": back, "name": f"region{end}"},
        ]
    return entries


def regions(model: Any) -> str:
    """Return the tap of the features to compare by region: spatial pyramid pooling if present, else the default."""
    if hasattr(model.decode_head, "aspp_modules"):
        return "decode_head.bottleneck"
    found = tap(model, "features")
    return "neck:0" if found == "neck" else found
