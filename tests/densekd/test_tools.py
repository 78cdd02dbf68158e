"""The tools end to end: real mmengine runs on digit scenes."""

from __future__ import annotations

import importlib
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import mmdet
import mmseg
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.runner import CheckpointLoader

from densekd.__main__ import program
from densekd.checkpoint import read
from densekd.mmlab.building import build_model
from densekd.runs.resume import last_whole_checkpoint

from .conftest import CONFIGS

ROOT = Path(__file__).parents[2]
Run = Callable[..., Path]


def tool(name: str) -> ModuleType:
    return importlib.import_module(f"densekd.cli.{name}")


@pytest.fixture(autouse=True)
def _own_loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training makes mmengine's loader safe for the whole process; here for the test only."""
    monkeypatch.setattr(CheckpointLoader, "_schemes", dict(CheckpointLoader._schemes))


@pytest.fixture
def arguments(seg_teacher: dict[str, str]) -> list[str]:
    teacher = ["--teacher", seg_teacher["teacher"], "--checkpoint", seg_teacher["checkpoint"]]
    return [str(CONFIGS / "seg.py"), *teacher, "--method", "cwd", "--seed", "0"]


@pytest.fixture
def train(tmp_path: Path) -> Run:
    """Train in this process and return the work dir."""

    def run(arguments: list[str], name: str = "run") -> Path:
        MMLogger._instance_dict.clear()  # else a run that starts in the same second as another writes into its log
        tool("train").main([*arguments, "--work-dir", str(tmp_path / name)])
        return tmp_path / name

    return run


def state(folder: Path, name: str = "iter_6.pth") -> dict[str, torch.Tensor]:
    return read(folder / name)["state_dict"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def log(folder: Path) -> str:
    return max(folder.glob("*/*.log")).read_text()


def test_a_taught_student_is_a_plain_student_afterwards(arguments: list[str], train: Run) -> None:
    work = train(arguments)
    assert "distill.loss_cwd" in log(work)
    trained, untrained = mmseg_metric(work, "iter_6.pth"), re.findall(r"mIoU: ([\d.]+)", log(work))[-1]
    assert f"{trained:.2f}" == f"{float(untrained):.2f}"
    plain, _ = build_model(CONFIGS / "seg.py")
    assert list(state(work)) == list(plain.state_dict())


def mmseg_metric(work: Path, name: str, *options: str) -> float:
    return tool("test").main([str(CONFIGS / "seg.py"), str(work / name), *options])["mIoU"]


def test_control_is_the_same_student_and_schedule(arguments: list[str], train: Run) -> None:
    taught, control = train(arguments, "taught"), train([arguments[0], "--control", "--seed", "0"], "control")
    first = [re.search(r"decode.loss_ce: ([\d.]+)", log(folder)) for folder in (taught, control)]
    assert first[0] is not None
    assert first[0].group(1) == first[1].group(1)  # the same start, the same first batch
    assert "distill" not in log(control)
    rates = [re.findall(r" lr: ([\d.e-]+)", log(folder)) for folder in (taught, control)]
    assert rates[0] == rates[1]
    assert len(rates[0]) == 6
    assert not same(state(taught), state(control))


def test_detector(det_teacher: dict[str, str], train: Run) -> None:
    teacher = ["--teacher", det_teacher["teacher"], "--checkpoint", det_teacher["checkpoint"]]
    work = train([str(CONFIGS / "det.py"), *teacher, "--method", "pkd", "--seed", "0"])
    assert "distill.loss_pkd" in log(work)
    plain, _ = build_model(CONFIGS / "det.py")
    extra = set(state(work, "epoch_2.pth")) - set(plain.state_dict())
    assert extra == {f"distill.pkd.adapt.{i}.project.{kind}" for i in range(5) for kind in ("weight", "bias")}
    assert "pascal_voc/mAP" in tool("test").main([str(CONFIGS / "det.py"), str(work / "epoch_2.pth")])


# --- interrupted and resumed ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "workers"), [(signal.SIGKILL, 2), (signal.SIGINT, 0)])
def test_interrupted_and_resumed_ends_with_the_same_bits(
    sign: signal.Signals, workers: int, arguments: list[str], train: Run, tmp_path: Path
) -> None:
    arguments += ["--cfg-options", f"train_dataloader.num_workers={workers}"]
    whole = train(arguments, "whole")
    command = [sys.executable, str(Path(__file__).parent / "killed_run.py"), str(int(sign)), "5"]
    command += [*arguments, "--work-dir", str(tmp_path / "broken")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if sign is signal.SIGINT:
        assert "--resume continues" in done.stderr
    else:
        assert done.returncode == -sign
    assert sorted(path.name for path in (tmp_path / "broken").glob("*.pth")) == ["iter_2.pth", "iter_4.pth"]
    resumed = train([*arguments, "--resume"], "broken")
    assert same(state(whole), state(resumed))
    assert re.findall(r"mIoU: [\d.]+", log(whole))[-1] == re.findall(r"mIoU: [\d.]+", log(resumed))[-1]


def test_a_run_is_not_trained_over(train: Run, tmp_path: Path) -> None:
    arguments = [str(CONFIGS / "seg.py"), "--control", "--seed", "0", "--cfg-options", "train_cfg.max_iters=2"]
    work = train(arguments)
    for _ in range(2):  # of the work_dir, both in one second: each has a folder of its own, none is beside the run
        tool("test").main([arguments[0], str(work)])
    assert [path.name for path in work.parent.iterdir()] == ["run"]
    assert len(list((work / "test").glob("*/*/*.log"))) == len(list((work / "test").glob("*/seg.py"))) == 2
    assert tool("export").config_in(work) == tool("export").config_in(work / "iter_2.pth") == work / "seg.py"
    before = (work / "iter_2.pth").read_bytes()
    with pytest.raises(SystemExit, match=r"holds checkpoints of an earlier run, iter_2.pth among them: --resume"):
        train(arguments)
    assert (work / "iter_2.pth").read_bytes() == before
    (work / "iter_6.pth").write_bytes(before)  # of an earlier, longer run: a resumed one must not find it
    (work / "teacher.pth").write_bytes(before)
    train([*arguments, "--overwrite"])
    assert sorted(path.name for path in work.glob("*.pth")) == ["iter_2.pth", "teacher.pth"]


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_ends_with_the_same_bits(tmp_path: Path) -> None:
    options = ["train_cfg.max_iters=4", "train_cfg.val_interval=1", "default_hooks.checkpoint.save_best=mIoU"]
    arguments = [str(CONFIGS / "seg.py"), "--control", "--seed", "0", "--work-dir", str(tmp_path)]
    command = [sys.executable, str(Path(__file__).parent / "killed_run.py"), "random", "2", "0", *arguments]
    done = subprocess.run(
        [*command, "--cfg-options", *options, "default_hooks.checkpoint.interval=1"],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"^2 kills: .*; the same to the bit: True; left over: nothing", done.stdout, flags=re.M)


def test_a_full_disk_ends_the_run_with_a_remedy(train: Run, tmp_path: Path) -> None:
    arguments = [str(CONFIGS / "seg.py"), "--control", "--seed", "0"]
    work = train([*arguments, "--cfg-options", "train_cfg.max_iters=2"])
    size = (work / "iter_2.pth").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))  # what a full disk does to a writer
    try:
        with pytest.raises(OSError, match=r"iter_4.pth was not written: .*Free space there.*--resume"):
            train([*arguments, "--resume"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in work.rglob("*iter_4*")] == []
    assert last_whole_checkpoint(work) == work / "iter_2.pth"
    train([*arguments, "--resume"])
    assert last_whole_checkpoint(work) == work / "iter_6.pth"


def test_a_checkpoint_that_was_cut_short_is_not_resumed_from(tmp_path: Path) -> None:
    assert last_whole_checkpoint(tmp_path) is None
    for step in (2, 10):
        torch.save({"state_dict": {}}, tmp_path / f"iter_{step}.pth")
    torch.save({"state_dict": {}}, tmp_path / "best_mIoU_iter_10.pth")
    last, pointer = tmp_path / "iter_10.pth", tmp_path / "last_checkpoint"
    assert last_whole_checkpoint(tmp_path) == last  # killed before the first pointer was written
    pointer.write_text("elsewhere/iter_2.pth")  # the folder was moved
    assert last_whole_checkpoint(tmp_path) == tmp_path / "iter_2.pth"
    pointer.write_text(str(last))
    whole = last.read_bytes()
    for damage in (whole[:-1], whole[: len(whole) // 2], b""):
        last.write_bytes(damage)
        assert last_whole_checkpoint(tmp_path) == tmp_path / "iter_2.pth"
    pointer.write_text("")  # killed while the pointer was written
    assert last_whole_checkpoint(tmp_path) == tmp_path / "iter_2.pth"
    (tmp_path / "iter_2.pth").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"no whole checkpoint: iter_10.pth, iter_2.pth"):
        last_whole_checkpoint(tmp_path)


def resumed_from(train: Run, arguments: list[str], first: str, last: str) -> bool:
    """Whether a run resumed from checkpoint `first` of another ends as that one did."""
    whole = train(arguments, "whole")
    resumed = train([*arguments, "--resume", str(whole / first)], "resumed")
    return same(state(whole, last), state(resumed, last))


@pytest.mark.parametrize("held", [{"0.weight": torch.zeros(1)}, {"state_dict": {}, "meta": {}}, [1, 2]], ids=str)
def test_what_is_no_checkpoint_of_a_run_is_not_resumed_from(held: Any, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "other.pth")
    arguments = [str(CONFIGS / "seg.py"), "--control", "--work-dir", str(tmp_path / "run")]
    with pytest.raises(
        ValueError, match=r"other.pth is not a checkpoint of a run, it has no .*message_hub.*set load_from"
    ):
        tool("train").main([*arguments, "--resume", str(tmp_path / "other.pth")])
    assert not list((tmp_path / "run").glob("*.pth"))


def test_resume_of_epochs_with_workers(det_teacher: dict[str, str], train: Run) -> None:
    teacher = ["--teacher", det_teacher["teacher"], "--checkpoint", det_teacher["checkpoint"]]
    options = ["--cfg-options", "train_dataloader.num_workers=2", "train_dataloader.persistent_workers=True"]
    arguments = [str(CONFIGS / "det.py"), *teacher, "--method", "pkd", "--seed", "0", *options]
    assert resumed_from(train, arguments, "epoch_1.pth", "epoch_2.pth")


@pytest.mark.parametrize("save_best", ["mIoU", "None"])
def test_validation_after_the_checkpoint_is_made_up_for(
    save_best: str, arguments: list[str], train: Run, tmp_path: Path
) -> None:
    """With `save_best` mmengine writes the checkpoint again when it has been validated, without it does not."""
    checkpoint = [f"default_hooks.checkpoint.{option}" for option in ("interval=3", f"save_best={save_best}")]
    assert resumed_from(train, [*arguments, "--cfg-options", *checkpoint], "iter_3.pth", "iter_6.pth")
    if save_best == "None":
        assert [len(re.findall("mIoU: ", log(tmp_path / name))) for name in ("whole", "resumed")] == [2, 2]
        return
    assert len(re.findall("mIoU: ", log(tmp_path / "resumed"))) == 1
    hubs = [read(tmp_path / name / "iter_6.pth")["message_hub"]["runtime_info"] for name in ("whole", "resumed")]
    assert hubs[0]["best_score"] == hubs[1]["best_score"]
    assert [Path(hub["best_ckpt"]).name for hub in hubs] == ["best_mIoU_iter_3.pth"] * 2


def test_resume_of_a_moving_average(train: Run) -> None:
    arguments = [str(CONFIGS / "seg.py"), "--teacher", "ema", "--method", "kl", "--seed", "0"]
    assert resumed_from(train, arguments, "iter_2.pth", "iter_6.pth")


def test_resume_with_mixed_precision_and_ema_hook(arguments: list[str], train: Run, tmp_path: Path) -> None:
    config = tmp_path / "ema.py"
    config.write_text(f"_base_ = {arguments[0]!r}\ncustom_hooks = [dict(type='EMAHook', momentum=0.1)]\n")
    assert resumed_from(train, [str(config), *arguments[1:], "--amp"], "iter_2.pth", "iter_6.pth")
    checkpoint = read(tmp_path / "whole" / "iter_6.pth")
    assert not any(key.startswith("module.teachers") for key in checkpoint["ema_state_dict"])
    averaged, last = checkpoint["state_dict"], checkpoint["ema_state_dict"]
    assert not torch.equal(averaged["decode_head.conv_seg.weight"], last["module.decode_head.conv_seg.weight"])


def test_training_ends_with_what_there_is_now_and_what_to_do_next(
    arguments: list[str], train: Run, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    work = train([*arguments, "--cfg-options", "default_hooks.checkpoint.interval=3"])
    said = capsys.readouterr().out.rpartition("\n\n")[2]
    lines = {line[:12].strip(): line[12:] for line in said.splitlines()}
    assert list(lines) == ["student", "teacher", "method", "validation", "weights", "next"]
    plain, _ = build_model(CONFIGS / "seg.py")
    count = sum(parameter.numel() for parameter in plain.parameters())
    assert lines["student"] == f"{arguments[0]} (EncoderDecoder, {count:,} parameters)"
    assert (lines["teacher"], lines["method"]) == (arguments[2], "cwd")
    found = {key: float(re.findall(rf"\b{key}: ([0-9.]+)", log(work))[-1]) for key in ("mIoU", "bIoU")}
    assert lines["validation"] == ", ".join(f"{key} {value:.2f}" for key, value in found.items())
    assert lines["weights"] == "run/iter_6.pth"
    command, name, *rest = shlex.split(lines["next"])
    assert (command, name) == ("densekd", "test")
    assert tool(name).main(rest)["mIoU"] == tool(name).main([arguments[0], str(work)])["mIoU"]


def test_the_end_of_a_control_and_of_a_run_without_checkpoints(train: Run, capsys: Any) -> None:
    best = ["default_hooks.checkpoint.save_best=mIoU", "default_hooks.checkpoint.interval=-1"]
    work = train([str(CONFIGS / "seg.py"), "--control", "--cfg-options", *best])
    said = capsys.readouterr().out.rpartition("\n\n")[2]
    assert re.search(r"^teacher     none: this is the control$", said, flags=re.M)
    assert re.search(r"^weights     ", said, flags=re.M)
    assert re.search(rf"^best        .*{work.name}/best_mIoU_iter_\d+\.pth$", said, flags=re.M)
    assert "\nmethod" not in said


# --- as mmengine and OpenMMLab run it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("package", [mmseg, mmdet])
def test_openmmlabs_own_tool_runs_a_config_that_names_the_distiller(
    package: ModuleType, seg_teacher: dict[str, str], det_teacher: dict[str, str], tmp_path: Path
) -> None:
    side = {"mmseg": "seg", "mmdet": "det"}[package.__name__]
    teacher, tap = {"seg": (seg_teacher, "decode_head.conv_seg"), "det": (det_teacher, "neck")}[side]
    (tmp_path / "taught.py").write_text(
        f"_base_ = {str(CONFIGS / side)!r} + '.py'\n"
        "model = dict(_delete_=True, type='densekd.Distiller', student=_base_.model,\n"
        f"             teacher={teacher['teacher']!r}, checkpoint={teacher['checkpoint']!r},\n"
        f"             distills=[dict(loss=dict(type='cwd', tau=4.), student={tap!r}, weight=3.)])\n"
    )
    script = Path(package.__file__).parent / ".mim" / "tools" / "train.py"
    command = [sys.executable, str(script), "taught.py", "--work-dir", "work"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "distill.loss_cwd" in log(tmp_path / "work")


def test_openmmlabs_own_tool_runs_a_config_on_its_own_base(seg_teacher: dict[str, str], tmp_path: Path) -> None:
    """The README's kind of config, small: a distiller in a file whose base is in mmseg."""
    (tmp_path / "distilled.py").write_text(
        "_base_ = 'mmseg::_base_/schedules/schedule_20k.py'\n"
        + (CONFIGS / "seg.py").read_text()
        + f"model = dict(type='densekd.Distiller', student=model, method='cwd', **{seg_teacher!r})\n"
        + "train_cfg.update(max_iters=1)\n"
    )
    command = [sys.executable, "-m", "densekd", "mmseg/train", "distilled.py", "--work-dir", "work"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "distill.loss_cwd" in log(tmp_path / "work")


def test_which_program_densekd_runs(tmp_path: Path) -> None:
    (tmp_path / "own.py").touch()
    assert program(str(tmp_path / "own.py")) == tmp_path / "own.py"
    assert program("mmdet/test").parts[-4:] == ("mmdet", ".mim", "tools", "test.py")
    for name in ("mmseg/nothing", "nothing/train", "train", str(tmp_path / "own")):
        with pytest.raises(FileNotFoundError, match="there is no program"):
            program(name)


@pytest.mark.slow
def test_two_processes_train_the_same_student(arguments: list[str], tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    own = ["--launcher", "pytorch", "--work-dir", str(tmp_path)]
    command = [*launch, str(ROOT / "tools" / "train.py"), *arguments, *own]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "distill.loss_cwd" in log(tmp_path)
    plain, _ = build_model(CONFIGS / "seg.py")
    assert list(state(tmp_path)) == list(plain.state_dict())


def test_mixed_precision(arguments: list[str], train: Run) -> None:
    work = train([*arguments, "--amp"])
    losses = [float(value) for value in re.findall(r" loss: ([\d.]+)", log(work))]
    assert len(losses) == 6
    assert all(0 < value < 100 for value in losses)


def test_test_time_augmentation(arguments: list[str], train: Run, tmp_path: Path) -> None:
    work = train(arguments)
    flips = "[dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]"
    config = tmp_path / "tta.py"
    config.write_text(
        f"_base_ = {arguments[0]!r}\n"
        f"tta_pipeline = [dict(type='TestTimeAug', transforms=[{flips}, [dict(type='PackSegInputs')]])]\n"
    )
    assert 0 <= tool("test").main([str(config), str(work / "iter_6.pth"), "--tta"])["mIoU"] <= 100
    with pytest.raises(ValueError, match="has no tta_model and tta_pipeline"):
        tool("test").main([arguments[0], str(work / "iter_6.pth"), "--tta"])


# --- bad input --------------------------------------------------------------------------------------------------------


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("role", ["teacher", "student", "resume"])
def test_a_malicious_checkpoint_is_not_executed(role: str, arguments: list[str], train: Run, tmp_path: Path) -> None:
    model, _ = build_model(CONFIGS / ("seg_teacher.py" if role == "teacher" else "seg.py"))
    bad = tmp_path / "bad.pth"
    torch.save({"state_dict": model.state_dict(), "meta": Payload(tmp_path / "owned")}, bad)
    extra = {
        "teacher": ["--checkpoint", str(bad)],
        "student": ["--cfg-options", f"load_from={bad}"],
        "resume": ["--resume", str(bad)],
    }[role]
    with pytest.raises(ValueError, match="asks for code besides weights"):
        train([*arguments, *extra])
    assert not (tmp_path / "owned").exists()


def test_an_empty_split_is_an_error(arguments: list[str], train: Run, tmp_path: Path) -> None:
    config = tmp_path / "empty.py"
    (tmp_path / "images").mkdir()
    config.write_text(
        f"_base_ = {arguments[0]!r}\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='BaseSegDataset', data_root='.',\n"
        f"    data_prefix=dict(img_path={str(tmp_path / 'images')!r}), metainfo=dict(classes=('a',)), pipeline=[]))\n"
    )
    with pytest.raises(ValueError, match="the train split is empty"):
        train([str(config), *arguments[1:]])


def test_test_refuses_weights_of_another_model(arguments: list[str], seg_teacher: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="keys matched"):
        tool("test").main([arguments[0], seg_teacher["checkpoint"]])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--control"], "takes no --method"),
        (["--method", "cvd"], "no method is called 'cvd'; did you mean 'cwd'"),
    ],
)
def test_contradicting_arguments(extra: list[str], message: str, arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit):
        tool("train").main([*arguments, *extra])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--control", "--teacher", "x.py"], "takes no --teacher"),
        (["--control", "--checkpoint", "x.pth"], "takes no --checkpoint"),
        (["--method", "cwd"], "go together"),
        (
            ["--method", "cwd", "--teacher", "x.py", "--checkpoint", "nowhere.pth"],
            "--checkpoint nowhere.pth: there is no such file or folder",
        ),
        (["--method", "cwd", "--teacher", "ema", "--checkpoint", "x.pth"], "takes no --checkpoint"),
        (["--control", "--resume", "--overwrite"], "would remove"),
        (["--control", "--cfg-options", "train_cfg.max_iters"], "takes field=value"),
    ],
)
def test_arguments_that_would_be_dropped(extra: list[str], message: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        tool("train").main([str(CONFIGS / "seg.py"), *extra])
    assert message in capsys.readouterr().err


SPLIT = "give train_dataloader, train_cfg and optim_wrapper"


@pytest.mark.parametrize(
    ("name", "change", "extra", "message"),
    [
        ("train", "optim_wrapper = None", ["--control"], f"has no optim_wrapper; {SPLIT}"),
        ("train", "val_evaluator = None", ["--control"], "has no val_evaluator"),
        ("train", "train_dataloader = train_cfg = optim_wrapper = None", ["--control"], "nothing to train on"),
        ("train", "", ["--control", "--launcher", "pytorch"], "python -m torch.distributed.run"),
        ("train", "", ["--control", "--resume", "gone.pth"], "no checkpoint gone.pth to resume from"),
        ("train", "", ["--control", "--cfg-options", "train_cfg.max_iter=2"], "did you mean max_iters"),
        ("train", "train_cfg = dict(max_iters=0)", ["--control"], "train_cfg.max_iters must be at least 1, got 0"),
        ("train", "train_cfg = dict(max_iters=-1)", ["--control"], "train_cfg.max_iters must be at least 1, got -1"),
        ("train", "model = None", ["--control"], "has no model"),
        ("train", "x = 1 / 0", ["--control"], "cannot be read: ZeroDivisionError"),
        ("test", "test_dataloader = test_cfg = test_evaluator = None", ["x.pth"], "has no test_dataloader, test_cfg"),
        ("test", "", ["gone.pth"], "there is no checkpoint gone.pth"),
        ("inspect", "", ["--filter", "nothing"], "no path of a module contains"),
    ],
)
def test_a_mistake_is_found_before_anything_is_written(
    name: str, change: str, extra: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(f"_base_ = {str(CONFIGS / 'seg.py')!r}\n{change}\n")
    with pytest.raises((ValueError, OSError), match=re.escape(message)):
        tool(name).main(["own.py", *extra])
    assert [path.name for path in tmp_path.iterdir()] == ["own.py"]


def test_a_mistake_ends_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "test.py"), "gone.py", "gone.pth"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode, done.stderr) == (1, "there is no config gone.py\n")


def test_nothing_to_teach_with() -> None:
    with pytest.raises(SystemExit, match="give --teacher and --method, or --control"):
        tool("train").main([str(CONFIGS / "seg.py")])


# --- inspection -------------------------------------------------------------------------------------------------------


def test_inspect_model(seg_teacher: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    tool("inspect").main([str(CONFIGS / "seg.py"), "--teacher", seg_teacher["teacher"], "--size", "64", "128"])
    lines = capsys.readouterr().out.splitlines()
    rows = {line[2:].split()[0]: line for line in lines if line[:2] in ("* ", "  ")}
    assert rows["decode_head.conv_seg"].split() == ["*", "decode_head.conv_seg", "1x11x8x16", "1x11x8x16"]
    assert rows["decode_head.bottleneck"].split() == ["*", "decode_head.bottleneck", "1x16x8x16", "1x32x8x16"]
    assert "!1x16x8x16" in rows["decode_head.bottleneck.bn"]
    assert rows["backbone"].split()[1:5] == ["1x8x16x32", "1x16x8x16", "1x32x8x16", "1x64x8x16"]
    assert "auxiliary_head.conv_seg" not in rows
    model, _ = build_model(CONFIGS / "seg.py")
    listed = {path for path in rows if rows[path].split()[-2] != "-"}
    assert listed <= {name for name, _ in model.named_modules()} | {name for name in listed if "backbone" in name}


@pytest.mark.parametrize("form", ["in the config", "by the flag"])
def test_inspect_model_of_several_teachers(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = str(CONFIGS / "seg_teacher.py")
    call = [str(CONFIGS / "seg.py"), "--teacher", wide, str(CONFIGS / "seg.py")]
    names = ["seg_teacher", "seg"]
    if form == "in the config":
        named = f"dict(wide={wide!r}, own='ema', narrow={str(CONFIGS / 'seg.py')!r})"
        text = f"model = dict(type='densekd.Distiller', student={str(CONFIGS / 'seg.py')!r}, teacher={named})"
        (tmp_path / "several.py").write_text(f"default_scope = 'mmseg'\n{text}\n")
        call, names = [str(tmp_path / "several.py")], ["wide", "narrow"]
    capsys.readouterr()
    tool("inspect").main([*call, "--size", "64", "64", "--filter", "bottleneck"])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].split() == ["tap", "student", *names]
    assert ["*", "decode_head.bottleneck", "1x16x8x8", "1x32x8x8", "1x16x8x8"] in [line.split() for line in lines]
    assert any(line.startswith("legend: ") for line in lines)
    assert ("own: 'ema'" in printed.out) == (form == "in the config")
    assert printed.err == ""
