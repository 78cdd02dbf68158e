from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlosses.rules import coupled_channels, prune_channels, set_widths

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def block(into: int, out: int, kernel: int = 3, **options: Any) -> nn.Sequential:
    conv = nn.Conv2d(into, out, kernel, padding=kernel // 2, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.SiLU())


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = block(width, width), block(width, width)[:2]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)), inplace=True)


class Detector(nn.Module):
    """A stem, a residual stage, a cross-stage partial one with a depthwise layer, a pyramid, a head on each level."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"stem": block(3, 6), "layer1": Residual(6), "layer2": block(6, 8, stride=2)})
        self.short, self.long = block(8, 5, 1), block(8, 5, 1)
        self.depth, self.joined = block(5, 5, groups=5), block(10, 7, 1)
        self.neck = nn.ModuleList([block(6, 4, 1), block(7, 4, 1)])
        self.head = nn.ModuleList([block(4, 6), nn.Conv2d(6, 2, 1)])

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.backbone["layer1"](self.backbone["stem"](x))
        coarse = self.backbone["layer2"](fine)
        coarse = self.joined(torch.cat([self.depth(self.long(coarse)), self.short(coarse)], 1))
        fine, coarse = self.neck[0](fine), self.neck[1](coarse)
        fine = fine + F.interpolate(coarse, size=fine.shape[2:])
        return [self.head[1](self.head[0](each)) for each in (fine, F.max_pool2d(coarse, 2))]


def run(net: Any) -> Any:
    return net(IMAGE.to(next(net.parameters())))


def norms(net: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {path: each for path, each in net.named_modules() if isinstance(each, nn.BatchNorm2d)}


@pytest.fixture
def detector() -> Detector:
    torch.manual_seed(0)
    net = Detector().eval()
    for norm in norms(net).values():
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
    return net


def test_channels_of_scale_and_shift_0_are_gone_and_nothing_changes(detector: Detector) -> None:
    coupled = coupled_channels(detector, run)
    groups: dict[int, None] = {}
    for layer in coupled.layers.values():
        groups |= {coupled.root(c): None for c in layer.writes if layer.norms and not coupled.fixed(c)}
    none = set(list(groups)[::2])
    with torch.no_grad():
        for path, norm in norms(detector).items():
            gone = [n for n, c in enumerate(coupled.layers[path].writes) if coupled.root(c) in none]
            norm.weight[gone] = norm.bias[gone] = 0
        before = run(detector)
        zeros = {path: int((norm.weight == 0).sum()) for path, norm in norms(detector).items()}
        shares = {
            path: 1 - zeros[path] / norm.num_features for path, norm in norms(detector).items() if path != "depth.1"
        }
        found = prune_channels(detector, run, keep=shares, least=1)
        for one, other in zip(before, run(found.model), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert {path: norm.num_features for path, norm in norms(found.model).items()} == {
        path: norm.num_features - zeros[path] for path, norm in norms(detector).items()
    }
    sizes = [sum(p.numel() for p in net.parameters()) for net in (detector, found.model)]
    assert sizes[1] < 0.5 * sizes[0]
    assert len(found.model.state_dict()) == len(detector.state_dict())


def test_a_constant_of_scale_0_is_handed_on_to_the_next_bias_or_norm() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*block(3, 6, 1), *block(6, 6, 1), nn.Conv2d(6, 2, 1)).eval()
    with torch.no_grad():
        for norm in norms(net).values():
            nn.init.normal_(norm.bias)
            norm.weight[::2] = 0
        expected = run(net)
        found, without = (prune_channels(net, run, 0.5, least=1, constants=each).model for each in (True, False))
        torch.testing.assert_close(run(found), expected, rtol=1e-5, atol=1e-5)
        assert (run(without) - expected).abs().max() > 0.05
    assert [norm.num_features for norm in norms(found).values()] == [3, 3]


def test_with_all_channels_it_is_the_same_network(detector: Detector) -> None:
    found = prune_channels(detector, run, keep=1)
    assert found.widths == {}
    assert all(torch.equal(one, other) for one, other in zip(run(detector), run(found.model)))


def test_each_group_has_its_threshold_and_coupled_channels_stay_where_one_does(detector: Detector) -> None:
    keep = {"backbone": 0.5, "": 0.25, "neck": 0.5, "head": 1.0}
    found = prune_channels(detector, run, keep=keep, least=2)
    gamma = {path: norm.weight.detach().double().numpy() for path, norm in norms(detector).items()}
    tied = [
        ["backbone.stem.1", "backbone.layer1.second.1"],
        *(["backbone.layer1.first.1"], ["backbone.layer2.1"], ["long.1"], ["short.1"], ["joined.1"]),
        *(["neck.0.1", "neck.1.1"], ["head.0.1"]),
    ]
    share: dict[str, float] = {path: keep.get(path.split(".")[0], keep[""]) for each in tied for path in each}
    left: dict[str, int] = {}
    for paths in tied:
        stays = np.zeros(len(gamma[paths[0]]), bool)
        for path in paths:
            first = path.split(".")[0]
            # short, long and joined are groups of their own, as group_of names them; the backbone is one, as keep does
            every = np.concatenate([gamma[each] for each in share if each.split(".")[0] == first])
            gone = int(len(every) * (1 - share[path]))
            threshold = np.sort(np.abs(every))[gone - 1] if gone else -1.0
            stays |= np.abs(gamma[path]) > threshold
        greatest = np.max([np.abs(gamma[path]) for path in paths], axis=0)
        for best in np.argsort(-greatest)[: max(0, 2 - stays.sum()) + stays.sum()]:
            if stays.sum() < 2:
                stays[best] = True
        left |= {path: int(stays.sum()) for path in paths}
        for path in paths:
            kept = dict(norms(found.model))[path].weight.detach().double().numpy()
            np.testing.assert_array_equal(kept, gamma[path][stays])
    left["depth.1"] = left["long.1"]
    assert {path: norm.num_features for path, norm in norms(found.model).items()} == left
    assert found.groups["backbone"][0] == 26
    assert found.apart < 1e-12
    depth: Any = found.model.depth[0]
    assert depth.groups == depth.in_channels == depth.out_channels == left["long.1"]


def test_the_widths_make_a_network_that_takes_the_weights(detector: Detector) -> None:
    found = prune_channels(detector, run, keep=0.4, least=1)
    again = set_widths(Detector(), found.widths).eval()
    again.load_state_dict(found.model.state_dict())
    assert all(torch.equal(one, other) for one, other in zip(run(again), run(found.model)))
    assert [each.training for each in detector.modules()] == [False] * len(list(detector.modules()))


def test_its_gradients_are_those_of_a_network_that_can_be_trained(detector: Detector) -> None:
    detector.head[1].bias.requires_grad_(False)
    model = prune_channels(detector, run, keep=0.4, least=1).model.train()
    sum(each.square().mean() for each in run(model)).backward()
    assert {name for name, each in model.named_parameters() if each.grad is None} == {"head.1.bias"}


class Unseen(nn.Module):
    """Copies through NumPy, which nothing can follow."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy()[:, :4].copy())


@pytest.mark.parametrize(
    ("net", "options", "said"),
    [
        (nn.Sequential(*block(3, 8)), {}, "has no channel that could go"),
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Conv2d(8, 2, 1)), {}, "has no channel that could go"),
        (nn.Sequential(*block(3, 8), Unseen(), nn.Conv2d(4, 2, 1)), {"keep": 0.25}, "a coupling of its channels"),
        (nn.Sequential(*block(3, 8), nn.Conv2d(8, 2, 1)), {"keep": 0}, "above 0 and at most 1, got 0"),
        (nn.Sequential(*block(3, 8), nn.Conv2d(8, 2, 1)), {"keep": True}, "above 0 and at most 1, got True"),
        (nn.Sequential(*block(3, 8), nn.Conv2d(8, 2, 1)), {"keep": {"": float("nan")}}, "above 0 and at most 1"),
        (nn.Sequential(*block(3, 8), nn.Conv2d(8, 2, 1)), {"keep": {"neck": 0.5}}, "in the group 'neck'.*groups: 1"),
        (nn.Sequential(*block(3, 8), nn.Conv2d(8, 2, 1)), {"least": 0}, "least is a number of channels from 1, got 0"),
        (nn.Sequential(*block(3, 8), nn.Conv2d(8, 2, 1)), {"keep": {}}, "keep names no group"),
    ],
)
def test_what_cannot_be_pruned_is_said(net: nn.Module, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prune_channels(net, run, **{"keep": 0.5, "least": 1, **options})


def test_outputs_by_which_nothing_can_be_compared_are_refused(detector: Detector) -> None:
    with pytest.raises(ValueError, match="forward returns no tensor"):
        prune_channels(detector, lambda net: run(net) and None)
    detector.head[1].weight.data[0] = torch.nan
    with pytest.raises(ValueError, match="forward returns numbers that are not finite"):
        prune_channels(detector, run)


def test_a_layer_that_is_not_reached_is_named(detector: Detector) -> None:
    net = copy.deepcopy(detector)
    net.auxiliary = nn.Conv2d(7, 2, 1)
    with pytest.raises(ValueError, match="does not reach auxiliary: what these layers read is not known"):
        prune_channels(net, run)


def test_scales_that_are_not_finite_are_refused(detector: Detector) -> None:
    detector.short[1].weight.data[0] = torch.nan
    with pytest.raises(ValueError, match=r"the scales of 'short.1' are not all finite"):
        prune_channels(detector, run)


@pytest.mark.parametrize(
    ("widths", "said"),
    [
        ({"0": [3, 9]}, "'0' has 3 channels in and 8 out, .* got \\[3, 9\\]"),
        ({"0": [3, 0]}, "got \\[3, 0\\]"),
        ({"0": 4}, "got 4"),
        ({"1": [4, 5]}, "as many go out as in"),
        ({"2": [4, 4]}, "is a SiLU: it has no channels"),
        ({"9": [4, 4]}, "has no layer '9'"),
    ],
)
def test_widths_that_do_not_fit_are_named(widths: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        set_widths(block(3, 8), widths)
