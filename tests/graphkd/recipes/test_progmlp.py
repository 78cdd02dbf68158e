"""ProGMLP: exits, budgets and what they save; files and exported models; students that build on those before them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from contract.entry import RecipeContract
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from graphkd import StudentClassifier, distill
from graphkd.data import Setting, digits
from graphkd.networks.cascade import Cascade
from graphkd.networks.mlp import MLP
from graphkd.recipes import progmlp
from graphkd.recipes.progmlp import refined
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History, Schedule, train
from kdlosses.rules.mixup import mixup

CONTRACT = RecipeContract("progmlp", options=dict(members=2), undrawn=dict(members=2, mix=0.0))

HIDDEN: Any = pytest.mark.parametrize("hidden", [(9,), (9, 6), ()], ids=str)


def cascade(hidden: tuple[int, ...], members: int = 3, norm: Any = None) -> tuple[Cascade, Tensor]:
    """A cascade with weights at random, and rows of which some are clear and some are not."""
    network = Cascade(5, hidden, 4, 0.3, norm if hidden else None)
    for _ in range(members - 1):
        network.add()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return network.eval(), torch.randn(60, 5) * torch.linspace(0.05, 2, 60)[:, None]


@HIDDEN
@pytest.mark.parametrize("norm", [None, "batch"])
def test_a_node_leaves_after_the_first_student_that_is_sure(hidden: tuple[int, ...], norm: Any) -> None:
    network, x = cascade(hidden, norm=norm)
    every = [logits.numpy() for logits in network.all_logits(x)]
    assert len(every) == 3
    assert torch.equal(network(x), torch.from_numpy(every[-1]))  # no exit, as long as none is chosen
    network.leave(budget=1.9, x=x)
    theta, expected, asked = network.confidence.item(), [], []
    for row in range(len(x)):
        for k, logits in enumerate(every):
            if softmax(logits[row].astype(np.float64)).max() >= theta or k == 2:
                expected.append(logits[row])
                asked.append(k + 1)
                break
    assert set(asked) == {1, 2, 3}
    assert network.exits(x).tolist() == asked
    for given in (x, x.to_sparse_csr()):
        np.testing.assert_allclose(network(given).detach(), expected, rtol=1e-4, atol=1e-5)
    for row in range(0, len(x), 7):
        np.testing.assert_allclose(network(x[row : row + 1]).detach()[0], expected[row], rtol=1e-4, atol=1e-5)


def test_what_comes_after_an_exit_is_not_computed() -> None:
    network, x = cascade((9,))
    network.leave(confidence=0.8)
    computed: list[int] = []
    for member in network.members:
        member.layers[0].register_forward_hook(lambda _module, _given, out: computed.append(len(out)))
    network(x)
    asked = network.exits(x)
    assert computed[:3] == [60, int((asked > 1).sum()), int((asked > 2).sum())]
    assert computed[1] < 60
    computed.clear()
    network.leave(confidence=0.0)
    network(x)
    assert computed == [60]


@pytest.mark.parametrize("budget", [1, 1.3, 2, 2.4, 3])
def test_a_budget_is_kept_and_used_up(budget: float) -> None:
    network, x = cascade((9,))
    network.leave(budget=budget, x=x)
    spent = network.exits(x).double().mean().item()
    assert spent <= budget
    assert spent > budget - 0.05  # a node alone is 1/60, and one threshold may keep it for two students
    network.leave()
    assert network.exits(x).tolist() == [3] * 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(confidence=0.5, budget=2.0), "not by both"),
        (dict(confidence=1.5), "confidence is a probability"),
        (dict(confidence=-0.1), "confidence is a finite number from 0"),
        (dict(confidence=float("nan")), "confidence is a finite number from 0"),
        (dict(budget=0.5, x=torch.ones(2, 5)), "from 1 to 3, got 0.5"),
        (dict(budget=4, x=torch.ones(2, 5)), "from 1 to 3, got 4"),
        (dict(budget=2.0), "pass x, such as will be asked about"),
        (dict(budget=2.0, x=torch.ones(0, 5)), "pass x, such as will be asked about"),
    ],
)
def test_exits_that_make_no_sense_are_named(options: dict[str, Any], message: str) -> None:
    network, _ = cascade((9,))
    with pytest.raises(ValueError, match=message):
        network.leave(**options)


@HIDDEN
def test_it_begins_as_the_mlp_that_the_control_is_and_grows_by_no_correction(hidden: tuple[int, ...]) -> None:
    networks: list[nn.Module] = []
    for build in (MLP, Cascade):
        torch.manual_seed(0)
        networks.append(build(6, hidden, 4).eval())
    one, other = (list(network.parameters()) for network in networks)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    x = torch.randn(7, 6)
    before = networks[1](x)
    networks[1].add()  # type: ignore[operator]
    assert torch.equal(networks[1](x), before)


def test_a_state_makes_as_many_students_as_it_holds() -> None:
    (two, x), (three, _) = cascade((9,), 2), cascade((9,), 3)
    two.leave(confidence=0.7)
    three.load_state_dict(two.state_dict())
    assert len(three.members) == 2
    assert torch.equal(three.exits(x), two.exits(x))
    assert torch.equal(three(x), two(x))


def test_nodes_far_from_the_teacher_weigh_more() -> None:
    student, teacher = 2 * torch.randn(30, 4), 2 * torch.randn(30, 4)
    p, log_q = softmax(teacher.double().numpy(), 1), log_softmax(student.double().numpy(), 1)
    far = (p * (np.log(p) - log_q)).sum(1)
    found = refined(student, teacher, 0.7).numpy()
    np.testing.assert_allclose(found, 0.3 / 30 + 0.7 * far / far.sum(), rtol=1e-9)
    assert refined(teacher, teacher, 0.7).tolist() == pytest.approx([1 / 30] * 30)


def lesson_of(setting: Setting, losses: list[Any], epochs: int = 6) -> Lesson:
    """Soft labels of the digits, and a loop that keeps the loss of each stage before it trains."""
    seen = setting.seen
    teacher = torch.randn(len(seen), 10, generator=torch.Generator().manual_seed(1))
    teacher = teacher + 2 * nn.functional.one_hot(seen.y.clamp_min(0), 10)
    labels = torch.full((len(seen),), -1).index_copy(0, setting.train, seen.y[setting.train])
    generator = torch.Generator().manual_seed(2)
    loop = functools.partial(train, schedule=Schedule(epochs=epochs), generator=generator)

    def watched(model: nn.Module, loss: Callable[..., Tensor], count: int) -> History:
        losses.append((loss, {name: each.clone() for name, each in model.state_dict().items()}))
        return loop(model, loss, count)

    return Lesson(seen.x, labels, watched, generator, teacher)


def test_each_student_is_trained_on_top_of_those_before_it_which_stay(setting: Setting) -> None:
    stages = list[Any]()
    lesson, model = lesson_of(setting, stages), Cascade(64, (12,), 10)
    kept: list[dict[str, Tensor]] = []

    def noted(member: nn.Module, loss: Any, count: int) -> History:
        kept.append({name: each.clone() for name, each in model.state_dict().items()})
        return lesson.train(member, loss, count)

    other = Lesson(**{**{k: v for k, v in vars(lesson).items() if not k.startswith("_")}, "train": noted})
    history = progmlp(model, other, members=3, confidence=None)
    assert len(kept) == 3
    assert len(history.seconds) == 18
    after = model.state_dict()
    for stage in (1, 2):
        for place in range(stage):
            mine = [name for name in kept[stage] if name.startswith(f"members.{place}.")]
            assert all(torch.equal(kept[stage][name], after[name]) for name in mine)
        moved = [name for name in kept[stage] if name.startswith(f"members.{stage}.")]
        assert any(not torch.equal(kept[stage][name], after[name]) for name in moved)
    teacher = lesson.teacher.double().numpy()
    p = softmax(teacher, 1)
    far = [(p * (np.log(p) - log_softmax(z.double().numpy(), 1))).sum(1).mean() for z in model.all_logits(lesson.x)]
    assert far[0] > far[1] > far[2]  # each is nearer to the teacher than the last


def test_the_loss_of_a_later_stage_and_its_harder_mixtures(setting: Setting) -> None:
    stages = list[Any]()
    lesson, model = lesson_of(setting, stages), Cascade(64, (12,), 10)
    progmlp(model, lesson, members=3, lam=0.2, tau=1.5, refine=0.6, mix=0.7, alpha=0.8, confidence=None)
    loss, generator = stages[2][0], lesson.generator
    state = generator.get_state()
    found = loss(slice(None)).item()
    generator.set_state(state)
    partner, keep = mixup(len(lesson), generator, 3 * 0.8)
    teacher = lesson.teacher.double().numpy()
    mixed = keep[:, None] * lesson.x + (1 - keep[:, None]) * lesson.x[partner]
    _, before, clean = (z.double().numpy() for z in model.all_logits(lesson.x))
    p, blurred = softmax(teacher / 1.5, 1), model.all_logits(mixed)[-1].double().numpy()
    both = keep[:, None].double().numpy() * p + (1 - keep[:, None].double().numpy()) * p[partner]

    def divergence(target: np.ndarray, logits: np.ndarray) -> np.ndarray:
        return (target * (np.log(target) - log_softmax(logits, 1))).sum(1)

    far = divergence(softmax(teacher, 1), before)
    weight = 0.4 / len(lesson) + 0.6 * far / far.sum()
    told = lesson.labelled.numpy()
    hard = -log_softmax(clean, 1)[told, lesson.labels[told]].mean()
    soft = (weight * divergence(p, clean / 1.5)).sum() + 0.7 * divergence(both, blurred / 1.5).mean()
    assert found == pytest.approx(0.2 * hard + 0.8 * soft, rel=1e-3)


@pytest.fixture(scope="module")
def student(setting: Setting) -> StudentClassifier:
    seen = setting.seen
    teacher = torch.randn(len(seen), 10, generator=torch.Generator().manual_seed(1))
    teacher = teacher + 3 * nn.functional.one_hot(seen.y.clamp_min(0), 10)
    method = dict(type="progmlp", members=3, budget=1.7)
    fitted = StudentClassifier((16,), 0.2, method, epochs=12, norm="batch", random_state=0)
    return fitted.fit(seen.x, seen.y, teacher=teacher, labelled=setting.train)


def test_a_student_is_fitted_to_its_budget_and_saved_with_its_exits(
    student: StudentClassifier, setting: Setting, tmp_path: Path
) -> None:
    x = setting.seen.x
    asked = student.network_.exits(x)
    assert len(student.network_.members) == 3
    assert 1.65 < asked.double().mean().item() <= 1.7
    student.save(tmp_path / "student.safetensors")
    again = StudentClassifier.load(tmp_path / "student.safetensors")
    assert torch.equal(again.network_.exits(x), asked)
    assert np.array_equal(again.predict_proba(x), student.predict_proba(x))
    again.network_.leave(confidence=None)
    again.save(tmp_path / "all.safetensors")
    assert (StudentClassifier.load(tmp_path / "all.safetensors").network_.exits(x) == 3).all()


def test_an_exported_student_leaves_where_it_left(student: StudentClassifier, setting: Setting, tmp_path: Path) -> None:
    path = tmp_path / "student.onnx"
    student.to_onnx(path)
    assert [node.op_type for node in onnx.load(path).graph.node].count("If") == 2  # a branch a student after the first
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = setting.seen.x
    asked = student.network_.exits(x)
    for rows in (x[:1], x[asked == 1][:5], x[asked == 3][:1], x):
        (found,) = session.run(["probabilities"], {"x": rows.numpy()})
        np.testing.assert_allclose(found, student.predict_proba(rows), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(members=0), "members must be at least 1"),
        (dict(alpha=0.0), "tau and alpha are positive"),
        (dict(refine=1.5), "refine is from 0 to 1"),
        (dict(confidence=1.5), "confidence is a probability, from 0 to 1, got 1.5"),
        (dict(members=2, budget=2.5), "from 1 to 2, got 2.5"),
    ],
)
def test_options_are_checked_before_a_teacher_is_trained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distill(digits(), dict(type="sage", epochs=10**9), dict(type="progmlp", **options), setting="tran")
