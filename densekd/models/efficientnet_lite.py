"""EfficientNet-Lite as a backbone of mmseg and mmdet."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.model import BaseModule

from densekd.hub import efficientnet_lite
from densekd.registry import MODELS


@MODELS.register_module()
class EfficientNetLite(efficientnet_lite.EfficientNetLite, BaseModule):
    """`densekd.hub.efficientnet_lite.EfficientNetLite`, `type='densekd.EfficientNetLite'` in a config.

    Give the images its own normalisation, `mean=[127] * 3, std=[128] * 3, bgr_to_rgb=True` of the data preprocessor,
    where its weights are the published ones. Channels for a neck: 24, 40, 112, 320 of Lite0 and Lite1; 24, 48, 120, 352
    of Lite2.

    Args:
        arch, out_indices, frozen_stages, norm_eval, momentum, enlarge: see there.
        pretrained: see there; loaded by `init_weights`, as mmengine's runner does before it trains, so that a trained
            checkpoint needs no package of weights.
        init_cfg: as of any backbone of OpenMMLab: `dict(type='Pretrained', checkpoint=..., prefix='backbone.')`.

    Raises:
        ValueError: both `pretrained` and `init_cfg`, or what the network itself refuses.

    >>> EfficientNetLite("lite2", out_indices=(2, 3)).channels
    (120, 352)
    """

    def __init__(
        self,
        arch: str = "lite0",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        momentum: float = 0.01,
        enlarge: float = 1.0,
        pretrained: bool | str | Path = False,
        init_cfg: Any = None,
    ) -> None:
        if pretrained and init_cfg is not None:
            raise ValueError("EfficientNetLite: give pretrained or init_cfg, one says where the weights come from")
        super().__init__(arch, out_indices, frozen_stages, norm_eval, momentum, enlarge)
        self.init_cfg, self.pretrained = copy.deepcopy(init_cfg), pretrained

    def init_weights(self) -> None:
        """Load `pretrained`, or do what `init_cfg` says."""
        if self.pretrained and not self.is_init:
            self.load(self.pretrained)
        super().init_weights()
