from __future__ import annotations

import copy
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from densekd.bev import world
from densekd.bev.texts import sentences
from densekd.cli import compare
from densekd.mmlab.building import build_model
from densekd.mmlab.config import distill, read_config
from densekd.runs.comparison import config_of, fingerprint, has_trained_teacher, last_weights, learns, method, rows, run
from densekd.texts import write

ROOT = Path(__file__).parents[2]
STUDENT = """
_base_ = {base!r}
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16),
)
train_dataloader = dict(batch_size=2, dataset=dict(size=32, count=4))
test_dataloader = dict(dataset=dict(size=32, count=4))
train_cfg = dict(max_iters=2)
"""
TAUGHT = """
_base_ = 'student.py'
model = dict(
    _delete_=True, type='densekd.Distiller', student=_base_.model, teacher='{{fileDirname}}/teacher.py', method='cwd'
)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    base = str(ROOT / "configs" / "seg" / "plain" / "semantic_fpn_r18_w16_digits.py")
    for name in ("student.py", "teacher.py"):
        (folder / name).write_text(STUDENT.format(base=base))
    (folder / "pair.py").write_text(TAUGHT)
    return folder / "pair.py"


def test_a_comparison_logs_each_run_once_and_refuses_to_mix_configs(config, tmp_path, capsys) -> None:
    call = [str(config), "--seeds", "1", "--out", str(tmp_path / "out"), "--work-dir", str(tmp_path / "work")]
    compare.main(call)
    printed = capsys.readouterr()
    assert "[3/3] pair-tiny: distilled, seed 0" in printed.err
    assert "| distilled, cwd | 1 |" in printed.out
    assert "| mIoU | bIoU | Δ mIoU | Δ bIoU |" in printed.out  # beside the mIoU, which is all that the config asks for
    assert "bIoU: mean IoU of the pixels within 3 of an edge of the labels." in printed.out
    logs = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    assert sorted(logs) == ["control-seed0", "distilled-seed0", "teacher-seed0"]
    assert logs["control-seed0"]["params"] == logs["distilled-seed0"]["params"]
    assert all(0 <= log["metrics"]["mIoU"] <= 100 and log["latency_ms"]["one_image"] > 0 for log in logs.values())
    assert not any(str(tmp_path) in json.dumps(log) for log in logs.values())
    assert last_weights(tmp_path / "work" / "teacher-seed0") is not None

    compare.main(call)
    assert "[1/" not in capsys.readouterr().err  # nothing is trained twice

    config.write_text(config.read_text().replace("cwd", "kl"))
    with pytest.raises(SystemExit, match=r"distilled-seed0.json is of another version"):
        compare.main(call)


def test_published_and_measured_weights_side_by_side(config, tmp_path, capsys) -> None:
    call = [str(config), "--seeds", "1", "--out", str(tmp_path / "out"), "--work-dir", str(tmp_path / "work")]
    compare.main([*call, "--balance", "published", "auto"])
    rows = ["model", "---", "teacher", "control", "distilled, cwd", "distilled, cwd_auto"]
    assert rows_of(capsys.readouterr().out) == rows
    logs = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    assert logs["cwd-seed0"]["gradients"] == {}  # a step in 25 is looked at
    assert logs["cwd_auto-seed0"]["gradients"]["cwd"]["weight"] > 0
    assert logs["cwd_auto-seed0"]["fingerprint"] != logs["cwd-seed0"]["fingerprint"]


@pytest.fixture
def several(config: Path) -> list[Path]:
    """One student and one teacher with three methods, as `<method>/scenes.py`; the third has a teacher of its own."""
    folder = config.parent
    for name in ("cwd", "kl", "lad"):
        (folder / name).mkdir()
        text = TAUGHT.replace("{{fileDirname}}", str(folder)).replace("'student.py'", repr(str(folder / "student.py")))
        (folder / name / "scenes.py").write_text(text.replace("'cwd'", repr("kl" if name == "lad" else name)))
    for path in (folder / "student.py", folder / "teacher.py"):
        both = "test_evaluator = [dict(type='IoUMetric'), dict(type='densekd.BoundaryIoU', width=2)]"
        path.write_text(path.read_text() + both)
    own = folder / "own.py"
    own.write_text("_base_ = 'teacher.py'\nmodel = dict(decode_head=dict(dropout_ratio=0.2))\n")
    lad = folder / "lad" / "scenes.py"
    lad.write_text(lad.read_text().replace("teacher.py", "own.py"))
    return [folder / name / "scenes.py" for name in ("cwd", "kl", "lad")]


def rows_of(printed: str) -> list[str]:
    return [line.split("|")[1].strip() for line in printed[printed.index("**") :].splitlines() if line[:1] == "|"]


def test_several_methods_share_teacher_and_control(several, tmp_path, capsys) -> None:
    rest = ["--seeds", "1", "--out", str(tmp_path / "out"), "--work-dir", str(tmp_path / "work")]
    compare.main([*map(str, several[:2]), *rest])
    printed = capsys.readouterr()
    titles = [line for line in printed.err.splitlines() if re.match(r"\[\d/\d\] ", line)]
    assert titles == [
        "[1/4] scenes: teacher, seed 0",
        "[2/4] scenes: control, seed 0",
        "[3/4] scenes: cwd, seed 0",
        "[4/4] scenes: kl, seed 0",
    ]
    assert rows_of(printed.out) == ["model", "---", "teacher", "control", "distilled, cwd", "distilled, kl"]
    assert "| mIoU | bIoU | Δ mIoU | Δ bIoU |" in printed.out
    logs = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    assert all(0 <= log["metrics"]["bIoU"] <= 100 and log["boundary_width"] == 2 for log in logs.values())
    assert {key: log["method"] for key, log in logs.items()} == {
        "teacher-seed0": "supervised",
        "control-seed0": "supervised",
        "cwd-seed0": "cwd",
        "kl-seed0": "kl",
    }
    alone = run(read_config(several[1]), "control", 0, tmp_path / "alone", name="alone")
    assert alone["metrics"] == logs["control-seed0"]["metrics"]  # whoever of the two asks for it
    assert alone["fingerprint"] == logs["control-seed0"]["fingerprint"]

    (tmp_path / "out" / "kl-seed0.json").unlink()
    compare.main([*map(str, several), *rest])
    printed = capsys.readouterr()
    titles = [line for line in printed.err.splitlines() if re.match(r"\[\d/\d\] ", line)]
    assert titles == [
        "[1/3] scenes: teacher_of_lad, seed 0",
        "[2/3] scenes: kl, seed 0",
        "[3/3] scenes: lad, seed 0",
    ]
    assert rows_of(printed.out)[2:5] == ["teacher, lad", "teacher, supervised", "control"]
    again = json.loads((tmp_path / "out" / "kl-seed0.json").read_text())
    assert again["metrics"] == logs["kl-seed0"]["metrics"]
    assert (tmp_path / "work" / "teacher_of_lad-seed0").is_dir()


@pytest.mark.slow
def test_several_processes_find_what_one_finds(several, tmp_path, capsys) -> None:
    to = ["--out", str(tmp_path / "out"), "--work-dir", str(tmp_path / "work")]
    compare.main([*map(str, several[:2]), "--seeds", "1", "--jobs", "2", *to])
    printed = capsys.readouterr()
    assert rows_of(printed.out)[2:] == ["teacher", "control", "distilled, cwd", "distilled, kl"]
    done = re.findall(r"^\[(\d)/4\] scenes: (.*), seed 0: done$", printed.err, flags=re.M)
    assert [number for number, _ in done] == ["1", "2", "3", "4"]
    names = [name for _, name in done]
    assert {*names} == {"teacher", "control", "cwd", "kl"}
    assert names.index("teacher") < min(names.index("cwd"), names.index("kl"))
    alone = run(read_config(several[1]), "control", 0, tmp_path / "alone", name="alone")
    log = json.loads((tmp_path / "out" / "control-seed0.json").read_text())
    assert log["fingerprint"] == alone["fingerprint"]
    assert log["metrics"] == pytest.approx(alone["metrics"], abs=0.5)


def test_no_process_outlives_the_command(tmp_path: Path) -> None:
    """A process that went on alone would write its log beside those of the next command."""
    code = (
        "import multiprocessing, os, pathlib, sys, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from densekd.cli.compare import begin\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    with ProcessPoolExecutor(1, context, begin, (1,)) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        pool.submit(time.sleep, 600).result()\n"
    )
    script = tmp_path / "command.py"
    script.write_text(code)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        assert int(command.stdout.readline()) != command.pid
        command.kill()
        command.communicate(timeout=30)  # waits for all who may still print


def test_what_is_no_table(several, config, tmp_path) -> None:
    with pytest.raises(SystemExit, match=r"of one table are <method>/<name>\.py of one name"):
        compare.main([str(several[0]), str(config)])
    longer = several[1]
    longer.write_text(longer.read_text() + "train_cfg = dict(max_iters=3)\ntrain_dataloader = dict(batch_size=1)\n")
    with pytest.raises(SystemExit, match=r"cannot share a control, which differs in train_cfg\.max_iters, train_data"):
        compare.main([*map(str, several[:2]), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_control_goes_without_the_policies_that_need_a_teacher(several) -> None:
    """Configs that differ in those share it; in others, or in other hooks, they cannot."""
    plain, taught = several[:2]
    text = taught.read_text()
    budget = dict(type="EmptyCacheHook")
    hooks = {
        "teacher's": [dict(type="densekd.Policies", policies=["hard", dict(type="m2m", steps=3)])],
        "both": [budget, dict(type="densekd.Policies", policies=["hard", dict(type="pruned", keep=0.5)])],
        "own": [budget, dict(type="densekd.Policies", policies=[dict(type="pruned", keep=0.5)])],
        "less": [budget, dict(type="densekd.Policies", policies=[dict(type="pruned", keep=0.25)])],
        "hook": [budget, dict(type="densekd.Policies", policies=["hard"])],
        "none": [],
    }
    configs = {}
    for name, each in hooks.items():
        taught.write_text(f"{text}custom_hooks = {each!r}\n")
        configs[name] = read_config(taught)
    configs["absent"] = read_config(plain)
    kept = copy.deepcopy(configs)
    alike = {"teacher's": 0, "none": 0, "absent": 0, "both": 1, "own": 1, "less": 2, "hook": 3}
    for one, other in itertools.combinations(alike, 2):
        pair = {name: configs[name] for name in (one, other)}
        if alike[one] == alike[other]:
            compare.check_one_budget(pair)
        else:
            with pytest.raises(SystemExit, match=f"{one} and {other} cannot share a control, which differs in custom"):
                compare.check_one_budget(pair)
    assert {name: each.to_dict() for name, each in configs.items()} == {
        name: each.to_dict() for name, each in kept.items()
    }
    configs["teacher's"].custom_hooks[0].pop("policies")
    with pytest.raises(TypeError, match="policies is a list"):
        compare.check_one_budget(configs)


@pytest.mark.parametrize("family", ["fpn", "mit"])
def test_the_tables_have_the_same_methods_on_scenes_and_on_camvid(family) -> None:
    found = {}
    for data in ("scenes", "camvid"):
        configs = {path: read_config(path) for path in compare.configs_of(Path(f"seg/*/{data}_{family}"))}
        name, found[data] = compare.named(configs)
        assert name == f"{data}_{family}"
        compare.check_one_budget(configs)
        assert {called: method(configs[path], "distilled") for path, called in found[data].items()} == {
            called: called for called in found[data].values()
        }
    assert sorted(found["scenes"].values()) == sorted(found["camvid"].values())


def test_configs_of_one_folder_are_named_by_their_files(several) -> None:
    paths = [Path("configs/seg/scenes/kl.py"), Path("configs/seg/scenes/cwd.py")]
    configs = dict(zip(paths, map(read_config, several)))
    assert compare.named(configs) == ("scenes", dict(zip(paths, ("kl", "cwd"))))
    with pytest.raises(SystemExit, match="no two methods alike"):
        compare.named({Path("a/kl/scenes.py"): configs[paths[0]], Path("b/kl/scenes.py"): configs[paths[1]]})


def test_the_fingerprint_follows_the_teacher_but_not_the_place_of_the_data(config, monkeypatch) -> None:
    before = fingerprint(read_config(config))
    teacher = config.with_name("teacher.py")
    teacher.write_text(teacher.read_text().replace("max_iters=2", "max_iters=3"))
    assert fingerprint(read_config(config)) != before
    camvid = ROOT / "configs" / "seg" / "cwd" / "camvid.py"
    monkeypatch.setenv("KD_DATA_ROOT", "here")
    here = fingerprint(read_config(camvid))
    monkeypatch.setenv("KD_DATA_ROOT", "there")
    assert fingerprint(read_config(camvid)) == here


def test_what_cannot_be_compared_says_why(config, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"names no densekd\.Distiller"):
        run(read_config(config.with_name("student.py")), "control", 0, tmp_path, name="x")
    with pytest.raises(ValueError, match="needs the weights of the teacher"):
        run(read_config(config), "distilled", 0, tmp_path, name="x")
    live = read_config(config)
    live.model.teacher = "ema"
    with pytest.raises(ValueError, match="the path of a config"):
        run(live, "teacher", 0, tmp_path, name="x")


def test_one_of_several_teachers_is_trained(config, tmp_path) -> None:
    several = "teacher=dict(trained='{{fileDirname}}/teacher.py', own='ema'), distills=[dict(loss='meal', student="
    several += "'decode_head.conv_seg', source=['trained', 'own'])]"
    config.write_text(TAUGHT.replace("teacher='{{fileDirname}}/teacher.py', method='cwd'", several))
    before, teacher = fingerprint(read_config(config)), config.with_name("teacher.py")
    torch.save({"state_dict": build_model(teacher)[0].state_dict()}, tmp_path / "teacher.pth")
    log = run(read_config(config), "distilled", 0, tmp_path / "work", name="x", checkpoint=tmp_path / "teacher.pth")
    assert log["method"] == "meal"
    assert log["fingerprint"] == before
    teacher.write_text(teacher.read_text().replace("max_iters=2", "max_iters=3"))
    assert fingerprint(read_config(config)) != before
    config.write_text(config.read_text().replace("'ema'", "dict(type='EncoderDecoder')"))
    with pytest.raises(ValueError, match="a teacher that can be trained is the path of a config; checkpoint="):
        config_of(read_config(config), "teacher")


def test_each_of_several_teachers_is_trained_and_has_a_row(config, tmp_path, capsys) -> None:
    two = "teacher=dict(one='{{fileDirname}}/teacher.py', other='{{fileDirname}}/deep.py'), distills=[dict(loss="
    two += "'average', student='decode_head.conv_seg', source=['one', 'other'])]"
    config.write_text(TAUGHT.replace("teacher='{{fileDirname}}/teacher.py', method='cwd'", two))
    teacher = config.with_name("teacher.py")
    config.with_name("deep.py").write_text(teacher.read_text().replace("max_iters=2", "max_iters=3"))
    compare.main([str(config), "--seeds", "1", "--out", str(tmp_path / "out"), "--work-dir", str(tmp_path / "work")])
    logs = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("*.json"))]
    assert sorted((log["role"], log["method"]) for log in logs) == [
        ("control", "supervised"),
        ("distilled", "average"),
        ("teacher", "one"),
        ("teacher", "other"),
    ]
    weights = tmp_path / "work" / "teacher-seed0" / "last_checkpoint"
    with pytest.raises(ValueError, match="the teachers one, other have weights of their own"):
        run(read_config(config), "distilled", 0, tmp_path / "both", name="x", checkpoint=weights)
    config.with_name("longer.py").write_text(teacher.read_text().replace("max_iters=2", "max_iters=4"))
    second = config.with_name("second.py")
    second.write_text(config.read_text().replace("one='{{fileDirname}}/teacher.py'", "one='{{fileDirname}}/longer.py'"))
    both = {path: read_config(path) for path in (config, second)}
    jobs = compare.plan(both, {config: "a", second: "b"}, 1, "x", tmp_path, tmp_path)
    assert [job.method for job in jobs if job.role == "teacher"] == ["other", "one", "b, one"]


@pytest.mark.parametrize(
    ("name", "expected"), [("until", "until(cwd)"), ("stages", "stages(pkd)+stages(cwd)"), ("cwd", "cwd")]
)
def test_a_policy_is_named_with_what_it_is_around(name: str, expected: str) -> None:
    assert method(read_config(ROOT / "configs" / "seg" / name / "digits.py"), "distilled") == expected


def test_a_teacher_that_learns_starts_untrained(config) -> None:
    assert not learns(read_config(config))
    assert learns(read_config(ROOT / "configs" / "seg" / "hfd_bsd" / "digits.py"))
    config.write_text(TAUGHT.replace("method='cwd'", "method='cwd', online=['teacher']"))
    assert learns(read_config(config))


def test_a_teacher_that_reads_labels_alone_has_no_row(tmp_path, capsys) -> None:
    said = sentences(world.CLASSES)
    write(tmp_path / "texts.safetensors", dict(zip(said, torch.randn(len(said), 12))))
    short = f"_base_ = {str(ROOT / 'configs' / 'bev' / 'omniscene' / 'lidar_world.py')!r}\n"
    short += "train_cfg = dict(max_iters=2)\ntest_dataloader = dict(dataset=dict(count=2))\n"
    short += f"model = dict(teacher=dict(table={str(tmp_path / 'texts.safetensors')!r}))\n"
    (tmp_path / "lidar.py").write_text(short)
    call = [str(tmp_path / "lidar.py"), "--seeds", "1", "--out", str(tmp_path), "--work-dir", str(tmp_path / "work")]
    compare.main(call)
    printed = capsys.readouterr()
    assert "[2/2]" in printed.err
    assert rows_of(printed.out)[2:] == ["control", "distilled, omniscene"]
    assert not has_trained_teacher(read_config(tmp_path / "lidar.py"))
    compare.main(call)
    assert "[1/" not in capsys.readouterr().err


def test_beside_a_teacher_that_reads_labels_the_trained_one_is_the_teacher(tmp_path) -> None:
    bev = ROOT / "configs" / "bev"
    paths = [bev / "omniscene" / "lidar_world.py", bev / "unidistill" / "camera_to_lidar_world.py"]
    methods = dict(zip(paths, ("omniscene", "unidistill")))
    jobs = compare.plan({path: read_config(path) for path in paths}, methods, 1, "both", tmp_path, tmp_path)
    names = [job.log.stem for job in jobs]
    assert names == ["teacher-seed0", "control-seed0", "omniscene-seed0", "unidistill-seed0"]


def test_several_teachers_that_learn_are_one_in_the_table_and_all_in_the_fingerprint(config) -> None:
    several = "teacher=dict(wide='{{fileDirname}}/teacher.py', deep='{{fileDirname}}/deep.py'), method='mgd_semi'"
    config.write_text(TAUGHT.replace("teacher='{{fileDirname}}/teacher.py', method='cwd'", several))
    wide, deep = config.with_name("teacher.py"), config.with_name("deep.py")
    deep.write_text(wide.read_text())
    assert learns(read_config(config))
    assert fingerprint(config_of(read_config(config), "teacher")) == fingerprint(read_config(wide))
    found = {fingerprint(read_config(config))}
    for teacher in (deep, wide):
        teacher.write_text(teacher.read_text().replace("max_iters=2", "max_iters=3"))
        found.add(fingerprint(read_config(config)))
    assert len(found) == 3


OWN_METRIC = """
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

@METRICS.register_module(force=True)
class Share(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(float(data_samples[0]["pred_sem_seg"]["data"].float().mean()))

    def compute_metrics(self, results):
        return {"share": sum(results) / len(results), "count": len(results), "names": ["no number"]}
"""
STRANGE = {
    "epochs": "train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=2)\n"
    "train_dataloader.update(sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))\n"
    "default_hooks = dict(checkpoint=dict(_delete_=True, type='CheckpointHook', interval=1))\n"
    "log_processor = dict(by_epoch=True)\nparam_scheduler = []\n",
    "own metric, validation only, no hooks": "custom_imports = dict(imports=['share_metric'])\n"
    "val_evaluator = dict(_delete_=True, type='mmengine.Share')\ndefault_hooks = custom_hooks = None\n"
    "val_dataloader = dict(dataset=dict(size=32, count=2))\n"
    "test_dataloader = test_cfg = test_evaluator = reported_on = None\n",
}


@pytest.fixture
def strange(config: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A student's config as others write them, in the current folder."""
    (config.parent / "share_metric.py").write_text(OWN_METRIC)
    monkeypatch.syspath_prepend(str(config.parent))
    monkeypatch.chdir(config.parent)
    for name in ("student.py", "teacher.py"):
        path = config.with_name(name)
        path.write_text(path.read_text() + STRANGE[request.param])
    return Path("student.py")


@pytest.mark.parametrize("strange", ["epochs"], indirect=True)
def test_epochs_and_weights_that_are_given(strange: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": build_model("teacher.py")[0].state_dict()}, "t.pth")
    call = [str(strange), "--teacher", "teacher.py", "--checkpoint", "t.pth", "--seeds", "1", "--methods"]
    compare.main([*call, "cwd"])
    logs = {path.stem: json.loads(path.read_text()) for path in Path("results/seg/student").glob("*.json")}
    assert sorted(logs) == ["control-seed0", "cwd-seed0", "teacher-seed0"]
    assert {key: log["schedule"] for key, log in logs.items()} == {
        "teacher-seed0": "weights given", "control-seed0": "2 epochs of 2", "cwd-seed0": "2 epochs of 2"
    }  # fmt: skip
    assert last_weights("work_dirs/seg/student/control-seed0").name == "epoch_2.pth"
    assert last_weights("work_dirs/seg/student/teacher-seed0") is None
    assert logs["cwd-seed0"]["teacher_weights"] == logs["teacher-seed0"]["teacher_weights"]
    assert "teacher_weights" not in logs["control-seed0"]
    capsys.readouterr()

    compare.main([*call, "cwd", "kl", "--metric", "mAcc", "mIoU"])  # what is new is trained, what is there is not
    printed = capsys.readouterr()
    assert re.findall(r"^\[(.*)\] (.*)$", printed.err, flags=re.M) == [("1/1", "student: kl, seed 0")]
    assert "| mAcc | mIoU | Δ mAcc |" in printed.out

    with pytest.raises(ValueError, match=r"has no metric 'mIuO' but mIoU, .*mAcc.*Nothing is lost"):
        compare.main([*call, "cwd", "--metric", "mIuO"])
    torch.save({"state_dict": build_model("teacher.py")[0].state_dict()}, "other.pth")
    with pytest.raises(SystemExit, match=r"teacher-seed0.json is of other weights of the teacher: --force"):
        compare.main([*call[:4], "other.pth", *call[5:], "cwd"])
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint gone\.pth"):
        compare.main([*call[:4], "gone.pth", *call[5:], "cwd", "--out", "new", "--work-dir", "new"])
    assert not Path("new").exists()


@pytest.mark.parametrize("strange", ["own metric, validation only, no hooks"], indirect=True)
def test_a_metric_of_ones_own_on_the_validation_set(
    strange: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [str(strange), "--teacher", "ema", "--seeds", "1", "--methods", "kl", "--out", "o", "--work-dir", "w"]
    with monkeypatch.context() as patch:
        import share_metric

        def breaks(self: object, results: object) -> None:
            raise RuntimeError("the metric breaks")

        patch.setattr(share_metric.Share, "compute_metrics", breaks)
        with pytest.raises(RuntimeError, match="the metric breaks"):
            compare.main(call)
    weights = last_weights("w/control-seed0")
    assert weights is not None
    made = weights.stat().st_mtime_ns
    compare.main(call)
    assert weights.stat().st_mtime_ns == made  # what was trained is tested, not trained again
    printed = capsys.readouterr().out
    assert "(last weights, nothing selected; the config's val_dataloader)" in printed
    assert "| model | seeds | share | count | Δ share |" in printed
    log = json.loads(Path("o/kl-seed0.json").read_text())
    assert log["metrics"] == {"share": pytest.approx(log["scores"]["share"], abs=1e-4), "count": 2.0}


@pytest.mark.parametrize(
    ("change", "rest", "message"),
    [
        ("train_cfg = None", [], "has no train_cfg; give train_dataloader"),
        ("test_evaluator = None", [], "has no test_evaluator; give test_dataloader"),
        ("test_evaluator = dict(_delete_=True, type='IoUMetric', format_only=True)", [], "measures nothing"),
        ("model = dict(decode_head=dict(num_classes=5))", [], "5 classes"),
        ("", ["--checkpoint", "gone.pth"], "there is no checkpoint gone.pth"),
        ("", ["--teacher", "gone.py"], "there is no config gone.py"),
        ("", ["--out", "own.py"], "own.py is a file"),
        ("", ["--work-dir", "own.py/weights"], "own.py/weights cannot be written"),
    ],
)
def test_all_is_checked_before_the_first_iteration(
    change: str, rest: list[str], message: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    Path("own.py").write_text(f"_base_ = 'student.py'\n{change}\n")
    before = sorted(path.name for path in config.parent.iterdir())
    with pytest.raises((ValueError, OSError), match=re.escape(message)):
        compare.main(["own.py", "--teacher", "teacher.py", "--methods", "kl", *rest])
    assert sorted(path.name for path in config.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("methods='cwd'", "give either distills=[...] or method='...', got type, student, teacher, methods"),
        ("distills=dict(loss='kl', student='neck')", "distills is a list of entries"),
        ("distills=['kl']", "a distills entry is a dict"),
        ("distills=[dict(student='neck')]", "a distills entry needs 'loss'"),
        ("distills=[dict(loss=dict(tau=2.0), student='neck')]", "a loss dict needs a 'type'"),
        ("distills=[dict(loss=dict(type='until', loss=dict(tau=2.0)), student='neck')]", "needs a 'type'"),
        ("method='cwd', online=3", "online is a list of names of teachers, got 3"),
    ],
)
def test_arguments_of_the_distiller_are_checked_before_they_name_anything(
    given: str, message: str, config: Path
) -> None:
    config.write_text(TAUGHT.replace("method='cwd'", given))
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        compare.main([str(config)])


def test_teachers_whose_weights_are_given_have_a_row_each(config: Path, tmp_path: Path) -> None:
    folder = str(config.parent)
    for name in "ab":
        model, _ = build_model(config.with_name("teacher.py"))
        torch.save({"state_dict": model.state_dict()}, tmp_path / f"{name}.pth")
    given = f"checkpoint=dict(a='{tmp_path}/a.pth', b='{tmp_path}/b.pth')"
    two = f"teacher=dict(a='{folder}/teacher.py', b=_base_.model), {given}"
    entries = "distills=[dict(loss='kl', student='decode_head.conv_seg', source=name) for name in 'ab']"
    config.write_text(TAUGHT.replace("teacher='{{fileDirname}}/teacher.py', method='cwd'", f"{two}, {entries}"))
    found = read_config(config)
    assert rows(found) == ["a", "b"]
    jobs = compare.plan({config: found}, {config: "kl+kl"}, 1, "x", tmp_path, tmp_path)
    assert [(job.log.stem, job.method, job.teachers) for job in jobs] == [
        ("teacher-seed0", "a", {}),
        ("teacher_of_kl+kl_b-seed0", "b", {}),
        ("control-seed0", "supervised", {}),
        ("distilled-seed0", "kl+kl", {}),
    ]
    assert config_of(found, "teacher", "b").test_dataloader == config_of(found, "control").test_dataloader
    with pytest.raises(ValueError, match="is of one teacher, and there are a, b: name one for each"):
        compare.main([str(config), "--checkpoint", str(tmp_path / "a.pth"), "--work-dir", str(tmp_path / "work")])


@pytest.mark.parametrize("folder", ["seg/digits-cwd", "det/digits-pkd", "det/bccd-pkd"])
def test_committed_logs_are_of_the_configs_as_they_stand(folder: str) -> None:
    side, (data, name) = folder.split("/")[0], folder.split("/")[1].split("-")
    config = read_config(ROOT / "configs" / side / name / f"{data}.py")
    for path in (ROOT / "results" / folder).glob("*.json"):
        log = json.loads(path.read_text())
        assert log["fingerprint"] == fingerprint(config_of(config, log["role"])), path.name


def test_methods_and_seeds_share_a_cache_of_the_teacher(config: Path, tmp_path: Path) -> None:
    teacher, _ = build_model(read_config(config.parent / "teacher.py"))
    torch.save({"state_dict": teacher.state_dict()}, tmp_path / "teacher.pth")
    call = [str(config.parent / "student.py"), "--teacher", str(config.parent / "teacher.py"), "--seeds", "1"]
    call += ["--checkpoint", str(tmp_path / "teacher.pth"), "--methods", "cwd", "dist"]
    cached = ["--teacher-cache", str(tmp_path / "cache")]
    logs = {}
    for way, more in (("online", []), ("cached", cached)):
        out = tmp_path / way
        compare.main([*call, *more, "--out", str(out), "--work-dir", str(tmp_path / f"work_{way}")])
        logs[way] = [json.loads((out / f"{method}-seed0.json").read_text()) for method in ("cwd", "dist")]
    assert [log["teacher_forwards"] for log in logs["online"]] == [4, 4]  # 2 steps of 2 images
    assert [log["teacher_forwards"] for log in logs["cached"]] == [4, 0]  # 4 images once: both methods read the logits
    assert [log["teacher_cache"]["images"] for log in logs["cached"]] == [4, 0]
    assert all(log["cpu_seconds"] > 0 for found in logs.values() for log in found)
    marks = {way: [log["fingerprint"] for log in found] for way, found in logs.items()}
    assert not {*marks["online"]} & {*marks["cached"]}
    assert not any(str(tmp_path) in json.dumps(log) for log in logs["cached"])
    elsewhere = distill(
        read_config(config.parent / "student.py"), teacher=str(config.parent / "teacher.py"), method="cwd"
    )
    elsewhere.model.update(checkpoint="other.pth", teacher_cache="another/folder")
    assert fingerprint(elsewhere) == marks["cached"][0]  # where a cache lies changes nothing
