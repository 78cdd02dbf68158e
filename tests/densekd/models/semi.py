"""A small detector with its moving average, and batches of two views without labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from densekd.mmlab.config import read_config
from densekd.registry import MODELS

SIZE = 64


def detector() -> Any:
    """A Faster R-CNN for digit scenes, narrower still."""
    model = read_config("det/plain/faster_rcnn_r18_w16_digits").model
    model.backbone.update(base_channels=8, stem_channels=8)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    model.roi_head.bbox_roi_extractor.update(out_channels=16)
    model.roi_head.bbox_head.update(in_channels=16, fc_out_channels=24)
    model.test_cfg.rpn.update(max_per_img=20)
    return model


def built(kind: str, sharp: float = 60.0, student: Any = None, checkpoint: Any = "random", **options: Any) -> Any:
    """One that trains; its classifiers are as sure as `sharp` makes them."""
    torch.manual_seed(0)
    given = {key: options.pop(key) for key in ("momentum", "interval") if key in options}
    config = student or detector()
    model: Any = MODELS.build(
        dict(type=f"densekd.{kind}", detector=config, checkpoint=checkpoint, semi_train_cfg=options, **given)
    )
    model.init_weights()
    with torch.no_grad():
        for each in (model.student, model.teacher):
            each.roi_head.bbox_head.fc_cls.weight.mul_(sharp)
            for module in each.modules():  # else features of an untrained network are all alike in evaluation
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = None
        model.student.train()
        model.student.extract_feat(images(4))
        model.teacher.load_state_dict(plain_state(model))
    return model.train()


def plain() -> Any:
    """The detector alone."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(detector())


def plain_state(model: Any) -> dict[str, Tensor]:
    """Weights of the student without what distills."""
    return {key: value for key, value in model.student.state_dict().items() if not key.startswith("distill.")}


def images(count: int, seed: int = 1) -> Tensor:
    """Blotches of colour, normalised, `(count, 3, 64, 64)`."""
    draw = torch.Generator().manual_seed(seed)
    return torch.nn.functional.interpolate(2 * torch.randn(count, 3, 8, 8, generator=draw), (SIZE, SIZE))


def batch(count: int = 2, labels: bool = False, flipped: bool = False, seed: int = 1) -> dict[str, Any]:
    """Weak and strong views of the same images; `flipped` mirrors the weak one."""
    weak = images(count, seed)
    strong = weak + 0.3 * torch.randn(weak.shape, generator=torch.Generator().manual_seed(seed + 1))
    mirror = np.array([[-1, 0, SIZE], [0, 1, 0], [0, 0, 1]], np.float32)
    inputs = {"unsup_teacher": weak.flip(3) if flipped else weak, "unsup_student": strong}
    samples = {
        "unsup_teacher": [sample(mirror if flipped else None) for _ in range(count)],
        "unsup_student": [sample(None) for _ in range(count)],
    }
    if labels:
        inputs["sup"], samples["sup"] = strong.clone(), [sample(None, labels=True) for _ in range(count)]
    return {"inputs": inputs, "data_samples": samples}


def sample(matrix: np.ndarray | None, labels: bool = False) -> DetDataSample:
    shapes = dict.fromkeys(("img_shape", "ori_shape", "batch_input_shape", "pad_shape"), (SIZE, SIZE))
    found = DetDataSample(metainfo={**shapes, "scale_factor": (1.0, 1.0)})
    if matrix is not None:
        found.set_metainfo({"homography_matrix": matrix})
    if labels:
        boxes = torch.tensor([[8.0, 8, 30, 30], [30, 20, 60, 50]])
        found.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1, 7]))
    return found


def losses(model: Any, given: dict[str, Any]) -> dict[str, float]:
    """Losses of a step, which is not taken, by name."""
    torch.manual_seed(3)
    total, values = model.parse_losses(model(**given, mode="loss"))
    model.zero_grad()
    total.backward()
    return {key: float(value.detach()) for key, value in values.items()}
