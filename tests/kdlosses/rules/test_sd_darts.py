from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphkd import digits
from graphkd.data import split_of
from graphkd.teachers.gnn import GNN
from graphkd.teachers.sage import MeanConv
from kdlosses.rules.mixed import Mixed, Plain, Zero
from kdlosses.rules.prune_layers import Passed
from kdlosses.rules.sd_darts import sd_darts


def small() -> tuple[nn.Module, list[Any], list[Any]]:
    torch.manual_seed(0)
    x, y = torch.randn(24, 4), torch.randint(3, (24,))
    net = nn.Sequential(Mixed(a=nn.Linear(4, 3), b=nn.Sequential(nn.Linear(4, 3), nn.Tanh())), nn.Linear(3, 3))
    return net, [((x[:12],), y[:12])], [((x[12:],), y[12:])]


def test_its_last_steps_vote_and_validation_labels_alone_move_the_choice() -> None:
    """The loop once more, in double precision, with every step a snapshot of which the last two vote."""
    net, train, val = small()
    net = net.double()
    train, val = ([((x.double(),), y) for (x,), y in each] for each in (train, val))
    found = sd_darts(net, train, val, steps=5, k=2, every=1, votes=0.7, lr=0.05, alpha_lr=0.1, weight_decay=0.0)
    model, ((x,), y), ((x_val,), y_val) = copy.deepcopy(net), train[0], val[0]
    alpha = model[0].alpha
    weights = [each for each in model.parameters() if each is not alpha]
    by_weights, by_alpha = torch.optim.Adam(weights, 0.05), torch.optim.Adam([alpha], 0.1)
    past: list[Tensor] = []
    for step in range(5):
        if step:
            past.append(model(x).detach().softmax(1))
        (alpha.grad,) = torch.autograd.grad(F.cross_entropy(model(x_val), y_val), [alpha])
        by_alpha.step()
        log_q = model(x).log_softmax(1)
        value = -log_q[torch.arange(12), y].mean()
        if past:
            p = torch.stack(past[-2:]).mean(0)
            value = value + 0.7 * (p * (p.log() - log_q)).sum(1).mean()
        assert found.losses[step] == pytest.approx(value.item(), rel=1e-9)
        for each, grad in zip(weights, torch.autograd.grad(value, weights)):
            each.grad = grad
        by_weights.step()
    torch.testing.assert_close(found.supernet[0].alpha, alpha)
    assert not torch.equal(found.supernet[0].alpha, torch.zeros(2).double())
    unlabelled = sd_darts(net, train, [((x_val,), torch.full_like(y_val, -1))], steps=5)
    assert torch.equal(unlabelled.supernet[0].alpha, torch.zeros(2).double())
    assert torch.equal(net[0].alpha, torch.zeros(2).double())  # what is passed stays


def test_convolutions_that_see_what_tells_the_class_are_chosen() -> None:
    """The class of a pixel is the sign of its left neighbour."""
    torch.manual_seed(0)
    images = torch.randn(12, 1, 9, 9)
    labels = (images[:, 0].roll(1, dims=2) > 0).long()
    labels[:, :, 0] = 255
    place = Mixed(
        one=nn.Conv2d(1, 6, 1), three=nn.Conv2d(1, 6, 3, padding=1), zero=nn.Sequential(nn.Conv2d(1, 6, 1), Zero())
    )
    supernet = nn.Sequential(place, nn.ReLU(), nn.Conv2d(6, 2, 1))
    batches = [((images[k : k + 4],), labels[k : k + 4]) for k in (0, 4, 8)]
    found = sd_darts(supernet, batches[:2], batches[2:], steps=60, alpha_lr=0.05, lr=0.02)
    assert found.choices == {"0": "three"}
    assert isinstance(found.network[0], nn.Conv2d)


def test_a_network_that_its_past_taught_loses_less_when_its_operations_are_chosen() -> None:
    """On nodes: how much the loss of unseen nodes grows when one operation stands for each mixture."""
    graph = digits()
    split, seen = split_of(graph, 0), (graph.x, graph.edge_index)
    train, val = (torch.full((len(graph),), -1).index_copy(0, part, graph.y[part]) for part in (split.train, split.val))

    def layer(width: int, out: int) -> Mixed:
        gated = nn.Sequential(nn.Linear(width, 2 * out), nn.GLU())
        more = dict(skip=Passed(), zero=Zero()) if width == out else {}
        return Mixed(linear=Plain(nn.Linear(width, out)), gated=Plain(gated), sage=MeanConv(width, out), **more)

    def grown(votes: float) -> float:
        torch.manual_seed(2)
        supernet = GNN([layer(64, 16), layer(16, 16), layer(16, 10)])
        options: dict[str, Any] = dict(steps=60, every=4, lr=0.02, alpha_lr=0.03)
        found = sd_darts(supernet, [(seen, train)], [(seen, val)], votes=votes, **options)
        assert found.choices["layers.0"] == "sage"  # neighbours tell more than the pixels of one image
        with torch.no_grad():
            after, before = (
                F.cross_entropy(net(*seen)[split.test], graph.y[split.test]).item()
                for net in (found.network, found.supernet)
            )
        return after - before

    assert grown(1.0) < grown(0.0) - 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(k=0), "steps, k and every are at least 1"),
        (dict(votes=-1.0), "votes at least 0"),
        (dict(val=[]), "val has no batch"),
        (dict(supernet=nn.Linear(4, 3)), r"Linear has no kdlosses\.rules\.Mixed"),
    ],
)
def test_what_cannot_be_searched_is_named(options: dict[str, Any], message: str) -> None:
    net, train, val = small()
    with pytest.raises(ValueError, match=message):
        sd_darts(**{**dict(supernet=net, train=train, val=val, steps=2), **options})


def test_arguments_without_a_tuple_and_half_a_step_are_named() -> None:
    net, train, val = small()
    with pytest.raises(TypeError, match="a batch of train is"):
        sd_darts(net, [(train[0][0][0], train[0][1])], val, steps=1)
    with pytest.raises(TypeError, match="integer"):  # it was a loop without an end
        sd_darts(net, train, val, steps=1.5)  # type: ignore[arg-type]
