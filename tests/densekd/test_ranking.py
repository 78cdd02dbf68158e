"""The student of a config, searched before any is trained: convolutional networks on digit scenes."""

from __future__ import annotations

from pathlib import Path

import pytest

from densekd import build_model, read_config
from densekd.cli.rank import main
from densekd.plain.ranking import parameters
from densekd.runs.ranking import chosen, search

SMALL = ["--cfg-options", "train_dataloader.batch_size=2", "search.population=3", "search.generations=2"]


def test_the_student_that_is_found_keeps_to_the_budget_and_is_what_the_config_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.py"
    main(["densekd::seg/diswot/digits.py", "--seeds", "1", "--out", str(out), *SMALL])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    scores = [float(row[2]) for row in rows]
    assert len(rows) == 6
    assert scores == sorted(scores, reverse=True)
    config = read_config(out)
    assert f"{parameters(build_model(config)[0]):,}" == rows[0][1]
    assert max(int(row[1].replace(",", "")) for row in rows) <= config.search.budget
    assert config.model.teacher == read_config("seg/kl/digits").model.teacher
    with pytest.raises(SystemExit):
        main(["densekd::seg/diswot/digits.py", "--out", str(out)])


def test_what_cannot_be_searched_is_named() -> None:
    config = read_config("seg/diswot/digits")
    before = config.model.student.backbone.depth, config.model.student.backbone.base_channels
    wide = chosen(config, {"width": config.search.space["width"][0]})
    assert wide.model.student.backbone.base_channels == 4
    assert before == (config.model.student.backbone.depth, config.model.student.backbone.base_channels) == (18, 16)
    with pytest.raises(ValueError, match=r"has no search=dict\(space="):
        search(read_config("seg/kl/digits"))
    whole = chosen(config, {"model.student.backbone": {"depth": 34}})
    assert (whole.model.student.backbone.depth, whole.get("depth")) == (34, None)
    config.search.space["depht"] = [18, 34]
    with pytest.raises(ValueError, match="has no field depht, which search"):
        search(config)
    del config.search.space["depht"]
    config.search.budgets = 3
    with pytest.raises(ValueError, match="search has no option 'budgets', but space, budget"):
        search(config)
    del config.search["budgets"]
    config.model.teacher = "ema"
    with pytest.raises(ValueError, match="needs one teacher with a config of its own, got 'ema'"):
        search(config)
