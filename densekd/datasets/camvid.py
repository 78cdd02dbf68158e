"""CamVid road scenes for mmseg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmseg.datasets import BaseSegDataset

from densekd.registry import DATASETS

VOID, IGNORE = 11, 255


@DATASETS.register_module()
class CamVid(BaseSegDataset):
    """CamVid, 480 x 360: 367 training and 101 validation frames of 11 classes; void becomes the ignored label 255.

    Expects `images/{train,val}/*.jpg` and `labels/{train,val}/*.png` under `data_root`, labels 0 to 10 and 11 = void.
    File names begin with the drive: `0001TP`, `0006R0` and `0016E5` for training, another part of `0016E5` for
    validation.

    Args:
        drives: use frames of these alone; all if not given.
        part: use this stretch of each drive, from and to a share of its frames in order: (0.0, 0.8) is all but the last
            fifth.
        count: use as many frames, spread evenly over those of the split; all if not given.
        rest: use the frames that `count` leaves out in place of those.
        **kwargs: of mmseg's `BaseSegDataset`.

    Raises:
        FileNotFoundError: there is no image folder where the config looks for one.
        ValueError: a drive has no frames in the split, `part` is no stretch or holds no frame, there are fewer frames
            than `count`, or `rest` without it.

    Data: Brostow et al., "Semantic object classes in video: a high-definition ground truth database", PRL 2009.

    >>> dataset = CamVid(lazy_init=True)
    >>> len(dataset.metainfo["classes"]), dataset.label_map
    (11, {11: 255})
    """

    METAINFO: ClassVar[dict[str, Any]] = {
        "classes": (
            *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian"),
            "bicyclist",
        ),
        "palette": [
            *([128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0]),
            *([192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192]),
        ],
    }

    def __init__(
        self,
        *,
        drives: Sequence[str] | None = None,
        part: Sequence[float] | None = None,
        count: int | None = None,
        rest: bool = False,
        **kwargs: Any,
    ) -> None:
        if part is not None and not (len(part) == 2 and 0 <= part[0] < part[1] <= 1):
            raise ValueError(f"part must be two shares from 0 to 1, the first one smaller, got {part!r}")
        if rest and count is None:
            raise ValueError("rest=True needs count, which says how many frames are left out")
        self.drives, self.part, self.count, self.rest = drives, part, count, rest
        super().__init__(**kwargs)

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """Map void to the ignored label, whatever classes the config selects."""
        return {**(super().get_label_map(new_classes) or {}), VOID: IGNORE}

    def _update_palette(self) -> list[list[int]]:  # mmseg's own would give the ignored label a colour, and a class
        return [self.METAINFO["palette"][self.METAINFO["classes"].index(name)] for name in self._metainfo["classes"]]

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the frames of the split, as far as they are wanted."""
        folder = Path(self.data_prefix["img_path"])
        if not folder.is_dir():
            raise FileNotFoundError(f"no CamVid images in {str(folder)!r}; set KD_DATA_ROOT to the folder of CamVid/")
        frames: list[dict[str, Any]] = super().load_data_list()
        found = [Path(frame["img_path"]).name.split("_")[0] for frame in frames]
        if self.drives is not None:
            missing = sorted({*self.drives} - {*found})
            if missing:
                raise ValueError(
                    f"no frame of {', '.join(missing)} in {folder}; there are {', '.join(sorted({*found}))}"
                )
            frames = [frame for frame, drive in zip(frames, found) if drive in self.drives]
            found = [drive for drive in found if drive in self.drives]
        if self.part is not None:
            first, end = self.part
            places = {drive: [n for n, each in enumerate(found) if each == drive] for drive in found}
            share = {n: k / len(of) for of in places.values() for k, n in enumerate(of)}
            frames = [frame for n, frame in enumerate(frames) if first <= share[n] < end]
            if not frames:
                raise ValueError(f"part={self.part!r} holds no frame of {folder}")
        if self.count is not None:
            if not 0 < self.count <= len(frames):
                raise ValueError(f"count must be from 1 to the {len(frames)} frames there are, got {self.count}")
            chosen = [int((n + 0.5) * len(frames) / self.count) for n in range(self.count)]
            frames = [frames[n] for n in sorted({*range(len(frames))} - {*chosen} if self.rest else chosen)]
        return frames
