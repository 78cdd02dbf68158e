"""Crops of clouds; an encoder that learns from them without labels, on the objects of the synthetic world."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from densekd.bev import world
from densekd.bev.crops import crop, views
from densekd.bev.point_disco import PointDisCo, PointEncoder
from densekd.bev.point_transformer import PointTransformer, farthest

K = 64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def objects(split: world.Split, scenes: int) -> tuple[list[Tensor], np.ndarray]:
    """What the LiDAR saw of each box, scaled to the unit ball: neither place nor size tells the class."""
    clouds, labels = [], []
    for index in range(scenes):
        scene = world.draw(index, split)
        for box, label in zip(scene.boxes, scene.labels):
            x = scene.points[:, :3] - box[:3]
            cos, sin = np.cos(box[6]), np.sin(box[6])
            own = np.abs(np.stack([cos * x[:, 0] + sin * x[:, 1], cos * x[:, 1] - sin * x[:, 0]], 1))
            inside = (own < box[3:5] / 2 + 0.1).all(1) & (x[:, 2] > 0.1)
            if inside.sum() >= 8:
                cloud = torch.from_numpy(x[inside]).float()
                cloud -= cloud.mean(0)
                clouds.append(cloud / cloud.norm(dim=1).max())
                labels.append(label)
    return clouds, np.array(labels)


def probe(encoder: nn.Module, train: tuple[list[Tensor], np.ndarray], test: tuple[list[Tensor], np.ndarray]) -> float:
    """Mean accuracy over classes of a linear probe on twenty labelled objects of each, over fifteen draws of them."""
    features = []
    with torch.no_grad():
        for clouds, _ in (train, test):
            g = generator(9)
            same = [crop(cloud, (1.0, 1.0), 128, g, scale=(1.0, 1.0), jitter=0.0) for cloud in clouds]
            features.append(encoder.eval()(torch.stack(same)).numpy())
    scaler = StandardScaler().fit(features[0])
    x, z = map(scaler.transform, features)
    rng, found = np.random.default_rng(0), []
    for _ in range(15):
        chosen = np.concatenate([rng.permutation(np.flatnonzero(train[1] == k))[:20] for k in range(3)])
        said = LogisticRegression(max_iter=300).fit(x[chosen], train[1][chosen]).predict(z)
        found.append(np.mean([(said[test[1] == k] == k).mean() for k in range(3)]))
    return float(np.mean(found))


def transformer(channels: int = 64) -> PointTransformer:
    return PointTransformer(channels=channels, groups=8, size=8, depth=1, heads=2)


@pytest.mark.parametrize(
    ("make", "steps"),
    [(lambda: PointEncoder(channels=64), 50), (transformer, 60)],
    ids=["pointnet", "transformer"],
)
def test_an_encoder_learns_without_labels_and_does_not_collapse(make: Callable[[], nn.Module], steps: int) -> None:
    train, test = objects("train", 90), objects("test", 60)
    torch.manual_seed(0)
    model = PointDisCo(make(), prototypes=K, embedding=32, queue=512, momentum=0.98)
    before = probe(model.student.encoder, train, test)
    model.train()
    optimiser, g = torch.optim.AdamW(model.parameters(), lr=3e-3), generator()
    for step in range(steps):
        drawn = [views(train[0][i], g, 2, (48, 16)) for i in torch.randperm(len(train[0]), generator=g)[:40]]
        batch = [torch.stack(each) for each in zip(*drawn)]
        loss = model(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.update(step / steps)
    assert all(p.grad is None for p in model.teacher.model.parameters())
    of_mean, of_each = model.entropies(batch[0])
    assert of_mean > 0.5  # not all of them one prototype
    assert of_each < of_mean - 0.15  # nor each of them all prototypes
    assert probe(model.student.encoder, train, test) > before + 0.02


def test_a_crop_is_a_neighbourhood_of_its_size() -> None:
    cloud = torch.cat([torch.rand(30, 3), torch.rand(30, 3) + 5])
    cloud = torch.cat([cloud, torch.arange(60.0)[:, None]], 1).double()
    g = generator()
    for _ in range(10):
        part = crop(cloud, (0.4, 0.5), 200, g, scale=(2.0, 2.0), jitter=0.0)
        assert part.shape == (200, 4)
        chosen = part[:, 3].unique()
        assert 24 <= len(chosen) <= 30
        assert (chosen < 30).all() or (chosen >= 30).all()  # never parts of both heaps
        source = cloud[part[:, 3].long(), :3]
        torch.testing.assert_close(torch.pdist(part[:, :3]), 2 * torch.pdist(source))
        torch.testing.assert_close(part[:, 2], 2 * (source[:, 2] - source[:, 2].mean()))  # turned about the vertical
        assert part[:, :3].mean(0).abs().max() < 1e-4
    assert len(crop(cloud, (1.0, 1.0), 7, g)[:, 3].unique()) == 7


def test_the_same_seed_gives_the_same_views() -> None:
    cloud = torch.rand(40, 3)
    one, two, other = (views(cloud, generator(seed), 3, (16, 8)) for seed in (1, 1, 2))
    assert [len(view) for view in one] == [16, 16, 8, 8, 8]
    assert all(torch.equal(a, b) for a, b in zip(one, two))
    assert not torch.equal(one[0], other[0])
    with pytest.raises(ValueError, match="cannot crop a cloud without points"):
        crop(cloud[:0])
    with pytest.raises(ValueError, match=r"must be a range in \(0, 1\], got \(0.0, 1.5\)"):
        crop(cloud, (0.0, 1.5))


def test_order_of_points_has_no_say_and_the_teacher_learns_nothing_by_gradient() -> None:
    model = PointDisCo(PointEncoder(channels=16), prototypes=8, embedding=4, queue=16)
    batch = [torch.rand(6, n, 3) for n in (20, 20, 7)]
    expected = model.eval()(batch)
    torch.testing.assert_close(model([view[:, torch.randperm(view.shape[1])] for view in batch]), expected)
    before = [p.clone() for p in model.teacher.model.parameters()]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()(batch).backward()
    optimiser.step()
    assert all(torch.equal(p, b) for p, b in zip(model.teacher.model.parameters(), before))
    assert not any(key.startswith("teacher") for key in model.state_dict())
    model.update(progress=0.5)
    (mine, its), old = [next(m.parameters()) for m in (model.student, model.teacher.model)], before[0]
    torch.testing.assert_close(its, old + (mine - old) * 0.002)  # half of 1 - 0.996
    assert model.double()([view.double() for view in batch]).dtype == torch.float64
    with pytest.raises(ValueError, match="two global views, got 1"):
        model(batch[:1])


def test_centres_are_the_farthest_by_brute_force() -> None:
    places = torch.randn(3, 30, 3, generator=generator(), dtype=torch.float64)
    for cloud, found in zip(places.numpy(), farthest(places, 9).tolist()):
        chosen = [int(np.linalg.norm(cloud - cloud.mean(0), axis=1).argmax())]
        while len(chosen) < 9:
            apart = [min(np.linalg.norm(point - cloud[k]) for k in chosen) for point in cloud]
            chosen.append(int(np.argmax(apart)))
        assert found == chosen
    assert sorted(farthest(places, 99)[0].tolist()) == list(range(30))


def test_a_transformer_reads_neighbourhoods_and_where_they_are() -> None:
    torch.manual_seed(0)
    encoder = transformer().double().eval()
    clouds = torch.randn(2, 40, 3, generator=generator(), dtype=torch.float64)
    features = encoder(clouds)
    torch.testing.assert_close(encoder(clouds[:, torch.randperm(40, generator=generator())]), features)
    assert not torch.allclose(encoder(clouds + 1), features)  # it sees places
    copies = torch.cat([clouds, clouds], 1)  # each point twice: centres are the same, neighbourhoods half as wide
    assert encoder(clouds[:, :5]).shape == (2, 64)  # fewer points than tokens
    few = PointTransformer(channels=64, groups=8, size=80, depth=1, heads=2).double().eval()
    torch.testing.assert_close(few(copies), few(clouds))  # of all points as neighbours a maximum does not see copies
    near = clouds[:, (clouds[0] - clouds[0, 0]).norm(dim=1).argsort()[:1]].expand(-1, 40, -1)
    assert encoder(near).isfinite().all()  # all points in one place
    with pytest.raises(ValueError, match=r"half of channels=20 must be a multiple of heads=4"):
        PointTransformer(channels=20)
    with pytest.raises(ValueError, match="groups must be at least 1, got 0"):
        PointTransformer(groups=0)


def test_what_a_neighbourhood_holds_is_read_in_its_frame() -> None:
    """A group that moves as a whole changes by its place alone; the token of another group does not change."""
    torch.manual_seed(0)
    encoder = PointTransformer(channels=64, groups=2, size=5, depth=1, heads=2).double().eval()
    nn.init.zeros_(encoder.place[3].weight)
    heap = torch.randn(5, 3, generator=generator(), dtype=torch.float64)
    far = torch.tensor([20.0, 0, 0], dtype=torch.float64)
    one, other = (torch.cat([heap, 0.5 * heap + shift])[None] for shift in (far, 2 * far))
    torch.testing.assert_close(encoder(one), encoder(other))
    assert not torch.allclose(encoder(torch.cat([heap, heap + far])[None]), encoder(one))


def test_a_transformer_that_cannot_be_is_refused_when_it_is_built() -> None:
    with pytest.raises(ValueError, match="heads must be at least 1, got 0"):
        PointTransformer(channels=16, heads=0)
    with pytest.raises(ValueError, match="in_channels must be at least 3, x, y and z, got 2"):
        PointTransformer(in_channels=2, channels=16)
