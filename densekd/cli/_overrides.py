"""`--cfg-options a.b=value ...` of the tools that read OpenMMLab configs."""

from __future__ import annotations

import argparse
from typing import Any

from mmengine.config import DictAction


class Options(DictAction):
    """mmengine's action; an option without `=` is a mistake of the command line."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        for value in values:
            if "=" not in value:
                parser.error(f"{option_string} takes field=value, got {value!r}")
        super().__call__(parser, namespace, values, option_string)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add the option; what it holds goes to `densekd.mmlab.config.override`."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default={},
        action=Options,
        metavar="FIELD=VALUE",
        help="override fields of CONFIG: a.b=value ...",
    )


def method_name(name: str) -> str:
    """A method as it is typed: one of densekd's, one that an installed package offers, or `module:name`."""
    from densekd.methods import name_of

    try:
        return name_of(name)
    except (KeyError, ValueError) as error:
        raise argparse.ArgumentTypeError(error.args[0]) from error
