"""Another domain of the same images: other colours, blurred, at another scale."""

from __future__ import annotations

import copy
import zlib
from numbers import Real
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from densekd.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Shifted(BaseTransform):
    """Shift an image in its colours, its sharpness and its scale, with the boxes and polygons that it has.

    It stands where the image is loaded, before `LoadAnnotations`: what follows takes the shifted image for the original
    one, the metric included, unless that reads boxes of its own (`ann_file` of `CocoMetric`). Masks other than polygons
    are dropped where the scale is another. The same image is always shifted in the same way, whatever else is drawn.

    Args:
        hue: turns the hue by so many degrees.
        gamma: exponent of the brightness, 1 for none; above 1 is darker.
        contrast: factor of the distance from mid-grey, 1 for none.
        blur: standard deviation of a Gaussian filter, in pixels; 0 for none.
        scale: factor of height and width, 1 for none.
        vary: share by which each image differs from these, up or down, 0 to 1.
        seed: of that, a whole number.

    Raises:
        TypeError, ValueError: an option is no number, or out of its range; an image is not of three channels of bytes.

    >>> image = np.full((4, 4, 3), 128, np.uint8)
    >>> shifted = Shifted(gamma=2.0, scale=2.0)({"img": image, "instances": [{"bbox": [0, 1, 2, 3]}]})
    >>> shifted["img"].shape, int(shifted["img"][0, 0, 0]), shifted["instances"][0]["bbox"]
    ((8, 8, 3), 64, [0.0, 2.0, 4.0, 6.0])
    """

    def __init__(
        self,
        hue: float = 0.0,
        gamma: float = 1.0,
        contrast: float = 1.0,
        blur: float = 0.0,
        scale: float = 1.0,
        vary: float = 0.0,
        seed: int = 0,
    ) -> None:
        for name, value, least in (
            *(("hue", hue, -360), ("gamma", gamma, 0.05), ("contrast", contrast, 0), ("blur", blur, 0)),
            *(("scale", scale, 0.05), ("vary", vary, 0), ("seed", seed, 0)),
        ):
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"Shifted: {name} must be a number, got {value!r}")
            most = dict(hue=360, vary=1).get(name, 1e9)
            if not least <= value <= most:
                raise ValueError(f"Shifted: {name} must be from {least} to {most:g}, got {value}")
        if seed != int(seed):
            raise TypeError(f"Shifted: seed must be a whole number, got {seed!r}")
        self.hue, self.gamma, self.contrast, self.blur, self.scale = hue, gamma, contrast, blur, scale
        self.vary, self.seed = vary, int(seed)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Shift the image, and the boxes and polygons among its `instances`."""
        own = self._draw(results)
        given = results["img"]
        if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3:
            raise ValueError(
                f"Shifted: an image must be uint8 (H, W, 3), got {given.dtype} {given.shape}: leave to_float32 and "
                "other colour types out of what loads it"
            )
        image = _coloured(given, own(self.hue), 1 + own(self.gamma - 1), max(1 + own(self.contrast - 1), 0.0))
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), max(own(self.blur), 1e-3))
        height, width = image.shape[:2]
        if self.scale != 1:
            factor = max(1 + own(self.scale - 1), 0.05)
            size = max(round(width * factor), 1), max(round(height * factor), 1)
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        shape = image.shape[:2]
        results.update(img=image, img_shape=shape, ori_shape=shape, height=shape[0], width=shape[1])
        if "instances" in results:
            results["instances"] = copy.deepcopy(results["instances"])
            for each in results["instances"]:
                sides = np.array([shape[1] / width, shape[0] / height])
                each["bbox"] = (np.asarray(each["bbox"], float).reshape(-1, 2) * sides).flatten().tolist()
                mask = each.get("mask")
                if isinstance(mask, list):
                    each["mask"] = [
                        (np.asarray(part, float).reshape(-1, 2) * sides).flatten().tolist() for part in mask
                    ]
                elif mask is not None and self.scale != 1:
                    del each["mask"]
        return results

    def _draw(self, results: dict[str, Any]) -> Any:
        """The amount of a strength that an image gets."""
        known = str(results.get("img_path") or results.get("img_id") or "").replace("\\", "/").rpartition("/")[2]
        draw = np.random.default_rng([self.seed, zlib.crc32(known.encode())])
        return lambda strength: strength * (1 + self.vary * draw.uniform(-1, 1))


def _coloured(image: np.ndarray, hue: float, gamma: float, contrast: float) -> np.ndarray:
    """An image `(H, W, 3)` uint8, BGR, in other colours."""
    values: np.ndarray = image.astype(np.float32) / 255
    if hue:
        turned = cv2.cvtColor(values, cv2.COLOR_BGR2HSV)
        turned[..., 0] = (turned[..., 0] + hue) % 360
        values = cv2.cvtColor(turned, cv2.COLOR_HSV2BGR)
    values = 0.5 + contrast * (values.clip(0, 1) ** max(gamma, 0.05) - 0.5)
    return (255 * values.clip(0, 1)).round().astype(np.uint8)
