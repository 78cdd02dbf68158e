"""Run another program after importing densekd: `python -m densekd PROGRAM ARGUMENTS...`.

OpenMMLab's own tools read a config before they import the modules that it names. mmengine then does not know that
`onedl-mmsegmentation` is mmseg, and does not find `_base_ = 'mmseg::...'`. This imports densekd first:

python -m densekd path/to/mmsegmentation/tools/train.py distilled.py
python -m densekd mmseg/train distilled.py                                that tool, as it is installed with mmseg
python -m torch.distributed.run --nproc-per-node 8 -m densekd mmseg/train distilled.py --launcher pytorch
"""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import densekd  # noqa: F401  patches the package names


def program(name: str) -> Path:
    """Return the path of a program: a file, or `mmseg/train` for `tools/train.py` of an installed package of OpenMMLab.

    Raises:
        FileNotFoundError: there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    package, _, tool = name.partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    path = Path(spec.origin).parent / ".mim" / "tools" / f"{tool}.py" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise FileNotFoundError(f"there is no program {name}: give its path, or <package>/<tool>, such as mmseg/train")
    return path


def main() -> None:
    """Run the program as Python would."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    try:
        path = program(sys.argv[1])
    except FileNotFoundError as error:
        sys.exit(str(error))
    sys.argv = [str(path), *sys.argv[2:]]
    sys.path.insert(0, str(path.resolve().parent))
    runpy.run_path(str(path), run_name="__main__")


if __name__ == "__main__":
    main()
