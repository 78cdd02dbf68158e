"""Teachers that are asked about changed features while a student learns: what they see, and what they must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import Tensor, nn
from torch_geometric.nn import GCN, PairNorm, SAGEConv

from graphkd import Cache, Graph, StudentClassifier, compare, distill, train_student, train_teacher
from graphkd.data import Setting, cpf_split, digits, make_setting
from graphkd.networks.mlp import MLP
from graphkd.pipeline.outcome import Outcome
from graphkd.recipes import ASKS, RECIPES
from graphkd.teachers import TEACHERS
from graphkd.teachers.call import call
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History

QUICK = dict(hidden=(16,), epochs=3)
SAGE = dict(type="sage", hidden=16, epochs=20)
GCN_SPEC = dict(type="gcn", hidden=16, epochs=20)
ASKING = {
    "hard": dict(type="hard", bound=0.5),
    "mixup": dict(type="mixup", ask=True),
    "kd3": dict(type="kd3"),
    "mst_distill": dict(type="mst_distill"),
    "mtard": dict(type="mtard", steps=2, radius=0.1, step=0.05),
    "talking": dict(type="talking"),
}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return digits()


@pytest.fixture(scope="module")
def ind(graph: Graph) -> Setting:
    return make_setting(graph, cpf_split(graph.y, 0), "ind", 0)


@pytest.fixture(scope="module")
def taught(ind: Setting) -> Outcome:
    return train_teacher(ind, [SAGE, GCN_SPEC])


def student(method: Any, **options: Any) -> StudentClassifier:
    return StudentClassifier(**{**QUICK, **options}, method=method)  # type: ignore[arg-type]


class Wide(nn.Module):
    """A network of one's own in which every node hears of all others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = SAGEConv(64, 16), PairNorm(), SAGEConv(16, 10)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.out(self.norm(self.conv(x, edge_index)), edge_index)


@pytest.mark.parametrize("name", sorted(TEACHERS))
def test_asked_about_what_is_unchanged_it_says_what_is_in_the_cache(ind: Setting, name: str) -> None:
    outcome = train_teacher(ind, dict(type=name, epochs=2))
    assert outcome.live is not None
    assert outcome.cache is not None
    said = torch.from_numpy(outcome.cache.logits)[ind.observed]
    torch.testing.assert_close(outcome.live(ind.seen.x), said, atol=1e-4, rtol=1e-4)
    some = torch.randperm(len(ind.seen), generator=torch.Generator().manual_seed(0))[:40]
    torch.testing.assert_close(outcome.live(ind.seen.x[some], some), said[some], atol=1e-4, rtol=1e-4)
    if not outcome.cache.hidden:
        with pytest.raises(ValueError, match="has no hidden layer"):
            outcome.live.upper(said)
        return
    hidden = torch.from_numpy(outcome.cache.hidden[-1])[ind.observed]
    torch.testing.assert_close(outcome.live.upper(hidden), said, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(outcome.live.upper(hidden[some], some), said[some], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make", [lambda: GCN(64, 8, 2, 10), Wide], ids=["pyg", "wide"])
def test_a_module_of_ones_own_is_asked_about_changed_features(ind: Setting, make: Callable[[], nn.Module]) -> None:
    """By hand: the network on the seen part, with some rows replaced."""
    torch.manual_seed(0)
    network = make().train()
    outcome = train_teacher(ind, network)
    some = torch.tensor([5, 900, 33])
    moved = ind.seen.x.index_copy(0, some, torch.rand(3, 64))
    assert outcome.live is not None
    answers = outcome.live(moved[some], some)
    assert network.training  # it is left as it was
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    with torch.no_grad():
        expected = network.eval()(moved, ind.seen.edge_index)
    torch.testing.assert_close(answers, expected[some], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(outcome.live(moved), expected, atol=1e-4, rtol=1e-4)
    bare = ind.seen.edge_index[:, :0]
    torch.testing.assert_close(outcome.live(moved[some], some, bare), network(moved, bare)[some].detach())


def test_gradients_reach_the_features_and_no_weight(ind: Setting, taught: Outcome) -> None:
    some = torch.arange(7)
    x = ind.seen.x[some].clone().requires_grad_()
    assert taught.live is not None
    for network in taught.live.networks:
        network.zero_grad()  # of its training
    for which in (None, 0, -1):
        answers = taught.live(x, some, which=which)
        assert answers.shape == (7, 20 if which is None else 10)
        answers.sum().backward()
        assert x.grad is not None
        assert (x.grad.abs().sum(1) > 0).all()
        x.grad = None
    for network in taught.live.networks:
        assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("method", ASKING.values(), ids=ASKING)
@pytest.mark.parametrize("batch_size", [None, 200])
def test_no_unseen_node_and_no_test_label_reaches_the_student(
    graph: Graph, ind: Setting, method: Any, batch_size: int | None
) -> None:
    """With other features and edges at unseen nodes, and other labels of test nodes, the student is the same."""
    noise = torch.rand(graph.x.shape, generator=torch.Generator().manual_seed(1))
    hidden = torch.zeros(len(graph), dtype=torch.bool).index_fill(0, ind.unseen, True)
    x = torch.where(hidden[:, None], noise, graph.x)
    y = graph.y.clone()
    tested = torch.cat([ind.test, ind.unseen])
    y[tested] = (y[tested] + 1) % 10
    loose = hidden[graph.edge_index].any(0)
    end = torch.where(loose & hidden[graph.edge_index[0]], graph.edge_index[0].roll(1), graph.edge_index[0])
    end = torch.where(hidden[end] | ~loose, end, graph.edge_index[0])
    other = replace(graph, x=x, y=y, edge_index=torch.stack([end, graph.edge_index[1]]))
    found = []
    for each in (graph, other):
        view = make_setting(each, cpf_split(graph.y, 0), "ind", 0)
        outcome = train_teacher(view, SAGE)
        model = train_student(view, outcome, method, student("glnn", batch_size=batch_size)).model
        found.append(model.predict_proba(graph.x[ind.observed]))
    np.testing.assert_array_equal(*found)


def test_who_asks_is_declared() -> None:
    assert set(ASKING) == ASKS


def test_a_scaled_student_asks_in_the_units_of_the_graph(ind: Setting, taught: Outcome) -> None:
    x, asked = ind.seen.x, []

    def watched(model: nn.Module, lesson: Lesson) -> History:
        asked.append((rows_of(lesson), lesson.live_teacher("watched")(rows_of(lesson))))
        return lesson.train(model, lambda nodes: lesson.hard_loss(model), len(lesson))

    def rows_of(lesson: Lesson) -> Tensor:
        return torch.as_tensor(lesson.x)

    scaler = make_pipeline(StandardScaler(), MinMaxScaler((-1, 1)))
    train_student(ind, taught, watched, student("glnn", scaler=scaler, epochs=1))
    ((scaled, answers),) = asked
    assert not torch.allclose(scaled, x)
    assert taught.live is not None
    torch.testing.assert_close(answers, taught.live(x), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", sorted(ASKING))
def test_a_table_of_logits_is_refused_by_name_before_anything_is_trained(
    graph: Graph, ind: Setting, taught: Outcome, name: str
) -> None:
    method, forever = ASKING[name], StudentClassifier(epochs=10**9)
    why = f"{name} asks the teacher about changed features or layers, and there are only its outputs: pass the network"
    assert taught.cache is not None
    one = taught.cache.split()[0]
    logits = np.where(one.observed[:, None], one.logits, np.nan)
    for teacher in (logits, one):
        with pytest.raises(ValueError, match=why):
            distill(graph, teacher, method, student=forever, setting="ind")
    with pytest.raises(ValueError, match=why):
        compare(graph, one, method, student=forever, settings=["ind"], seeds=[0])
    with pytest.raises(ValueError, match=why):
        train_student(ind, taught.cache, method)
    piped = make_pipeline(StandardScaler(), StudentClassifier())
    with pytest.raises(ValueError, match="no features but the graph's own"):
        train_student(ind, taught, method, piped)
    unasked = {**method, "ask": False}  # type: ignore[dict-item]
    train_student(ind, taught.cache, unasked, student("glnn"))


def test_a_method_that_shows_other_nodes_is_refused(ind: Setting, taught: Outcome) -> None:
    with pytest.raises(ValueError, match="mtard asks the teacher about 1538 nodes, of which the method around it show"):
        train_student(ind, taught, dict(type="pruned", keep=0.5, method=ASKING["mtard"]), student("glnn"))


def test_a_cache_with_weights_keeps_the_network(tmp_path: Any, graph: Graph, ind: Setting) -> None:
    for spec in (dict(SAGE, taps=["layers.0"]), dict(type="appnp", epochs=2), dict(type="mcmi", epochs=2)):
        if spec["type"] not in TEACHERS:
            continue
        trained = train_teacher(ind, spec, extras=["weights"])
        assert trained.cache is not None
        folder = tmp_path / str(spec["type"])
        trained.cache.save(folder)
        again = train_teacher(ind, Cache.load(folder))
        assert trained.live is not None
        assert again.live is not None
        x = torch.rand(ind.seen.x.shape)
        torch.testing.assert_close(again.live(x), trained.live(x))
    found = [train_student(ind, each, ASKING["mtard"], student("glnn")).model for each in (trained, again)]
    np.testing.assert_array_equal(*(model.predict_proba(graph.x) for model in found))


def first_step(lesson: Lesson, name: str, model: nn.Module, nodes: Tensor | slice, **options: Any) -> Tensor:
    kept: list[Tensor] = []

    def one_step(trained: nn.Module, loss: Callable[[Tensor | slice], Tensor], count: int) -> History:
        kept.append(loss(nodes))
        return History()

    RECIPES[name](model, replace(lesson, train=one_step, generator=torch.Generator().manual_seed(0)), **options)
    return kept[0]


@pytest.fixture
def lesson(ind: Setting, taught: Outcome) -> Lesson:
    assert taught.cache is not None
    seen, cache = ind.seen, taught.cache.take(ind.observed.numpy())
    labels = torch.full((len(seen),), -1)
    given = (seen.x, labels, lambda *_: History(), torch.Generator(), cache.logits, seen.edge_index)
    return Lesson(*given, parts=cache.parts, live=taught.live)


class Watched(MLP):
    """Keeps what it is shown."""

    shown: list[Tensor]

    def forward(self, x: Tensor) -> Tensor:
        self.__dict__.setdefault("shown", []).append(x.detach())
        return super().forward(x)


def watched() -> Watched:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Watched(64, (16,), 10, dropout=0.0)


def kl(p_logits: Tensor, q_logits: Tensor) -> float:
    p, q = (np.asarray(z.detach().double().log_softmax(1)) for z in (p_logits, q_logits))
    return float((np.exp(p) * (p - q)).sum(1).mean())


@pytest.mark.parametrize("nodes", [slice(None), torch.arange(0, 1500, 7)], ids=["all", "batch"])
def test_mtard_asks_the_robust_teacher_about_the_attacked_features(
    ind: Setting, taught: Outcome, lesson: Lesson, nodes: Tensor | slice
) -> None:
    """The formula once more, with each teacher called by hand: half the KL of either pair."""
    model, seen = watched(), ind.seen
    value = first_step(lesson, "mtard", model, nodes, radius=0.3, step=0.1, steps=4)
    moved, clean = model.shown[-1], seen.x[nodes]
    assert 0.29 < (moved - clean).abs().max() <= 0.3 + 1e-6
    whole = seen.x.clone()
    whole[nodes] = moved
    natural, robust = (
        call(network.eval(), x, seen.edge_index)[nodes]
        for network, x in zip(taught.live.networks, (seen.x, whole))  # type: ignore[union-attr]
    )
    expected = (kl(natural, model(clean)) + kl(robust, model(moved))) / 2
    assert value.item() == pytest.approx(expected, rel=1e-3)
    unasked = first_step(lesson, "mtard", watched(), nodes, radius=0.3, step=0.1, steps=4, ask=False)
    assert abs(unasked.item() - expected) > 0.002


def test_hard_asks_about_the_features_that_the_student_sees(ind: Setting, taught: Outcome, lesson: Lesson) -> None:
    model, seen = watched(), ind.seen
    value = first_step(lesson, "hard", model, slice(None), bound=0.5, lr=0.1, steps=5, up=1e9)
    moved = model.shown[-1]
    assert not torch.allclose(moved, seen.x)
    told = torch.stack([call(network.eval(), moved, seen.edge_index) for network in taught.live.networks])  # type: ignore[union-attr]
    expected = kl(told.softmax(2).mean(0).log(), model(moved))
    assert value.item() == pytest.approx(expected, rel=1e-3)
    unasked = first_step(lesson, "hard", watched(), slice(None), bound=0.5, lr=0.1, steps=5, up=1e9, ask=False)
    assert abs(unasked.item() - expected) > 0.01


def test_the_mask_climbs_what_student_and_teacher_say_of_the_same_features(lesson: Lesson) -> None:
    found = [
        first_step(lesson, "hard", watched(), slice(None), bound=0.5, lr=0.05, steps=steps, up=1e9).item()
        for steps in (0, 5, 30)
    ]
    assert found[0] < found[1] < found[2]


def test_mixup_asks_about_the_mixed_features(ind: Setting, taught: Outcome, lesson: Lesson) -> None:
    model, seen = watched(), ind.seen
    value = first_step(lesson, "mixup", model, slice(None), lam=0.0, loss="kl", ask=True)
    moved = model.shown[-1]
    told = torch.stack([call(network.eval(), moved, seen.edge_index) for network in taught.live.networks])  # type: ignore[union-attr]
    assert value.item() == pytest.approx(kl(told.softmax(2).mean(0).log(), model(moved)), rel=1e-3)
    unasked = first_step(lesson, "mixup", watched(), slice(None), lam=0.0, loss="kl")
    assert abs(unasked.item() - value.item()) > 0.01


def tapped(network: nn.Module, *taps: str) -> dict[str, Any]:
    return dict(module=network, taps=list(taps))


@pytest.mark.parametrize(
    "make",
    [
        lambda: GCN(64, 8, 2, 10),
        lambda: tapped(GCN(64, 8, 2, 10), "convs.1:in"),
        lambda: tapped(GCN(64, 8, 3, 10), "act"),
        lambda: tapped(Wide(), "conv+norm"),
    ],
    ids=["found", "input", "in its second call", "several"],
)
def test_another_hidden_layer_goes_through_the_layers_above_it(ind: Setting, make: Callable[[], Any]) -> None:
    """Its own layer gives its own logits; of another one the neighbours hear, too, and the gradient goes through."""
    torch.manual_seed(0)
    outcome = train_teacher(ind, make())
    assert outcome.cache is not None
    assert outcome.live is not None
    hidden = torch.from_numpy(outcome.cache.hidden[-1])[ind.observed]
    said = torch.from_numpy(outcome.cache.logits)[ind.observed]
    torch.testing.assert_close(outcome.live.upper(hidden), said, atol=1e-4, rtol=1e-4)
    some = torch.tensor([5, 900, 33])
    moved = (hidden[some] + 1).requires_grad_()
    told = outcome.live.upper(moved, some)
    whole = outcome.live.upper(hidden.index_copy(0, some, moved.detach()))
    torch.testing.assert_close(told, whole[some], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(told, said[some], atol=1e-2)
    assert ((whole - said).abs().amax(1) > 1e-4).sum() > 3
    told.sum().backward()
    assert moved.grad is not None
    assert (moved.grad.abs().sum(1) > 0).all()
    assert all(parameter.grad is None for parameter in outcome.live.networks[0].parameters())
