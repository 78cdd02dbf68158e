"""The table of methods by pair reads as the files that it stands for, by path, by name and as a base."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

from densekd.cli.compare import check_one_budget
from densekd.methods import METHODS
from densekd.mmlab.config import read_config
from densekd.pairs import ROWS
from densekd.shipped import CONFIGS

ROOT = Path(__file__).parents[2]
BASES = sorted({row.base for row in ROWS.values()})
FILES = {
    "seg/bpkd/pspnet_r101_r18_cityscapes.py": """
_base_ = "{configs}/_base_/pairs/pspnet_r101_r18_cityscapes.py"
model = dict(method="bpkd")
published = dict(distilled=77.57)
""",
    "seg/acam/deeplabv3_r101_r18_cityscapes.py": """
_base_ = "{configs}/_base_/pairs/deeplabv3_r101_r18_cityscapes.py"
model = dict(method="acam")
published = dict(student=("DeepLabV3-R18", 72.96), source="ACAM-KD's paper", distilled=77.53)
""",
    "seg/cwd/pspnet_r101_r18_cityscapes_mmrazor.py": """
_base_ = "{configs}/_base_/pairs/pspnet_r101_r18_cityscapes.py"
model = dict(distills=[dict(loss=dict(type="cwd", tau=1.0), student="decode_head.conv_seg", weight=5.0)])
published = dict(
    teacher=("PSPNet-R101", 79.76), student=("PSPNet-R18", 74.87), source="mmrazor's README", distilled=75.54
)
""",
    "seg/lad/pspnet_r18_voc.py": """
_base_ = "{configs}/_base_/pairs/pspnet_r18_voc.py"
model = dict(method="lad", student=dict(auxiliary_head=dict(loss_decode=dict(loss_weight=0.02))))
published = dict(distilled=75.40)
""",
    "seg/bpkd/camvid_mit.py": """
_base_ = "{configs}/_base_/tables/camvid_mit.py"
model = dict(method=dict(type="bpkd", edge=1.0, body=3.0, kernel=3, present=True))
""",
    "seg/mgd_semi/scenes_fpn.py": """
_base_ = "{configs}/_base_/tables/scenes_fpn.py"
model = dict(
    method=dict(type="mgd_semi", split=False),
    teacher=dict(
        _delete_=True,
        wide="{configs}/seg/plain/semantic_fpn_r18_w32_scenes.py",
        deep="{configs}/seg/mgd_semi/deep_scenes.py",
    ),
)
""",
    "bev/pkd/pgd_r101_r50_kitti.py": """
_base_ = "{configs}/_base_/pairs/pgd_r101_r50_kitti.py"
model = dict(method="pkd")
""",
}


def said(config: Config) -> dict[str, Any]:
    return config._cfg_dict.to_dict()


def test_the_table_is_whole() -> None:
    """Each base is used, no row is a file as well."""
    assert {row.base for row in ROWS.values()} == {
        path.relative_to(ROOT / "configs").as_posix()
        for part in ("pairs", "tables")
        for path in (ROOT / "configs" / "_base_" / part).glob("*.py")
    }
    others = {row.method for row in ROWS.values() if not row.base.endswith("scenes_losses.py")} - {*METHODS}
    assert others == {"mse"}  # beside `acam`: its loss without the masks
    assert not [name for name in ROWS if (ROOT / "configs" / name).exists()]


@pytest.mark.parametrize("name", FILES)
def test_a_row_reads_as_its_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text(FILES[name].replace("{configs}", str(ROOT / "configs")))
    row = read_config(ROOT / "configs" / name)
    assert said(row) == said(Config.fromfile(file))
    assert row.filename == str(ROOT / "configs" / name)
    row.dump(tmp_path / "dumped.py")
    assert said(Config.fromfile(tmp_path / "dumped.py")) == said(row)


@pytest.mark.parametrize("base", BASES)
def test_a_row_changes_its_base_by_what_the_table_says_alone(base: str) -> None:
    below = said(Config.fromfile(ROOT / "configs" / base))
    for name, row in ROWS.items():
        if row.base != base:
            continue
        found = said(read_config(name))
        assert {key: value for key, value in found.items() if key not in ("model", "published")} == {
            key: value for key, value in below.items() if key not in ("model", "published")
        }
        assert found.get("published", {}) == {**below.get("published", {}), **row.published}
        changed = {key for key in found["model"] if found["model"][key] != below["model"].get(key)}
        assert changed == {*row.model}
        assert found["model"].get("method", row.model.get("distills")) == row.model.get(
            "method", row.model.get("distills")
        )


@pytest.mark.parametrize(
    "name",
    [
        "configs/seg/bpkd/pspnet_r101_r18_cityscapes.py",
        "densekd::seg/bpkd/pspnet_r101_r18_cityscapes.py",
        "densekd::seg/bpkd/pspnet_r101_r18_cityscapes",
        "seg/bpkd/pspnet_r101_r18_cityscapes",
        "bpkd/pspnet_r101_r18_cityscapes.py",
    ],
)
def test_names_of_a_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = read_config(name)
    assert config.published == {
        "data": "Cityscapes",
        "teacher": ("PSPNet-R101", 79.74),
        "student": ("PSPNet-R18", 74.23),
        "source": "BPKD's README",
        "distilled": 77.57,
    }
    assert config.model.method == "bpkd"


@pytest.mark.parametrize("name", ["seg/bpkd/pspnet_r101_r18_cityscapes.py", "seg/cwd/digits.py"])
def test_a_row_and_a_file_are_bases(name: str, tmp_path: Path) -> None:
    """What it refers to keeps its scope, and the file over it has the last word."""
    mine = tmp_path / "mine.py"
    plain = said(read_config(ROOT / "configs" / name))
    for base in (f"densekd::{name}", str(ROOT / "configs" / name), os.path.relpath(ROOT / "configs" / name, tmp_path)):
        mine.write_text(
            f"_base_ = {base!r}\nmodel = dict(checkpoint='teacher.pth')\nwidth = _base_.model.student.type\n"
        )
        config = said(Config.fromfile(mine))
        assert config.pop("width") == "EncoderDecoder"
        assert config["model"].pop("checkpoint") == "teacher.pth"
        assert config == {
            **plain,
            "model": {key: value for key, value in plain["model"].items() if key != "checkpoint"},
        }
    assert said(get_config(f"densekd::{name}")) == plain


def test_a_file_goes_before_the_row(tmp_path: Path) -> None:
    (tmp_path / "_base_").symlink_to(ROOT / "configs" / "_base_")
    (tmp_path / "seg" / "bpkd").mkdir(parents=True)
    path = tmp_path / "seg" / "bpkd" / "pspnet_r101_r18_cityscapes.py"
    assert Config.fromfile(path).model.method == "bpkd"
    path.write_text("model = 1\n")
    assert said(Config.fromfile(path)) == {"model": 1}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "densekd::seg/bpkd/pspnet_r101_r18_cityscape.py",
            "did you mean densekd::seg/bpkd/pspnet_r101_r18_cityscapes.py?",
        ),
        ("seg/bpkd/pspnet_r101_r18_citiscapes", "did you mean densekd::seg/bpkd/pspnet_r101_r18_cityscapes.py?"),
        ("configs/seg/cwd/digit.py", "did you mean densekd::seg/cwd/digits.py?"),
        ("densekd::../setup.py", "there is no config densekd::../setup.py"),
        ("gone.py", "there is no config gone.py"),
    ],
)
def test_an_unknown_name(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as found:
        read_config(name)
    assert str(found.value).endswith(message)
    assert str(found.value).startswith(f"there is no config {name}")
    Path("mine.py").write_text(f"_base_ = {name!r}\n")
    if "::" in name:
        with pytest.raises(FileNotFoundError, match="there is no config densekd::"):
            Config.fromfile("mine.py")


@pytest.mark.parametrize("first", ["densekd", "mmengine.config", "mmengine.hub", "mmengine.runner"])
def test_whatever_is_imported_first(first: str, tmp_path: Path) -> None:
    code = f"""
import {first}
import densekd
from mmengine.config import Config
from mmengine.hub import get_config
assert Config.fromfile({str(ROOT / "configs/seg/cwd/scenes_fpn.py")!r}).model.method == "cwd"
assert get_config("densekd::seg/cwd/scenes_fpn.py").model.method == "cwd"
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("table", sorted({Path(row.base).stem for row in ROWS.values() if "/tables/" in row.base}))
def test_configs_of_a_table_share_a_control(table: str) -> None:
    configs = {name: read_config(name) for name in CONFIGS.matching(f"*/*/{table}")}
    assert len(configs) > 5
    check_one_budget(configs)


def test_patterns_of_names() -> None:
    found = CONFIGS.matching("configs/seg/*/scenes_fpn.py")
    assert len(found) == sum(name.startswith("seg/") and name.endswith("/scenes_fpn.py") for name in ROWS)
    assert {*found} >= {"densekd::seg/cwd/scenes_fpn.py", "densekd::seg/lad/scenes_fpn.py"}
    with pytest.raises(FileNotFoundError, match=r"no config of densekd is called like seg/\*/gone"):
        CONFIGS.matching("seg/*/gone")
