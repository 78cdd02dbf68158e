"""What a distillation step costs: the part `dense` of `benchmark.py`.

Each named method is measured on the first of the pairs that it fits, a step of the taught student against a forward of
its teacher and a step of the plain student; where the teacher learns, too, against a plain step of both. In turn, in
one thread, as CPU time, which the machine's other work disturbs least: the median over rounds of the ratio in a round.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from measure import Left, Ratio, median_ratio, peak_bytes

from kdlosses.cli.logs import ROOT

TIME, MEMORY = 1.10, 1.10
BOUNDS = {"cwd": 1.05, "pkd": 1.05, **dict.fromkeys(("acam", "crosskd", "fbkd", "maskd", "mgd"), 1.25)}
"""Of time, where it is not TIME: 1.25 where masks or what fills them are learned, or layers run a second time."""
CROP_MEMORY = 0.25
CROPS = {"acam": (2, 19, 64, 128), "cirkd_pairs": (2, 128, 64, 128)}
"""Losses over pairs of positions, each with the logits or features of two crops of 512x1024 at stride 8."""


class Pair(NamedTuple):
    """Configs of a student and a teacher, and a batch for them as a data loader makes it."""

    name: str
    student: dict[str, Any]
    teacher: dict[str, Any]
    batch: dict[str, Any]


Step = Callable[[str, Pair, int], list[Ratio]]
"""Measures a method on a pair, in so many rounds."""


def measure(only: Sequence[str] = (), rounds: int = 9, side: int = 256) -> Iterator[Ratio]:
    """Measure the methods, or those in `only`, on images of `side`; each row comes when it is measured."""
    from densekd.methods import METHODS
    from kdlosses import nearest

    for name in only:
        if name not in METHODS:
            raise SystemExit(f"there is no method {name!r} to measure; {nearest(name, METHODS)}")
    return itertools.chain(steps(list(only or METHODS), _step, rounds, side), crops(only))


def steps(methods: Sequence[str], step: Step, rounds: int, side: int) -> Iterator[Ratio]:
    """Measure a step of each method on the first of the pairs that it fits; of `pkd` on a pair of detectors, too."""
    from mmengine.logging import MessageHub
    from mmengine.registry import MODELS, init_default_scope

    from densekd.methods import method_entries

    MessageHub.get_instance("benchmark").update_info_dict({"iter": 1, "max_iters": 2})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    left = dict.fromkeys(methods)
    time_left = Left(len(left) + ("pkd" in left))
    try:
        for scope, make in PAIRS:
            again = ["pkd"] if make is _retinanet and "pkd" in methods else []  # it was made for detectors
            if not left and not again:
                continue
            init_default_scope(scope)
            pair = make(side)
            networks = [MODELS.build(config) for config in (pair.student, pair.teacher)]
            for method in [*left, *again]:
                try:
                    method_entries(method, *networks)
                except ValueError:  # it says that it needs another kind of network
                    continue
                left.pop(method, None)
                yield from step(method, pair, rounds)
                time_left.tell()
    finally:
        torch.set_num_threads(threads)
    if left:
        print(f"not measured, as they fit none of the pairs: {', '.join(left)}")


def crops(only: Sequence[str] = (), share: int = 1) -> Iterator[Ratio]:
    """Peak memory of value and gradient of the losses of CROPS, or of the methods in `only`, over their naive form.

    The naive form holds what grows with the square of the positions: it is measured at half the side, times 16.

    Args:
        only: names of methods, which begin the names of their losses.
        share: of the side of the crops, as one by so many.
    """
    import densekd.losses  # noqa: F401  registers the losses that need maps

    keys = [key for key in CROPS if not only or key.split("_")[0] in only]
    for key in keys:
        n, c, h, w = CROPS[key]
        yield _crop(key, (n, c, h // share, w // share))


def _crop(key: str, shape: tuple[int, int, int, int]) -> Ratio:
    from naive import NAIVE

    import kdlosses

    device = "cuda" if torch.cuda.is_available() else "cpu"
    n, c, h, w = shape
    loss, naive = kdlosses.build(key, channels=c).to(device), NAIVE[key]

    def peak(form: Callable[..., torch.Tensor], *size: int) -> int:
        student = torch.randn(n, c, *size, device=device, requires_grad=True)
        teacher = torch.randn(n, c, *size, device=device)
        return peak_bytes(lambda: torch.autograd.grad(form(student, teacher), student))

    ours, theirs = peak(loss, h, w), 16 * peak(functools.partial(naive, loss.loss), h // 2, w // 2)
    detail = f"{ours / 2**20:.0f} MiB against {theirs / 2**20:.0f} MiB, which is 16 times that at half the side"
    return Ratio(f"memory, {key}, crops {8 * h}x{8 * w}", ours / theirs, CROP_MEMORY, detail)


def _step(method: str, pair: Pair, rounds: int) -> list[Ratio]:
    from mmengine.optim import OptimWrapper
    from mmengine.registry import MODELS

    from densekd.methods import ONLINE

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    plain = MODELS.build(pair.student).to(device).train()
    other = MODELS.build(pair.teacher).to(device).train(method in ONLINE).requires_grad_(method in ONLINE)
    spec = dict(student=pair.student, teacher=pair.teacher, checkpoint="random", method=method)
    distiller = MODELS.build(dict(type="densekd.Distiller", **spec)).to(device).train()

    def stepper(model: Any) -> Callable[[], object]:
        optimiser = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9))
        return lambda: model.train_step(pair.batch, optimiser)

    def forward() -> None:
        with torch.no_grad():
            data = other.data_preprocessor(pair.batch, False)
            other(data["inputs"], data["data_samples"], mode="tensor")

    student, teacher = stepper(plain), stepper(other) if method in ONLINE else forward

    def separate() -> None:
        teacher()
        student()

    clock = time.perf_counter if device == "cuda" else time.process_time
    ratio, seconds, reference = median_ratio(distilled := stepper(distiller), separate, rounds, clock)
    # what stays between steps: weights, gradients and momentum of what learns, weights of what does not
    learn = _bytes(plain) + (_bytes(other) if method in ONLINE else 0)
    memory = 3 * _bytes(distiller) + (0 if method in ONLINE else _bytes(other)) + peak_bytes(distilled)
    memory_reference = 3 * learn + (0 if method in ONLINE else _bytes(other)) + peak_bytes(separate)
    bound, name = BOUNDS.get(method, TIME), f"{method}, {pair.name}"
    in_mib = f"{memory / 2**20:.0f} MiB against {memory_reference / 2**20:.0f} MiB"
    return [
        Ratio(f"step time, {name}", ratio, bound, f"{seconds:.3f} s against {reference:.3f} s"),
        Ratio(f"step memory, {name}", memory / memory_reference, max(MEMORY, bound), in_mib),
    ]


def _bytes(model: torch.nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def _pspnet(side: int) -> Pair:
    base = _config("mmseg::_base_/models/pspnet_r50-d8.py", side)
    student = _config("mmseg::_base_/models/pspnet_r50-d8.py", side)
    student.backbone.depth = 18
    student.decode_head.update(in_channels=512, channels=128)
    student.auxiliary_head.update(in_channels=256, channels=64)
    return Pair("PSPNet R50 to R18", student.to_dict(), base.to_dict(), _scenes(side))


def _segformer(side: int) -> Pair:
    base = _config("mmseg::segformer/segformer_mit-b2_8xb1-160k_cityscapes-1024x1024.py", side)
    student = _config("mmseg::segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py", side)
    return Pair("SegFormer B2 to B0", student.to_dict(), base.to_dict(), _scenes(side))


def _config(path: str, side: int) -> Any:
    from mmengine.hub import get_config

    model = get_config(path).model
    model.pop("pretrained", None)
    model.backbone.pop("init_cfg", None)
    model.data_preprocessor.size = (side, side)
    for part in (model.backbone, model.decode_head, model.get("auxiliary_head")):
        if part is not None and part.get("norm_cfg"):
            part.norm_cfg = dict(type="BN")
    return model


def _camera(side: int) -> Pair:
    return Pair("LiDAR to camera of the world", _bev("camera_world").model, _bev("lidar_world").model, _frames(4))


def _pillars(side: int) -> Pair:
    batch = _frames(1)
    for sample in batch["data_samples"]:  # KITTI has no velocities
        boxes = sample.gt_instances_3d.bboxes_3d
        sample.gt_instances_3d.bboxes_3d = type(boxes)(boxes.tensor[:, :7])
    student, teacher = _bev("pointpillars_half_kitti"), _bev("pointpillars_kitti")
    return Pair("PointPillars to half", student.model, teacher.model, batch)


def _bev(name: str) -> Any:
    from densekd.mmlab.config import read_config

    return read_config(ROOT / "configs" / "bev" / "plain" / f"{name}.py")


def _frames(images: int) -> dict[str, Any]:
    """A batch of the synthetic world, whose images have a size of their own."""
    from mmengine.runner import Runner

    loader = _bev("lidar_world").train_dataloader
    loader.batch_size = images
    return next(iter(Runner.build_dataloader(loader, seed=0)))


def _scenes(side: int, images: int = 2) -> dict[str, Any]:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    cells = torch.randint(19, (1, side // 16, side // 16), generator=torch.Generator().manual_seed(0))
    labels = cells.repeat_interleave(16, 1).repeat_interleave(16, 2)
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
    image = torch.randint(256, (3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return dict(inputs=[image] * images, data_samples=[sample] * images)


def _retinanet(side: int) -> Pair:
    return _one_stage(side, "RetinaNet", "mmdet::_base_/models/retinanet_r50_fpn.py")


def _gfl(side: int) -> Pair:
    return _one_stage(side, "GFL", "mmdet::gfl/gfl_r50_fpn_1x_coco.py")


def _one_stage(side: int, name: str, path: str) -> Pair:
    from mmdet.structures import DetDataSample
    from mmengine.config import Config
    from mmengine.hub import get_config
    from mmengine.structures import InstanceData

    height, width, images = side, side * 5 // 4, 2
    base = get_config(path)
    base.model.backbone.pop("init_cfg", None)
    student = Config(base.to_dict())
    student.model.backbone.depth = 18
    student.model.neck.in_channels = [64, 128, 256, 512]
    boxes = torch.tensor([[0.08, 0.12, 0.47, 0.55], [0.59, 0.23, 1.17, 0.78]]) * side
    shape = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0))
    sample = DetDataSample(metainfo=shape, gt_instances=InstanceData(bboxes=boxes, labels=torch.tensor([1, 7])))
    image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    batch = dict(inputs=[image] * images, data_samples=[sample] * images)
    return Pair(f"{name} R50 to R18", student.model.to_dict(), base.model.to_dict(), batch)


PAIRS: tuple[tuple[str, Callable[[int], Pair]], ...] = (
    ("mmseg", _pspnet),
    ("mmseg", _segformer),
    ("mmdet", _retinanet),
    ("mmdet", _gfl),
    ("mmdet3d", _camera),
    ("mmdet3d", _pillars),
)
