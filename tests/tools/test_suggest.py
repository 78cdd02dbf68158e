from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import DefaultScope

from densekd import METHODS, read_config
from densekd.cli.suggest import main
from densekd.mmlab.building import build_model
from densekd.registry import MODELS
from densekd.runs import suggestion
from densekd.shipped import CONFIGS

STUDENT, TEACHER = "seg/plain/semantic_fpn_r18_w16_digits", "seg/plain/semantic_fpn_r18_w32_digits"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("kl", "bpkd", "transkd")
    monkeypatch.setattr(suggestion, "METHODS", {name: METHODS[name] for name in names})


@pytest.mark.usefixtures("few")
def test_it_says_what_fits_and_writes_configs_that_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "teacher.pth"
    torch.save({"state_dict": build_model(TEACHER)[0].state_dict()}, weights)
    out = tmp_path / "suggested"
    main([STUDENT, "--teacher", TEACHER, "--checkpoint", str(weights), "--batches", "1", "--out", str(out)])
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line and not line.startswith(" ")}
    assert rows["kl"][2] == "1"  # the published weight
    assert 0 < float(rows["kl"][1]) < 100
    assert 0 < float(rows["kl"][3]) < 1e6
    assert "decode_head.conv_seg" in rows["kl"]
    assert "bpkd_body" in said
    assert said.index("do not fit:") < said.index("\ntranskd ")
    assert sorted(file.name for file in out.iterdir()) == ["bpkd.py", "kl.py"]
    config: Any = read_config(out / "bpkd.py")
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
    assert [term.auto.ratio for term in model._terms() if term.auto] == [0.5, 0.5]
    with pytest.raises((FileExistsError, SystemExit)):
        main([STUDENT, "--teacher", TEACHER, "--batches", "1", "--out", str(out)])


@pytest.mark.usefixtures("few")
def test_a_teacher_without_weights_has_no_weight_measured(capsys: pytest.CaptureFixture[str]) -> None:
    main([STUDENT, "--teacher", TEACHER, "--batches", "1"])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("kl ")]
    assert row.split()[3] == "-"


@pytest.mark.usefixtures("few")
def test_weights_of_the_teachers_config_are_taken_and_options_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "teacher.pth"
    torch.save({"state_dict": build_model(TEACHER)[0].state_dict()}, weights)
    teacher, out = tmp_path / "own.py", tmp_path / "suggested"
    teacher.write_text(f"_base_ = {str(CONFIGS.find(TEACHER))!r}\nload_from = {str(weights)!r}\n")
    given = ["--teacher", str(teacher), "--batches", "1", "--out", str(out)]
    main([STUDENT, *given, "--cfg-options", "train_dataloader.batch_size=3"])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("kl ")]
    assert float(row.split()[3]) > 0
    config: Any = read_config(out / "kl.py")
    assert config.train_dataloader.batch_size == 3
    assert sorted(file.name for file in out.glob("*.py")) == ["bpkd.py", "kl.py"]


def test_a_teacher_without_a_file_is_named_once(tmp_path: Path) -> None:
    with pytest.raises((FileNotFoundError, SystemExit), match=r"none\.pth"):
        main([STUDENT, "--teacher", TEACHER, "--checkpoint", str(tmp_path / "none.pth"), "--batches", "1"])


@pytest.mark.parametrize("count", ["0", "two"])
def test_a_wrong_number_of_batches_is_named(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([STUDENT, "--teacher", TEACHER, "--batches", count])
    assert "--batches" in capsys.readouterr().err
