"""Two complementary online teachers, with few labels (semi-supervised segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import is_segmenter, tap


@method(online=True)
def mgd_semi(
    student: nn.Module,
    wide: nn.Module,
    deep: nn.Module,
    detach: bool = False,
    image: float = 0.084,
    region: float = 100.0,
    split: bool = True,
) -> list[dict[str, Any]]:
    """Match pixels with both teachers, images with the deep one, and regions with the wide one.

    Student and teachers all learn, from the labels that there are and from each other: `pseudo` between the student and
    each teacher, both ways, as the mean over images with labels plus that over images without, weights 1; on images
    without labels alone `gap_l1` of the logits between student and deep teacher, and `cell_similarity` of the features
    between student and wide teacher. An entry for each direction. In the authors' code only the student moves: that is
    `mgd_semi_frozen`.

    The teachers have these names: `teacher=dict(wide=..., deep=...)`. Images without labels come through
    `densekd.WithoutLabels`; they are mixed by `densekd.CutMixPreProcessor` before any network sees them, so that pseudo
    labels are made on the mixed image, where the authors mix those of the two images: our own form. Pseudo labels are
    made at the size of the logits. mmseg's `CrossEntropyLoss` without class weights counts pixels without label in its
    mean: with `avg_non_ignore=True` the labels weigh as much as published.

    Args:
        student: a segmenter.
        wide: its wide teacher.
        deep: its deep teacher.
        detach: the terms of images and regions train the student alone.
        image: weight of `gap_l1`. The authors sum over the images and classes of a GPU: their 0.002 for a ResNet-18 on
            Pascal VOC, with two images of 21 classes, is 0.084 here, a quarter of that for a MobileNetV2; 0.001 on
            Cityscapes, with two images of 19 classes, is 0.038.
        region: weight of `cell_similarity`; theirs is 100, for a MobileNetV2 50.
        split: False for a single mean over all images in each term, with labels or without: for data in which all have
            labels.

    Raises:
        ValueError: one of them is no segmenter.

    Paper: Qin et al., "Multi-Granularity Distillation Scheme Towards Lightweight Semi-Supervised Semantic
    Segmentation", ECCV 2022. Weights are those of the authors' scripts.
    """
    entries = _entries(student, wide, deep, image, region, split, back=False)
    others = _entries(student, wide, deep, image, region, split, back=True)
    return entries + [each for each in others if not detach or each["loss"] == "pseudo"]


@method()
def mgd_semi_frozen(
    student: nn.Module, wide: nn.Module, deep: nn.Module, image: float = 0.084, region: float = 100.0
) -> list[dict[str, Any]]:
    """As `mgd_semi`, with teachers that were trained before and stay as they are, as in the authors' code.

    There they start from networks that learned from the same few labels and each other, and no gradient reaches them.
    Theirs normalise by the statistics of the batch, these by those that they have learned.

    Args:
        student: a segmenter.
        wide: its wide teacher.
        deep: its deep teacher.
        image: see `mgd_semi`.
        region: likewise.

    Raises:
        ValueError: one of them is no segmenter.

    Paper: see `mgd_semi`.
    """
    return _entries(student, wide, deep, image, region, split=True, back=False)


def _entries(
    student: nn.Module, wide: nn.Module, deep: nn.Module, image: float, region: float, split: bool, back: bool
) -> list[dict[str, Any]]:
    """Those that teach the student, or with `back` the teachers."""
    for model in (student, wide, deep):
        if not is_segmenter(model):
            raise ValueError(f"method 'mgd_semi' is for segmenters, {type(model).__name__} has no decode head")
    end, without = "_back" if back else "", {"where": "unlabelled_images"} if split else {}
    entries: list[dict[str, Any]] = []
    for source, model in (("wide", wide), ("deep", deep)):
        taps = {"student": tap(student, "logits"), "teacher": tap(model, "logits")}
        pixels = {"loss": "pseudo", **taps, "source": source, "back": back}
        entries.append({**pixels, **without, "name": f"{source}{end}"})
        if split:
            entries.append({**pixels, "where": "labelled_images", "name": f"{source}_labelled{end}"})
    taps = {"student": tap(student, "logits"), "teacher": tap(deep, "logits")}
    whole = {"loss": "gap_l1", **taps, "source": "deep", "weight": image}
    parts = {"loss": "cell_similarity", "student": regions(student), "teacher": regions(wide), "source": "wide"}
    return [
        *entries,
        {**whole, **without, "back": back, "name": f"image{end}"},
        {**parts, **without, "weight": region, "back": back, "name": f"region{end}"},
    ]


def regions(model: nn.Module) -> str:
    """Return the tap of the features to compare by region: the decoder's last map, before the classifier."""
    found = tap(model, "features")
    return "neck:0" if found == "neck" else found
