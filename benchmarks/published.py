"""Write configs/seg/README.md, the published figures of each config beside ours, or check it: `... [--check]`.

What was published of a pair stands in its base, of a method on it in the table `densekd.pairs`; ours are in the logs in
`results/seg`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from densekd.mmlab.config import read_config
from densekd.pairs import ROWS
from kdlosses.cli.logs import ROOT, read
from kdlosses.cli.mistakes import one_sentence

SEG = ROOT / "configs" / "seg"
INTRO = """# Published pairs

`python benchmarks/published.py` writes this page. Each row is a config, `seg/<method>/<pair>`: a method on a pair that
its authors, or authors who compare with it, publish. It is no file, but a row of the table in
[`densekd/pairs.py`](../../densekd/pairs.py): a base in [`_base_/pairs`](../_base_/pairs) with student, teacher, crops
and schedule, and the method. mIoU in per cent, one scale, of the data set's validation images. A student needs its
teacher's weights; the base of the pair names those in mmseg's model zoo that the authors used or that come nearest:

```
densekd train seg/bpkd/pspnet_r101_r18_cityscapes --cfg-options model.checkpoint=teacher.pth
```

Networks, augmentation and pre-trained backbones are mmseg's; where a source has its own code, that is a difference, as
is its selection of the best checkpoint on these images. Figures from different sources are of different students under
the same name: compare a row with its own untaught student. Rivals are as a source ran them: CWD in CIRKD's table has
terms on features and on pixels, too. An empty last cell means that nothing was trained here.
"""
HEAD = (
    "| method | pair | teacher | | student | untaught | taught | source | ours |\n| " + " | ".join(9 * ["---"]) + " |"
)


def configs() -> dict[Path, Config]:
    """Read the configs of published pairs by their path in `configs/seg`."""
    return {path.relative_to(SEG): read_config(path) for path in files()}


def files() -> list[Path]:
    """Return the paths of those configs, which are rows of the table."""
    return sorted(SEG.parent / name for name, row in ROWS.items() if name.startswith("seg/") and "/pairs/" in row.base)


def page(found: Mapping[Path, Config], logs: Path = ROOT / "results" / "seg") -> str:
    """Return the page: a table for each data set, pairs together, each from the least figure to the best."""
    mine = ours(logs)
    tables: dict[str, list[tuple[str, float, str]]] = {}
    for path, config in found.items():
        told = config.published
        (teacher, its), (student, untaught), taught = told.teacher, told.student, told.get("distilled")
        cells = [f"`{path.parent}`", f"`{path.stem}`", teacher, _shown(its), student, _shown(untaught)]
        cells += [_shown(taught), told.source, mine.get(f"configs/seg/{path.as_posix()}", "")]
        pair = path.stem
        tables.setdefault(told.data, []).append(
            (pair, taught or 0.0, f"| {' | '.join(cells)} |".replace("|  |", "| |"))
        )
    parts = [
        f"## {data}\n\n{HEAD}\n" + "\n".join(row for *_, row in sorted(rows)) for data, rows in sorted(tables.items())
    ]
    return "\n".join([INTRO, "\n\n".join(parts), ""])


def ours(folder: Path) -> dict[str, str]:
    """Return mean and standard deviation over seeds of the taught students, by the path of their config."""
    scores: dict[str, list[float]] = {}
    for path in sorted(folder.glob("*/*.json")):
        for log in read(path):
            if log["role"] == "distilled" and "mIoU" in log["metrics"]:
                scores.setdefault(log["config"], []).append(log["metrics"]["mIoU"])
    return {
        config: f"{statistics.mean(of):.2f}" + (f" ± {statistics.stdev(of):.2f}" if len(of) > 1 else "")
        for config, of in scores.items()
    }


def _shown(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.2f}"


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    check, file, text = parser.parse_args().check, SEG / "README.md", page(configs())
    if file.is_file() and file.read_text() == text:
        return 0
    if check:
        print(f"{file.relative_to(ROOT)} is out of date: python benchmarks/published.py writes it anew")
        return 1
    file.write_text(text)
    return 0


if __name__ == "__main__":
    with one_sentence():
        sys.exit(main())
