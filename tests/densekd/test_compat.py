from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from densekd import compat


def test_mmseg_bases_are_found(tmp_path) -> None:
    path = tmp_path / "student.py"
    path.write_text("_base_ = 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'")
    assert Config.fromfile(path).model.backbone.depth == 18
    path.write_text("_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'")
    assert Config.fromfile(path).model.backbone.depth == 18


def test_without_mending_they_are_not(tmp_path) -> None:
    """So that this file goes when it is no longer needed."""
    (tmp_path / "student.py").write_text("_base_ = 'mmseg::_base_/models/pspnet_r50-d8.py'")
    code = "from mmengine.config import Config; Config.fromfile('student.py')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "mmsegmentation is not installed" in done.stderr
    done = subprocess.run(
        [sys.executable, "-c", f"import densekd; {code}"], cwd=tmp_path, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the distributions that seem to be installed."""
    names: set[str] = set()

    def distribution(name: str) -> str:
        if name not in names:
            raise PackageNotFoundError(name)
        return name

    monkeypatch.setattr(compat, "distribution", distribution)
    monkeypatch.setitem(MODULE2PACKAGE, "mmseg", "mmsegmentation")
    return names


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ({"mmsegmentation"}, "mmsegmentation"),  # the original alone: nothing to mend
        ({"onedl-mmsegmentation"}, "onedl-mmsegmentation"),  # the continuation alone
        ({"mmsegmentation", "onedl-mmsegmentation"}, "mmsegmentation"),
        (set(), "mmsegmentation"),  # neither: mmengine's own message names the package
    ],
)
def test_only_where_the_original_is_absent(installed: set[str], present: set[str], expected: str) -> None:
    installed |= present
    assert compat.mend_package_names() == ({} if expected == "mmsegmentation" else {"mmseg": expected})
    assert MODULE2PACKAGE["mmseg"] == expected
