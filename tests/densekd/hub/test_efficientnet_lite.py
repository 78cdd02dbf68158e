"""EfficientNet-Lite: the network of another package, to the digit, and its published weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from densekd.hub.efficientnet_lite import EfficientNetLite, published


@pytest.mark.parametrize("arch", ["lite0", "lite1", "lite2"])
def test_levels_equal_those_of_the_published_network(arch: str) -> None:
    theirs = EfficientNet.from_name(f"efficientnet-{arch}")
    theirs.load_state_dict(torch.load(published(arch), weights_only=True))
    theirs.eval()
    images = torch.randn(1, 3, *[theirs.input_image_size] * 2)
    outputs: list[torch.Tensor] = []
    for block in theirs._blocks:
        block.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    ours = EfficientNetLite(arch, pretrained=True).eval()
    with torch.no_grad():
        theirs.extract_features(images)
        levels = ours(images)
    ends = [n for n, (a, b) in enumerate(zip(outputs, [*outputs[1:], None])) if b is None or a.shape[2] > b.shape[2]]
    expected = [outputs[end] for end in ends[1:]]  # stride 2 is no level
    assert len(outputs) == len(ours.blocks)
    for level, other in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, other, rtol=1e-5, atol=1e-5)


def test_odd_images_are_padded_as_ceil_of_size_by_stride() -> None:
    levels = EfficientNetLite("lite0").eval()(torch.zeros(1, 3, 45, 67))
    assert [tuple(level.shape[2:]) for level in levels] == [(12, 17), (6, 9), (3, 5), (2, 3)]


def test_an_enlarging_network_is_the_same_one_on_enlarged_images() -> None:
    plain, twice = EfficientNetLite("lite0").eval(), EfficientNetLite("lite0", enlarge=2).eval()
    twice.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 32, 48)
    larger = nn.Upsample(scale_factor=2, mode="bilinear")(images)
    assert [tuple(level.shape[2:]) for level in twice(images)] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    torch.testing.assert_close(twice(images), plain(larger))


def test_deeper_levels_do_not_run_when_nobody_asks_for_them() -> None:
    model = EfficientNetLite("lite0", out_indices=(1,)).eval()
    called: list[int] = []
    for index, block in enumerate(model.blocks):
        block.register_forward_hook(lambda *_, index=index: called.append(index))
    (level,) = model(torch.zeros(1, 3, 32, 32))
    assert level.shape == (1, 40, 4, 4)
    assert max(called) == 4


def test_frozen_levels_keep_weights_and_statistics() -> None:
    model = EfficientNetLite("lite0", frozen_stages=1).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    sum(level.square().mean() for level in model(torch.randn(2, 3, 32, 32))).backward()
    optimiser.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.startswith("blocks.") and int(key.split(".")[1]) >= 5 for key in changed)


def test_norm_eval_keeps_statistics_alone() -> None:
    model = EfficientNetLite("lite0", norm_eval=True).train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"arch": "lite9"}, "did you mean"),
        ({"out_indices": (0, 4)}, "levels of 0 to 3"),
        ({"frozen_stages": 7}, "frozen_stages"),
        ({"arch": "lite3", "pretrained": True}, "no package carries weights of EfficientNet-lite3"),
        ({"enlarge": 0.5}, "enlarge must be from 1 to 4, got 0.5"),
        ({"arch": "lite2", "pretrained": published("lite0")}, "no weights of EfficientNet-lite2"),
    ],
)
def test_mistakes_are_named(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EfficientNetLite(**options)


@pytest.mark.parametrize("held", [b"junk", [1, 2]])
def test_a_file_of_something_else_is_named(tmp_path: Path, held: object) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(held) if isinstance(held, bytes) else torch.save(held, path)
    with pytest.raises(ValueError, match=r"weights\.pth (is damaged or of another format|holds no weights by name)"):
        EfficientNetLite("lite0", pretrained=path)


def test_another_file_of_ours_loads_by_name(tmp_path: object) -> None:
    path = f"{tmp_path}/own.pth"
    model = EfficientNetLite("lite0")
    torch.save(model.state_dict(), path)
    again = EfficientNetLite("lite0", pretrained=path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
