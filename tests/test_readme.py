"""Every code block of the README runs, in order, as a reader would run it; its tables say what the logs say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.M | re.S)
SHORT = {  # the same commands, but short: this checks that they run, not how well they train
    "tools/train.py": "--cfg-options train_cfg.max_iters=2 default_hooks.checkpoint.interval=2",
    "tools/distill_graph.py": "--seeds 1 --out log.json",
    "tools/test.py": "--cfg-options test_dataloader.dataset.count=2",
}


def test_every_block_has_a_language_that_is_run() -> None:
    assert len(BLOCKS) * 2 == len(re.findall(r"^```", README, flags=re.M))
    assert {language for language, _ in BLOCKS} == {"python", "bash"}


@pytest.mark.slow
@pytest.mark.usefixtures("registry_restored")
def test_every_code_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("configs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    names: dict[str, object] = {"__name__": "readme"}
    monkeypatch.chdir(tmp_path)
    for language, code in BLOCKS:
        if language == "bash":
            for command in code.replace("\\\n", " ").strip().splitlines():
                run(command, tmp_path)
        elif code.startswith("# file: "):
            (tmp_path / code.split(maxsplit=3)[2]).write_text(code)
        else:
            exec(compile(code, "README.md", "exec"), names)


def run(command: str, folder: Path) -> None:
    where = folder
    if command.startswith("make "):
        command, where = command.replace("make ", "make -n "), ROOT  # its steps are known; they would call this test
    for tool, options in SHORT.items():
        if tool in command:
            command += f" {options}"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, shell=True, cwd=where, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("section", ["losses", "rules", "recipes", "results"])
def test_tables_are_those_of_the_registry_and_the_logs(section: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "readme.py", "--check", section], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
