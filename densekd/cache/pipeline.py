"""Data pipelines of OpenMMLab: which of their transforms a cache can replay, and what they did to each image."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from densekd.cache.geometry import Place, crop_of

PLACED = "densekd_place"
"""Key of a sample's metadata: (number of its image in the cache, its `Place`)."""

_LOAD = (
    *("LoadImageFromFile", "LoadImageFromNDArray", "LoadImageFromNpyFile", "LoadSingleRSImageFromFile"),
    *("LoadAnnotations", "LoadPanopticAnnotations", "LoadEmptyAnnotations", "LoadDepthAnnotation", "WithoutLabels"),
)
_SAME = ("Normalize", "Rerange", "RGB2Gray", "AdjustGamma", "GenerateEdge", "SegRescale", "Pad", "ToTensor", "CLAHE")
"""Neither random nor geometric, but for `Pad`, which adds pixels below and to the right."""
_COLOUR = (
    *("PhotoMetricDistortion", "RandomGrayscale", "ColorTransform", "Color", "Brightness", "Contrast"),
    *("Sharpness", "Solarize", "SolarizeAdd", "Posterize", "Equalize", "AutoContrast", "Invert", "YOLOXHSVRandomAug"),
    *("RandomErasing", "CutOut", "RandomCutOut"),
)
_RESIZE = ("Resize", "FixScaleResize", "FixShapeResize", "ResizeToMultiple", "ResizeShortestEdge")
_RANDOM_RESIZE = ("RandomResize", "RandomChoiceResize")
_CROP = ("RandomCrop", "CenterCrop", "MinIoURandomCrop")
_FLIP = ("RandomFlip",)
_PACK = ("PackSegInputs", "PackDetInputs")
_DROP = ("FilterAnnotations",)
_AROUND = ("Compose", "RandomOrder", "RandomApply", "RandomChoice")
_KNOWN = (*_LOAD, *_SAME, *_COLOUR, *_RESIZE, *_RANDOM_RESIZE, *_CROP, *_FLIP, *_PACK, *_DROP)
_PACKAGES = ("mmcv", "mmengine", "mmseg", "mmdet", "densekd")
_PREPROCESSORS = ("ImgDataPreprocessor", "SegDataPreProcessor", "DetDataPreprocessor")


class Step:
    """A transform of a pipeline that also records what it does to the coordinates of the image.

    Args:
        transform: what it runs.
        first: number of the first image of its data set in the cache.
    """

    def __init__(self, transform: Any, first: int) -> None:
        self.transform, self.first = transform, first
        self.kind = kind_of(transform)

    def __call__(self, results: dict[str, Any]) -> Any:
        """Run the transform; the record travels in the results, and at last in the metadata of the sample."""
        place, before = results.get(PLACED, Place()), results.get("img")
        number = self.first + results["sample_idx"]
        found = self.transform(results)
        if found is None:
            return None
        if self.kind in _PACK:
            found["data_samples"].set_metainfo({PLACED: (number, place)})
            return found
        if before is not None:
            found[PLACED] = self._moved(place, before, found)
        return found

    def _moved(self, place: Place, before: Any, found: Mapping[str, Any]) -> Place:
        image, size = found["img"], before.shape[:2]
        if self.kind in (*_RESIZE, *_RANDOM_RESIZE):
            return place.resized(size, image.shape[:2])
        if self.kind in _FLIP:
            return place.flipped(size, found["flip_direction"]) if found["flip"] else place
        if self.kind in _CROP:
            corner = crop_of(before, image)
            if corner is None:
                raise ValueError(
                    f"the cached teacher cannot follow {self.transform}: its result is no part of the image that it "
                    "was given; train without teacher_cache"
                )
            return place.cropped(*corner)
        return place

    def __repr__(self) -> str:
        return repr(self.transform)


def _inner(transform: Any) -> Any:
    return transform.transform if isinstance(transform, Step) else transform


def kind_of(transform: Any) -> str:
    """Name the transform of OpenMMLab that this one is, 'photometric', or '' for one that a cache cannot replay.

    A subclass that changes neither `transform` nor `__call__` is what it inherits. A transform of one's own that leaves
    every pixel where it is says so by an attribute `photometric = True`.
    """
    if getattr(transform, "photometric", False) is True:
        return "photometric"
    for kind in type(transform).__mro__:
        if kind.__module__.split(".")[0] in _PACKAGES and kind.__name__ in (*_KNOWN, *_AROUND):
            return kind.__name__
        if "transform" in vars(kind) or "__call__" in vars(kind):
            return ""
    return ""


def refused(transforms: Sequence[Any]) -> list[str]:
    """Name the transforms that a cache cannot replay."""
    names = []
    for each in transforms:
        kind = kind_of(_inner(each))
        if kind in _AROUND:
            names += [name for part in _lists(_inner(each)) for name in refused(part)]
        elif not kind:
            names.append(type(_inner(each)).__name__)
    return names


def _lists(around: Any) -> list[list[Any]]:
    """The lists of transforms in a Compose, a RandomApply or a RandomChoice."""
    if kind_of(around) == "RandomChoice":
        return [each.transforms for each in around.transforms]
    return [getattr(around.transforms, "transforms", around.transforms)]


def record(transforms: list[Any], first: int) -> None:
    """Put a `Step` around each transform, in place; what is a step already is made anew."""
    for i, each in enumerate(transforms):
        inner = _inner(each)
        if kind_of(inner) not in _AROUND:
            transforms[i] = Step(inner, first)
            continue
        for part in _lists(inner):
            record(part, first)


def whole_image(transforms: Sequence[Any]) -> list[Any]:
    """Return the transforms that show a teacher the whole image: the same ones without chance.

    A resize by a random factor becomes that to its nominal scale, one to a random choice of scales that to the one in
    the middle; crops, flips and random colours are left out.
    """
    kept: list[Any] = []
    for each in transforms:
        inner = _inner(each)
        kind = kind_of(inner)
        if kind in _AROUND:
            kept += whole_image(_lists(inner)[0]) if kind in ("Compose", "RandomOrder") else []
        elif kind in (*_LOAD, *_SAME, *_RESIZE, *_PACK):
            kept.append(inner)
        elif kind in _RANDOM_RESIZE:
            kept.append(_nominal(inner))
    return kept


def _nominal(resize: Any) -> Any:
    """A resize to the scale that a random one has in the middle."""
    fixed = copy.deepcopy(resize.resize)
    scales = resize.scales if hasattr(resize, "scales") else resize.scale
    if isinstance(scales, list) and hasattr(resize, "scales"):
        fixed.scale = sorted(scales, key=lambda scale: scale if isinstance(scale, int) else scale[0] * scale[1])[
            len(scales) // 2
        ]
    elif isinstance(scales, list):  # between two
        fixed.scale = tuple(sum(edges) // len(edges) for edges in zip(*scales))
    else:
        fixed.scale = scales
    return fixed


def leaves(dataset: Any, first: int = 0) -> Iterator[tuple[int, Any]]:
    """Yield each data set of images inside of wrappers, with the number of its first image in the cache.

    Raises:
        ValueError: a wrapper joins several images in one, or a data set has no pipeline.
    """
    if hasattr(dataset, "full_init"):
        dataset.full_init()
    inner = getattr(dataset, "datasets", None)
    if inner is not None and type(dataset).__name__ == "ConcatDataset":
        for each in inner:
            yield from leaves(each, first)
            first += sum(len(leaf) for _, leaf in leaves(each))
    elif type(dataset).__name__ in ("RepeatDataset", "ClassBalancedDataset"):
        yield from leaves(dataset.dataset, first)
    elif hasattr(dataset, "pipeline") and hasattr(dataset, "get_data_info") and not hasattr(dataset, "dataset"):
        yield first, dataset
    else:
        raise ValueError(
            f"teacher_cache: the data set {type(dataset).__name__} cannot be replayed: a cache holds one output for "
            "each image; it takes a data set of images, ConcatDataset, RepeatDataset and ClassBalancedDataset"
        )


def check(dataset: Any, preprocessor: Any) -> None:
    """Raise `ValueError` if the data of a training hold what a cache cannot replay; the message names it."""
    for _, leaf in leaves(dataset):
        wrong = refused(leaf.pipeline.transforms)
        if wrong:
            raise ValueError(
                f"teacher_cache cannot replay {', '.join(dict.fromkeys(wrong))} of the training pipeline: it follows "
                f"{', '.join((*_RESIZE, *_RANDOM_RESIZE, *_CROP, *_FLIP))} and changes of colour. Remove the "
                "transform, or train without teacher_cache; a transform of your own that moves no pixel says so by an "
                "attribute photometric = True"
            )
        if not any(kind_of(_inner(each)) in _PACK for each in leaf.pipeline.transforms):
            raise ValueError(f"teacher_cache needs {' or '.join(_PACK)} at the end of the training pipeline")
    kind = type(preprocessor).__name__
    if kind not in _PREPROCESSORS and not getattr(preprocessor, "photometric", False):
        raise ValueError(f"teacher_cache cannot replay the data_preprocessor {kind}; it knows {_PREPROCESSORS}")
    if getattr(preprocessor, "batch_augments", None):
        raise ValueError("teacher_cache cannot replay batch_augments of the data_preprocessor: remove them")
