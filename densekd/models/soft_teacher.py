"""Soft Teacher: background weighed by the teacher, boxes chosen by how little they move when they are jittered."""

from __future__ import annotations

from typing import Any, ClassVar

from mmdet.models.detectors import SoftTeacher as MMDetSoftTeacher
from torch import Tensor

from densekd.models.mean_teacher import MeanTeacher, Samples
from densekd.registry import MODELS
from densekd.taps.roi_heads import shares_proposals


@MODELS.register_module()
class SoftTeacher(MeanTeacher, MMDetSoftTeacher):
    r"""mmdet's `SoftTeacher`, with the teacher, the branches and the checks of `MeanTeacher`.

    On an image without labels, where the teacher's boxes of a score above `cls_pseudo_thr` are the labels, a proposal
    of the student that is foreground counts 1, and one that is background as much as the teacher believes so:

    $$L_{cls} = \frac{\sum_{i \in fg} l_i + \sum_{j \in bg} p_{T,j}(bg)\, l_j}{|fg| + \sum_j p_{T,j}(bg)}$$

    The student's boxes learn from those of the teacher's boxes b that the teacher finds again when they are moved: from
    `jitter_times` copies, each corner moved by a normal number of `jitter_scale` of the width or height, it refines
    $\hat b_1 \dots \hat b_N$, and

    $$\bar\sigma = \frac{1}{4} \sum_{k=1}^4 \frac{\mathrm{std}_n(\hat b_{n,k})}{\mathrm{side}_k(\bar b)} <$$
    `reg_pseudo_thr`, with the width of the mean box for x and its height for y.

    Args:
        semi_train_cfg: as `MeanTeacher`; `pseudo_label_initial_score_thr`, least score of any box of the teacher;
            `rpn_pseudo_thr` and `cls_pseudo_thr`, of a label of the first and of the second stage; `reg_pseudo_thr`,
            `jitter_times` and `jitter_scale`; `unsup_weight`, 4 as published, 2 on the whole of COCO.

    Raises:
        ValueError: the detector is not of two stages, with a neck and one box head.

    Paper: Xu et al., "End-to-End Semi-Supervised Object Detection with Soft Teacher", ICCV 2021. The paper divides the
    background by the sum of its weights alone; mmdet's form, here, divides all by the sum of all.

    >>> SoftTeacher.DEFAULTS["jitter_times"], SoftTeacher.DEFAULTS["reg_pseudo_thr"]
    (10, 0.02)
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {
        **MeanTeacher.DEFAULTS,
        "unsup_weight": 4.0,
        "cls_pseudo_thr": 0.9,
        "rpn_pseudo_thr": 0.9,
        "reg_pseudo_thr": 0.02,
        "pseudo_label_initial_score_thr": 0.5,
        "jitter_times": 10,
        "jitter_scale": 0.06,
    }
    SHARES: ClassVar[tuple[str, ...]] = ("cls_pseudo_thr", "rpn_pseudo_thr", "pseudo_label_initial_score_thr")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        times = self.semi_train_cfg["jitter_times"]
        if not isinstance(times, int) or times < 2:
            raise ValueError(f"{self._called}: jitter_times must be a whole number, at least 2, got {times!r}")
        if not shares_proposals(self.teacher):
            raise ValueError(
                f"{self._called} is for two-stage detectors with a neck and one box head, such as Faster R-CNN, not "
                f"for {type(self.teacher).__name__}"
            )

    def get_pseudo_instances(self, batch_inputs: Tensor, batch_data_samples: Samples) -> tuple[Samples, Any]:
        """What the teacher finds in the weak views, with how far each box moves when it is jittered."""
        return MMDetSoftTeacher.get_pseudo_instances(self, batch_inputs, batch_data_samples)

    def loss_by_pseudo_instances(
        self, batch_inputs: Tensor, batch_data_samples: Samples, batch_info: Any = None
    ) -> dict[str, Any]:
        """The losses of both stages, each with its own choice of the teacher's boxes."""
        return MMDetSoftTeacher.loss_by_pseudo_instances(self, batch_inputs, batch_data_samples, batch_info)
