"""Write the generated tables into README.md, or check that they are current: `python tools/readme.py [--check]`.

`<!-- losses -->` is made from signatures and docstrings of the registry, `<!-- rules -->` and `<!-- recipes -->` from
docstrings, `<!-- results: LOG ... -->` from logs.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable
from types import ModuleType

from logs import ROOT, read
from report import table

import densekd.losses  # noqa: F401  registers the losses that need maps
import graphkd.losses  # noqa: F401  registers the losses that need edges
import kdlosses
import kdlosses.policy
from graphkd.recipes import RECIPES

README = ROOT / "README.md"
SECTION = r"(<!-- {name}(?:: (?P<logs>.*?))? -->\n)(?P<body>.*?)(<!-- end -->)"


def main() -> int:
    """Write or check the sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", default=list(SECTIONS))
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a table is out of date")
    args = parser.parse_args()
    text = README.read_text()
    for name in args.sections:
        found = re.search(SECTION.format(name=name), text, flags=re.S)
        if found is None:
            sys.exit(f"README.md has no section <!-- {name} -->")
        body = SECTIONS[name](*(found["logs"] or "").split())
        text = text[: found.start("body")] + body + text[found.end("body") :]
    if text == README.read_text():
        return 0
    if args.check:
        print("README.md is out of date: python tools/readme.py writes it anew")
        return 1
    README.write_text(text)
    return 0


def losses() -> str:
    """Tabulate the registry: key, kind, layout, context, paper."""
    rows = ["| loss | kind | on | context | paper |", "| --- | --- | --- | --- | --- |"]
    for key in sorted(kdlosses.LOSSES, key=lambda key: (_kind(key), key)):
        loss = kdlosses.LOSSES[key]
        called = getattr(loss, "forward", loss)
        arguments = inspect.signature(called).parameters
        context = [
            f"`{name}`" + ("" if _required(arguments[name]) else "?") for name in kdlosses.CONTEXT if name in arguments
        ]
        on = "nodes" if "edge_index" in arguments else "maps" if _kind(key) == "dense" else "nodes, maps"
        rows.append(f"| `{key}` | {_kind(key)} | {on} | {' '.join(context)} | {_paper(loss)} |")
    return "\n".join(rows) + "\n"


def rules() -> str:
    """Tabulate the policies that are no losses: plain functions and modules that recipes call."""
    names = [name for name in kdlosses.policy.__all__ if not _registered(getattr(kdlosses.policy, name))]
    rows = [f"| `{name}` | {_summary(rule)} | {_paper(rule)} |" for name, rule in _sorted(kdlosses.policy, names)]
    return "\n".join(["| rule | what it says | paper |", "| --- | --- | --- |", *rows]) + "\n"


def recipes() -> str:
    """Tabulate the graph recipes, with a config on the digits where there is one."""
    rows = ["| recipe | what the student learns from | paper |", "| --- | --- | --- |"]
    for name, recipe in sorted(RECIPES.items()):
        config = f"configs/graph/{name}/digits.py"
        shown = f"[`{name}`]({config})" if (ROOT / config).is_file() else f"`{name}`"
        rows.append(f"| {shown} | {_summary(recipe)} | {_paper(recipe)} |")
    return "\n".join(rows) + "\n"


def results(*paths: str) -> str:
    """Tabulate the logs, one table for each path."""
    return "\n\n".join(table(read(ROOT / path)) for path in paths) + "\n"


SECTIONS: dict[str, Callable[..., str]] = {"losses": losses, "rules": rules, "recipes": recipes, "results": results}


def _registered(rule: object) -> bool:
    return any(rule is loss or getattr(loss, "__wrapped__", None) is rule for loss in kdlosses.LOSSES.values())


def _sorted(module: ModuleType, names: list[str]) -> list[tuple[str, object]]:
    return [(name, getattr(module, name)) for name in sorted(names, key=str.lower)]


def _summary(described: object) -> str:
    """The first sentence of the docstring."""
    first = " ".join((inspect.getdoc(described) or "").split("\n\n")[0].split())
    return first.rstrip(".").replace("|", "\\|")


def _kind(key: str) -> str:
    package, *rest = kdlosses.LOSSES[key].__module__.split(".")
    return rest[0] if package == "kdlosses" else "graph" if package == "graphkd" else "dense"


def _required(argument: inspect.Parameter) -> bool:
    return argument.default is inspect.Parameter.empty


def _paper(loss: object) -> str:
    """The first sentence after `Paper:` up to the year."""
    text = " ".join((inspect.getdoc(loss) or "").partition("Paper:")[2].split())
    found = re.search(r'"([^"]+)",\s+([\w ]*?\d{4})', text)
    return f"{found[1]}, {found[2]}" if found else text.split(". ")[0]


if __name__ == "__main__":
    sys.exit(main())
