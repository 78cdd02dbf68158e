"""Configs that are a base and a method, as one table: `seg/<method>/<pair>.py`, with the figure published of each.

Those of `det` and `bev` are rows, too.

A row need not be a file: `densekd.read_config`, and with it every tool, and mmengine itself once `densekd` is imported,
read it as if `configs/seg/<method>/<pair>.py` said

    _base_ = "../../_base_/pairs/<pair>.py"
    model = dict(method="<method>")
    published = dict(distilled=<figure>)

The base holds teacher, student, crops, schedule and what was published of the pair. A file of that name goes before
the row.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A config: its base and the method's name, what it changes of the base's `model`, and of its `published`."""

    base: str
    method: str
    model: dict[str, Any]
    published: dict[str, Any]

    def fields(self, configs: Path) -> dict[str, Any]:
        """What a file would say beside `_base_`; `{configs}` stands for the folder of all configs."""
        fields: dict[str, Any] = {"model": _placed(self.model, str(configs))}
        return {**fields, "published": copy.deepcopy(self.published)} if self.published else fields


class _Other(NamedTuple):
    distilled: float | None
    model: dict[str, Any]
    published: dict[str, Any]


def _other(distilled: float | None = None, model: dict[str, Any] | None = None, **published: Any) -> _Other:
    """A row that says more than a figure: more of the model, other figures of teacher and student, another source."""
    return _Other(distilled, model or {}, published)


_ACAM = "ACAM-KD's paper"
_AF_DCD = "Af-DCD's README"
_CROSSKD = "CrossKD's README"
_DIST = "DIST's README"
_FREEKD = "FreeKD's README"
_MASKD = "MasKD's README"
_MGD = "MGD's README"

# CIRKD's authors weigh the memory less on Pascal VOC.
_LIGHT_MEMORY = dict(
    distills=[
        dict(loss="kl", student="decode_head.conv_seg"),
        dict(loss="cirkd_pairs", student="decode_head.bottleneck"),
        dict(loss="cirkd_memory", student="decode_head.bottleneck", weight=0.01),
    ]
)
# MGD on the last stage and CWD on the logits, as in the authors' configs.
_MGD_AND_CWD = dict(
    distills=[
        dict(loss=dict(type="mgd", share=0.75), student="backbone:3", weight=2e-5 * 64 * 64),
        dict(loss=dict(type="cwd", tau=4.0), student="decode_head.conv_seg", weight=3.0),
    ]
)
_CWD_OF_MMRAZOR = dict(distills=[dict(loss=dict(type="cwd", tau=1.0), student="decode_head.conv_seg", weight=5.0)])
# The auxiliary head counts little, as in LAD's code.
_LIGHT_AUXILIARY = dict(student=dict(auxiliary_head=dict(loss_decode=dict(loss_weight=0.02))))
# BPKD's published weights, 50 and 20, leave a student of 500 iterations no time for the labels, and its windows are
# made for larger images: weights and window were chosen among five pairs on the last 67 training frames of CamVid.
_SMALL_BPKD = dict(method=dict(type="bpkd", edge=1.0, body=3.0, kernel=3, present=True))

# What ACAM-KD's masks stand over, without them.
_MSE_OF_LOGITS = dict(distills=[dict(loss="mse", student="decode_head.conv_seg")])
# Af-DCD's authors weigh its terms by data, and pool no maps of CamVid.
_CAMVID_AF_DCD = dict(method=dict(type="af_dcd", feature=0.0162, contrast=0.01, pool=1))
_ADE_AF_DCD = dict(method=dict(type="af_dcd", kd=0.5, feature=0.0041, contrast=0.04))
_VOC_AF_DCD = dict(method=dict(type="af_dcd", feature=0.0041))


_LOGITS = "decode_head.conv_seg"


def _on_logits(loss: str, **options: Any) -> _Other:
    """A loss on the logits, in place of `kl`; pixels of a class count as in the task."""
    return _other(model=dict(distills=[dict(loss=dict(type=loss, **options), student=_LOGITS, class_weight="task")]))


def _beside_kl(loss: str, tap: str = "neck:1", **options: Any) -> _Other:
    """A loss on a feature map beside `kl`, as strong as the task."""
    entry = dict(loss=dict(type=loss, **options), student=tap, weight="auto")
    return _other(model=dict(distills=[dict(loss="kl", student=_LOGITS, class_weight="task"), entry]))


def _counted(name: str) -> _Other:
    """A method whose losses count pixels of a class as the task does."""
    return _other(model=dict(method=dict(type=name, class_weight="task")))


def _of_two(loss: str, **options: Any) -> _Other:
    """Two teachers, the wide one and a deep one."""
    teacher = dict(
        wide="{configs}/seg/plain/semantic_fpn_r18_w32_scenes.py",
        deep="{configs}/seg/plain/semantic_fpn_r34_w16_scenes.py",
    )
    entry = dict(loss=dict(type=loss, **options), student=_LOGITS, source=["wide", "deep"], class_weight="task")
    return _other(model=dict(teacher=dict(_delete_=True, **teacher), distills=[entry]))


def _teacher(name: str) -> dict[str, Any]:
    return dict(teacher=f"{{configs}}/seg/{name}.py")


def _two_teachers(wide: str, deep: str) -> dict[str, Any]:
    """Teachers that learn beside the student, here from all labels: there are no images without."""
    teachers = dict(_delete_=True, wide=f"{{configs}}/seg/{wide}.py", deep=f"{{configs}}/seg/{deep}.py")
    return dict(method=dict(type="mgd_semi", split=False), teacher=teachers)


# For each base the methods; a figure is the student's that was published, mIoU in per cent.
_SEGMENTATION: dict[str, dict[str, float | _Other | None]] = {
    "pairs/deeplabv3_r101_mbv2_cityscapes": {
        "acam": _other(76.21, source=_ACAM),
        "af_dcd": _other(76.43, source=_AF_DCD),
        "cirkd": 75.42,
        "cwd": 74.66,
        "ifvd": 73.50,
        "maskd": _other(75.26, source=_MASKD),
        "skd": 73.82,
    },
    "pairs/deeplabv3_r101_pspnet_r18_camvid": {
        "af_dcd": _other(69.48, _CAMVID_AF_DCD, source=_AF_DCD),
        "cirkd": 68.65,
    },
    "pairs/deeplabv3_r101_pspnet_r18_cityscapes": {
        "acam": _other(75.99, source=_ACAM),
        "cirkd": 74.73,
        "dist": _other(76.31, source=_DIST),
        "maskd": _other(75.34, source=_MASKD),
    },
    "pairs/deeplabv3_r101_pspnet_r18_voc": {
        "af_dcd": _other(76.14, _VOC_AF_DCD, source=_AF_DCD),
        "cirkd": _other(74.78, _LIGHT_MEMORY),
    },
    "pairs/deeplabv3_r101_r18_ade20k": {"af_dcd": _other(36.21, _ADE_AF_DCD, source=_AF_DCD), "cirkd": 35.41},
    "pairs/deeplabv3_r101_r18_camvid": {"af_dcd": _other(69.27, _CAMVID_AF_DCD, source=_AF_DCD), "cirkd": 68.21},
    "pairs/deeplabv3_r101_r18_cityscapes": {
        "acam": _other(77.53, student=("DeepLabV3-R18", 72.96), source=_ACAM),
        "af_dcd": _other(77.03, source=_AF_DCD),
        "cirkd": 76.38,
        "cwd": 75.55,
        "dist": _other(77.10, source=_DIST),
        "ifvd": 75.59,
        "kl": None,
        "maskd": _other(77.00, source=_MASKD),
        "skd": 75.42,
    },
    "pairs/deeplabv3_r101_r18_voc": {
        "af_dcd": _other(76.25, _VOC_AF_DCD, source=_AF_DCD),
        "cirkd": _other(74.50, _LIGHT_MEMORY),
    },
    "pairs/deeplabv3_r18_voc": {"lad": _other(75.00, _LIGHT_AUXILIARY)},
    "pairs/deeplabv3plus_r101_mbv2_ade20k": {"bpkd": 35.49, "cirkd": 32.24, "cwd": 35.12, "ifvd": 32.11, "skd": 32.49},
    "pairs/deeplabv3plus_r101_mbv2_cityscapes": {
        "bpkd": 78.59,
        "cirkd": 77.71,
        "cwd": 77.97,
        "ifvd": 76.97,
        "skd": 76.05,
    },
    "pairs/deeplabv3plus_r101_mbv2_context59": {
        "bpkd": 46.23,
        "cirkd": 42.25,
        "cwd": 43.74,
        "ifvd": 41.73,
        "skd": 42.07,
    },
    "pairs/hrnet_w48_w18s_ade20k": {"bpkd": 35.31, "cirkd": 33.06, "cwd": 34.00, "ifvd": 32.66, "skd": 32.57},
    "pairs/hrnet_w48_w18s_cityscapes": {"bpkd": 78.58, "cirkd": 77.36, "cwd": 77.87, "ifvd": 77.18, "skd": 77.27},
    "pairs/hrnet_w48_w18s_context59": {"bpkd": 43.96, "cirkd": 42.02, "cwd": 42.89, "ifvd": 41.55, "skd": 41.54},
    "pairs/pspnet_r101_deeplabv3_r18_cityscapes_512": {"mgd": _other(76.31, _MGD_AND_CWD)},
    "pairs/pspnet_r101_r18_ade20k": {"bpkd": 38.51, "cirkd": 35.07, "cwd": 37.02, "ifvd": 34.54, "skd": 34.49},
    "pairs/pspnet_r101_r18_cityscapes": {"bpkd": 77.57, "cirkd": 76.03, "cwd": 76.26, "ifvd": 76.24, "skd": 76.13},
    "pairs/pspnet_r101_r18_cityscapes_512": {"mgd": _other(73.63, _MGD_AND_CWD)},
    "pairs/pspnet_r101_r18_cityscapes_mmrazor": {"cwd": _other(75.54, _CWD_OF_MMRAZOR)},
    "pairs/pspnet_r101_r18_context59": {"bpkd": 46.82, "cirkd": 45.62, "cwd": 45.99, "ifvd": 45.97, "skd": 45.08},
    "pairs/pspnet_r18_voc": {"lad": _other(75.40, _LIGHT_AUXILIARY)},
    "pairs/segformer_b2_b0_cityscapes": {"transkd": 68.58, "transkd_ea": 68.98, "transkd_gl": 68.87},
    "pairs/segformer_b4_b0_cityscapes": {"cirkd": 76.92, "cwd": 74.80, "ifvd": 76.30, "skd": 76.43},
    "pairs/upernet_deit_b_s_ade20k": {"dmae": None, "g2sd": None, "hybrid": None},
    # Our own tables, one student and one teacher for all methods: nothing is published of them.
    "tables/camvid_fpn": {
        **dict.fromkeys(("acam", "cirkd", "cwd", "dist", "ifvd", "kl", "maskd", "mgd", "pkd", "skd")),
        **dict.fromkeys(("dual_head", "ofa", "talking", "uskd")),
        "bpkd": _other(model=_SMALL_BPKD),
        "hfd_bsd": _other(model=_teacher("plain/segformer_mit_w16_camvid_500")),
        "lad": _other(model=_teacher("lad/teacher_camvid")),
        "mgd_semi": _other(model=_two_teachers("plain/semantic_fpn_r18_w32_camvid_1k", "mgd_semi/deep_camvid")),
    },
    "tables/camvid_lite0": {
        **dict.fromkeys(("acam", "cwd", "dist", "ifvd", "kl", "maskd", "mgd", "nst", "pkd", "skd")),
        "af_dcd": _other(model=_CAMVID_AF_DCD),
        "cirkd": _other(model=dict(method=dict(type="cirkd", pool=2))),  # a batch has 16,640 pixels at the head
        "bpkd": _other(model=_SMALL_BPKD),
        "mse": _other(model=_MSE_OF_LOGITS),
    },
    "tables/camvid_quarter": {
        **dict.fromkeys(("acam", "cwd", "dist", "ifvd", "kl", "maskd", "mgd", "nst", "pkd", "skd")),
        "af_dcd": _other(model=_CAMVID_AF_DCD),
        "cirkd": _other(model=dict(method=dict(type="cirkd", pool=2))),  # a batch has 16,640 pixels at the head
        "bpkd": _other(model=_SMALL_BPKD),
        "mse": _other(model=_MSE_OF_LOGITS),
    },
    "tables/camvid_mit": {
        **dict.fromkeys(("cirkd", "cwd", "dist", "dmae", "g2sd", "hybrid", "kl", "pkd")),
        **dict.fromkeys(("transkd", "transkd_ea", "transkd_gl")),
        "bpkd": _other(model=_SMALL_BPKD),
    },
    "tables/scenes_fpn": {
        **dict.fromkeys(("acam", "bpkd", "cirkd", "cwd", "dist", "ifvd", "kl", "maskd", "mgd", "pkd", "skd")),
        **dict.fromkeys(("dual_head", "ofa", "talking", "uskd")),
        "hfd_bsd": _other(model=_teacher("plain/segformer_mit_w16_scenes")),
        "lad": _other(model=_teacher("lad/teacher_scenes")),
        "mgd_semi": _other(model=_two_teachers("plain/semantic_fpn_r18_w32_scenes", "mgd_semi/deep_scenes")),
    },
    "tables/scenes_losses": {
        "kl": _on_logits("kl"),
        "crkd": _on_logits("crkd", known=[0, 1, 2, 3, 4, 5]),
        "sinkd": _on_logits("sinkd", draw=256),
        "swing": _on_logits("swing", private=[3, 8]),
        **{loss: _on_logits(loss) for loss in ("bd_kd", "dac_kl", "ferkd", "nkd", "ssld", "taid", "topk_kl")},
        "cmd": _beside_kl("cmd"),
        "comodo": _beside_kl("comodo", size=512),
        "trg": _beside_kl("trg"),
        **{loss: _beside_kl(loss) for loss in ("leaf", "mi_alpha", "norm_feature", "prockd")},
        **{loss: _of_two(loss) for loss in ("average", "mulki")},
        **{name: _counted(name) for name in ("dual_head", "ofa", "talking", "uskd")},
    },
    "tables/scenes_mit": {
        **dict.fromkeys(("bpkd", "cirkd", "cwd", "dist", "dmae", "g2sd", "hybrid", "kl", "pkd")),
        **dict.fromkeys(("transkd", "transkd_ea", "transkd_gl")),
    },
}
# Box AP of COCO, in per cent.
_STRONG_FGD = dict(type="fgd", weight=1.6)  # of anchor-free detectors
_OF_DETECTORS = ("acam", "cwd", "fbkd", "fgd", "freekd", "maskd", "mgd", "nd", "pkd")
_DETECTION: dict[str, dict[str, float | _Other | None]] = {
    "pairs/atss_r101_r50_coco": {"crosskd": 41.8},
    "pairs/faster_rcnn_r101_r50_coco": {"fbkd": 39.3},
    "pairs/faster_rcnn_x101_r50_coco": {
        "fbkd": None,
        "fgd": 42.0,
        "freekd": _other(42.4, source=_FREEKD),
        "mgd": _other(42.1, source=_MGD),
        "nd": None,
    },
    "pairs/fcos_r101_r50_coco": {
        "crosskd": _other(41.1, dict(method=dict(type="crosskd", depth=2, classes=0.4, boxes=0.75)), source=_CROSSKD),
        "fgd": _other(42.7, dict(method={**_STRONG_FGD, "tau": 0.8})),
        "freekd": _other(42.9, source=_FREEKD),
        "maskd": _other(42.9, source=_MASKD),
    },
    "pairs/gfl_r101_r18_coco": {"ld": 37.5},
    "pairs/gfl_r101_r50_coco": {
        "crosskd": _other(43.7, source=_CROSSKD),
        "fgd": 43.5,
        "ld": _other(42.1, student=("GFL-R50", 40.1), source="LD's README"),
    },
    "pairs/reppoints_x101_r50_coco": {
        "fgd": _other(42.0, dict(method=_STRONG_FGD)),
        "freekd": _other(42.4, source=_FREEKD),
        "mgd": _other(42.3, source=_MGD),
    },
    "pairs/retinanet_r101_r50_coco": {
        "acam": _other(41.2, source=_ACAM),
        "crosskd": _other(39.7, source=_CROSSKD),
        "fgd": _other(39.6, source=_ACAM),
        "freekd": 39.9,
        "maskd": _other(39.9, source=_MASKD),
        "nd": None,
    },
    "pairs/retinanet_x101_r50_coco": {
        "fbkd": None,
        "fgd": 40.7,
        "freekd": _other(41.0, source=_FREEKD),
        "mgd": _other(41.0, source=_MGD),
    },
    # Our own tables.
    "tables/digits_faster_rcnn": dict.fromkeys((*_OF_DETECTORS, "kl", "proposals")),
    "tables/digits_gfl": {**dict.fromkeys(_OF_DETECTORS), "crosskd": None, "ld": None},
}
_BIRDS_EYE_VIEW: dict[str, dict[str, float | _Other | None]] = {
    "pairs/fcos3d_r101_r50_nuscenes": {"cwd": None, "pkd": None},
    "pairs/pgd_r101_r50_kitti": {"cwd": None, "pkd": None},
}


def _rows(task: str, bases: dict[str, dict[str, float | _Other | None]]) -> dict[str, Row]:
    rows = {}
    for base, methods in bases.items():
        for method, told in methods.items():
            other = told if isinstance(told, _Other) else _other(told)
            model = other.model if "distills" in other.model else {"method": method, **other.model}
            figures = {"distilled": other.distilled} if other.distilled is not None else {}
            name = f"{task}/{method}/{base.partition('/')[2]}.py"
            rows[name] = Row(f"_base_/{base}.py", method, model, {**other.published, **figures})
    return rows


def _placed(value: Any, configs: str) -> Any:
    """A copy in which `{configs}` is the folder."""
    if isinstance(value, dict):
        return {key: _placed(each, configs) for key, each in value.items()}
    if isinstance(value, list):
        return [_placed(each, configs) for each in value]
    return value.replace("{configs}", configs) if isinstance(value, str) else value


ROWS: dict[str, Row] = {**_rows("seg", _SEGMENTATION), **_rows("det", _DETECTION), **_rows("bev", _BIRDS_EYE_VIEW)}
"""The rows by the names of their configs."""


def row_at(path: str | Path) -> tuple[Row, Path] | None:
    """Return the row that a path names where no file lies there, with the folder of the configs around it."""
    path = Path(os.path.abspath(os.path.expanduser(path)))
    row = ROWS.get("/".join(path.parts[-3:]))
    if row is None or path.is_file():
        return None
    configs = path.parents[2]
    return (row, configs) if (configs / row.base).is_file() else None
