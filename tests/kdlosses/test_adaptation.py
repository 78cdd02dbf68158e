"""A robust mean teacher at test time: its terms by hand, and what it changes and leaves alone."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdlosses.adaptation import RobustMeanTeacher, noisy, prototypes, pull


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def segmenter() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1))


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_pull_is_its_formula() -> None:
    f, g, means = drawn(6, 4), drawn(6, 4, seed=2), drawn(3, 4, seed=3)
    one, other, mean = (each.double().numpy() for each in (f, g, means))

    def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)

    nearest = cosines(one, mean).argmax(1)
    views, kind = np.concatenate([mean[nearest], one, other]), np.tile(nearest, 3)
    s, total = cosines(views, views) / 0.2, 0.0
    for i in range(len(views)):
        others = [a for a in range(len(views)) if a != i]
        like = [a for a in others if kind[a] == kind[i]]
        total += np.mean([np.log(np.exp(s[i, others]).sum()) - s[i, p] for p in like])
    assert pull(f, g, means, 0.2).item() == pytest.approx(total / len(views), rel=1e-5)


def test_the_pull_draws_features_to_their_prototype() -> None:
    means = torch.eye(3, 4)
    f = (means.repeat(5, 1) + 0.6 * drawn(15, 4)).requires_grad_()
    optimiser = torch.optim.Adam([f], 0.05)
    nearest = torch.cosine_similarity(f[:, None], means, dim=2).argmax(1)
    before = torch.cosine_similarity(f, means[nearest]).mean().item()
    for _ in range(30):
        optimiser.zero_grad()
        pull(f, f + 0.01, means).backward()
        optimiser.step()
    assert torch.cosine_similarity(f, means[nearest]).mean().item() > before + 0.1


def test_a_step_is_its_formula() -> None:
    """Loss, average and prediction by hand, of the second batch, where student and average differ."""
    model, means = network(), drawn(3, 8, seed=4).relu()
    source = [(drawn(4, 5, seed=5), torch.tensor([0, 1, -1, 255]))]
    adapting = RobustMeanTeacher(
        *(model, "3:in", means, lambda x: x + 0.1), lr=0.05, momentum=0.7, source=source, contrast=0.5, replay=2.0
    )
    x = [drawn(10, 5, seed=6), drawn(10, 5, seed=7)]
    adapting(x[0])
    student, average = copy.deepcopy(adapting.student), copy.deepcopy(adapting.average)
    assert not torch.equal(student[0].weight, average[0].weight)
    expected = 0.7 * model[0].weight + 0.3 * student[0].weight
    torch.testing.assert_close(average[0].weight, expected)
    state = copy.deepcopy(adapting.optimiser.state_dict())
    answer = adapting(x[1])
    torch.testing.assert_close(answer, student(x[1]) + average(x[1]))

    def log_p(z: Tensor) -> Tensor:
        return z.double().log_softmax(1)

    def sce(z: Tensor, told: Tensor) -> Tensor:
        q, p = log_p(z), log_p(told).detach()
        return -0.5 * (p.exp() * q + q.exp() * p).sum(1).mean()

    told = average(x[1])
    hidden = [student[:3](each) for each in (x[1], x[1] + 0.1)]
    loss = 0.5 * sce(student(x[1]), told) + 0.5 * sce(student(x[1] + 0.1), told) + 0.5 * pull(*hidden, means)
    loss = loss - 2.0 * log_p(student(source[0][0][:2]))[[0, 1], [0, 1]].mean()
    optimiser = torch.optim.Adam(student.parameters(), lr=0.05)
    optimiser.load_state_dict(state)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    for by_hand, found in zip(student.parameters(), adapting.student.parameters()):
        torch.testing.assert_close(found, by_hand, atol=2e-4, rtol=1e-3)


def test_the_model_stays_as_it_is_and_dropout_rests() -> None:
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    adapting, x = RobustMeanTeacher(model, lr=0.1), drawn(10, 5)
    first = adapting(x)
    torch.testing.assert_close(first, 2 * copy.deepcopy(model).eval()(x))
    adapting.train()
    assert not adapting.student.training
    for _ in range(3):
        adapting(x)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not torch.allclose(adapting(x), first)


def test_statistics_of_the_batch_are_a_choice() -> None:
    x = 3 + 2 * drawn(4, 1, 8, 8)
    model = segmenter().eval()
    kept = RobustMeanTeacher(model, statistics=False)(x)
    torch.testing.assert_close(kept, 2 * model(x))
    batch = RobustMeanTeacher(model)(x)
    torch.testing.assert_close(batch, 2 * copy.deepcopy(model).train()(x))


def test_pixels_adapt_as_nodes_do() -> None:
    """A map of 1x1 pixels is a batch of nodes, with the same steps; whole maps run with features of their own size."""
    model = network()
    wide = nn.Sequential(nn.Conv2d(5, 8, 1), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(8, 3, 1))
    for mine, its in zip(wide.parameters(), model.parameters()):
        mine.data.copy_(its.data.reshape(mine.shape))
    means, x = drawn(3, 8).relu(), drawn(12, 5)
    found = []
    for each, inputs in ((model, x), (wide, x[:, :, None, None])):
        adapting = RobustMeanTeacher(each, "3:in", means, lambda x: 0.9 * x, lr=0.01)
        found.append([adapting(inputs).flatten(1) for _ in range(3)][-1])
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
    maps = RobustMeanTeacher(
        segmenter(), "3:in", drawn(3, 8), draw=20, source=[(drawn(1, 1, 8, 8), torch.ones(1, 4, 4).long())]
    )
    assert maps(drawn(2, 1, 8, 8)).shape == (2, 3, 4, 4)


@pytest.mark.parametrize("labels", [False, True])
def test_prototypes_are_the_mean_features_of_the_classes(labels: bool) -> None:
    model, x = segmenter().train(), drawn(6, 1, 8, 8)
    truth = torch.randint(3, (6, 8, 8), generator=torch.Generator().manual_seed(0))
    truth[0, :2] = 255
    batches = [(part, y) if labels else (part,) for part, y in zip(x.split(2), truth.split(2))]
    found = prototypes(model, "3:in", batches, 3, labels=labels)
    assert model.training
    assert model[1].num_batches_tracked == 0
    model.eval()
    features = model[:3](x).detach().double().numpy()
    kind = truth[:, ::2, ::2].numpy() if labels else model(x).argmax(1).numpy()
    expected = np.stack([features.transpose(0, 2, 3, 1)[kind == k].mean(0) for k in range(3)])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"no position of the source is of the classes \[3\]"):
        prototypes(model, "3:in", batches, 4, labels=labels)


def test_each_part_adapts_further_than_the_others_without_it() -> None:
    """Three blobs that turn step by step: symmetric cross-entropy and prototypes each follow, together further."""
    centres, y = 4 * torch.eye(3, 5), torch.arange(90) % 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        optimiser = torch.optim.Adam(model.parameters(), 0.02)
        for step in range(150):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(centres[y] + drawn(90, 5, seed=step)), y).backward()
            optimiser.step()
    model.eval()

    def right(predict: Any) -> float:
        shares = []
        for k in range(30):
            turn, angle = torch.eye(5), torch.tensor(0.045 * k)
            turn[0, 0] = turn[1, 1] = angle.cos()
            turn[0, 1], turn[1, 0] = angle.sin(), -angle.sin()
            x = (centres[y] + drawn(90, 5, seed=1000 + k)) @ turn.T
            shares.append((predict(x).argmax(1) == y).double().mean().item())
        return float(np.mean(shares[15:]))

    means = prototypes(model, "3:in", [(centres[y] + drawn(90, 5),)], 3)
    plain, symmetric, both = (
        right(RobustMeanTeacher(model, "3:in", means, lr=0.03, momentum=0.5, **options))
        for options in (dict(alpha=0.0, contrast=0.0), dict(contrast=0.0), {})
    )
    assert right(model) + 0.01 < plain
    assert plain + 0.02 < symmetric
    assert symmetric + 0.02 < both


def test_noise_is_a_share_of_the_deviation() -> None:
    x = 5 * drawn(200, 50)
    assert (noisy(x, 0.2) - x).std().item() == pytest.approx(1.0, rel=0.05)
    one, two = (noisy(x, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(tap="3:in"), "features have a tap and prototypes, or neither"),
        (dict(momentum=1.0), "momentum is from 0 to less than 1"),
        (dict(lr=0.0), "lr and tau are positive"),
        (dict(draw=1), "draw is at least 2"),
    ],
)
def test_what_is_out_of_range_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RobustMeanTeacher(network(), **options)


def test_a_loss_that_is_not_finite_and_a_source_without_a_batch_are_named() -> None:
    with pytest.raises(FloatingPointError, match="the loss is nan; lower lr"):
        RobustMeanTeacher(network())(torch.full((3, 5), torch.nan))
    with pytest.raises(ValueError, match="the source has no batch, or can be read only once"):
        RobustMeanTeacher(network(), source=[])(drawn(3, 5))


def test_labels_of_the_source_may_all_be_unknown_and_must_be_classes() -> None:
    x, unknown = drawn(4, 5), torch.tensor([-1, 255, 255, -1])
    found = [RobustMeanTeacher(network(), lr=0.1, source=source) for source in (None, [(x, unknown)])]
    for _ in range(2):
        answers = [adapting(x) for adapting in found]
    torch.testing.assert_close(*answers)
    with pytest.raises(ValueError, match="labels name class 7 where there are 3"):
        RobustMeanTeacher(network(), source=[(x, torch.full((4,), 7))])(x)
    with pytest.raises(ValueError, match="labels name class 3 where there are 3"):
        prototypes(network(), "3:in", [(x, torch.arange(4))], 3, labels=True)


@pytest.mark.parametrize("shape", [(2, 8), (3, 7), (8,)])
def test_prototypes_of_other_classes_or_features_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a column for each feature at '3:in', \(3, 8\), got"):
        RobustMeanTeacher(network(), "3:in", torch.ones(shape))(drawn(4, 5))


def test_what_is_frozen_stays_unless_all_is() -> None:
    model = network()
    model[0].requires_grad_(False)
    moved = []
    for each in (model, copy.deepcopy(model).requires_grad_(False)):
        adapting = RobustMeanTeacher(each, lr=0.1)
        adapting(drawn(4, 5))
        moved.append([not mine.equal(its) for mine, its in zip(adapting.student.parameters(), each.parameters())])
    assert moved == [[False, False, True, True], [True] * 4]


def test_where_it_cannot_learn_is_named() -> None:
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"not torch\.inference_mode"):
        RobustMeanTeacher(network())(drawn(4, 5))
    normalised = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    with pytest.raises(ValueError, match=r"no statistics .* statistics=False"):
        RobustMeanTeacher(normalised)(drawn(1, 5))
    assert RobustMeanTeacher(normalised, statistics=False)(drawn(1, 5)).isfinite().all()
    with pytest.raises(ValueError, match="alpha must be at most 1, got 2"):
        RobustMeanTeacher(network(), alpha=2.0)
