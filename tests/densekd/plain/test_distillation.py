"""Live models of any kind in a loop of one's own."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kdlosses
from densekd import Distillation

IMAGES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(5, (2, 16, 24), generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """A segmenter of one's own, whose forward has two inputs and yields a dict."""

    def __init__(self, width: int = 4, classes: int = 5, stride: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor, scale: float = 1.0) -> dict[str, Any]:
        feature = self.body(image * scale)
        return {"logits": self.head(feature), "states": (feature, feature * 2)}


def pair(**options: Any) -> tuple[Net, Net]:
    torch.manual_seed(0)
    return Net(), Net(8, **options)


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Of softmax over classes, mean over positions, in float64."""
    student, teacher = student.double().log_softmax(1), teacher.double().log_softmax(1)
    return (teacher.exp() * (teacher - student)).sum(1).mean()


def test_losses_are_those_of_the_two_outputs_and_the_output_is_unchanged() -> None:
    student, teacher = pair()
    plain, its = copy.deepcopy(student), copy.deepcopy(teacher).eval()
    distillation = Distillation(student, teacher, method="kl", example=IMAGES)
    output, losses = distillation(IMAGES, scale=0.5)
    expected = plain(IMAGES, 0.5)
    assert torch.equal(output["logits"], expected["logits"])
    assert losses["kl"].item() == pytest.approx(kl(expected["logits"], its(IMAGES, 0.5)["logits"]).item(), rel=1e-5)
    losses["kl"].backward()
    assert all(each.grad is not None for each in student.head.parameters())
    assert all(each.grad is None for each in teacher.parameters())
    assert not any(module.training for module in distillation.train().teachers["teacher"].model.modules())


def test_the_student_stays_the_plain_student() -> None:
    student, teacher = pair()
    keys, before = list(student.state_dict()), {k: v.clone() for k, v in student.state_dict().items()}
    entries = [dict(loss="mse", student="body", teacher="body")]
    distillation = Distillation(student, teacher, entries, example=IMAGES)
    assert distillation.student is student
    assert list(student.state_dict()) == keys
    assert all(torch.equal(before[k], v) for k, v in student.state_dict().items())  # the probe moved no statistics
    learned = [name for name, _ in distillation.named_parameters() if not name.startswith("student.")]
    assert learned == ["connectors.mse.adapt.0.project.weight", "connectors.mse.adapt.0.project.bias"]
    assert not any("teacher" in key for key in distillation.state_dict())
    again = Distillation(Net(), teacher, entries, example=IMAGES)
    again.load_state_dict(distillation.state_dict())
    for one, other in zip(again.state_dict().values(), distillation.state_dict().values()):
        assert torch.equal(one, other)


def test_connectors_draw_no_number_of_the_loop() -> None:
    student, teacher = pair()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    Distillation(student, teacher, [dict(loss="mse", student="body")], example=IMAGES)
    assert torch.equal(torch.rand(3), expected)


def test_without_an_example_the_first_batch_connects_and_says_so() -> None:
    distillation = Distillation(*pair(), [dict(loss="mse", student="body")])
    with pytest.warns(UserWarning, match=r"made connectors of 40 parameters.*example="):
        distillation(IMAGES)
    assert len(list(distillation.connectors.parameters())) == 2


@pytest.mark.parametrize("tap", ["head", ":logits", "head:copy"])
def test_paths_of_logits(tap: str) -> None:
    student, teacher = pair()
    losses = Distillation(student, teacher, [dict(loss="kl", student=tap)], example=IMAGES)(IMAGES)[1]
    expected = kl(student(IMAGES)["logits"], teacher(IMAGES)["logits"])
    assert losses["kl"].item() == pytest.approx(expected.item(), rel=1e-5)


class Pair(NamedTuple):
    logits: Tensor
    states: tuple[Tensor, ...]


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, image: Tensor) -> Pair:
        return Pair(**self.net(image))


def test_items_of_entries() -> None:
    student, teacher = Named(), Net()
    entries = [dict(loss="mse", student=":states:1", teacher=":states:-1")]
    losses = Distillation(student, teacher, entries, example=IMAGES)(IMAGES)[1]
    mine, its = student(IMAGES).states[1], teacher(IMAGES)["states"][1]
    assert losses["mse"].item() == pytest.approx(F.mse_loss(mine, its).item(), rel=1e-5)


def test_several_teachers_and_their_inputs() -> None:
    student, teachers = Net(), {"one": Net(8), "two": Net(6)}
    entries = [
        dict(loss="kl", student="head", source="one", name="first"),
        dict(loss="meal", student="head", source=["one", "two"]),
    ]
    convert = {"two": lambda image: dict(image=image, scale=0.0)}
    distillation = Distillation(student, teachers, entries, example=IMAGES, convert=convert)
    losses = distillation(IMAGES)[1]
    assert list(losses) == ["first", "meal"]
    black = teachers["two"](torch.zeros_like(IMAGES))["logits"]
    mean = (teachers["one"](IMAGES)["logits"].softmax(1) + black.softmax(1)) / 2
    mine = copy.deepcopy(student).train()(IMAGES)["logits"]
    expected = -(mean * mine.log_softmax(1)).sum(1).mean()  # cross-entropy with the mean of their predictions
    assert losses["meal"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_moving_average_follows_the_student() -> None:
    student = Net()
    distillation = Distillation(student, "ema", method="kl", example=IMAGES, momentum=0.5)
    start = student.head.weight.detach().clone()
    distillation(IMAGES)
    with torch.no_grad():
        student.head.weight += 1
    distillation(IMAGES)
    average = distillation.teachers["teacher"].model.head.weight
    assert torch.allclose(average, start + 0.5)
    distillation.eval()(IMAGES)
    assert torch.allclose(average, start + 0.5)  # measuring is no step


def test_a_schedule_follows_the_progress_that_the_caller_gives_and_rests_the_teacher() -> None:
    student, teacher = pair()
    calls: list[int] = []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    entries = [dict(loss=dict(type="until", loss="kl", stop=0.6), student="head")]
    distillation = Distillation(student, teacher, entries, example=IMAGES)
    plain = Distillation(student, teacher, [dict(loss="kl", student="head")], example=IMAGES)
    value = plain(IMAGES)[1]["kl"].item()
    before = distillation(IMAGES, context=dict(progress=0.5))[1]["until"]
    assert before.item() == pytest.approx(value, rel=1e-5)
    calls.clear()
    off = distillation(IMAGES, context=dict(progress=0.6))[1]["until"]
    assert (off.item(), off.requires_grad, calls) == (0.0, True, [])
    with pytest.raises(TypeError, match="requires 'progress'"):
        distillation(IMAGES)


def test_labels_and_places() -> None:
    student, teacher = pair()
    entries = [dict(loss="kl", student="head", where=where, name=where) for where in ("labelled", "boxes")]
    distillation = Distillation(student, teacher, entries, example=IMAGES)
    labels = torch.full((2, 16, 24), 255)
    labels[:, :8] = 1  # the upper half, four rows of the eight at stride 2
    boxes = [torch.tensor([[0.0, 0.0, 24.0, 8.0]])] * 2  # the same place
    losses = distillation(IMAGES, context=dict(labels=labels, boxes=boxes))[1]
    mine, its = student(IMAGES)["logits"][:, :, :4], teacher(IMAGES)["logits"][:, :, :4]
    assert losses["labelled"].item() == pytest.approx(kl(mine, its).item(), rel=1e-5)
    assert losses["boxes"].item() == pytest.approx(losses["labelled"].item(), rel=1e-5)
    with pytest.raises(ValueError, match="where='labelled' needs labels, which this batch does not have"):
        distillation(IMAGES)


@pytest.mark.parametrize(
    ("context", "error", "words"),
    [
        (dict(label=LABELS), TypeError, "unknown key 'label'.*'labels'"),
        (dict(labels=LABELS.float()), TypeError, "must be a tensor of integers"),
        (dict(labels=LABELS[None]), ValueError, r"must be classes of pixels \(B, H, W\)"),
        (dict(labels=LABELS, label_map=LABELS), ValueError, "two names of one thing"),
        (dict(boxes=[torch.zeros(1, 5)] * 2), ValueError, r"boxes must be for each image a tensor \(n, 4\).*\(1, 5\)"),
        (dict(boxes=[[[0, 0, 4, 4]], []]), ValueError, "boxes must be for each image a tensor .* got list"),
        (dict(boxes={"a": LABELS}), TypeError, "boxes must be a list with a tensor for each image, got a dict"),
        (dict(masks=[LABELS[0]] * 2), ValueError, r"masks must be for each image a tensor \(n, H, W\)"),
        (dict(progress=3), ValueError, "progress is the share of the training that is done, 0 to 1, got 3"),
        (dict(progress=float("nan")), ValueError, "progress is the share .* got nan"),
        (LABELS, TypeError, r"context must be a dict such as .*, got a Tensor"),
    ],
)
def test_wrong_context(context: Any, error: type[Exception], words: str) -> None:
    distillation = Distillation(*pair(), method="kl", example=IMAGES)
    with pytest.raises(error, match=words):
        distillation(IMAGES, context=context)


def test_boxes_of_whole_numbers_are_those_of_floats() -> None:
    distillation = Distillation(*pair(), [dict(loss="mse", student="body", where="boxes")], example=IMAGES)
    boxes = [torch.tensor([[0, 0, 12, 8]]), torch.zeros(0, 4, dtype=torch.long)]
    found, expected = (
        distillation(IMAGES, context=dict(boxes=given))[1]["mse"] for given in (boxes, [each.float() for each in boxes])
    )
    assert found == expected > 0


def test_wrong_options_are_found_before_a_batch() -> None:
    with pytest.raises(TypeError, match=r"convert must be a function of the student's arguments, got 0\.5"):
        Distillation(*pair(), method="kl", convert=0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"entry 'keys': a name must not .* 'keys' or 'train'"):
        Distillation(*pair(), [dict(loss="kl", student="head", name="keys")])


class Classifier(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, width, 3)
        self.fc = nn.Linear(width, 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.body(image).mean((2, 3)))


def test_a_classifier_learns_more_from_a_teacher_with_labels_of_images() -> None:
    student, teacher = Classifier(), Classifier(8)
    entries = [dict(loss="dkd", student="fc")]
    distillation = Distillation(student, teacher, entries, example=IMAGES)
    losses = distillation(IMAGES, context=dict(labels=torch.tensor([1, 3])))[1]
    losses["dkd"].backward()
    assert student.body.weight.grad is not None
    output, losses = Distillation(student, teacher, method="kl", example=IMAGES)(IMAGES)
    assert losses["kl"].item() == pytest.approx(kl(output, teacher(IMAGES)).item(), rel=1e-5)


class Frozen(Net):
    def forward(self, image: Tensor, scale: float = 1.0) -> dict[str, Any]:
        with torch.no_grad():
            return super().forward(image, scale)


class Functional(Net):
    def forward(self, image: Tensor, scale: float = 1.0) -> dict[str, Any]:
        return {"logits": self.head.forward(self.body(image))}


def shares(student: Net) -> Net:
    teacher = Net()
    teacher.body = student.body
    return teacher


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: (Net().requires_grad_(False), Net(8)), "no parameter that requires a gradient.*requires_grad_"),
        (lambda: (net := Net(), net), "shares 6 parameters with the student.*copy.deepcopy"),
        (lambda: (net := Net(), shares(net)), "shares 4 parameters with the student"),
        (lambda: (Functional(), Net(8)), "'head' of Functional never fired.*nearest that were called"),
        (lambda: (Net(), Functional(8)), "'head' of Functional never fired"),
        (lambda: (Net(), Net(8, classes=7)), "5 classes, the teacher 7.*class_map"),
    ],
)
def test_unsuitable_models(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Distillation(*make(), [dict(loss="kl", student="head")], example=IMAGES)


def test_a_forward_without_gradients_is_found_before_training() -> None:
    with pytest.raises(RuntimeError, match=r"'head' carries no gradient.*no_grad.*detached"):
        Distillation(Frozen(), Net(8), [dict(loss="kl", student="head")], example=IMAGES)
    distillation = Distillation(Net(), Net(8), method="kl", example=IMAGES)
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"call eval\(\) first"):
        distillation(IMAGES)
    with torch.no_grad():
        assert distillation.eval()(IMAGES)[1]["kl"] > 0


def test_unknown_heads_and_taps_are_named() -> None:
    nameless = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1))
    with pytest.raises(ValueError, match=r"no default tap for logits.*student='path'.*its last layers: 0, 1"):
        Distillation(nameless, copy.deepcopy(nameless), method="kl")
    with pytest.raises(KeyError, match="no module 'haed'; nearest: head"):
        Distillation(Net(), Net(8), [dict(loss="kl", student="haed")])
    with pytest.raises(KeyError, match="has no 'logit'; it has logits, states"):
        Distillation(Net(), Net(8), [dict(loss="kl", student=":logit")], example=IMAGES)
    with pytest.raises(TypeError, match="choose an entry: ':logits', ':states'"):
        Distillation(Net(), Net(8), [dict(loss="kl", student=":")], example=IMAGES)
    with pytest.raises(ValueError, match="no distills entry uses teacher 'two'"):
        Distillation(Net(), {"one": Net(8), "two": Net(8)}, [dict(loss="kl", student="head", source="one")])
    with pytest.raises(ValueError, match=r"method 'mgd_semi' trains its teachers, which densekd.Distiller alone does"):
        Distillation(Net(), Net(8), method="mgd_semi")


def test_a_teacher_that_yields_nan_is_named() -> None:
    teacher = Net(8)
    teacher.head.bias.data[0] = float("nan")
    with pytest.raises(FloatingPointError, match="teacher 'teacher' yields NaN"):
        Distillation(Net(), teacher, method="kl", example=IMAGES)


def test_a_step_of_a_trained_student_beats_its_control() -> None:
    """The teacher knows the classes, the student sees no labels: it learns them from the teacher alone."""
    torch.manual_seed(0)
    images = torch.rand(4, 3, 16, 16)
    labels = images.argmax(1)
    student = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    teacher = nn.Conv2d(3, 3, 1, bias=False)
    teacher.weight.data = 20 * torch.eye(3).view(3, 3, 1, 1)
    untaught = (student(images).argmax(1) == labels).float().mean()
    distillation = Distillation(
        student, nn.Sequential(teacher), [dict(loss="kl", student="2", teacher="0")], example=images
    )
    optimiser = torch.optim.Adam(distillation.parameters(), lr=0.05)
    for _ in range(60):
        loss = distillation(images)[1]["kl"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (student(images).argmax(1) == labels).float().mean() > max(untaught, 0.8)


def test_a_loss_without_the_labels_that_it_reads_says_what_they_are() -> None:
    student, teacher = pair()
    learner = Distillation(student, teacher, [dict(loss="nd", student="body", teacher="body")], example=IMAGES)
    assert learner(IMAGES, context=dict(labels=LABELS))[1]["nd"].isfinite()
    with pytest.raises(ValueError, match="'nd' requires 'labels', the class of each position, but this batch has no"):
        learner(IMAGES)


def test_private_pixels_come_with_the_context() -> None:
    """A position of the tap is as private as its most private pixel."""
    student, teacher = pair()
    learner = Distillation(student, teacher, [dict(loss=dict(type="swing", noise=0.0), student="head")], example=IMAGES)
    private = torch.zeros(2, 16, 24)
    private[0, 3, 5] = 1
    value = learner(IMAGES, context=dict(privacy=private))[1]["swing"]
    hidden = torch.zeros(2, 8, 12)
    hidden[0, 1, 2] = 1
    logits = student(IMAGES)["logits"], teacher.eval()(IMAGES)["logits"]
    torch.testing.assert_close(value, kdlosses.swing(*logits, noise=0.0, privacy=hidden))
    with pytest.raises(ValueError, match="swing hides nothing"):
        learner(IMAGES)


def test_what_a_loss_asks_of_the_students_logits_teaches_them() -> None:
    student, teacher = pair()
    entry = dict(loss=dict(type="uskd", mu=0.0), student="body", teacher="body")
    learner = Distillation(student, teacher, [entry], example=IMAGES, classes=5)
    learner(IMAGES, context=dict(labels=LABELS))[1]["uskd"].backward()
    assert student.head.weight.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in teacher.parameters())
