"""Classes that nobody has labels of: `discovery`, its clusters, and the score that matches them to classes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract
from torch import Tensor
from torch.nn.functional import kl_div, one_hot

from graphkd.data import Setting
from graphkd.rules.balanced import balanced
from graphkd.students.classifier import StudentClassifier
from graphkd.training.matched import matched_accuracy
from graphkd.training.scoring import measures

CONTRACT = RecipeContract(
    "discovery",
    options=dict(known=[*range(9)], mask=0.0),
    undrawn=dict(known=[*range(9)], mask=0.0),
    no_control="the labels of new classes are never read",
    reads_labels="that a node is of no known class is read of its label",
    several_labels="of known classes and of new ones",
    learns_less="no label of one of the classes, and a teacher so noisy that its relations help little",
)

KNOWN = [0, 1, 2, 3, 4]


@pytest.fixture(scope="module")
def teacher(setting: Setting) -> Tensor:
    """Of the known classes; a node of class 5 looks to it like 0, one of 6 like 1, and so on."""
    noise = torch.randn(len(setting.whole), 10, generator=torch.Generator().manual_seed(1))
    return noise + 3 * one_hot(setting.whole.y % 5, 10)


def discovered(setting: Setting, teacher: Tensor, labels: Tensor | None = None, **options: Any) -> Tensor:
    """What a student that was trained so says of all nodes, `(N, 10)`."""
    seen = setting.seen
    y = seen.y if labels is None else labels
    student = StudentClassifier(
        (32,), 0.0, method={"type": "discovery", "known": KNOWN, **options}, epochs=40, random_state=0
    )
    validation = (seen.x[setting.val], y[setting.val])
    student.fit(seen.x, y, teacher=teacher, labelled=setting.train, validation=validation)
    return student.outputs(seen.x)


@pytest.fixture(scope="module")
def found(setting: Setting, teacher: Tensor) -> Tensor:
    return discovered(setting, teacher)


def test_the_relation_to_known_classes_finds_new_ones_and_clusters_alone_lose_it(
    setting: Setting, teacher: Tensor, found: Tensor
) -> None:
    nodes = setting.test[setting.whole.y[setting.test] >= 5]
    alone = discovered(setting, teacher, relation=0.0)
    score = measures(dict(type="matched_accuracy", known=KNOWN, of="new"), "single-label", 10)[0]

    def apart(outputs: Tensor) -> float:
        log_p, log_q = teacher[nodes, :5].double().log_softmax(1), outputs[nodes, :5].log_softmax(1)
        return kl_div(log_q, log_p, reduction="batchmean", log_target=True).item()

    assert apart(found) < 0.7 * apart(alone)
    assert score(found[nodes], setting.whole.y[nodes]) > 0.05 + score(alone[nodes], setting.whole.y[nodes])


def test_labels_of_new_classes_reach_nothing(setting: Setting, teacher: Tensor, found: Tensor) -> None:
    y = setting.seen.y
    shuffled = torch.where(y >= 5, 5 + (3 * y + 1) % 5, y)  # also those of validation nodes
    assert (shuffled != y).any()
    assert torch.equal(discovered(setting, teacher, shuffled), found)


def test_the_teacher_is_heard_on_new_nodes_alone(setting: Setting, teacher: Tensor, found: Tensor) -> None:
    new = torch.zeros(len(teacher), dtype=torch.bool)
    new[setting.train[setting.seen.y[setting.train] >= 5]] = True
    assert torch.equal(discovered(setting, torch.where(new[:, None], teacher, 7.0), relation=1.0), found)
    assert not torch.equal(discovered(setting, torch.where(new[:, None], teacher.flip(1), teacher)), found)


def test_matched_accuracy_is_the_best_of_all_renamings_of_new_classes() -> None:
    class Answers:
        def predict(self, X: np.ndarray) -> np.ndarray:
            return X

    draw = np.random.default_rng(0)
    answers, y = draw.integers(6, size=200), draw.integers(6, size=200)
    named = (np.array([0, 1, *names])[answers] for names in itertools.permutations(range(2, 6)))
    best = max((each == y for each in named), key=np.mean)
    assert matched_accuracy(Answers(), answers, y, known=[0, 1]) == best.mean()
    assert matched_accuracy(Answers(), answers, y, known=[0, 1], of="new") == best[y > 1].mean()
    assert matched_accuracy(Answers(), answers, y, known=[0, 1], of="known") == best[y < 2].mean()


def test_clusters_are_of_equal_size_and_follow_the_logits() -> None:
    z = torch.randn(60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.double) + torch.tensor([5, 0, 0, 0])
    q = balanced(z, tau=0.5, steps=200)
    torch.testing.assert_close(q.sum(1), torch.ones(60, dtype=torch.double))
    torch.testing.assert_close(q.sum(0), torch.full((4,), 15.0, dtype=torch.double), rtol=1e-3, atol=1e-3)
    kernel = (q.log() - z / 0.5).numpy()  # a scaling of rows and of columns of exp(z / tau), and nothing else
    np.testing.assert_allclose(kernel - kernel[:1] - kernel[:, :1] + kernel[0, 0], 0, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(known=[*range(10)]), "some of the 10 classes are known and some are not"),
        (dict(known=[]), "some of the 10 classes are known and some are not"),
        (dict(known=[0, 10]), "known holds numbers of classes, 0 to 9"),
        (dict(mask=1.0), "mask is a share from 0 to below 1"),
        (dict(balance=0.0), "balance is above 0"),
    ],
)
def test_mistakes(setting: Setting, teacher: Tensor, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        discovered(setting, teacher, **options)


def test_without_a_node_of_a_new_class_there_is_nothing_to_discover(setting: Setting, teacher: Tensor) -> None:
    with pytest.raises(ValueError, match="no training node is of a class that is not known"):
        discovered(setting, teacher, setting.seen.y.clamp_max(4))
    with pytest.raises(ValueError, match="no training node is of a known class"):
        discovered(setting, teacher, setting.seen.y.clamp_min(5))


def test_known_classes_of_a_score_are_numbers() -> None:
    with pytest.raises(TypeError, match="known is a list of numbers of classes, got 3"):
        matched_accuracy(None, np.zeros(1), np.zeros(1), known=3)  # type: ignore[arg-type]
