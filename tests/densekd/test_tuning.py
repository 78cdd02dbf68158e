"""Studies of tiny segmenters of digit scenes: order, test data, resumption within a trial, and what comes of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from densekd import read_config, tune
from densekd.cli import train as train_command
from densekd.cli import tune as tune_command
from densekd.datasets.digit_scenes import DigitScenesSeg
from densekd.runs import tuning
from densekd.runs.comparison import last_weights
from densekd.runs.tuning import check_data
from kdlosses.cli.study import Study

ROOT = Path(__file__).parents[2]
STUDENT = """
_base_ = {base!r}
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16),
)
train_dataloader = dict(batch_size=2, dataset=dict(size=32, count=16))
val_dataloader = dict(dataset=dict(size=32, count=6))
test_dataloader = dict(dataset=dict(size=32, count=4))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))
train_cfg = dict(max_iters=5, val_interval=5)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student and a teacher that learned for five steps."""
    folder = tmp_path_factory.mktemp("tuning")
    base = str(ROOT / "configs" / "seg" / "plain" / "semantic_fpn_r18_w16_digits.py")
    for name in ("student.py", "teacher.py"):
        (folder / name).write_text(STUDENT.format(base=base))
    return folder


def study(folder: Path, out: Path, **options: Any) -> Study:
    asked: dict[str, Any] = dict(methods=["cwd"], trials=4, teacher=str(folder / "teacher.py"))
    return tune(folder / "student.py", **{**asked, **options}, out=out)


def found(made: Study) -> list[Any]:
    told = [(each.number, each.state, each.method, each.options, each.value, each.first) for each in made.trials]
    return [made.control, *told]


@pytest.fixture(scope="module")
def whole(folder: Path) -> Study:
    return study(folder, folder / "whole")


def test_published_and_measured_weights_come_first_and_the_best_config_scores_as_the_study_says(
    folder: Path, whole: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [(each.method, each.first, each.state) for each in whole.trials[:2]] == [
        ("cwd", "published weights", "complete"),
        ("cwd_auto", "balance='auto'", "complete"),
    ]
    assert (whole.metric, len(whole.control), len(whole.trials)) == ("mIoU", 1, 4)
    best = folder / "whole" / "best.py"
    assert best.read_text().startswith(f"# The best of 4 trials on validation data: {whole.best_trial}.")
    assert read_config(best).model == whole.best.model
    assert read_config(best).test_dataloader == read_config(folder / "student.py").test_dataloader
    train_command.main([str(best), "--seed", "0", "--work-dir", str(tmp_path)])
    (score,) = re.findall(r"validation +mIoU ([\d.]+)", capsys.readouterr().out)
    assert float(score) == pytest.approx(whole.best_trial.value, abs=0.006)
    assert last_weights(folder / "whole" / "teacher") is not None
    assert not list((folder / "whole" / "work").rglob("*.pth")), "weights of trials are not kept"


def test_the_test_data_are_not_read(
    folder: Path, whole: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test set that cannot be read is no hindrance, and the study is the same."""
    read: list[str] = []
    init = DigitScenesSeg.__init__

    def watched(self: Any, *args: Any, split: str = "train", **options: Any) -> None:
        read.append(split)
        init(self, *args, split=split, **options)

    monkeypatch.setattr(DigitScenesSeg, "__init__", watched)
    made = study(folder, tmp_path, trials=2)
    assert {*read} == {"train", "val"}
    assert found(made) == found(whole)[:3]


class Killed(BaseException):
    """Ends a process, in place of a signal."""


def test_a_killed_study_goes_on_within_the_trial(
    folder: Path, whole: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    looks = [0]
    after = tuning._Scores.after_val_epoch

    def killed(self: Any, runner: Any, metrics: Any = None) -> None:
        after(self, runner, metrics)
        looks[0] += 1
        if looks[0] == 13:  # of the control five, of the first trial five, of the second the third
            raise Killed

    monkeypatch.setattr(tuning._Scores, "after_val_epoch", killed)
    with pytest.raises(Killed):
        study(folder, tmp_path, tick=said.append)
    assert len(said) == 2
    assert list((tmp_path / "work" / "trial1-seed0").glob("*.pth")), "to go on from"
    first = looks[0]
    assert found(study(folder, tmp_path, tick=said.append)) == found(whole)
    assert sum(each.startswith("[1 of 4]") for each in said) == 1
    looks[0] = 0
    assert found(study(folder, tmp_path)) == found(whole)
    assert looks[0] == 0, "nothing is trained again"
    assert first == 13


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (dict(methods=["cwdd"]), KeyError, "did you mean 'cwd'"),
        (dict(methods=["unidistill"]), ValueError, "has no known map of the ground"),
        (dict(methods="cwd"), TypeError, "methods is a list of names"),
        (dict(methods=[dict(type="cwd")]), TypeError, "methods is a list of names"),
        (dict(methods=["cwd", "densekd.methods.cwd:cwd"]), ValueError, "two methods have one name: cwd, cwd"),
        (dict(methods=None), ValueError, "names no densekd.Distiller: give a teacher and methods"),
        (dict(trials=1), ValueError, "1 trials are fewer than the 2 that are tried first"),
        (dict(metric="mIuO"), ValueError, "the validation has no metric 'mIuO'; did you mean 'mIoU'"),
        (dict(factors=(3, 1)), ValueError, "factors is a range"),
        (dict(seeds=[]), ValueError, "seeds is how many"),
        (dict(checkpoint="gone.pth"), FileNotFoundError, "gone.pth"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(
    folder: Path, tmp_path: Path, changed: Mapping[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        study(folder, tmp_path, tick=lambda said: pytest.fail(said), **changed)
    assert not list(tmp_path.rglob("*.pth"))
    assert not (tmp_path / "work").exists()


def test_a_validation_on_test_data_is_told_and_none_is_refused(folder: Path, tmp_path: Path) -> None:
    taught = read_config(ROOT / "configs" / "seg" / "cwd" / "digits.py")
    assert check_data(taught) == ()
    taught.test_dataloader.dataset.split = "val"
    taught.test_dataloader.dataset.pipeline = []
    (told,) = check_data(taught)
    assert "validates on its test data: the choice sees the test" in told
    taught.test_dataloader = taught.test_cfg = taught.test_evaluator = None
    (told,) = check_data(taught)
    assert "has no test set" in told
    taught.val_dataloader = taught.val_cfg = taught.val_evaluator = None
    with pytest.raises(ValueError, match=r"has no validation .* hold some of the training data out for it"):
        check_data(taught)
    blind = folder / "blind.py"
    blind.write_text("_base_ = 'student.py'\nval_dataloader = val_cfg = val_evaluator = None\n")
    call = [str(blind), "--teacher", str(folder / "teacher.py"), "--methods", "cwd", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="has no validation") as ended:
        tune_command.main(call)
    assert "\n" not in str(ended.value.code)


def test_without_optuna_the_extra_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"tune needs optuna: pip install 'graphdensekd\[tune\]'"):
        study(folder, tmp_path)


def test_entries_of_a_config_are_searched_and_the_command_says_what_was_found(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A config of entries, with a teacher that needs no training."""
    config = tmp_path / "ema.py"
    config.write_text(
        f"_base_ = {str(folder / 'student.py')!r}\nmodel = dict(_delete_=True, type='densekd.Distiller', "
        "student=_base_.model, teacher='ema', distills=[dict(loss='kl', student='decode_head.conv_seg', weight=2.0)])\n"
        "train_cfg = dict(max_iters=2, val_interval=1)\n"
    )
    out = tmp_path / "out"
    tune_command.main([str(config), "--trials", "3", "--factor", "0.5", "1.6", "--out", str(out)])
    printed = capsys.readouterr()
    assert "first the untaught control, then kl (published weights), kl_auto (balance='auto')" in printed.err
    assert "| 0 | kl, published weights" in printed.out
    assert f"`densekd train {out / 'best.py'}`" in printed.out
    assert not (out / "teacher").exists()
    (entry,) = tuning._with(
        tuning._published(read_config(config)), dict(factor=0.5, temperature=3.0), auto=False
    ).model.distills
    assert (entry.weight, entry.loss) == (1.0, dict(type="kl", tau=3.0))
    auto = tuning._with(tuning._published(read_config(config)), dict(ratio=0.5, temperature=1.0), auto=True)
    assert auto.model.balance == dict(type="auto", ratio=0.5)
    assert auto.model.distills[0].weight == 2.0
