"""List every module that can be tapped, with what it yields in student and teachers, side by side.

    densekd inspect STUDENT.py --teacher TEACHER.py --size 256 512 --filter head
    densekd inspect DISTILLED.py

One blank image is run through each model. A legend stands below the table.
"""

from __future__ import annotations

import io
import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densekd import build_model, control, default_taps, is_taught, read_config
from densekd.cli._overrides import add_cfg_options
from densekd.mmlab.config import override, several_teachers
from densekd.mmlab.probe import blank_size, forward
from densekd.teacher import OF_THE_STUDENT
from kdlosses.cli.parser import Parser

LEGEND = """\
legend: `*` a default tap, where methods read; `!` overwritten in place later, so that a tap is refused; `-` not there;
several shapes: a tuple, or a module that is called several times; `path:i` taps item i, `path:in` the input"""

Size = tuple[int, int]


@torch.no_grad()
def outputs(model: nn.Module, size: Size) -> dict[str, str]:
    """Return for each path, in the order of the forward, the shapes that a tap would yield."""
    seen: dict[str, list[tuple[Tensor, int]]] = {}

    def record(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            tensors = list(output) if isinstance(output, list | tuple) else [output]
            whole = all(isinstance(tensor, Tensor) for tensor in tensors)
            for i, tensor in enumerate(tensors):
                if isinstance(tensor, Tensor):  # beside other things, as tokens beside their grid, only by its item
                    seen.setdefault(path if whole else f"{path}:{i}", []).append((tensor, tensor._version))

        return hook

    hooks = [module.register_forward_hook(record(path)) for path, module in model.named_modules() if path]
    model.eval()
    try:
        forward(model, size)
    except (RuntimeError, IndexError, AssertionError) as error:  # as each network words it
        what = f"{type(model).__name__} does not run on a blank image of {size[0]}x{size[1]}"
        raise ValueError(f"{what}, --size H W gives it another: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()
    return {path: _describe(tensors) for path, tensors in seen.items()}


def _describe(tensors: list[tuple[Tensor, int]]) -> str:
    overwritten = "!" if any(tensor._version != version for tensor, version in tensors) else ""
    shapes = ["x".join(map(str, tensor.shape)) for tensor, _ in tensors]
    runs = [(shape, len(list(same))) for shape, same in itertools.groupby(shapes)]
    return overwritten + " ".join(shape if n == 1 else f"{n} of {shape}" for shape, n in runs)


def table(models: Mapping[str, nn.Module], size: Size, contains: str = "") -> str:
    """Format the outputs of the models, by name, as aligned columns."""
    columns = [outputs(model, size) for model in models.values()]
    default = {tap.split(":")[0] for model in models.values() for tap in default_taps(model).values()}
    paths = [path for path in dict.fromkeys(itertools.chain(*columns)) if contains in path]
    if not paths:
        raise ValueError(f"no path of a module contains {contains!r}")
    head = ["tap", *models]
    rows = [
        [("* " if path in default else "  ") + path, *(column.get(path, "-") for column in columns)] for path in paths
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [head, *rows])


def teachers_of(source: Any) -> dict[str, Any]:
    """Return the teachers of a distiller's config by name: 'teacher' where there is one."""
    if source is None:
        return {}
    return dict(source) if several_teachers(source) else {"teacher": source}


def called(paths: list[str]) -> dict[str, str]:
    """Name teachers that are given by their configs: 'teacher' a single one, several by their files."""
    names = [Path(path).stem for path in paths] if len(set(paths)) > 1 else ["teacher"]
    return dict(zip(names if len(set(names)) == len(paths) else paths, paths))


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what libraries print and warn of while they are imported and a model is built: it is not the answer."""
    before = logging.root.manager.disable
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            yield
    finally:
        logging.disable(before)


def main(arguments: list[str] | None = None) -> None:
    """Print the table, its legend and the default taps."""
    parser = Parser(__doc__, "densekd inspect")
    parser.add_argument("config", help="config of the student, or of a distiller; a path or pkg::path")
    parser.add_argument("--teacher", nargs="+", default=[], help="configs of teachers, in place of the distiller's")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="of the blank image")
    parser.add_argument("--filter", default="", help="only paths that contain this")
    add_cfg_options(parser)
    args = parser.parse_args(arguments)
    if args.size and min(args.size) < 1:
        parser.error(f"--size takes the height and width of an image, got {args.size[0]} {args.size[1]}")
    config = override(read_config(args.config), args.cfg_options)
    own = config.model.get("teacher") if is_taught(config) else None
    sources: dict[str, Any] = called(args.teacher) if args.teacher else teachers_of(own)
    with quiet():
        models = {"student": build_model(control(config))[0]}
        models |= {name: build_model(source)[0] for name, source in sources.items() if source not in [*OF_THE_STUDENT]}
        size = tuple(args.size) if args.size else blank_size(list(models.values()))
        found = table(models, size, args.filter)
        taps = {name: default_taps(model) for name, model in models.items()}
    print(f"{found}\n\n{LEGEND}\n")
    for name, each in taps.items():
        print(f"default taps of {'the ' * (name in ('student', 'teacher'))}{name}: {each or 'none known'}")
    for name in sorted(sources.keys() - models.keys()):
        what = "the moving average of the student" if sources[name] == "ema" else "an earlier state of the student"
        print(f"{name}: {sources[name]!r}, {what}, with the same taps")
