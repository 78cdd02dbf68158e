from __future__ import annotations

import json
from pathlib import Path

import pytest
import rank
import torch
import torch.nn.functional as F
from rank_graph import balance, taught

import kdlosses
from graphkd.data.setting import Setting
from graphkd.networks.mlp import MLP
from graphkd.training.lesson import Lesson
from graphkd.training.term import Term


def test_every_logit_and_feature_loss_is_ranked_or_has_a_reason() -> None:
    kinds = {key: loss.__module__.split(".")[1] for key, loss in kdlosses.LOSSES.items()}
    wanted = {key for key, kind in kinds.items() if kind in ("logit", "feature")}
    assert set(rank.EXCLUDED) <= wanted
    assert set(rank.candidates()) == wanted - set(rank.EXCLUDED)


@pytest.mark.parametrize("key", rank.candidates())
def test_a_ranked_loss_can_be_built_and_teaches(key: str) -> None:
    spec, on_features = rank.spec(key, student_channels=6, teacher_channels=8, classes=10)
    loss = kdlosses.build(spec)
    theirs = 8 if on_features else 10
    mine = 6 if on_features and loss.match != "shape" else theirs
    student = torch.randn(20, mine, requires_grad=True)
    context = {name: {"labels": torch.arange(20) % 10, "progress": 0.0}[name] for name in loss.requires}
    loss(student, torch.randn(20, theirs), **context).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


def _lesson(view: Setting, logits: torch.Tensor, hidden: torch.Tensor) -> Lesson:
    labels = torch.full((len(view.seen),), -1)
    labels[view.train] = view.seen.y[view.train]
    return Lesson(view.seen.x, labels, None, torch.Generator(), logits, hidden=[hidden])  # type: ignore[arg-type]


@pytest.mark.parametrize("entry", [dict(loss="kl"), dict(loss="mse", student="hidden"), dict(loss="taid")])
def test_the_weight_balances_the_pull_of_loss_and_labels(entry: dict[str, str]) -> None:
    view, teacher = taught(0)
    assert teacher.cache is not None
    lesson = _lesson(view, torch.from_numpy(teacher.cache.logits), torch.from_numpy(teacher.cache.hidden[-1]))
    torch.manual_seed(1)
    model = MLP(64, [32], 10)
    before = torch.get_rng_state()
    weight = balance(model, lesson, entry)
    assert torch.equal(torch.get_rng_state(), before)  # the student starts as the control does
    term = Term.parse({**entry, "weight": weight}, model, lesson)
    outputs = model.outputs(view.seen.x)
    told = lesson.labels >= 0
    hard = F.cross_entropy(outputs[-1][told], lesson.labels[told])
    soft = term(outputs, slice(None), lesson.context(slice(None), term.loss.needs))
    tap = outputs[term.layer]
    pulls = [torch.autograd.grad(value, tap, retain_graph=True)[0].norm() for value in (hard, soft)]
    torch.testing.assert_close(pulls[0], pulls[1], rtol=1e-3, atol=0)


def test_table_ranks_by_the_paired_difference() -> None:
    test = {rank.CONTROL: [50.0, 60.0], "a": [51.0, 61.5], "b": [49.0, 60.5]}
    logs = [
        dict(loss=key, seed=seed, test=value, metric="accuracy", teacher=90.0)
        for key, values in test.items()
        for seed, value in enumerate(values)
    ]
    lines = rank.table("graph", logs).splitlines()[-3:]
    assert [line.split()[1] for line in lines] == ["a", "only", "b"]
    assert lines[0].split()[2:] == ["2", "56.25", "7.42", "+1.25", "0.35", "2", "of", "2"]
    assert lines[2].split()[-5:] == ["-0.25", "1.06", "1", "of", "2"]


@pytest.mark.slow
def test_runs_are_kept_and_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["graph", "--only", "kl", "--seeds", "1", "--out", str(tmp_path)]
    rank.main(arguments)
    first, logs = capsys.readouterr().out, json.loads((tmp_path / "graph.json").read_text())
    assert [log["loss"] for log in logs] == [rank.CONTROL, "kl"]
    assert logs[1]["test"] > logs[0]["test"]
    rank.main(arguments)
    assert capsys.readouterr().out.splitlines()[-8:] == first.splitlines()[-8:]
    assert json.loads((tmp_path / "graph.json").read_text()) == logs
    logs[0]["budget"]["lam"] = 0.1
    (tmp_path / "graph.json").write_text(json.dumps(logs))
    with pytest.raises(SystemExit, match="another budget"):
        rank.main(arguments)
