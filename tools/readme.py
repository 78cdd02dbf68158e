"""Write the generated tables into README.md, or check that they are current: `python tools/readme.py [--check]`.

`<!-- losses -->` is made from the signatures and docstrings of the registry, `<!-- results: LOG ... -->` from logs.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys

from logs import ROOT, read
from report import table

import graphkd
import kdlosses

README = ROOT / "README.md"
SECTION = r"(<!-- {name}(?:: (?P<logs>.*?))? -->\n)(?P<body>.*?)(<!-- end -->)"


def main() -> int:
    """Write or check the sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", default=["losses", "results"])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a table is out of date")
    args = parser.parse_args()
    text = README.read_text()
    for name in args.sections:
        found = re.search(SECTION.format(name=name), text, flags=re.S)
        if found is None:
            sys.exit(f"README.md has no section <!-- {name} -->")
        body = losses() if name == "losses" else results(found["logs"].split())
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
    assert graphkd.losses  # registers the losses that need edges
    rows = ["| loss | kind | on | context | paper |", "| --- | --- | --- | --- | --- |"]
    for key in sorted(kdlosses.LOSSES, key=lambda key: (_kind(key), key)):
        loss = kdlosses.LOSSES[key]
        called = getattr(loss, "forward", loss)
        arguments = inspect.signature(called).parameters
        context = [
            f"`{name}`" + ("" if _required(arguments[name]) else "?") for name in kdlosses.CONTEXT if name in arguments
        ]
        on = (
            "nodes"
            if "edge_index" in arguments
            else "maps"
            if "boxes" in arguments or "masks" in arguments
            else "nodes, maps"
        )
        rows.append(f"| `{key}` | {_kind(key)} | {on} | {' '.join(context)} | {_paper(loss)} |")
    return "\n".join(rows) + "\n"


def results(paths: list[str]) -> str:
    """Tabulate the logs, one table for each path."""
    return "\n\n".join(table(read(ROOT / path)) for path in paths) + "\n"


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
