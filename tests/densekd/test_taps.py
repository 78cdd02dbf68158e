from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from densekd.taps.reader import Tap, Taps


class Pyramid(nn.Module):
    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.relu = nn.ReLU(inplace)
        self.levels = Levels()
        self.head = nn.Conv2d(4, 2, 1)
        self.unused = nn.Conv2d(4, 2, 1)
        self.calls = 0

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = [self.head(level) for level in self.levels(self.relu(self.stem(x)))]
        self.calls += 1
        return outputs


class Levels(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, x[..., ::2, ::2], x[..., ::4, ::4]


X = torch.rand(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("spec", "tap"),
    [
        ("a.b", Tap("a.b")),
        ("a.b:2", Tap("a.b", 2)),
        ("a.b:-1", Tap("a.b", -1)),
        ("a.b:in", Tap("a.b", None, True)),
        ("a.b:logits", Tap("a.b", key="logits")),
        ("a:states:-1", Tap("a", -1, key="states")),
        ("a:states:copy", Tap("a", copied=True, key="states")),
        (":logits", Tap("", key="logits")),
        (":", Tap("")),
    ],
)
def test_parse(spec: str, tap: Tap) -> None:
    assert Tap.parse(spec) == tap


@pytest.mark.parametrize("spec", ["a:", "a:in:1", "a:1:2", "a:b:c", "a:1:b"])
def test_parse_rejects(spec: str) -> None:
    with pytest.raises(ValueError, match="write 'path'"):
        Tap.parse(spec)


def test_outputs_items_inputs_and_calls() -> None:
    model = Pyramid()
    with Taps(model, ["levels", "levels:1", "levels:-1", "head", "head:in", "stem"]) as taps:
        outputs = model(X)
    assert [t.shape[-1] for t in taps["levels"]] == [8, 4, 2]
    assert [t.shape[-1] for t in taps["levels:1"]] == [4]
    assert [t.shape[-1] for t in taps["levels:-1"]] == [2]
    assert all(a is b for a, b in zip(taps["head"], outputs))
    assert all(a is b for a, b in zip(taps["head:in"], taps["levels"]))
    assert len(taps["stem"]) == 1
    assert taps["stem"][0].requires_grad


def test_hooks_live_for_one_forward() -> None:
    model = Pyramid()
    with Taps(model, ["head", "stem:in"]) as taps:
        model(X)
    with pytest.raises(ZeroDivisionError), Taps(model, ["head"]):
        raise ZeroDivisionError
    model(X)
    assert len(taps["head"]) == 3
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_wrong_path_names_the_three_nearest() -> None:
    with pytest.raises(KeyError, match=r"Pyramid has no module 'heads'; nearest: head, \w+, \w+"):
        Taps(Pyramid(), ["heads"])


def test_a_tap_that_never_fires_is_an_error() -> None:
    model = Pyramid()
    with Taps(model, ["unused"]) as taps:
        model(X)
    with pytest.raises(RuntimeError, match="'unused' of Pyramid never fired"):
        taps["unused"]


def test_overwritten_in_place_is_an_error() -> None:
    model = Pyramid(inplace=True)
    with Taps(model, ["stem", "relu"]) as taps:
        model(X)
    assert (taps["relu"][0] >= 0).all()
    with pytest.raises(RuntimeError, match="'stem' of Pyramid was overwritten in place"):
        taps["stem"]


def test_wrong_item_and_no_tensor() -> None:
    model = Pyramid()
    with pytest.raises(IndexError, match="there is no item 3, the module yields 3 items"), Taps(model, ["levels:3"]):
        model(X)
    with pytest.raises(IndexError, match="yields a Tensor"), Taps(model, ["stem:0"]):
        model(X)
    with pytest.raises(TypeError, match="yields list instead of tensors"), Taps(nn.Sequential(Nested()), ["0"]) as taps:
        taps.model(X)


class Nested(nn.Module):
    def forward(self, x: Tensor) -> list[list[Tensor]]:
        return [[x]]


def test_forward_stops_when_all_has_been_seen() -> None:
    model = Pyramid()
    with Taps(model, ["levels", "head"], stop_after={"levels": 3, "head": 2}) as taps:
        model(X)
    assert len(taps["levels"]) == 3
    assert len(taps["head"]) == 2
    assert model.calls == 0  # the third level was never computed


def test_several_taps_are_one_in_the_order_that_is_written() -> None:
    model = Pyramid()
    with Taps(model, ["head+stem", "stem"]) as taps:
        model(torch.zeros(1, 3, 8, 8))
    assert [t.shape for t in taps["head+stem"]] == [t.shape for t in [*apart(model, "head"), *apart(model, "stem")]]
    assert taps["head+stem"][-1] is taps["stem"][-1]
    with pytest.raises(KeyError, match="no module 'steam'"):
        Taps(model, ["head+steam"])


def apart(model: nn.Module, spec: str) -> list[torch.Tensor]:
    with Taps(model, [spec]) as taps:
        model(torch.zeros(1, 3, 8, 8))
    return taps[spec]


def test_a_copy_is_kept_from_what_overwrites_it() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
    with Taps(model, ["0", "0:copy"]) as taps:
        out = model(torch.randn(4, 2))
    with pytest.raises(RuntimeError, match="or a copy: '0:copy'"):
        taps["0"]
    (copy,) = taps["0:copy"]
    assert (copy < 0).any()
    assert torch.equal(copy.relu(), out)
    copy.sum().backward()
    assert (model[0].bias.grad == 4).all()
