"""Stages with data of their own."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader

from .small import Watched, eyes, net, scenes, trained

HALVES = ["general"] * 8 + ["task"] * 8


def test_a_stage_changes_data_teacher_and_loss_at_one_step() -> None:
    data = Watched(scenes(16, 0), HALVES)
    teachers = {"general": eyes(), "tuned": eyes()}
    asked: dict[str, list[int]] = {name: [] for name in teachers}
    entries = [
        dict(loss=dict(type="stages", losses=losses), student="head", source=name, name=name)
        for name, losses in (("general", [(0.5, "mse"), (1.0, None)]), ("tuned", [(0.5, None), (1.0, "kl")]))
    ]
    for name, model in teachers.items():
        model.head.register_forward_hook(lambda *_, name=name: asked[name].append(len(data.read)))
    parts = [(0.5, "general"), (1.0, ["task"])]
    trained(net, teachers, data, [dict(type="stages", parts=parts)], distills=entries, control=False)
    seen = data.read[-32:]
    first = len(data.read) - 32
    assert all(index < 8 for index in seen[:16])
    assert all(index >= 8 for index in seen[16:])
    steps = {name: [(at - first) // 4 for at in calls if at > first] for name, calls in asked.items()}
    assert {*steps["general"]} == {1, 2, 3, 4}  # batches that had been read by then
    assert {*steps["tuned"]} >= {5, 6, 7, 8}
    assert not {*steps["tuned"]} & {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([(0.5, "general"), (1.0, "tsk")], "there is no domain 'tsk' in the training data; there is 'general', 'task'"),
        ([(0.5, "general"), (0.9, "task")], "the points of change must rise from above 0 to 1"),
        (["general", "task"], "parts must be pairs"),
    ],
)
def test_wrong_stages(parts: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trained(net, eyes(), Watched(scenes(16, 0), HALVES), [dict(type="stages", parts=parts)])


def test_who_draws_is_one() -> None:
    spec = dict(type="stages", parts=[(0.5, "general"), (1.0, "task")])
    with pytest.raises(ValueError, match="the policies stages and pruned both decide which samples are drawn"):
        trained(net, eyes(), Watched(scenes(16, 0), HALVES), [spec, "pruned"])
    with pytest.raises(ValueError, match="policy 'stages' decides which samples are drawn, but train= is a DataLoader"):
        trained(net, eyes(), DataLoader(Watched(scenes(16, 0), HALVES), batch_size=4), [spec])
    with pytest.raises(KeyError, match="no policy of a run is called 'stage'; did you mean 'stages'"):
        trained(net, eyes(), scenes(4, 0), ["stage"])
    with pytest.raises(TypeError, match="policies is a list"):
        trained(net, eyes(), scenes(4, 0), dict(type="pruned"))  # type: ignore[arg-type]
