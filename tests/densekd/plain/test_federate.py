"""Clients with images of their own."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from contract.recorder import Recorder
from torch import Tensor, nn
from torch.utils.data import DataLoader

import densekd
from densekd.datasets.digits import draw
from kdlosses.rounds import METHODS
from kdlosses.shares import dealt, proportions

Pairs = list[tuple[Tensor, Tensor]]


def net(width: int = 8, classes: int = 11) -> nn.Module:
    def block(ins: int, step: int) -> list[nn.Module]:
        return [nn.Conv2d(ins, width, 3, stride=step, padding=1), nn.BatchNorm2d(width), nn.ReLU()]

    body, top = nn.Sequential(*block(3, 2)), nn.Sequential(*block(width, 1))
    return nn.Sequential(OrderedDict(body=body, top=top, head=nn.Conv2d(width, classes, 1)))


def scenes(split: Any, count: int, seed: int = 0) -> Pairs:
    """Digit scenes for a plain model: pixels of -1 to 1 and label maps."""
    found = [draw(index, split, size=32, seed=seed) for index in range(count)]
    return [
        (torch.from_numpy(each.image).permute(2, 0, 1) / 127.5 - 1, torch.from_numpy(each.mask).long())
        for each in found
    ]


def clients(spoilt: int | None = None) -> list[dict[str, Pairs]]:
    """Three clients with unequal shares of the scenes by their first digit, or one of them with noise in its place."""
    parts: dict[str, list[Pairs]] = {}
    for split, count in (("train", 24), ("val", 12), ("test", 12)):
        every = scenes(split, count)
        first = torch.tensor([int(np.unique(label)[1]) - 1 for _, label in every])
        parts[split] = [[every[place] for place in own] for own in dealt(first, proportions(10, 3, 1.0, seed=1))]
    found = [{split: parts[split][place] for split in parts} for place in range(3)]
    if spoilt is not None:
        noise = torch.Generator().manual_seed(0)
        for split, pairs in found[spoilt].items():
            found[spoilt][split] = [
                (torch.randn(image.shape, generator=noise), label.roll(5, 0)) for image, label in pairs
            ]
    return found


QUICK: dict[str, Any] = dict(layers=["body", "top", "head"], rounds=3, batch_size=4, lr=1e-2, device="cpu")


@pytest.mark.parametrize("method", METHODS)
def test_nothing_of_a_client_reaches_another_one_but_what_it_says(method: str) -> None:
    shared, plain = scenes("train", 6, seed=9), Recorder()
    clean = densekd.federate(net, method, clients=clients(), transfer=shared, traffic=plain, **QUICK)
    told = {key: each for key, each in plain.kept.items() if key[0] == "down" and key[2] != 2}
    other = densekd.federate(net, method, clients=clients(2), transfer=shared, traffic=Recorder(told), **QUICK)
    for place in range(2):
        states = [found.clients[place].model.state_dict() for found in (clean, other)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        assert clean.records[place] == other.records[place]
    assert clean.records[2] != other.records[2]


def test_bytes_are_those_of_what_is_sent_and_deep_layers_leave_first() -> None:
    found = densekd.federate(net, "fedd2s", clients=clients(), **QUICK)
    images = len(clients()[0]["train"])
    assert [found.traffic.down[turn, 0] for turn in range(2)] == [images * 11 * 16 * 16 * 4] * 2
    assert [found.traffic.up[turn, 0] for turn in range(2)] == [
        8 + images * 16 * 16 * (width * 4 + 8 + 11 * 4) for width in (11, 8)
    ]
    shared = scenes("train", 6, seed=9)
    found = densekd.federate(net, "knfu", clients=clients(), transfer=shared, **QUICK)
    assert set(found.traffic.up.values()) == {6 * 11 * 16 * 16 * 4}
    weights = sum(each.numel() * each.element_size() for each in net().state_dict().values())
    found = densekd.federate(net, "fedavg", clients=clients(), **QUICK)
    assert set(found.traffic.down.values()) == {weights}
    assert len(found.traffic.down) == 9


def test_labels_of_the_shared_images_are_not_read() -> None:
    shared = scenes("train", 6, seed=9)
    other = [(image, label.roll(7, 0)) for image, label in shared]
    one, two = (densekd.federate(net, "knfu", clients=clients(), transfer=each, **QUICK) for each in (shared, other))
    assert one.records == two.records


def test_what_a_client_says_is_of_the_pixels_of_its_layer() -> None:
    (client, *_) = densekd.federate(net, "local", clients=clients(), **{**QUICK, "rounds": 1}).clients
    said = client.say("outputs", 2).tensors
    images, labels = (torch.stack(each) for each in zip(*clients()[0]["train"]))
    with torch.no_grad():
        level, logits = client.model[:2](images), client.model(images)
    torch.testing.assert_close(said["outputs"], level)
    at = labels[:, ::2, ::2]
    assert torch.equal(said["labels"], torch.where(at == 255, -1, at))
    assert level.shape[2:] == logits.shape[2:]
    torch.testing.assert_close(said["logits"], logits)


def test_images_that_change_when_they_are_read_again_are_named() -> None:
    class Noisy(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.rand(3, 16, 16), torch.zeros(16, 16, dtype=torch.long)

    first, *rest = clients()
    with pytest.raises(ValueError, match="client 0: train yields other images when it is read again"):
        densekd.federate(net, "fedd2s", clients=[{**first, "train": Noisy()}, *rest], **QUICK)
    with pytest.raises(ValueError, match="transfer yields other images when it is read again, and KnFu"):
        densekd.federate(net, "knfu", clients=clients(), transfer=Noisy(), **QUICK)
    with pytest.raises(TypeError, match="transfer is pairs or dicts"):
        densekd.federate(net, "knfu", clients=clients(), transfer=[torch.rand(3, 16, 16)] * 4, **QUICK)


def test_knfu_is_better_than_all_predictions_where_clients_are_unlike() -> None:
    """Two pairs of clients: what one pair calls class 1 the other calls class 2. Alone each is better still, here."""

    def blocks(count: int, seed: int, swapped: bool) -> Pairs:
        generator = torch.Generator().manual_seed(seed)
        found = []
        for _ in range(count):
            label = torch.randint(3, (4, 4), generator=generator).repeat_interleave(4, 0).repeat_interleave(4, 1)
            image = torch.eye(3)[label].permute(2, 0, 1) + 0.6 * torch.randn(3, 16, 16, generator=generator)
            found.append((image, torch.tensor([0, 2, 1])[label] if swapped else label))
        return found

    each = [
        dict(train=2 * blocks(2, k, k > 1), val=blocks(6, 10 + k, k > 1), test=blocks(12, 20 + k, k > 1))
        for k in range(4)
    ]
    given: dict[str, Any] = dict(
        clients=each, transfer=blocks(8, 99, False), rounds=4, epochs=10, lr=1e-2, device="cpu"
    )
    average, knfu = (
        densekd.federate(lambda: net(classes=3), method, **given).records
        for method in ("average", dict(type="knfu", temperature=0.02))
    )
    last = [sum(each.vals[-1] for each in records) / 4 for records in (average, knfu)]
    assert last[1] > last[0] + 0.05, (
        last
    )  # after all rounds: the best of them may be the first, in which nobody is told


def test_what_is_missing_is_named_before_anything_is_trained() -> None:
    own = clients()
    for told, given in (
        ("at least 1, got 0", dict(clients=[])),
        ("client 1 has no data set 'val'", dict(clients=[own[0], {"train": own[0]["train"]}])),
        ("a data set is empty", dict(clients=[{**own[0], "test": []}])),
        ("give transfer=", dict(clients=own)),
        ("rounds is a whole number from 1, got 0", dict(clients=own, transfer=own[0]["train"], rounds=0)),
        ("epochs must be an integer of at least 1", dict(clients=own, transfer=own[0]["train"], epochs=0)),
        ("give layers=", dict(clients=own, method="fedd2s", layers=())),
        ("'top', must yield the 11 logits", dict(clients=own, method="fedd2s", layers=["body", "top"])),
    ):
        with pytest.raises(ValueError, match=told):
            densekd.federate(net, **{**QUICK, **given})
    for name, value in (("clients", 3), ("clients", own[0]), ("layers", "head")):
        with pytest.raises(TypeError, match=f"{name} is a list of"):
            densekd.federate(net, **{**QUICK, "clients": own, name: value})
    shared = own[0]["train"]
    rounds: list[str] = []
    told: dict[str, Any] = {**QUICK, "clients": own, "transfer": shared, "log": rounds.append}
    with pytest.raises(ValueError, match="transfer is a DataLoader with an order of its own"):
        densekd.federate(net, **{**told, "transfer": DataLoader(shared, 2, shuffle=True)})
    for pull in (-1.0, float("nan"), "half"):
        with pytest.raises(ValueError, match="pull is the weight of what a client was told"):
            densekd.federate(net, **told, pull=pull)
    with pytest.raises(KeyError, match="no loss is called 'kll'"):
        densekd.federate(net, **told, distills=[dict(loss="kll")])
    with pytest.raises(ValueError, match="weight 'auto' is measured beside the task"):
        densekd.federate(net, **told, distills=[dict(loss="kl", weight="auto")])
    assert not rounds
    with pytest.raises(KeyError, match="did you mean 'knfu'"):
        densekd.federate(net, "knfuu", clients=own)
    with pytest.raises(TypeError, match="client 1 has no option 'weight'; known: test, train, val"):
        densekd.federate(net, **{**told, "clients": [own[0], {**own[1], "weight": 2.0}]})


def test_a_client_whose_loss_is_no_number_is_named() -> None:
    own = clients()
    own[1] = {**own[1], "train": [(image * float("nan"), label) for image, label in own[1]["train"]]}
    with pytest.raises(FloatingPointError, match="the loss of client 1 is nan in round 1"):
        densekd.federate(net, "fedavg", clients=own, **QUICK)
