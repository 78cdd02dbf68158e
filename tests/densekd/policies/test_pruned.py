"""A share of the images, and a teacher that counts the more the fewer there are."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from .small import Trace, Watched, eyes, net, scenes, trained


@pytest.mark.parametrize("keep", [0.25, 0.5, 1.0])
def test_only_what_is_kept_is_seen_in_as_many_steps_and_the_teacher_counts_more(keep: float) -> None:
    data = Watched(scenes(16, 0))
    result = trained(net, eyes(), data, [dict(type="pruned", keep=keep), Trace()], control=False)
    *_, trace = result.outcomes["student"].policies
    assert trace.steps == 8
    seen = Counter(data.read[-32:])
    assert len(seen) == 16 * keep
    assert max(seen.values()) - min(seen.values()) <= 1
    alpha = 1 - keep / 2
    assert trace.weights == (pytest.approx(2 * (1 - alpha)), [pytest.approx(2 * alpha)])


def test_the_control_has_the_same_images_and_no_teacher() -> None:
    data = Watched(scenes(16, 0))
    result = trained(net, eyes(), data, [dict(type="pruned", keep=0.25), Trace()], epochs=1)
    assert {*data.read[-16:]} == {*data.read[-32:-16]}
    assert result.outcomes["control"].policies[1].weights == (1.0, [])


def test_each_domain_keeps_its_share() -> None:
    data = Watched(scenes(16, 0), ["day"] * 12 + ["night"] * 4)
    trained(net, eyes(), data, [dict(type="pruned", keep=0.5)], control=False)
    assert Counter(index >= 12 for index in {*data.read[-32:]}) == {False: 6, True: 2}


@pytest.mark.parametrize("by", ["hard", "easy"])
def test_difficulty_is_what_the_teacher_gets_wrong(by: str) -> None:
    """Half of the images have labels that no image shows."""
    data = Watched(scenes(8, 0, noise=0.2) + scenes(8, 1, noise=0.2, wrong=1.0))
    before = [(image.clone(), label.clone()) for image, label in data.pairs]
    trained(net, eyes(), data, [dict(type="pruned", keep=0.5, by=by)], control=False)
    assert {*data.read[-32:]} == {*(range(8, 16) if by == "hard" else range(8))}
    assert all((a == c).all() and (b == d).all() for (a, b), (c, d) in zip(before, data.pairs))


def test_shares_out_of_range_and_no_teacher_to_judge() -> None:
    for keep in (0.0, 1.5, -0.1, math.inf):
        with pytest.raises(ValueError, match=r"keep"):
            trained(net, eyes(), scenes(4, 0), [dict(type="pruned", keep=keep)])
    with pytest.raises(ValueError, match="policy 'pruned' needs a teacher"):
        trained(net, None, scenes(4, 0), [dict(type="pruned", by="hard")])
    with pytest.raises(ValueError, match="by must be 'random' or 'hard' or 'easy', got 'best'"):
        trained(net, eyes(), scenes(4, 0), [dict(type="pruned", by="best")])
    measured = [dict(loss="kl", student="head", weight="auto")]
    with pytest.raises(ValueError, match="policy 'pruned' changes the weight of entry 'kl', which is measured"):
        trained(net, eyes(), scenes(4, 0), ["pruned"], distills=measured)
    with pytest.raises(ValueError, match="weight 'auto' is measured beside the task, whose task_weight is 0"):
        trained(net, eyes(), scenes(4, 0), [], distills=measured, task_weight=0)
