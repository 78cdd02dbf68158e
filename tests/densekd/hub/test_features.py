"""Networks by name, their images, their sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from densekd.hub.efficientnet_lite import EfficientNetLite, published
from densekd.hub.features import Features, Pixels
from densekd.hub.ready import features_of
from densekd.sensors.normalisation import Normalisation, Renormalise


class Backbone(nn.Module):
    """Two maps by name, with a normalisation of its own."""

    mean, std = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 2, stride=2)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        fine = self.stem(images)
        return {"fine": fine, "coarse": fine[:, :, ::2, ::2]}


def tokens_only() -> nn.Module:
    return nn.Flatten()


def not_a_network() -> str:
    return "backbone"


def test_pixels_are_read_as_those_of_mmengine() -> None:
    """What the teacher gets from a student's batch is what its own preprocessing makes of the image."""
    images = torch.rand(2, 3, 4, 4) * 255
    student, teacher = Pixels((100, 110, 120), (50, 60, 70), rgb=False), Pixels((1, 2, 3), (4, 5, 6))
    convert = Renormalise(student, teacher)
    torch.testing.assert_close(convert(student(images), None), teacher(images), rtol=1e-5, atol=1e-4)
    assert Normalisation.of(teacher) == Normalisation((1, 2, 3), (4, 5, 6), True, 0)


def test_a_function_of_ones_own() -> None:
    teacher = features_of(f"{__name__}:Backbone")
    assert Normalisation.of(teacher.data_preprocessor) == Normalisation((1, 2, 3), (4, 5, 6), True, 0)
    assert [tuple(each.shape) for each in teacher.of_pixels(torch.zeros(1, 3, 8, 12))] == [(1, 4, 4, 6), (1, 4, 2, 3)]
    assert "its own mean and std" in teacher.told()


def test_a_live_network_is_taken_as_it_is() -> None:
    network = EfficientNetLite("lite0", out_indices=(3,))
    features = features_of(network)
    assert features.network is network
    assert features_of(features) is features
    assert "ImageNet" in features.told()


def test_published_weights_by_name() -> None:
    teacher = features_of("lite0")
    weights = torch.load(published("lite0"), weights_only=True)
    assert torch.equal(teacher.network.conv_stem.weight, weights["_conv_stem.weight"])
    assert teacher.data_preprocessor(torch.full((1, 3, 1, 1), 255.0)).unique().item() == 1
    assert "minus (127, 127, 127), by (128, 128, 128)" in teacher.told()


@pytest.mark.parametrize("size", [(50, 100), (100, 50), (64, 64), (7, 120)])
def test_padding_is_cut_from_the_maps(size: tuple[int, int]) -> None:
    features = Features("square", nn.AvgPool2d(8), square=64)
    (found,) = features(torch.ones(1, 3, *size))
    long = max(size)
    assert found.shape[2:] == tuple(max(1, round(8 * round(64 * each / long) / 64)) for each in size)
    inside = found[..., : found.shape[2] - 1, : found.shape[3] - 1]
    assert torch.allclose(inside, torch.ones_like(inside))  # no zeros of the padding


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("lite9", ValueError, "no teacher is called 'lite9'; did you mean 'lite"),
        ("hf:", ValueError, "needs a folder or a name"),
        (f"{__name__}:not_a_network", TypeError, "must return an nn.Module"),
        ("torch:nn", TypeError, "must be a function that returns an nn.Module, got a module"),
        ("no_such_module:name", ValueError, "no module named"),
        (3, TypeError, "a teacher is"),
    ],
)
def test_mistakes_are_named(source: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        features_of(source)


def test_a_network_without_maps() -> None:
    with pytest.raises(TypeError, match=r"nothing: a backbone yields maps .* got NoneType"):
        Features("nothing", nn.Identity(), read=lambda found, size: [])(torch.zeros(1, 3, 4, 4))
    with pytest.raises(TypeError, match=r"yields maps .* got \(1, 48\)"):
        features_of(f"{__name__}:tokens_only")(torch.zeros(1, 3, 4, 4))


def test_other_weights_are_not_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"conv_stem.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        EfficientNetLite("lite0", pretrained=tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()
