"""The command that adapts detectors: no label but where it says so, the source's weights, and nothing twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import source_free
from source_free import METHODS, Adaptation

from kdlosses.cli.logs import write


@pytest.fixture
def runs(tmp_path: Path) -> Adaptation:
    return Adaptation("digits", 0, tmp_path / "place", tmp_path / "out", source_steps=3, steps=2)


def kinds(pipeline: Any) -> list[str]:
    return [each["type"] for each in pipeline]


@pytest.mark.parametrize("method", METHODS)
def test_an_adaptation_has_the_sources_weights_and_no_labels(runs: Adaptation, method: str) -> None:
    config = runs.adapted(method)
    assert config.model.checkpoint == str(runs.weights)
    assert config.train_cfg.max_iters == 2
    assert kinds(config.train_dataloader.dataset.pipeline) == ["densekd.Shifted", "MultiBranch"]
    views = config.train_dataloader.dataset.pipeline[1]
    assert "sup" not in views["branch_field"]
    assert "LoadAnnotations" not in kinds(views["unsup_teacher"]) + kinds(views["unsup_student"])
    assert (config.optim_wrapper.optimizer.lr == 0) == (method == "statistics")
    assert kinds(config.test_dataloader.dataset.pipeline)[0] == "densekd.Shifted"


def test_the_bound_has_labels_and_as_many_steps(runs: Adaptation) -> None:
    config = runs._labelled()
    assert "LoadAnnotations" in kinds(config.train_dataloader.dataset.pipeline)
    assert config.load_from == str(runs.weights)
    assert config.model.type == "FasterRCNN"
    assert config.train_cfg.max_iters == 2
    assert runs.source.train_cfg.max_iters == 3
    assert "densekd.Shifted" not in kinds(runs.source.train_dataloader.dataset.pipeline)


def test_what_was_run_is_not_run_again(
    runs: Adaptation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for role, method in (("control", "source"), ("teacher", "labels"), ("distilled", "lpld")):
        metrics = {"schema": 1, "role": role, "method": method, "side": "det", "name": "x", "seed": 0}
        write(runs.out / f"{role}-{method}-seed0.json", metrics)
    runs.run(["lpld"])  # it would fail: there are no weights
    assert capsys.readouterr().out == ""
    asked = []
    monkeypatch.setattr(Adaptation, "_source", lambda self: asked.append("source"))
    monkeypatch.setattr(Adaptation, "_log", lambda self, role, method, config: asked.append(method))
    runs.run(["lpld", "wscol"])
    assert asked == ["source", "wscol"]


def test_unknown_data_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        source_free.main(["coco"])
    assert "invalid choice: 'coco'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--steps=2", "--source-steps=2", "--split=val"])
def test_runs_of_other_settings_are_not_mixed_with_those_that_are_there(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        source_free.main(["digits", option])
    assert "need --out" in capsys.readouterr().err
