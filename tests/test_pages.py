"""Every code block of the README and of the documentation runs, in order, as a reader would run it."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
SHORT = {  # the same commands, but short: this checks that they run, not how well they train
    "densekd train": "--cfg-options train_cfg.max_iters=2 default_hooks.checkpoint.interval=2",
    "densekd pretrain": "--steps 2 --batch 2 --size 64 64",
    "densekd test": "--cfg-options test_dataloader.dataset.count=2",
    "graphkd distill": "--seeds 1 --out log.json",
}
SHORT_PYTHON = {"range(300": "range(2", "epochs=50": "epochs=1", "epochs=20": "epochs=1", "in range(3)": "in range(1)"}
GAINS = {  # rows of the README: log and method, metric, and how the row calls them
    "Cora, accuracy": ("graph/refined_teacher-cora.json", "refined_teacher", "tran"),
    "Amazon Computers, accuracy": ("graph/refined_teacher-computers.json", "refined_teacher", "tran"),
    "CamVid, mIoU": ("seg/camvid_fpn", "dist", "mIoU"),
    "CamVid, mIoU within 3 pixels of an edge": ("seg/camvid_fpn", "dist", "bIoU"),
    "blood cells, AP": ("det/bccd-pkd", "pkd", "AP"),
    "synthetic world, AP at IoU 0.25 on the ground": ("bev/lidar_to_camera_world", "unidistill", "BEV AP25"),
}


def blocks(page: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), flags=re.M | re.S)


_ran: set[tuple[str, str]] = set()


@pytest.mark.slow
@pytest.mark.usefixtures("registry_restored")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_every_code_block_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("configs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    stand_in(tmp_path / "CamVid")
    names: dict[str, object] = {"__name__": page}
    monkeypatch.chdir(tmp_path)
    for language, code in blocks(page):
        assert language in ("python", "bash"), f"{page}: a block of {language or 'no language'} is not run"
        if language == "bash":
            if (language, code) in _ran and not any(
                "work_dirs/" in other for _, other in blocks(page) if other != code
            ):
                continue  # of another page, with nothing here that needs what it leaves
            for command in code.replace("\\\n", " ").strip().splitlines():
                run(command, tmp_path)
            _ran.add((language, code))
        elif code.startswith("# file: "):
            (tmp_path / code.split(maxsplit=3)[2]).write_text(code)
        else:
            for long, short in SHORT_PYTHON.items() if page == "README.md" else ():
                code = code.replace(long, short)
            exec(compile(code, page, "exec"), names)


def stand_in(folder: Path) -> None:
    """Four images and label maps in CamVid's layout."""
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind, shape in (("images", (90, 120, 3)), ("labels", (90, 120))):
            (folder / kind / split).mkdir(parents=True)
            for i in range(4):
                array = draw.integers(0, 256 if kind == "images" else 12, shape, dtype=np.uint8)
                Image.fromarray(array).save(folder / kind / split / f"{i}.{'jpg' if kind == 'images' else 'png'}")


def run(command: str, folder: Path) -> None:
    where = folder
    if command.startswith("pip install "):
        return check_extras(command)
    if command.startswith("make "):
        command, where = command.replace("make ", "make -n "), ROOT  # its steps are known; they would call this test
    for tool, options in SHORT.items():
        if tool in command:
            command += f" {options}"
    if "densekd compare" in command:
        command = f"{shortened(command, folder)} --seeds 1"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, cwd=where, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return None


def shortened(command: str, folder: Path) -> str:
    """The same comparison of two iterations: its configs can only be shortened by configs."""
    short = "train_cfg = dict(max_iters=2, val_interval=2)\ndefault_hooks = dict(checkpoint=dict(interval=2))\n"
    for split in ("train", "val", "test"):
        short += f"{split}_dataloader = dict(batch_size=1, dataset=dict(count=2))\n"
    (name,) = re.findall(r"densekd::(\S+\.py)", command)
    config = ROOT / "configs" / name
    (teacher,) = re.findall(r'teacher="\{\{fileDirname\}\}/(\S+)"', config.read_text())
    (folder / "short_teacher.py").write_text(f'_base_ = "{config.parent / teacher}"\n{short}')
    (folder / "short.py").write_text(f'_base_ = "{config}"\n{short}model = dict(teacher="short_teacher.py")\n')
    return command.replace(f"densekd::{name}", "short.py")


def check_extras(command: str) -> None:
    """The extra that a page installs exists; that it suffices is what an empty environment shows."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    (found,) = re.findall(r"^\.\[([\w,]+)\]$", shlex.split(command)[-1])
    assert {*found.split(",")} <= {*setup["options.extras_require"]}


def test_the_readme_is_short() -> None:
    assert len(README.encode()) < 10_000


@pytest.mark.parametrize("row", GAINS)
def test_gains_in_the_readme_are_those_of_the_logs(row: str) -> None:
    from kdlosses.cli.logs import read
    from kdlosses.cli.report import gaps, spread

    path, method, metric = GAINS[row]
    logs = read(ROOT / "results" / path)
    of = {
        role: [log for log in logs if log["role"] == role and log["method"] in ("supervised", "sage", method)]
        for role in ("teacher", "control", "distilled")
    }
    means = [format(statistics.mean(log["metrics"][metric] for log in group), ".2f") for group in of.values()]
    gain = spread(gaps(of["distilled"], of["control"], metric), "+.2f")
    (line,) = re.findall(rf"^\|[^|]*`{method}` \| {re.escape(row)} \| (.*) \|$", README, flags=re.M)
    assert line.split(" | ") == [*means, gain]


def test_every_gain_in_the_readme_is_checked() -> None:
    assert len(re.findall(r"^\|.*\| [+-]\d.*\|$", README, flags=re.M)) == len(GAINS)
