from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

READ = """
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hub import get_config
print(MODULE2PACKAGE["mmseg"], get_config("mmseg::_base_/models/pspnet_r50-d8.py").model.type)
"""


def run(code: str, *path: Path) -> str:
    code = f"import sys; sys.path[:0] = {[str(each) for each in path]!r}\n{code}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize(
    "order", ["import densekd", "import mmengine.config; import densekd", "import densekd, densekd.config"]
)
def test_bases_of_mmseg_are_found_whichever_is_imported_first(order: str) -> None:
    assert run(f"{order}\n{READ}") == "onedl-mmsegmentation EncoderDecoder"


def test_the_original_package_keeps_its_name(tmp_path: Path) -> None:
    info = tmp_path / "mmsegmentation-1.2.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmsegmentation\nVersion: 1.2.2\n")
    code = "import densekd\nfrom mmengine.config.utils import MODULE2PACKAGE\nprint(MODULE2PACKAGE['mmseg'])"
    assert run(code, tmp_path) == "mmsegmentation"


def test_importing_densekd_does_not_import_mmengine() -> None:
    assert run("import densekd; print('mmengine' in sys.modules)") == "False"
