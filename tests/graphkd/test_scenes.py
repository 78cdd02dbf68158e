"""Actions of videos and relations of entities: graphs that teach each other, and pairs that know their direction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import graphkd
from graphkd.cli import scenes as command
from graphkd.scenes import (
    SceneModel,
    SceneResult,
    Scenes,
    learn,
    load,
    passes,
    read,
    scene_graph_metrics,
    train_scenes,
    write,
)
from graphkd.scenes.learning import control_of, divided
from graphkd.scenes.lesson import SceneLesson, Shape
from graphkd.scenes.methods.glidn import Glidn, glidn
from graphkd.scenes.methods.login import Login
from graphkd.scenes.terms import AttractRepel, opposite_apart
from graphkd.training.loop import History
from kdlosses.cli import logs

LIGHT = dict(type="glidn", hidden=16, heads=2, dropout=0.0)
SMALL = dict(type="login", hidden=16, heads=2)
QUICK = dict(epochs=2)
TINY = passes(videos=20, frames=3, seed=3)


def given(scenes: Scenes = TINY, **changed: Any) -> dict[str, Any]:
    """The arrays of scenes, some of them changed; None leaves one out."""
    arrays = {**scenes.arrays(), **changed}
    return {name: value for name, value in arrays.items() if value is not None}


def rearranged(scenes: Scenes, order: Tensor) -> Scenes:
    """The same scenes with rows in another order."""
    back = order.argsort()
    rows = {name: getattr(scenes, name)[order] for name in ("features", "boxes", "labels", "frame", "video", "track")}
    assert scenes.relations is not None
    ends = back[scenes.relations[:, :2]]
    return Scenes.of(given(scenes, **rows, relations=torch.cat([ends, scenes.relations[:, 2:]], 1)))


# --- glidn: two graphs teach each other -------------------------------------------------------------------------------


def test_graphs_that_teach_each_other_beat_each_alone() -> None:
    """A tenth of the videos has a label; what the other graph says of all of them is worth more than those alone."""
    scenes = passes(videos=400, labelled=0.1, cue=0.8, seed=2)
    schedule = dict(lr=0.01, epochs=30, batch_size=60)
    alone, taught = (
        train_scenes(scenes, method, schedule=schedule, seed=2).metrics for method in (control_of(LIGHT), LIGHT)
    )
    assert taught["local"] + taught["global"] > alone["local"] + alone["global"] + 0.05, (alone, taught)
    assert taught["local"] >= alone["local"], (alone, taught)
    assert taught["global"] > alone["global"], (alone, taught)


def test_the_global_graph_alone_knows_the_order_of_frames() -> None:
    network = Glidn(Shape.of(TINY, "actions"), 16, 2).eval()
    reverse = Scenes.of(given(frame=2 - TINY.frame))
    with torch.inference_mode():
        first, second = network(TINY), network(reverse)
    torch.testing.assert_close(first["local"], second["local"])
    assert (first["global"] - second["global"]).abs().max() > 1e-3


def test_frames_are_local_graphs_of_their_own() -> None:
    """What changes in one frame changes no node of the others in the local graph, and some in the global one."""
    network = Glidn(Shape.of(TINY, "actions"), 16, 2).eval()
    features = TINY.features.clone()
    here = TINY.frame == 0
    features[here] += 1
    with torch.inference_mode():
        before, after = network.seen(TINY), network.seen(Scenes.of(given(features=features)))
    change = {view: (before[view].nodes - after[view].nodes).abs()[~here].max() for view in before}
    assert change["local"] == 0
    assert change["global"] > 1e-3


def test_no_gradient_reaches_the_graph_that_teaches() -> None:
    """Where one graph is frozen, the other one still learns of it; what is told is no way back."""

    def loop(network: Any, loss: Any) -> History:
        loss(slice(None)).backward()
        grads = torch.cat([p.grad.flatten() for p in network.graphs["local"].parameters()])
        network.zero_grad()
        network.graphs["global"].requires_grad_(False)
        loss(slice(None)).backward()
        torch.testing.assert_close(grads, torch.cat([p.grad.flatten() for p in network.graphs["local"].parameters()]))
        assert grads.abs().max() > 0
        return History()

    unknown = TINY.actions[:1] * 0 - 1  # type: ignore[index]
    scenes = Scenes.of(given(actions=torch.cat([unknown.expand(19), TINY.actions[19:]])))  # type: ignore[index]
    lesson = SceneLesson(scenes, Shape.of(TINY, "actions"), loop)
    glidn(lesson, hidden=16, heads=2, dropout=0.0, teach=1.0, features=0.5)


def test_the_loss_is_what_the_formula_says() -> None:
    scenes = passes(videos=20, frames=2, labelled=0.5, seed=1).take(torch.arange(20))
    found: dict[str, Any] = {}

    def loop(network: Any, loss: Any) -> History:
        found.update(network=network.eval(), loss=loss(slice(None)).item())
        return History()

    glidn(SceneLesson(scenes, Shape.of(scenes, "actions"), loop), teach=0.7, features=0.3, tau=3.0, hidden=16, heads=2)
    with torch.no_grad():
        seen = {
            view: (each.logits.double().numpy(), each.nodes.double().numpy())
            for view, each in found["network"].seen(scenes).items()
        }
    assert scenes.actions is not None
    y = scenes.actions.numpy()

    def log_softmax(z: np.ndarray) -> np.ndarray:
        return z - np.log(np.exp(z).sum(1, keepdims=True))

    hard = sum(-log_softmax(z)[y >= 0, y[y >= 0]].mean() for z, _ in seen.values())
    p, q = (log_softmax(seen[view][0] / 3.0) for view in ("local", "global"))
    soft = 9.0 * ((np.exp(q) * (q - p)).sum(1).mean() + (np.exp(p) * (p - q)).sum(1).mean())
    h, g = (nodes / np.linalg.norm(nodes, axis=1, keepdims=True) for _, nodes in seen.values())
    apart = 2 * ((h - g) ** 2).sum(1).mean()
    assert (y < 0).any()
    assert found["loss"] == pytest.approx(hard + 0.7 / 2 * soft + 0.3 * apart, rel=1e-5)


# --- login: direction, context, attraction ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def related() -> SceneResult:
    """Trained on the same scenes, with the idea and without."""
    return learn(passes(videos=60, frames=3), SMALL, schedule=dict(lr=0.01, epochs=15, batch_size=9), k=5)


def test_the_direction_of_a_relation_is_told(related: SceneResult) -> None:
    scores = related.metrics
    assert scores["control"]["brc"] == 0, "both directions get one answer, and two are right"
    assert scores["student"]["brc"] > 0.3, scores
    assert scores["student"]["mean_recall"] > scores["control"]["mean_recall"] + 0.05, scores


def test_subject_and_object_may_not_be_exchanged(related: SceneResult) -> None:
    with torch.inference_mode():
        student, control = (related.outcomes[role].model.network(TINY) for role in ("student", "control"))
    torch.testing.assert_close(control, control[TINY.opposite])
    assert ((student - student[TINY.opposite]).abs().max(1).values > 0.1).float().mean() > 0.9
    told = student[:, :-1].argmax(1)
    assert (told != told[TINY.opposite]).float().mean() > 0.5


@pytest.mark.parametrize("hops", [0, 2])
def test_others_of_the_frame_are_heard_by_the_global_interaction_alone(hops: int) -> None:
    network = Login(Shape.of(TINY, "relations"), 16, 2, hops).eval()
    features = TINY.features.clone()
    third = (TINY.track == 3).nonzero().flatten()
    features[third] += 1
    with torch.inference_mode():
        change = (network(TINY) - network(Scenes.of(given(features=features)))).abs().max(1).values
    apart = ~torch.isin(TINY.pairs, third).any(0)
    assert bool((change[apart] > 1e-4).all()) == (hops > 0)
    assert (change[~apart] > 1e-4).all()


def test_anchors_are_those_of_a_brute_force() -> None:
    draw = np.random.default_rng(0)
    anchors, mean = AttractRepel(4, 6, momentum=0.9), {}
    for _ in range(3):
        e, y, right = draw.normal(size=(12, 6)), draw.integers(0, 3, 12), draw.random(12) < 0.7
        found = anchors(torch.tensor(e, dtype=torch.float32), torch.tensor(y), torch.tensor(right)).item()
        unit = e / np.linalg.norm(e, axis=1, keepdims=True)
        for c in set(y[right]):
            fresh = unit[right & (y == c)].mean(0)
            mean[c] = 0.9 * mean[c] + 0.1 * fresh if c in mean else fresh
        anchor = {c: mean[c] - np.mean([mean[d] for d in mean if d != c], 0) for c in mean}
        each = [1 - unit[i] @ anchor[y[i]] / np.linalg.norm(anchor[y[i]]) for i in np.flatnonzero(right)]
        assert found == pytest.approx(np.mean(each), abs=1e-5)


def test_attraction_draws_one_predicate_together_and_opposites_apart() -> None:
    scenes = passes(videos=30, frames=2, seed=1)
    schedule = dict(lr=0.01, epochs=12, batch_size=6)
    near = {}
    for name, weights in (("with", dict(attract=0.5, apart=0.5)), ("without", dict(attract=0.0, apart=0.0))):
        network: Any = train_scenes(scenes, {**SMALL, **weights}, schedule=schedule, k=5).model.network
        with torch.inference_mode():
            e = torch.nn.functional.normalize(network.embeddings(scenes), dim=1)
        share, kind = scenes.pair_targets[:, :-1].max(1)
        there = share > 0
        means = torch.stack([e[there & (kind == c)].mean(0) for c in range(4)])
        alike = means @ means.T
        between = alike[~torch.eye(4, dtype=torch.bool)].mean()
        near[name] = (alike.diag().mean() - between).item(), (e * e[scenes.opposite]).sum(1)[there].mean().item()
    assert near["with"][0] > near["without"][0] + 0.1, near
    assert near["with"][1] < near["without"][1] - 0.1, near


def test_opposites_are_apart_beyond_the_margin() -> None:
    e = torch.tensor([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0], [1.0, 0.0]])
    back, differ = torch.tensor([1, 0, 3, 2]), torch.tensor([True, True, False, False])
    assert opposite_apart(e, back, differ, 0.2).item() == pytest.approx(0.4)
    assert opposite_apart(e, back, torch.zeros(4, dtype=torch.bool)).item() == 0


# --- both -------------------------------------------------------------------------------------------------------------


def test_the_order_of_rows_is_of_no_matter() -> None:
    order = torch.randperm(len(TINY))
    other = rearranged(TINY, order)
    actions, relations = (
        Glidn(Shape.of(TINY, "actions"), 16, 2).eval(),
        Login(Shape.of(TINY, "relations"), 16, 2).eval(),
    )
    with torch.inference_mode():
        for view, logits in actions(TINY).items():
            torch.testing.assert_close(logits, actions(other)[view], atol=1e-5, rtol=1e-4)
        place = TINY.place_of(order[other.pairs])
        torch.testing.assert_close(relations(TINY)[place], relations(other), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(TINY.pair_targets[place], other.pair_targets)


def test_a_batch_is_answered_as_among_others() -> None:
    some = torch.tensor([7, 2])
    batch = TINY.take(some)
    actions, relations = (
        Glidn(Shape.of(TINY, "actions"), 16, 2).eval(),
        Login(Shape.of(TINY, "relations"), 16, 2).eval(),
    )
    with torch.inference_mode():
        torch.testing.assert_close(actions(batch)["global"], actions(TINY)["global"][some], atol=1e-5, rtol=1e-4)
        rows = torch.cat([(TINY.video == each).nonzero().flatten() for each in sorted(some.tolist())])
        place = TINY.place_of(rows[batch.pairs])
        torch.testing.assert_close(relations(batch), relations(TINY)[place], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("videos", [[], [1, 1], [True, False]])
def test_videos_are_taken_by_their_numbers_each_once(videos: list[Any]) -> None:
    with pytest.raises(ValueError, match="one video or more, each once"):
        TINY.take(torch.tensor(videos))


def test_recall_is_that_of_a_brute_force() -> None:
    logits = torch.randn(TINY.pairs.shape[1], TINY.num_predicates + 1, generator=torch.Generator().manual_seed(0))
    assert TINY.relations is not None
    p = np.exp(logits.double().numpy())
    p = (p / p.sum(1, keepdims=True))[:, :-1]
    recall, of_predicate = [], {}
    for frame in range(TINY.frames):
        mine = [i for i in range(len(p)) if TINY.moment[TINY.pairs[0, i]] == frame]
        first = sorted(mine, key=lambda i: -p[i].max())[:4]
        told = {(*TINY.pairs[:, i].tolist(), int(p[i].argmax())) for i in first}
        true = [tuple(row) for row in TINY.relations.tolist() if TINY.moment[row[0]] == frame]
        if true:
            recall.append(np.mean([each in told for each in true]))
        for predicate in {each[2] for each in true}:
            hit = np.mean([each in told for each in true if each[2] == predicate])
            of_predicate.setdefault(predicate, []).append(hit)
    holds = {(s, o): c for s, o, c in TINY.relations.tolist()}
    told_of = {tuple(TINY.pairs[:, i].tolist()): int(p[i].argmax()) for i in range(len(p))}
    both = [pair for pair in holds if pair[::-1] in holds]
    brc = np.mean([told_of[a, b] == holds[a, b] and told_of[b, a] == holds[b, a] for a, b in both])
    found = scene_graph_metrics(TINY, logits, 4)
    assert found["recall"] == pytest.approx(np.mean(recall))
    assert found["mean_recall"] == pytest.approx(np.mean([np.mean(each) for each in of_predicate.values()]))
    assert found["brc"] == pytest.approx(brc)


def test_a_pair_may_have_several_predicates() -> None:
    two = torch.tensor([[0, 1, 2], [0, 1, 5], [1, 0, 3]])
    scenes = Scenes.of(given(relations=two))
    place = scenes.place_of(torch.tensor([[0, 1], [1, 0]]))
    assert scenes.pair_targets[place].nonzero().tolist() == [[0, 2], [0, 5], [1, 3]]
    assert scenes.pair_targets.sum(1).eq(1).all()
    logits = torch.full((len(scenes.pair_targets), 9), -5.0)
    logits[place, torch.tensor([5, 3])] = 9.0
    found = scene_graph_metrics(scenes, logits, 2)
    assert found == pytest.approx(dict(recall=2 / 3, mean_recall=2 / 3, brc=1.0))


def test_without_tracks_entities_of_one_class_are_joined_through_time() -> None:
    arrays = given(track=None)
    scenes = Scenes.of(arrays)
    first, second = scenes.through_time
    assert (scenes.labels[first] == scenes.labels[second]).all()
    assert (scenes.video[first] == scenes.video[second]).all()
    assert (scenes.frame[first] < scenes.frame[second]).all()
    tracked = set(map(tuple, TINY.through_time.T.tolist()))
    assert set(map(tuple, scenes.through_time.T.tolist())) == tracked, "each class is once in a frame here"


def test_parts_are_apart_and_the_test_is_not_learned() -> None:
    scenes = Scenes.of(given(parts=None))
    parts = divided(scenes, "actions", 0)
    assert sum(each.videos for each in parts.values()) == scenes.videos
    rows = [set(map(tuple, each.features.tolist())) for each in parts.values()]
    assert not (rows[0] & rows[1]) | (rows[0] & rows[2]) | (rows[1] & rows[2])
    torch.manual_seed(0)
    assert TINY.parts is not None
    assert TINY.actions is not None
    other = torch.where(TINY.parts == 2, (TINY.actions + 1) % 4, TINY.actions)
    first, second = (
        train_scenes(Scenes.of(given(actions=each)), LIGHT, schedule=QUICK).model for each in (TINY.actions, other)
    )
    np.testing.assert_array_equal(first.probabilities(TINY), second.probabilities(TINY))


def test_several_actions_at_once() -> None:
    assert TINY.actions is not None
    several = torch.nn.functional.one_hot(TINY.actions, 4) | torch.nn.functional.one_hot((TINY.actions + 1) % 4, 4)
    several[0] = -1
    result = learn(Scenes.of(given(actions=several)), LIGHT, schedule=QUICK)
    assert sorted(result.metrics["student"]) == ["both", "global", "local"]
    assert set(map(type, result.student.predict(TINY))) == {list}


@pytest.mark.parametrize("method", [LIGHT, SMALL])
def test_a_model_is_saved_and_asked(method: dict[str, Any], tmp_path: Path) -> None:
    model = train_scenes(TINY, method, schedule=QUICK).model
    model.save(tmp_path / "model.safetensors")
    again = SceneModel.load(tmp_path / "model.safetensors")
    if method["type"] == "glidn":
        np.testing.assert_array_equal(model.probabilities(TINY), again.probabilities(TINY))
        assert set(again.predict(TINY)) <= set(TINY.action_names)
        with pytest.raises(KeyError, match="no view is called 'globl'; did you mean 'global'"):
            again.probabilities(TINY, "globl")
        with pytest.raises(TypeError, match="tells actions, and is asked about relations"):
            again.relations(TINY)
        with pytest.raises(ValueError, match="features is 3 in the scenes and was 12 in the training"):
            again.predict(Scenes.of(given(features=TINY.features[:, :3])))
    else:
        found = again.relations(TINY, k=3)
        assert found == model.relations(TINY, k=3)
        assert len(found) == TINY.frames
        assert [len(frame) for frame in found] == [3] * TINY.frames
        assert all(TINY.moment[each.subject] == n for n, frame in enumerate(found) for each in frame)
    damaged = bytearray((tmp_path / "model.safetensors").read_bytes())
    damaged[-3] ^= 1
    (tmp_path / "model.safetensors").write_bytes(damaged)
    with pytest.raises(ValueError, match="holds no whole model of scenes"):
        SceneModel.load(tmp_path / "model.safetensors")


def test_scenes_on_disk_are_read_as_they_were(tmp_path: Path) -> None:
    write(tmp_path / "scenes.npz", TINY)
    again = load(dict(type="file", path=str(tmp_path / "scenes.npz")))
    for name, array in TINY.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name])
    assert graphkd.scenes.Scenes is Scenes


# --- what strangers hand over -----------------------------------------------------------------------------------------


def nan(array: Tensor, row: int) -> Tensor:
    array = array.clone()
    array[row] = float("nan")
    return array


def at(array: Tensor, row: int, value: Any) -> Tensor:
    array = array.clone()
    array[row] = torch.as_tensor(value, dtype=array.dtype)
    return array


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        (dict(boxes=None), KeyError, "the array 'boxes' is missing"),
        (dict(box=[1]), TypeError, "no option 'box'; did you mean 'boxes'"),
        (dict(boxes=nan(TINY.boxes, 5)), ValueError, "boxes holds NaN, infinite or too large numbers in row 5"),
        (dict(boxes=at(TINY.boxes, 4, [3, 3, 3, 9])), ValueError, "row 4 has no area"),
        (dict(boxes=at(TINY.boxes, 4, [3, 3, 1, 9])), ValueError, "row 4 has no area"),
        (dict(boxes=TINY.boxes[:-1]), ValueError, "boxes are .N, 4., for 240 rows"),
        (dict(features=nan(TINY.features, 7)), ValueError, "features holds NaN.* in row 7"),
        (dict(features=[[1, 2], [3]]), ValueError, "features is no array of numbers"),
        (dict(boxes=TINY.boxes * 1e38), ValueError, "boxes holds NaN, infinite or too large numbers"),
        (dict(features=TINY.features[:, :0]), ValueError, "a row for each entity"),
        (dict(labels=at(TINY.labels, 2, 5)), ValueError, "labels of row 2 is 5, an unknown class"),
        (dict(labels=at(TINY.labels, 2, -1)), ValueError, "labels counts from 0, row 2 is -1"),
        (dict(labels=TINY.labels + 0.5), ValueError, "labels holds whole numbers, row 0"),
        (dict(labels=TINY.labels > 0), TypeError, "labels holds numbers, got an array of bool"),
        (dict(video=at(TINY.video, slice(0, 12), 19)), ValueError, "video 0 has no entity"),
        (dict(video=TINY.video + 10**13), ValueError, "video 0 has no entity, and video 10000000000019 has"),
        (dict(labels=at(TINY.labels, 2, 10**12), label_names=None), ValueError, "labels of row 2 is 1000000000000"),
        (dict(actions=at(TINY.actions, 3, 10**9), action_names=None), ValueError, "actions of row 3 is 1000000000"),
        (dict(relations=[[0, 1, 10**9]], predicate_names=None), ValueError, "predicates of row 0 is 1000000000"),
        (dict(track=TINY.track.new_zeros(240)), ValueError, "track 0 is twice in frame 0 of video 0"),
        (dict(actions=TINY.actions[:-1]), ValueError, "for 20 videos"),
        (dict(actions=at(TINY.actions, 3, 4)), ValueError, "actions of row 3 is 4, an unknown class"),
        (dict(actions=TINY.actions * 0 - 1), ValueError, "of all videos: nothing can be learned"),
        (dict(relations=[[0, 0, 1]]), ValueError, "the same row"),
        (dict(relations=[[0, 4, 1]]), ValueError, "not in one frame"),
        (dict(relations=[[0, 999, 1]]), ValueError, "are rows, 0 to 239"),
        (dict(relations=[[0, 1, 8]]), ValueError, "an unknown class"),
        (dict(relations=[[0, 1, 2], [0, 1, 2]]), ValueError, "it stands twice"),
        (dict(relations=np.zeros((0, 3))), ValueError, "relations are empty"),
        (dict(parts=TINY.parts * 0), ValueError, "no video is of val"),
        (dict(label_names="human"), TypeError, "a list of strings"),
        (dict(label_names=5), TypeError, "a list of strings"),
    ],
)
def test_arrays_that_cannot_be_are_named(changed: dict[str, Any], error: type[Exception], said: str) -> None:
    arrays = {name: value for name, value in {**TINY.arrays(), **changed}.items() if value is not None}
    with pytest.raises(error, match=said):
        Scenes.of(arrays)


def test_frames_with_one_entity_are_named_or_kept() -> None:
    rows = torch.ones(len(TINY), dtype=torch.bool)
    rows[1:4] = False
    arrays = {
        name: TINY.arrays()[name][rows.numpy()] for name in ("features", "boxes", "labels", "frame", "video", "track")
    }
    arrays |= {name: TINY.arrays()[name] for name in ("actions", "parts")}
    with pytest.raises(ValueError, match="one entity alone is in frame 0 of video 0"):
        Scenes.of(arrays)
    kept = Scenes.of(arrays, lonely="keep")
    assert len(train_scenes(kept, LIGHT, schedule=QUICK).model.predict(kept)) == 20


def test_a_step_without_any_pair_teaches_nothing_about_relations() -> None:
    """In each frame of video 0 an entity is alone, and a step takes one video."""
    kept = (TINY.video > 0) | (TINY.track == 0)
    place = kept.long().cumsum(0) - 1
    assert TINY.relations is not None
    relations = TINY.relations[kept[TINY.relations[:, :2]].all(1)]
    rows = {name: getattr(TINY, name)[kept] for name in ("features", "boxes", "labels", "frame", "video", "track")}
    relations = torch.cat([place[relations[:, :2]], relations[:, 2:]], 1)
    scenes = Scenes.of({**rows, "relations": relations, "parts": TINY.parts}, lonely="keep")
    assert not scenes.take(torch.tensor([0])).pairs.shape[1]
    found = train_scenes(scenes, SMALL, schedule=dict(epochs=1, batch_size=1))
    assert torch.cat([each.flatten() for each in found.model.network.parameters()]).isfinite().all()


def test_metrics_of_what_does_not_fit_are_refused() -> None:
    logits = torch.zeros(TINY.pairs.shape[1], TINY.num_predicates + 1)
    cases: list[tuple[Scenes, Tensor, Any, str]] = [
        (Scenes.of(given(relations=None)), logits, 3, "no relations to compare with"),
        (TINY, logits[1:], 3, "got some of the shape"),
        (TINY, logits[:, 1:], 3, "got some of the shape"),
        (TINY, logits + float("nan"), 3, "got some that are NaN"),
        (TINY, logits, 0, "k is a whole number from 1"),
    ]
    for scenes, each, k, said in cases:
        with pytest.raises(ValueError, match=said):
            scene_graph_metrics(scenes, each, k)


def test_videos_without_humans_or_objects_are_named() -> None:
    with pytest.raises(ValueError, match="video 0 is without an object, as are 19 others"):
        learn(Scenes.of(given(labels=TINY.labels * 0)), LIGHT)
    with pytest.raises(ValueError, match="video 0 is without a human, class 3"):
        learn(Scenes.of(given(labels=TINY.labels.clamp(max=2)), human=3), LIGHT)
    one = dict(features=[[1.0]], boxes=[[0, 0, 1, 1]], labels=[0], frame=[0])
    with pytest.raises(ValueError, match="one entity alone is in frame 0 of video 0"):
        Scenes.of(one)


@pytest.mark.parametrize(
    ("scenes", "method", "more", "error", "said"),
    [
        (TINY, "gldn", {}, KeyError, "did you mean 'glidn'"),
        (TINY, dict(type="glidn", teech=1.0), {}, TypeError, "did you mean 'teach'"),
        (TINY, dict(type="glidn", hidden=10, heads=4), {}, ValueError, "hidden .10. is a multiple of heads"),
        (TINY, dict(type="login", hops=-1), {}, ValueError, "hops must be at least 0"),
        (TINY, "login", dict(k=0), ValueError, "k is a whole number from 1"),
        (TINY, "login", dict(schedule=dict(epoch=3)), TypeError, "did you mean 'epochs'"),
        (TINY, "login", dict(seed=True), TypeError, "seed is a whole number"),
        ("passing", "glidn", {}, KeyError, "did you mean 'passes'"),
        (dict(type="file"), "glidn", {}, TypeError, "needs the option path"),
        (dict(type="passes", cue=2), "glidn", {}, ValueError, "cue at most 1"),
        (Scenes.of(given(actions=None)), "glidn", {}, ValueError, "no actions, which this method learns"),
        (Scenes.of(given(relations=None)), "login", {}, ValueError, "no relations, which this method learns"),
        (TINY.arrays(), "login", {}, KeyError, "no scenes are called None"),
        ([1, 2], "login", {}, TypeError, "scenes are what Scenes.of"),
    ],
)
def test_calls_that_cannot_be_are_named(
    scenes: Any, method: Any, more: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        learn(scenes, method, **more)


@pytest.mark.parametrize("unit", [1e-25, 1e30])
def test_boxes_may_be_in_any_unit(unit: float) -> None:
    network = Glidn(Shape.of(TINY, "actions"), 16, 2).eval()
    with torch.no_grad():
        for view, logits in network(Scenes.of(given(boxes=TINY.boxes * unit))).items():
            torch.testing.assert_close(logits, network(TINY)[view], atol=1e-4, rtol=1e-3)


def test_files_that_cannot_be_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(ValueError, match=r"is no \.npz"):
        read(tmp_path / "text.npz")
    np.savez_compressed(tmp_path / "damaged.npz", **TINY.arrays())
    damaged = bytearray((tmp_path / "damaged.npz").read_bytes())
    for place in (200, 201, 1000, 1001):
        damaged[place] ^= 255
    (tmp_path / "damaged.npz").write_bytes(damaged)
    with pytest.raises(ValueError, match="no file of plain arrays and was not opened"):
        read(tmp_path / "damaged.npz")
    np.savez(tmp_path / "objects.npz", features=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="it holds objects"):
        read(tmp_path / "objects.npz")
    np.savez(tmp_path / "few.npz", features=np.ones((2, 3)))
    with pytest.raises(KeyError, match="the array 'boxes' is missing"):
        read(tmp_path / "few.npz")
    with pytest.raises(ValueError, match=r"are written to a file \.npz"):
        write(tmp_path / "scenes.pt", TINY)


# --- the command ------------------------------------------------------------------------------------------------------

CONFIG = """
data = dict(type="passes", videos=20, frames=2)
k = 3
schedule = dict(epochs=2)
methods = [dict(type="login", hidden=8, heads=2), dict(type="login", hidden=8, heads=2, hops=0)]
"""


def test_the_command_runs_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "own.py"
    config.write_text(CONFIG)
    out = tmp_path / "log.json"
    command.main([str(config), "--seeds", "1", "--out", str(out), "--save", str(tmp_path / "models")])
    said = capsys.readouterr().out
    assert "mean recall@3" in said
    assert "brc" in said
    found = logs.read(out)
    assert [(log["role"], log["seed"]) for log in found] == [("control", 0), ("distilled", 0), ("distilled", 0)]
    saved = sorted((tmp_path / "models").glob("*.safetensors"))
    assert len(saved) == 2
    assert SceneModel.load(saved[0]).task == "relations"
    command.main([str(config), "--seeds", "1", "--out", str(out)])
    assert json.loads(json.dumps(logs.read(out))) == json.loads(json.dumps(found))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("k = 3", "k = True", "k is a whole number from 1"),
        ("k = 3", "", "lacks 'k'"),
        ("k = 3", "k = 3\nschedul = 1", "did you mean 'schedule'"),
        ("hops=0", "hop=0", "did you mean 'hops'"),
        (", hops=0", "", "lists 'login.*' twice"),
        ('type="login", hidden=8, heads=2, hops=0', 'type="glidn"', "not of both"),
        ("videos=20", "videos=1", "videos is a whole number from 10"),
        ("epochs=2", "lr=-1", "lr is a finite number from 0"),
    ],
)
def test_configs_that_cannot_be_are_named(old: str, new: str, said: str, tmp_path: Path) -> None:
    config = tmp_path / "own.py"
    config.write_text(CONFIG.replace(old, new))
    with pytest.raises(SystemExit, match=said):
        command.main([str(config), "--seeds", "1", "--out", str(tmp_path / "log.json")])
