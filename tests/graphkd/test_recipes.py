"""What every recipe must hold to, and what FF-G2M's sampling must not change."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract, entry_of
from torch import Tensor, nn

from graphkd import Cache, StudentClassifier
from graphkd.data import Graph, Setting, cpf_split, digits, make_setting
from graphkd.losses import ffg2m_high, ffg2m_low
from graphkd.networks.mlp import MLP
from graphkd.recipes import INPUTS, NETWORKS, RECIPES, ffg2m
from graphkd.teachers import sage
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History, Schedule, train

CONTRACT = RecipeContract("ffg2m", undrawn=dict(high=0.0))

TAUGHT = sorted(set(RECIPES) - {"supervised"})
GRAPH_FREE = sorted(set(TAUGHT) - set(INPUTS))  # recipes whose students look at features alone


def entry(name: str) -> RecipeContract:
    return entry_of(RecipeContract, name)


def weighing(name: str, lam: float, **options: Any) -> dict[str, Any]:
    """A recipe, or the one that it is put around, with `lam` as the weight of the labels."""
    inner = (
        {"lam": lam} if "lam" in inspect.signature(RECIPES[name]).parameters else {"method": dict(type="glnn", lam=lam)}
    )
    return dict(type=name, **{**options, **inner})


@pytest.fixture(scope="module")
def teacher(setting: Setting) -> Tensor:
    """Soft labels with some sense in them: the true class stands out of the noise."""
    noise = torch.randn(len(setting.whole), 10, generator=torch.Generator().manual_seed(1))
    return noise + 2 * nn.functional.one_hot(setting.whole.y, 10)


def fitted(setting: Setting, teacher: Tensor | None, method: object, **options: object) -> StudentClassifier:
    seen = setting.seen
    student = StudentClassifier(
        **{**dict(hidden=(32,), dropout=0.3, epochs=15, random_state=0), **options},  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
    )
    cache = None if teacher is None else cached(teacher)
    return student.fit(seen.x, seen.y, teacher=cache, edge_index=seen.edge_index, labelled=setting.train)


def cached(logits: Tensor) -> Cache:
    """The teacher with a hidden layer, rows with their codes, and weights, for the recipes that want them."""
    z, nodes = logits.numpy(), np.arange(len(logits))
    hidden, codebook = np.tanh(z), np.eye(10, dtype=np.float32)
    more = {"code": hidden, "noisy": z + hidden}
    params = {"codebook": codebook, **{key: w.numpy() for key, w in weights(32).items()}}
    return Cache(z, nodes, np.ones(len(nodes), dtype=bool), "", (hidden,), more=more, params=params)


def weights(hidden: int) -> dict[str, Tensor]:
    """Those of some graph network with so many hidden units."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return sage(64, 10, hidden=hidden).requires_grad_(False).state_dict()


@pytest.mark.parametrize("name", [name for name in TAUGHT if not entry(name).no_control])
def test_lambda_one_is_the_control_to_the_bit(setting: Setting, teacher: Tensor, name: str) -> None:
    for batch_size in (None, 400):
        control = fitted(setting, None, name, batch_size=batch_size)
        taught = fitted(setting, teacher, weighing(name, 1.0, **entry(name).options), batch_size=batch_size)
        assert np.array_equal(control.predict_proba(setting.whole.x), taught.predict_proba(setting.whole.x))


@pytest.mark.parametrize("name", [name for name in TAUGHT if not entry(name).reads_labels])
def test_lambda_zero_reads_no_label(setting: Setting, teacher: Tensor, name: str) -> None:
    shuffled = Graph(**{**vars(setting.seen), "y": setting.seen.y.flip(0).clamp_min(0)})
    other = Setting(**{**vars(setting), "seen": shuffled})
    one, two = (
        fitted(view, teacher, weighing(name, 0.0, **entry(name).options)).predict_proba(setting.whole.x)
        for view in (setting, other)
    )
    assert np.array_equal(one, two)


@pytest.mark.parametrize("name", TAUGHT)
def test_in_batches_it_learns_as_well_as_all_at_once(setting: Setting, teacher: Tensor, name: str) -> None:
    whole = setting.whole
    for batch_size in (None, 256):
        student = fitted(setting, teacher, dict(type=name, **entry(name).options), epochs=60, batch_size=batch_size)
        accuracy = student.score(whole.x[setting.test], whole.y[setting.test])
        assert accuracy > (0.7 if entry(name).learns_less else 0.9)


@pytest.mark.parametrize("name", [name for name in TAUGHT if not entry(name).always_draws])
def test_relabelling_the_nodes_permutes_the_predictions(setting: Setting, teacher: Tensor, name: str) -> None:
    # in double precision and without what is drawn (dropout, edges), only the order of summation is left
    options = entry(name).undrawn
    seen = setting.seen
    order = torch.randperm(len(seen), generator=torch.Generator().manual_seed(2))
    place = torch.argsort(order)
    labels = torch.full((len(seen),), -1)
    labels[setting.train] = seen.y[setting.train]
    outputs = []
    for x, y, z, edges in (
        (seen.x, labels, teacher, seen.edge_index),
        (seen.x[order], labels[order], teacher[order], place[seen.edge_index]),
    ):
        torch.manual_seed(0)
        model = NETWORKS.get(name, MLP)(64, (16,), 10).double()
        loop = functools.partial(train, schedule=Schedule(epochs=20))
        hidden = z.double().tanh()
        told: dict[str, Any] = dict(
            more={"code": hidden, "noisy": z.double() + hidden},
            params={"codebook": torch.eye(10).double(), **weights(16)},
        )
        lesson = Lesson(x.double(), y, loop, torch.Generator(), z.double(), edges, hidden=[hidden], **told)
        RECIPES[name](model, lesson, **options)
        outputs.append(model(x.double()).detach())
    torch.testing.assert_close(outputs[0][order], outputs[1], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", GRAPH_FREE)
def test_a_graph_free_student_is_as_good_on_cold_nodes(name: str) -> None:
    graph = digits()
    setting = make_setting(graph, cpf_split(graph.y, 0), "ind", 0)
    teacher = torch.randn(len(setting.seen), 10, generator=torch.Generator().manual_seed(1))
    student = fitted(setting, teacher, dict(type=name, **entry(name).options))
    assert np.array_equal(student.predict(graph.x)[setting.unseen], student.predict(graph.x[setting.unseen]))


def step_loss(setting: Setting, teacher: Tensor, model: nn.Module, nodes: Tensor | slice, **options: object) -> Tensor:
    """The loss that `ffg2m` would minimise on these nodes."""
    kept: list[Tensor] = []

    def one_step(model: nn.Module, loss: object, count: int) -> History:
        kept.append(loss(nodes))  # type: ignore[operator]
        return History()

    seen = setting.seen
    lesson = Lesson(
        seen.x, torch.full((len(seen),), -1), one_step, torch.Generator().manual_seed(3), teacher, seen.edge_index
    )
    ffg2m(model, lesson, lam=0.0, **options)  # type: ignore[arg-type]
    return kept[0]


def test_ffg2m_low_part_is_the_edge_wise_loss(setting: Setting, teacher: Tensor) -> None:
    model = MLP(64, (16,), 10)
    edgewise = ffg2m_low(model(setting.seen.x), teacher, setting.seen.edge_index)
    recipe = step_loss(setting, teacher, model, slice(None), high=0.0, even=False)
    assert recipe.item() == pytest.approx(edgewise.item(), abs=1e-5)
    parts = torch.arange(len(setting.seen)).split(599)  # three batches of equal size stand for the whole
    assert len({len(part) for part in parts}) == 1
    batches = torch.stack([step_loss(setting, teacher, model, part, high=0.0, even=False) for part in parts])
    assert batches.mean().item() == pytest.approx(edgewise.item(), abs=1e-5)


def test_ffg2m_even_is_a_mean_over_nodes_of_what_each_is_told(setting: Setting, teacher: Tensor) -> None:
    model, seen = MLP(64, (16,), 10), setting.seen
    log_p, log_q = teacher.double().log_softmax(1), model(seen.x).double().log_softmax(1)
    each = []
    for node in range(len(seen)):
        told = torch.cat([torch.tensor([node]), seen.edge_index[0, seen.edge_index[1] == node]])
        each.append((log_p[told].exp() * (log_p[told] - log_q[node])).sum(1).mean())
    recipe = step_loss(setting, teacher, model, slice(None), high=0.0, even=True)
    assert recipe.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-4)


def test_ffg2m_high_part_is_an_unbiased_sample_of_the_edge_wise_loss(setting: Setting, teacher: Tensor) -> None:
    model = MLP(64, (16,), 10)
    edgewise = ffg2m_high(model(setting.seen.x), teacher, setting.seen.edge_index, tau=1.5).item()
    for nodes in (slice(None), torch.arange(599)):
        low = step_loss(setting, teacher, model, nodes, high=0.0)
        sampled = step_loss(setting, teacher, model, nodes, tau=1.5, high=1.0, pairs=200_000) - low
        assert sampled.item() == pytest.approx(edgewise, rel=0.02)


def test_ffg2m_without_edges_is_glnn(setting: Setting, teacher: Tensor) -> None:
    bare = Graph(**{**vars(setting.seen), "edge_index": setting.seen.edge_index[:, :0]})
    view = Setting(**{**vars(setting), "seen": bare})
    one, other = (fitted(view, teacher, method, epochs=5) for method in (dict(type="ffg2m", lam=0.0), "glnn"))
    np.testing.assert_allclose(one.predict_proba(bare.x), other.predict_proba(bare.x), atol=1e-4)
