"""Models of OpenMMLab without the layers that a measure chose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

import densekd
from kdlosses.rules import prune_layers


@pytest.fixture(scope="module")
def config() -> Any:
    init_default_scope("mmseg")
    return densekd.read_config("densekd::seg/norm_feature/digits").model


def test_what_was_chosen_on_a_network_is_what_its_config_builds(config: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = MODELS.build(config.student.of).eval()
    images = torch.randn(2, 3, 64, 64)

    def output(net: Any) -> Tensor:
        found: Tensor = net(images, mode="tensor")
        return found

    blocks = [f"backbone.layer{stage}.1" for stage in (1, 2, 3, 4)]
    chosen = prune_layers(teacher, blocks, output, share=0.4)
    torch.save({"state_dict": teacher.state_dict()}, tmp_path / "teacher.pth")
    student = dict(config.student, layers=chosen.removed, weights=str(tmp_path / "teacher.pth"))
    built = MODELS.build(student).eval()
    with torch.no_grad():
        assert torch.equal(output(built), output(chosen.model.eval()))
        assert not torch.equal(output(built), output(teacher))
    sizes = [sum(each.numel() for each in net.parameters()) for net in (built, teacher)]
    assert sizes[0] <= 0.6 * sizes[1]
    before = {name: value.clone() for name, value in built.state_dict().items()}
    built.init_weights()  # as the runner does before it trains
    assert all(torch.equal(value, before[name]) for name, value in built.state_dict().items())
    plain = MODELS.build(dict(config.student, layers=chosen.removed)).eval()
    plain.load_state_dict(built.state_dict())
    with torch.no_grad():
        assert torch.equal(output(plain), output(built))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (dict(layers=["backbone.layer9.1"]), KeyError, "no module 'backbone.layer9.1'; nearest: backbone.layer"),
        (dict(layers=["backbone.layer2.0"]), ValueError, "'backbone.layer2.0' changes the shape of its input"),
        (dict(layers=["backbone.layer2.1"] * 2), ValueError, "is left out with 'backbone.layer2.1' already"),
        (dict(layers=[]), ValueError, "layers is a list of paths of layers to leave out, got"),
        (dict(layers="backbone.layer2.1"), ValueError, "layers is a list of paths"),
    ],
)
def test_layers_that_cannot_be_left_out_are_named(
    config: Any, change: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        MODELS.build({**config.student, **change})
