from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.structures import InstanceData, PixelData

from densekd import Distiller
from densekd.mmlab.building import build_model

CONFIGS = Path(__file__).parent / "configs"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def seg() -> Config:
    return Config.fromfile(CONFIGS / "seg.py")


@pytest.fixture
def det() -> Config:
    return Config.fromfile(CONFIGS / "det.py")


def _weights(folder: Path, name: str) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model, _ = build_model(CONFIGS / f"{name}.py")
    torch.save({"state_dict": model.state_dict(), "meta": {}}, folder / f"{name}.pth")
    return str(folder / f"{name}.pth")


@pytest.fixture(scope="session")
def seg_teacher(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A trained-looking segmentation teacher: its config and weights, as `Distiller` takes them."""
    weights = _weights(tmp_path_factory.mktemp("teachers"), "seg_teacher")
    return {"teacher": str(CONFIGS / "seg_teacher.py"), "checkpoint": weights}


@pytest.fixture(scope="session")
def det_teacher(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    weights = _weights(tmp_path_factory.mktemp("teachers"), "det_teacher")
    return {"teacher": str(CONFIGS / "det_teacher.py"), "checkpoint": weights}


Batch = dict[str, Any]


def seg_batch(model: torch.nn.Module, n: int = 2, size: int = 64) -> Batch:
    """A batch as the model's own preprocessor makes it: random images, random labels with some ignored."""
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(n):
        labels = torch.randint(0, 11, (1, size, size), generator=generator)
        labels[:, :8] = 255
        sample = SegDataSample(metainfo={"img_shape": (size, size)})
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    images = [torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8) for _ in range(n)]
    return model.data_preprocessor({"inputs": images, "data_samples": samples}, training=True)


def det_batch(model: torch.nn.Module, n: int = 2, size: int = 96) -> Batch:
    from mmdet.structures import DetDataSample

    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(n):
        shapes = dict.fromkeys(("img_shape", "ori_shape"), (size, size))
        sample = DetDataSample(metainfo={**shapes, "scale_factor": (1.0, 1.0)})
        boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [48.0, 16.0, 90.0, 80.0]])
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1, 7]))
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.tensor([], dtype=torch.long))
        samples.append(sample)
    images = [torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8) for _ in range(n)]
    return model.data_preprocessor({"inputs": images, "data_samples": samples}, training=True)


class TinyBackbone(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.narrow = torch.nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        x = self.stem(x)
        return (x + self.narrow(x),)


class TinySegmenter(BaseModel):
    """Two convolutions and a real head of mmseg, of two classes if not given: one sigmoid, or a softmax."""

    def __init__(self, width: int = 4, channels: int = 1, classes: int = 2, ignore_index: int = 255) -> None:
        from mmseg.models import FCNHead, SegDataPreProcessor

        super().__init__(data_preprocessor=SegDataPreProcessor(mean=[99.0] * 3, std=[50.0] * 3, size_divisor=4))
        self.backbone = TinyBackbone(width)
        binary = channels == 1
        self.decode_head = FCNHead(
            in_channels=width,
            channels=width,
            num_convs=1,
            concat_input=False,
            num_classes=classes,
            out_channels=channels,
            threshold=0.5 if binary else None,
            dropout_ratio=0.0,
            ignore_index=ignore_index,
            loss_decode={"type": "mmseg.CrossEntropyLoss", "use_sigmoid": binary},
        )

    def forward(self, inputs: torch.Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
        features = self.backbone(inputs)
        if mode == "loss":
            return self.decode_head.loss(features, data_samples, {})
        return self.decode_head(features)


@pytest.fixture
def taught(seg: Config, seg_teacher: dict[str, str]) -> Callable[..., Distiller]:
    """Build a small taught segmenter from entries or a method."""

    def build(*distills: dict[str, Any], **options: Any) -> Distiller:
        entries = {"distills": list(distills)} if distills else {}
        torch.manual_seed(0)
        return Distiller(student=seg, **{**seg_teacher, **entries, **options})

    return build


@pytest.fixture
def at() -> Iterator[Callable[[float], None]]:
    """Say how far the training is."""
    hub = MessageHub.get_instance("at")
    yield lambda progress: hub.update_info_dict({"iter": progress, "max_iters": 1})
    MessageHub._instance_dict.pop("at")


@pytest.fixture(scope="session")
def digits_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small CLIP that tells digits by their names."""
    from . import small_clip

    return str(small_clip.trained(tmp_path_factory.mktemp("encoders") / "clip"))


@pytest.fixture(scope="session")
def attributes_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small CLIP that has read of digits and their colours."""
    from . import small_clip

    return str(small_clip.trained_on_attributes(tmp_path_factory.mktemp("encoders") / "attributes"))
