from __future__ import annotations

from typing import Any

import pytest
import torch

import kdlosses

FOUR = [(0.25, "mse"), (0.5, None), (0.75, "cosine"), (1.0, dict(type="kl", tau=2.0))]
TIMES = [i / 100 for i in range(101)]


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(6, 3, requires_grad=True), torch.randn(6, 3)


def test_each_stage_is_its_loss_alone() -> None:
    s, t = pair()
    loss = kdlosses.build(dict(type="stages", losses=FOUR))
    for progress in TIMES:
        expected = [kdlosses.mse(s, t), 0 * s.sum(), kdlosses.cosine(s, t), kdlosses.kl(s, t, tau=2.0)]
        assert loss(s, t, progress=progress) == expected[min(int(4 * progress), 3)]


def test_exactly_one_loss_is_asked_in_a_step_and_none_where_there_is_none() -> None:
    asked: list[int] = []

    def one(number: int) -> Any:
        def loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
            asked.append(number)
            return student.sum()

        return loss

    loss = kdlosses.build(dict(type="stages", losses=[(0.3, one(0)), (0.6, None), (1.0, one(2))]))
    for progress in TIMES:
        asked.clear()
        loss(*pair(), progress=progress)
        expected = [0] if progress < 0.3 else [] if progress < 0.6 else [2]
        assert asked == expected
        assert loss.active(progress=progress) == bool(expected)


def test_off_is_zero_with_a_gradient_of_zero() -> None:
    s, t = pair()
    value = kdlosses.build(dict(type="stages", losses=FOUR))(s, t, progress=0.3)
    value.backward()
    assert value == 0
    assert (s.grad == 0).all()


def test_entries_with_the_same_points_of_change_take_turns() -> None:
    entries = [[(0.2, "mse"), (1.0, None)], [(0.2, None), (0.7, "mse"), (1.0, None)], [(0.7, None), (1.0, "mse")]]
    losses = [kdlosses.build(dict(type="stages", losses=entry)) for entry in entries]
    assert all(sum(loss.active(progress=p) for loss in losses) == 1 for p in TIMES)


def test_a_policy_may_be_a_stage() -> None:
    s, t = pair()
    inner = dict(type="until", loss="kl", stop=0.2)
    loss = kdlosses.build(dict(type="stages", losses=[(0.5, inner), (1.0, "mse")]))
    assert [loss.active(progress=p) for p in (0.1, 0.2, 0.5)] == [True, False, True]
    assert loss(s, t, progress=0.3) == 0


def test_the_last_stage_alone_is_its_loss() -> None:
    s, t = pair()
    loss = kdlosses.build(dict(type="stages", losses=[(1.0, "kl")]))
    assert all(loss(s, t, progress=p) == kdlosses.kl(s, t) for p in (0.0, 0.5, 1.0))


def test_context_is_that_of_all_stages() -> None:
    loss = kdlosses.build(dict(type="stages", losses=[(0.5, "mse"), (1.0, "dkd")]))
    assert set(loss.requires) == {"labels", "progress"}
    s, t = pair()
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    assert loss(s, t, labels=labels, progress=0.0) == kdlosses.mse(s, t)
    assert loss(s, t, labels=labels, progress=0.5) == kdlosses.dkd(s, t, labels=labels)


def test_it_is_compiled_for_all_stages() -> None:
    torch._dynamo.reset()
    s, t = pair()
    loss = kdlosses.build(dict(type="stages", losses=FOUR))
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for progress in TIMES:
            torch.testing.assert_close(compiled(s, t, progress=progress), loss(s, t, progress=progress))


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([], "rise from above 0 to 1"),
        ([(0.5, "kl")], r"rise from above 0 to 1, got \(0.5,\)"),
        ([(0.0, "kl"), (1.0, "mse")], "rise from above 0"),
        ([(0.7, "kl"), (0.3, "kl"), (1.0, "mse")], "rise from above 0"),
        (["kl", "mse"], "losses must be pairs"),
        ([(0.5, None), (1.0, None)], "pass at least one loss"),
        ([(0.5, "rkd"), (1.0, "kl")], "'rkd' wants student and teacher to agree in positions, 'kl' in shape"),
    ],
)
def test_what_makes_no_stages_is_named(losses: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kdlosses.build(dict(type="stages", losses=losses))
