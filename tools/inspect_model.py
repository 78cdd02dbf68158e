"""List every module that can be tapped, with what it yields in student and teacher, side by side.

python tools/inspect_model.py STUDENT.py [--teacher TEACHER.py] [--size 256 512] [--filter head]

One blank image is run through each model. `*` marks the natural taps, `!` an output that a later module overwrites in
place, which a tap would refuse. Several shapes in a row are a tuple, or a module called several times: `path:i` taps
one item of a tuple.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import torch
from torch import Tensor, nn

from densekd import build_model, control, natural_taps, read_config
from densekd.probe import IMAGE_SIZE, forward

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
    forward(model, size)
    for hook in hooks:
        hook.remove()
    return {path: _describe(tensors) for path, tensors in seen.items()}


def _describe(tensors: list[tuple[Tensor, int]]) -> str:
    overwritten = "!" if any(tensor._version != version for tensor, version in tensors) else ""
    shapes = ["x".join(map(str, tensor.shape)) for tensor, _ in tensors]
    runs = [(shape, len(list(same))) for shape, same in itertools.groupby(shapes)]
    return overwritten + " ".join(shape if n == 1 else f"{n} of {shape}" for shape, n in runs)


def table(student: nn.Module, teacher: nn.Module | None, size: Size, contains: str = "") -> str:
    """Format the outputs of both models as aligned columns."""
    columns = [outputs(model, size) for model in (student, teacher) if model is not None]
    natural = {
        tap.split(":")[0] for model in (student, teacher) if model is not None for tap in natural_taps(model).values()
    }
    paths = [path for path in dict.fromkeys(itertools.chain(*columns)) if contains in path]
    head = ["tap", "student", "teacher"][: 1 + len(columns)]
    rows = [
        [("* " if path in natural else "  ") + path, *(column.get(path, "-") for column in columns)] for path in paths
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [head, *rows])


def main(arguments: list[str] | None = None) -> None:
    """Print the table and the natural taps."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of the student, or of a distiller; a path or pkg::path")
    parser.add_argument("--teacher", help="config of the teacher, a path or pkg::path")
    parser.add_argument("--size", type=int, nargs=2, default=IMAGE_SIZE, metavar=("H", "W"), help="of the blank image")
    parser.add_argument("--filter", default="", help="only paths that contain this")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="override fields of CONFIG: a.b=value ...")
    args = parser.parse_args(arguments)
    config = read_config(args.config)
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    source = args.teacher or config.model.get("teacher")
    student, _ = build_model(control(config))
    teacher = build_model(source)[0] if source and source != "ema" else None
    print(table(student, teacher, tuple(args.size), args.filter))
    for name, model in {"student": student, "teacher": teacher}.items():
        if model is not None:
            print(f"natural taps of the {name}: {natural_taps(model) or 'none known'}")


if __name__ == "__main__":
    main()
