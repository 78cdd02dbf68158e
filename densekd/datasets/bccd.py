"""Blood cells with boxes (BCCD) for mmdet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from mmdet.datasets import XMLDataset

from densekd.registry import DATASETS


@DATASETS.register_module()
class BCCD(XMLDataset):
    """BCCD, 640 x 480 microscope images with boxes of red cells, white cells and platelets: 205 / 87 / 72 images.

    Expects the VOC layout (`Annotations/`, `ImageSets/Main/`, `JPEGImages/`) under `data_root`. Boxes without area, of
    which the published annotations hold two, are dropped: no detector could find them, each would count as missed.

    Raises:
        FileNotFoundError: the list of the split is not where the config looks for it.

    Data: "BCCD Dataset", github.com/Shenggan/BCCD_Dataset, MIT.

    >>> BCCD(lazy_init=True).metainfo["classes"]
    ('RBC', 'WBC', 'Platelets')
    """

    METAINFO: ClassVar[dict[str, Any]] = {
        "classes": ("RBC", "WBC", "Platelets"),
        "palette": [(220, 20, 60), (60, 60, 220), (240, 180, 40)],
    }

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images of the split with their boxes."""
        if not Path(self.ann_file).is_file():
            raise FileNotFoundError(f"no BCCD split {str(self.ann_file)!r}; set KD_DATA_ROOT to the folder of BCCD/")
        return super().load_data_list()

    def _parse_instance_info(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        instances = super()._parse_instance_info(*args, **kwargs)
        return [i for i in instances if i["bbox"][2] > i["bbox"][0] and i["bbox"][3] > i["bbox"][1]]
