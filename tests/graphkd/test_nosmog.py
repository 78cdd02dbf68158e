"""NOSMOG on the digits graph: where positions come from, who may see them, and what an attack may do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from sklearn.linear_model import LogisticRegression
from torch import Tensor

import kdlosses
from graphkd import Graph, StudentClassifier, distill
from graphkd.data import Setting, cpf_split, digits, make_setting
from graphkd.data.positions import Inputs, beside, deepwalk, neighbour_mean, random_walks, with_positions
from graphkd.networks.mlp import MLP
from graphkd.pipeline.outcome import Outcome
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes import nosmog
from graphkd.recipes.nosmog import attacked
from graphkd.sparse.rows import compact, rows
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History

CONTRACT = RecipeContract(
    "nosmog", options=dict(steps=1, draw=300), undrawn=dict(adversary=0.0), short=dict(steps=1, draw=8)
)

WALKS = dict(width=16, walks=2, length=20)
QUICK = StudentClassifier(hidden=(32,), dropout=0.3, epochs=60)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return digits()


@pytest.fixture(scope="module")
def setting(graph: Graph) -> Setting:
    return make_setting(graph, cpf_split(graph.y, 0), "ind", 0)


@pytest.fixture(scope="module")
def inputs(setting: Setting) -> Inputs:
    return with_positions(setting, 0, **WALKS)


@pytest.fixture(scope="module")
def taught(setting: Setting) -> Outcome:
    return train_teacher(setting, dict(type="sage", epochs=40, hidden=48))


def by_hand(edges: Tensor, nodes: int, walks: int, length: int, window: int) -> np.ndarray:
    """Gram matrix of the positions: the square root of M M', with every pair counted in a loop."""
    generator, counts = torch.Generator().manual_seed(3), np.zeros((nodes, nodes))
    for _ in range(walks):
        for walk in random_walks(edges, nodes, length, generator).T.tolist():
            for i, u in enumerate(walk):
                for j, v in enumerate(walk):
                    counts[u, v] += 0 < abs(i - j) <= window
    chance = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    m = np.zeros_like(counts)
    m[counts > chance] = np.log(counts[counts > chance] / chance[counts > chance])
    value, vector = np.linalg.eigh(m)
    return vector * abs(value) @ vector.T


def test_positions_are_the_square_root_of_the_matrix_of_pairs() -> None:
    edges = torch.randint(12, (2, 25), generator=torch.Generator().manual_seed(0))
    z = deepwalk(edges, 12, 3, width=12, walks=3, length=9, window=4).numpy()
    np.testing.assert_allclose(z @ z.T, by_hand(edges, 12, 3, 9, 4), atol=1e-5)


def test_a_walk_steps_along_edges_to_each_neighbour_as_often() -> None:
    edges = torch.tensor([[0, 0, 0, 1], [1, 2, 3, 2]])  # node 4 is alone
    walk = random_walks(edges, 5, 5_000, torch.Generator().manual_seed(0))
    assert walk[0].tolist() == [0, 1, 2, 3]
    steps = torch.zeros(5, 5).index_put_((walk[:-1].flatten(), walk[1:].flatten()), torch.ones(()), accumulate=True)
    joined = torch.zeros(5, 5).index_put_((edges[0], edges[1]), torch.ones(()))
    joined = joined + joined.T
    torch.testing.assert_close(
        steps[:4] / steps[:4].sum(1, True), joined[:4] / joined[:4].sum(1, True), atol=0.04, rtol=0
    )
    assert not deepwalk(edges, 5, width=3)[4].any()


def test_positions_tell_the_classes_and_repeat(graph: Graph) -> None:
    state = torch.random.get_rng_state()
    z, again, other = (deepwalk(graph.edge_index, len(graph), seed, **WALKS) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(z, again)
    assert not torch.allclose(z, other)
    split = cpf_split(graph.y, 0)
    linear = LogisticRegression(max_iter=1000).fit(z[split.train], graph.y[split.train])
    assert linear.score(z[split.test], graph.y[split.test]) > 0.85


def test_edges_one_way_or_twice_are_the_same_graph(graph: Graph) -> None:
    source, target = graph.edge_index
    one_way = graph.edge_index[:, source < target]
    whole = random_walks(graph.edge_index, len(graph), 2, torch.Generator())
    half = random_walks(one_way, len(graph), 2, torch.Generator())
    assert torch.equal(whole[0], half[0])
    neighbours = set(map(tuple, graph.edge_index.T.tolist()))
    assert set(map(tuple, half.T.tolist())) <= neighbours


def test_an_unseen_node_has_the_mean_of_its_neighbours_and_none_without_edges(setting: Setting, inputs: Inputs) -> None:
    whole, unseen = setting.whole, setting.unseen
    seen, linked, alone = (rows(x)[:, 64:] for x in inputs[:3])
    for view in (linked, alone):
        assert torch.equal(view[setting.observed], seen)
    assert not alone[unseen].any()
    known = set(setting.observed.tolist())
    place = {node: k for k, node in enumerate(setting.observed.tolist())}
    for node in unseen[:40].tolist():
        near = [j for j in whole.edge_index[0, whole.edge_index[1] == node].tolist() if j in known]
        mean = torch.stack([seen[place[j]] for j in near]).mean(0) if near else torch.zeros(16)
        torch.testing.assert_close(linked[node], mean)
    assert torch.equal(rows(inputs.linked)[:, :64], whole.x)


def test_a_node_with_unseen_neighbours_alone_is_as_without_edges() -> None:
    edges = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    found = neighbour_mean(torch.ones(4, 2), edges, torch.tensor([0, 1]))
    assert found.tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]


def test_unseen_nodes_do_not_move_the_others(graph: Graph, setting: Setting, inputs: Inputs) -> None:
    x = graph.x.clone()
    x[setting.unseen] = torch.rand(len(setting.unseen), 64)
    more = torch.stack([setting.unseen, setting.unseen.roll(1)])
    other = Graph(**{**vars(graph), "x": x, "edge_index": torch.cat([graph.edge_index, more, more.flip(0)], 1)})
    view = make_setting(other, cpf_split(graph.y, 0), "ind", 0)
    again = with_positions(view, 0, **WALKS)
    assert torch.equal(rows(inputs.seen), rows(again.seen))
    assert torch.equal(rows(inputs.alone)[:, 64:], rows(again.alone)[:, 64:])


def test_sparse_features_stay_sparse() -> None:
    x = torch.rand(30, 50) * (torch.rand(30, 50) < 0.05)
    more = torch.rand(30, 3)
    wide = rows(beside(compact(x), more))
    assert wide.layout is torch.sparse_csr
    torch.testing.assert_close(wide.to_dense(), torch.cat([x, more], 1))


def test_a_student_with_positions_beats_its_control_and_misses_edges_when_cold(
    setting: Setting, taught: Outcome
) -> None:
    method = dict(type="nosmog", relation=1e-3, steps=1, draw=300, inputs=WALKS)
    control = train_student(setting, None, "supervised", QUICK)
    student = train_student(setting, taught.cache, method, QUICK)
    assert student.metrics["observed"] > control.metrics["observed"]
    assert student.metrics["ind"] > control.metrics["ind"]
    assert student.metrics["ind"] != student.metrics["cold"]
    assert control.metrics["ind"] == control.metrics["cold"]
    assert student.model.network_.in_features == 64 + 16
    assert taught.model.layers[0].linear.in_features == 64
    view = rows(with_positions(setting, 0, **WALKS).linked)
    assert student.x is not None
    assert torch.equal(student.x, view)
    right = student.model.predict(view)[setting.unseen] == setting.whole.y[setting.unseen].numpy()
    assert student.metrics["ind"] == pytest.approx(right.mean())
    assert train_student(setting, taught.cache, "glnn", QUICK).x is None


def test_distill_measures_a_wider_student_and_names_wrong_options(graph: Graph) -> None:
    quick = StudentClassifier(hidden=(8,), epochs=2)
    method: dict[str, Any] = dict(type="nosmog", steps=1, inputs=WALKS)
    result = distill(graph, dict(type="sage", epochs=2), method, student=quick)
    assert result.metrics["student"].keys() == result.metrics["teacher"].keys()
    with pytest.raises(TypeError, match="input 'nosmog' has no option 'walk'; did you mean 'walks'"):
        distill(graph, "sage", dict(type="nosmog", inputs=dict(walk=3)))
    with pytest.raises(TypeError, match="method 'nosmog' has no option 'width'"):
        distill(graph, "sage", dict(type="nosmog", width=3))
    with pytest.raises(ValueError, match="width is from 1 to the number of nodes, 1797, got 0"):
        deepwalk(graph.edge_index, len(graph), width=0)
    with pytest.raises(ValueError, match="length at least 2, got walks=5, length=1"):
        deepwalk(graph.edge_index, len(graph), length=1)


def test_a_recipe_around_it_sees_positions_too(setting: Setting, taught: Outcome) -> None:
    inner = dict(type="nosmog", adversary=0.0, inputs=WALKS)
    around = train_student(setting, taught.cache, dict(type="weight_align", method=inner), QUICK)
    assert around.model.network_.in_features == 64 + 16


def test_an_attack_stays_in_bounds_and_raises_the_loss(graph: Graph) -> None:
    torch.manual_seed(0)
    model, kl = MLP(64, (32,), 10), kdlosses.build("kl")
    target = torch.randn(len(graph), 10)
    clean, first, worst = (
        attacked(graph.x, lambda x: kl(model(x), target), eps, steps, torch.Generator().manual_seed(1))
        for eps, steps in ((0.0, 0), (0.05, 0), (0.05, 5))
    )
    assert torch.equal(clean, graph.x)
    for moved in (first, worst):
        assert (moved - graph.x).abs().max() <= 0.05 + 1e-6
    values = [kl(model(x), target).item() for x in (clean, first, worst)]
    assert values[2] > max(values[:2])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_step_is_the_sum_of_its_terms(setting: Setting) -> None:
    seen = setting.seen
    teacher, hidden = torch.randn(len(seen), 10), torch.rand(len(seen), 7)
    x = seen.x

    def value(**options: Any) -> float:
        torch.manual_seed(0)
        model, kept = MLP(64, (32,), 10), []

        def one_step(model: Any, loss: Any, count: int) -> History:
            kept.extend([loss(slice(None)).item(), *model])
            return History()

        lesson = Lesson(x, torch.full((len(seen),), -1), one_step, torch.Generator(), teacher, hidden=[hidden])
        nosmog(model, lesson, **options)
        if not options["relation"]:
            assert len(kept) == 2
            return kept[0]
        with torch.no_grad():
            s = kept[2](model.outputs(x)[0]).double().numpy()
        gram = ((s @ s.T - hidden.double().numpy() @ hidden.double().numpy().T) ** 2).mean()
        assert kept[0] == pytest.approx(clean + options["relation"] * gram, rel=1e-5)
        return kept[0]

    clean = value(relation=0.0, adversary=0.0)
    assert clean == pytest.approx(value(relation=0.0, adversary=0.5, eps=0.0) / 1.5, rel=1e-6)
    assert value(relation=0.3, adversary=0.0) > clean


def test_what_cannot_be_related_is_refused(setting: Setting) -> None:
    seen = setting.seen
    lesson = Lesson(seen.x, seen.y, lambda *_: History(), torch.Generator(), torch.randn(len(seen), 10))
    with pytest.raises(ValueError, match="the teacher has no hidden layer to relate; pass relation=0"):
        nosmog(MLP(64, (8,), 10), lesson)
    with pytest.raises(ValueError, match="the student has no hidden layer"):
        nosmog(MLP(64, (), 10), Lesson(**{**vars(lesson), "hidden": [torch.rand(len(seen), 4)]}))
    with pytest.raises(ValueError, match="are not negative"):
        nosmog(MLP(64, (8,), 10), lesson, eps=-1.0)
