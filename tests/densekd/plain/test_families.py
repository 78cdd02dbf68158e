"""Default taps of other libraries' models, and tokens of transformers as maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BeitConfig,
    BeitForSemanticSegmentation,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DPTConfig,
    DPTForSemanticSegmentation,
    MobileNetV2Config,
    MobileNetV2ForSemanticSegmentation,
    ResNetConfig,
    ResNetForImageClassification,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    UperNetConfig,
    UperNetForSemanticSegmentation,
    ViTConfig,
    ViTForImageClassification,
)

from densekd import Distillation, default_taps
from densekd.align.adapt import as_map
from densekd.methods.pixels import features
from densekd.plain.scores import logits_of
from densekd.taps.families import patch_of
from densekd.taps.reader import Taps

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
VIT = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=32, patch_size=8)
RESNET = dict(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])


def segformer(width: int = 8) -> nn.Module:
    sizes = [width, width, 2 * width, 2 * width]
    return SegformerForSemanticSegmentation(
        SegformerConfig(hidden_sizes=sizes, depths=[1] * 4, decoder_hidden_size=16, num_labels=5)
    )


def upernet() -> nn.Module:
    backbone = ResNetConfig(**RESNET, out_features=["stage1", "stage2", "stage3", "stage4"])
    widths = dict(hidden_size=16, auxiliary_channels=8, auxiliary_in_channels=8)
    return UperNetForSemanticSegmentation(UperNetConfig(backbone_config=backbone, num_labels=5, **widths))


def dpt() -> nn.Module:
    sizes = dict(backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8] * 4, fusion_hidden_size=8)
    return DPTForSemanticSegmentation(DPTConfig(**VIT, **sizes, intermediate_size=16, num_labels=5))


class Smp(nn.Module):
    """As segmentation-models-pytorch builds its models."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 8, 3, 4, 1)
        self.decoder = nn.Conv2d(8, 6, 3, 1, 1)
        activation = nn.Sequential(nn.Identity())
        self.segmentation_head = nn.Sequential(
            nn.Conv2d(6, 5, 3, 1, 1), nn.UpsamplingBilinear2d(scale_factor=4), activation
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.segmentation_head(self.decoder(self.encoder(x)))


class Torchvision(nn.Module):
    """As torchvision builds its segmenters."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 3, 4, 1)
        self.classifier = nn.Sequential(nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.classifier(self.backbone(x))}


class LRASPP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 3, 4, 1)
        self.classifier = Sum()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.classifier(self.backbone(x))}


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.low_classifier, self.high_classifier = nn.Conv2d(8, 5, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.low_classifier(x) + self.high_classifier(x)


SEGMENTERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "segformer": (segformer, "decode_head.classifier"),
    "beit": (
        lambda: BeitForSemanticSegmentation(
            BeitConfig(**VIT, intermediate_size=16, out_indices=[1, 2, 3, 4], num_labels=5)
        ),
        "decode_head.classifier",
    ),
    "upernet": (upernet, "decode_head.classifier"),
    "mobilenet": (
        lambda: MobileNetV2ForSemanticSegmentation(MobileNetV2Config(depth_multiplier=0.35, num_labels=5)),
        "segmentation_head.classifier.convolution",
    ),
    "dpt": (dpt, "head.head.4"),
    "smp": (Smp, "segmentation_head.0"),
    "torchvision": (Torchvision, "classifier.2"),
    "lraspp": (LRASPP, "classifier"),
}


@pytest.mark.parametrize(("make", "path"), SEGMENTERS.values(), ids=SEGMENTERS)
def test_segmenters(make: Callable[[], nn.Module], path: str) -> None:
    """The tap yields the logits that the model answers with, up to their size, before any activation."""
    torch.manual_seed(0)
    model = make().eval()
    taps = default_taps(model)
    assert taps["logits"] == path
    with torch.no_grad(), Taps(model, [path]) as read:
        output = model(IMAGES)
    logits = logits_of(output)
    resized = [
        nn.functional.interpolate(read[path][0], logits.shape[2:], mode="bilinear", align_corners=corners)
        for corners in (False, True)
    ]
    assert any(torch.allclose(found, logits, atol=1e-5) for found in resized)
    assert make is LRASPP or features("skd", model, model)["student"] == f"{path}:in"


CLASSIFIERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "vit": (lambda: ViTForImageClassification(ViTConfig(**VIT, intermediate_size=16, num_labels=5)), "classifier"),
    "resnet": (lambda: ResNetForImageClassification(ResNetConfig(**RESNET, num_labels=5)), "classifier.1"),
}


@pytest.mark.parametrize(("make", "path"), CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_classifiers(make: Callable[[], nn.Module], path: str) -> None:
    torch.manual_seed(0)
    student, teacher = make(), make()
    assert default_taps(student)["logits"] == path
    output, losses = Distillation(student, teacher, method="kl", example=dict(pixel_values=IMAGES))(pixel_values=IMAGES)
    mine, its = output.logits.log_softmax(1), teacher(IMAGES).logits.log_softmax(1)
    assert losses["kl"].item() == pytest.approx((its.exp() * (its - mine)).sum(1).mean().item(), rel=1e-4)


@pytest.mark.parametrize("head", ["head_dist", "cls_classifier"])
def test_two_heads_are_not_the_one(head: str) -> None:
    assert default_taps(nn.ModuleDict({"head": nn.Linear(4, 5), head: nn.Linear(4, 5)})) == {}


@pytest.mark.parametrize("method", ["kl", "cwd", "dist", "skd", "ifvd", "cirkd", "pkd", "mgd", "acam", "bpkd"])
def test_named_methods_on_transformers_segformer(method: str) -> None:
    torch.manual_seed(0)
    student, teacher = segformer(), segformer(16)
    distillation = Distillation(student, teacher, method=method, example=IMAGES)
    labels = torch.randint(5, (2, 32, 32))
    output, losses = distillation(pixel_values=IMAGES, labels=labels, context=dict(labels=labels))
    (output.loss + sum(losses.values())).backward()
    assert all(loss.requires_grad and torch.isfinite(loss) for loss in losses.values())
    assert all(each.grad is not None for each in student.segformer.parameters())
    assert list(student.state_dict()) == list(segformer().state_dict())


def dino(width: int) -> nn.Module:
    options: dict[str, Any] = dict(num_register_tokens=4, image_size=32, patch_size=8, num_hidden_layers=1)
    return Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(hidden_size=width, num_attention_heads=2, mlp_ratio=1, **options)
    )


def test_a_cnn_learns_the_patch_tokens_of_a_vision_transformer_as_a_map() -> None:
    """16 of the 21 tokens are patches, in rows; the class token and four registers in front are left out."""
    torch.manual_seed(0)
    student, teacher = nn.Sequential(nn.Conv2d(3, 6, 8, 8)), dino(6)
    entries = [dict(loss="mse", student="0", teacher=":last_hidden_state")]
    output, losses = Distillation(student, teacher, entries, example=IMAGES)(IMAGES)
    tokens = teacher(IMAGES).last_hidden_state
    assert tokens.shape[1] == 21
    expected = (output - tokens[:, 5:].transpose(1, 2).reshape(2, 6, 4, 4)).square().mean()
    assert losses["mse"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_tokens_of_two_patch_sizes_meet_as_maps() -> None:
    torch.manual_seed(0)
    small = ViTForImageClassification(ViTConfig(**{**VIT, "patch_size": 16}, intermediate_size=16))
    entries = [dict(loss="mse", student="vit.layernorm", teacher=":last_hidden_state")]
    distillation = Distillation(small, dino(6), entries, example=IMAGES)
    assert distillation(IMAGES)[1]["mse"].requires_grad
    assert distillation.connectors["mse"].adapt[0].project.weight.shape == (6, 16, 1, 1)


def test_patches() -> None:
    assert patch_of(dino(6)) == (8, 8)
    assert patch_of(segformer()) is None
    assert patch_of(nn.Conv2d(3, 4, 7, 4, 3)) is None


@pytest.mark.parametrize(
    ("count", "size", "patch", "grid"),
    [
        (1 + 14 * 14, (224, 224), None, (14, 14)),  # a class token
        (5 + 14 * 14, (224, 224), None, (14, 14)),  # and four registers
        (5 + 6 * 8, (90, 120), None, (6, 8)),
        (5 + 4 * 4, (56, 56), (14, 14), (4, 4)),  # 20 tokens would be nearly square
        (8 + 3 * 5, (50, 80), (16, 16), (3, 5)),  # 50 is no multiple of 16
    ],
)
def test_tokens_as_maps(count: int, size: tuple[int, int], patch: Any, grid: tuple[int, int]) -> None:
    places = torch.arange(count, dtype=torch.float).view(1, count, 1)
    found = as_map(places, size, patch)
    assert found.shape == (1, 1, *grid)
    assert found.flatten().tolist() == list(range(count - grid[0] * grid[1], count))


def test_tokens_that_are_no_grid() -> None:
    with pytest.raises(ValueError, match="99 tokens do not fill a grid with the aspect of a 64x64 image"):
        as_map(torch.zeros(1, 99, 4), (64, 64))
