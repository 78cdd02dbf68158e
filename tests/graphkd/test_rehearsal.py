"""What is wrong with a method, its options, or how it fits student and teacher, is found before anything is trained."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from graphkd import LinkStudent, StudentClassifier, distill, distill_links
from graphkd.data import Graph, make_setting
from graphkd.pipeline.rehearse import rehearse
from graphkd.recipes import RECIPES
from graphkd.spec import resolve
from graphkd.teachers import gcn
from graphkd.training.loop import Schedule, rehearsal, train

pytestmark = pytest.mark.filterwarnings("ignore:.*no teacher is better")

N = 60
Y = torch.arange(N) % 3
X = torch.eye(3, 6)[Y] + 0.5 * torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
RING = torch.stack([torch.arange(N), (torch.arange(N) + 3) % N])
SPLIT = torch.randperm(N, generator=torch.Generator().manual_seed(1)).split([20, 20, 20])
GRAPH = SimpleNamespace(x=X, edge_index=torch.cat([RING, RING.flip(0)], 1), y=Y, split=SPLIT)
STUDENT = StudentClassifier((8,), epochs=2)


def untrainable(inputs: int, classes: int, *, hidden: int = 8) -> torch.nn.Module:
    """A graph network that ends the test once it is trained."""
    network = gcn(inputs, classes, hidden=hidden)
    network.auxiliary_loss = lambda: pytest.fail("the teacher is trained")  # type: ignore[assignment]
    return network


TEACHER = dict(type=untrainable, epochs=1)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (dict(type="adagmlp", mask=2.0), "mask below 1"),
        (dict(type="annotator", budget=2.0), r"budget in \(0, 1\]"),
        (dict(type="ddk", smoothing=2.0), r"smoothing must lie in \[0, 1\)"),
        (dict(type="dual_head", dropout=2.0), "dropout must be at most 1"),
        (dict(type="hard", bound=1.0), r"bound must lie in \[0, 1\)"),
        (dict(type="hard", low=3.0), "0 < low <= up"),
        (dict(type="kd3", kappa=2.0), "kappa must be a probability"),
        (dict(type="lingugkd", dropout=2.0), "dropout must be at most 1"),
        (dict(type="mixup", share=2.0), "share is the part of the samples to mix"),
        (dict(type="pruned", method=dict(type="glnn", lam=2.0)), "lam is the weight of the labels"),
        (dict(type="pruned", keep=0.0), "keep is a share"),
        (dict(type="rad", method=dict(type="adagmlp", members=0)), "members must be at least 1"),
        (dict(type="random_teacher", near=2.0), "near is a share"),
        (dict(type="selfdistill", held=1.0), "leaves none to hold out"),
        (dict(type="simmlp", edge_mask=2.0), "edge_mask <= 1"),
        (dict(type="simmlp", predictor=0), "predictor >= 1"),
        (dict(type="simmlp", method=dict(type="hard", low=3.0)), "0 < low <= up"),
        (dict(type="simmlp", method="adagmlp"), "'adagmlp' teaches a Boosted"),
        (dict(type="terms", distills=[]), "distills is empty"),
        (dict(type="terms", distills=[dict(loss="mse", student="hidden:3")]), "the student has 1 hidden layers"),
        (dict(type="tfkd_self", generations=0), "generations must be at least 1"),
        ("vqgraph", "the teacher has no 'code' and 'codebook'"),
    ],
)
def test_options_are_checked_before_a_teacher_is_trained(method: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distill(GRAPH, TEACHER, method, student=STUDENT, setting="tran")


@pytest.mark.parametrize(
    ("method", "student", "message"),
    [
        ("tined", STUDENT, "they must be the same"),
        ("vqgraph", StudentClassifier((), epochs=2), "the student needs a hidden layer"),
        ("talking", StudentClassifier((), epochs=2), "it takes a hidden layer of the student"),
        ("dual_head", StudentClassifier((), epochs=2), "the student needs a hidden layer"),
        ("nosmog", StudentClassifier((), epochs=2), "has no hidden layer to relate"),
    ],
)
def test_a_student_that_does_not_fit_is_named_before_a_teacher_is_trained(
    method: str, student: StudentClassifier, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        distill(GRAPH, {**TEACHER, "hidden": 16}, method, student=student, setting="tran")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (dict(type="llp", lam=2.0), "lam is the weight of the labels"),
        (dict(type="llp", hops=0), "a context needs at least two nodes"),
        (dict(type="llp", rank=-1.0), "rank must be at least 0"),
    ],
)
def test_methods_of_links_are_checked_before_a_teacher_is_trained(method: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distill_links(GRAPH, TEACHER, method, student=LinkStudent((8, 8), epochs=1, k=2))


def test_a_function_with_other_arguments_is_told_how_a_loss_is_called() -> None:
    entry = dict(loss="torch.nn.functional:mse_loss")
    with pytest.raises(TypeError, match="a function that is a loss calls its first two arguments student and teacher"):
        distill(GRAPH, TEACHER, dict(type="terms", distills=[entry]), student=STUDENT, setting="tran")


@pytest.mark.parametrize(
    ("recipe", "option"),
    [
        ("refined_teacher", "consistency"),
        ("curvature", "caw"),
        ("ffg2m", "high"),
        ("ffg2m", "pairs"),
        ("hard", "steps"),
        ("kd3", "feature"),
        ("kd3", "points"),
        ("krd", "start"),
        ("lingugkd", "draw"),
        ("mtard", "radius"),
        ("talking", "interaction"),
        ("tgeo", "ahead"),
        ("voting", "votes"),
        ("vqgraph", "codes"),
    ],
)
def test_a_negative_weight_or_count_is_refused(recipe: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"method '{recipe}': {option} must be at least [01], got -1"):
        StudentClassifier((8,), epochs=1, method={"type": recipe, option: -1}).fit(X.numpy(), Y.numpy())


def test_options_of_a_method_of_ones_own_may_be_negative() -> None:
    def own(model: Any, lesson: Any, *, shift: float = 0.0) -> Any: ...

    assert resolve("method", dict(type=own, shift=-1.0), RECIPES) == (own, {"shift": -1.0})


def test_the_defaults_of_every_recipe_are_in_range() -> None:
    for name, recipe in RECIPES.items():
        defaults = {k: v for k, v in (recipe.__kwdefaults__ or {}).items() if v is not None}
        assert resolve("method", {"type": name, **defaults}, RECIPES)[1].keys() == defaults.keys()


def test_a_rehearsal_learns_nothing_and_draws_nothing() -> None:
    layer = torch.nn.Linear(6, 3)
    before = layer.weight.detach().clone()
    seen = []
    with rehearsal():
        train(layer, lambda nodes: seen.append(nodes) or layer(X[nodes]).sum(), N, schedule=Schedule(batch_size=7))
        pytest.fail("the training went on")
    assert len(seen) == 1
    assert len(seen[0]) == 7
    assert torch.equal(layer.weight, before)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    rehearse(make_setting(Graph.of(GRAPH), Graph.of(GRAPH).split, "tran", 0), "sage", ["glnn"], STUDENT)
    assert torch.equal(torch.rand(1), expected)
    assert not hasattr(STUDENT, "network_")


def test_a_teacher_that_is_trained_would_end_these_tests() -> None:
    with pytest.raises(pytest.fail.Exception, match="the teacher is trained"):
        distill(GRAPH, TEACHER, student=STUDENT, setting="tran")
    with pytest.raises(pytest.fail.Exception, match="the teacher is trained"):
        distill_links(GRAPH, TEACHER, student=LinkStudent((8, 8), epochs=1, k=2))
