from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import densekd

ROOT = Path(__file__).parents[2]
WITHOUT_OPENMMLAB = """
import importlib.util, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mmengine", "mmcv", "mmseg", "mmdet"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *args: None if name == "mmengine" else find_spec(name, *args)
"""


def test_every_name_is_found() -> None:
    for name in densekd.__all__:
        if name not in ("METHODS", "Taps"):  # a dict, and what both siblings share
            assert getattr(densekd, name).__module__.startswith("densekd.")
    with pytest.raises(AttributeError, match="no attribute 'Destiller'"):
        densekd.Destiller  # noqa: B018


def test_a_missing_extra_is_named() -> None:
    code = WITHOUT_OPENMMLAB + "import densekd; densekd.Distiller"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "needs mmengine: pip install 'graphdensekd[dense]'" in done.stderr
