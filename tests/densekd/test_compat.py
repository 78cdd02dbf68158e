from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

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


def run(code: str) -> str:
    """What a fresh interpreter prints, and nothing else went wrong."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_mmdet3d_refuses_these_versions_without_mending() -> None:
    """So that this goes when it is no longer needed."""
    done = subprocess.run([sys.executable, "-c", "import mmdet3d"], capture_output=True, text=True, timeout=120)
    assert "is used but incompatible" in done.stderr


def test_mmdet3d_is_importable_and_says_so_in_one_line() -> None:
    out = run(
        """
import densekd, sys
from importlib.util import find_spec
assert find_spec("mmdet3d") is not None  # looking for it is not importing it
assert "mmdet3d" not in sys.modules and "mmengine" not in sys.modules
import mmdet3d, mmcv, mmdet
from importlib.metadata import version
assert mmcv.__version__ == version("onedl-mmcv") and mmdet.__version__ == version("onedl-mmdetection")
assert mmdet3d.__version__ == "1.4.0" and "mmdet3d.models" not in sys.modules
import importlib
importlib.reload(mmdet3d)  # again, and once more the versions are the true ones
assert mmcv.__version__ == version("onedl-mmcv")
"""
    )
    assert out.count("mmdet3d is used with mmcv") == 2  # the import and the reload, a line each
    assert "it asks for < 2.2.0" in out


def test_versions_are_back_when_the_import_fails() -> None:
    run(
        """
from densekd import compat
import mmcv
true = mmcv.__version__
try:
    with compat.versions_that_mmdet3d_accepts() as newer:
        assert newer["mmcv"] == true != mmcv.__version__
        raise ImportError
except ImportError:
    assert mmcv.__version__ == true
"""
    )


def test_a_config_that_names_mmdet3d_needs_no_more_than_densekd() -> None:
    """Its detectors of several sensors get the forward that is a stub there."""
    run(
        """
import inspect
from densekd import build_model, read_config
config = read_config("mmdet3d::centerpoint/centerpoint_pillar02_second_secfpn_8xb4-cyclic-20e_nus-3d.py")
model, _ = build_model(config)
assert type(model).__module__.startswith("mmdet3d.")
assert "batch_inputs_dict" in inspect.signature(model._forward).parameters
"""
    )


def test_missing_operators_are_named_with_the_command_that_brings_them(tmp_path: Path) -> None:
    mender = next(finder for finder in sys.meta_path if type(finder).__name__ == "_Mender")
    with pytest.raises(ModuleNotFoundError, match="MMCV_WITH_OPS=1 pip install") as found:
        mender.find_spec("mmcv._ext", [str(tmp_path)])  # a folder without them
    assert found.value.name == "mmcv._ext"
    import mmcv

    assert mender.find_spec("mmcv._ext", mmcv.__path__) is None  # where they are, Python finds them itself


def test_the_start_is_quiet() -> None:
    done = subprocess.run([sys.executable, "-c", "import densekd, mmdet.datasets"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "OneDL" not in done.stdout + done.stderr
