"""Turn `$...$` and `$$...$$` into MathML while the site is built: a reader's browser needs no script for it."""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert

_CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.M | re.S)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$((?:[^$\n]|\n(?!\s*\n))+?)\$(?!\w)", re.S)
_found: list[str] = []


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put a mark in the place of each formula, so that Markdown leaves it alone."""
    parts = _CODE.split(markdown)
    return "".join(part if place % 2 else _FORMULA.sub(_mark, part) for place, part in enumerate(parts))


def on_page_content(html: str, **_: Any) -> str:
    """Put each formula back, as MathML."""
    html = re.sub(r"<p>\s*(formulaX\d+X)\s*</p>", r"\1", html)
    return re.sub(r"formulaX(\d+)X", lambda mark: _found[int(mark[1])], html)


def _mark(found: re.Match[str]) -> str:
    shown = found[1] is not None
    source = " ".join((found[1] or found[2]).split())
    formula = convert(_plain(source), display="block" if shown else "inline")
    _found.append(f'<div class="formula">{formula}</div>' if shown else formula)
    mark = f"formulaX{len(_found) - 1}X"
    return f"\n\n{mark}\n\n" if shown else mark


def _plain(source: str) -> str:
    """What the converter does not know, in words that it does: sizes of bars, and operators of two words."""
    source = re.sub(r"\\[bB]igg?[lrm]?(?=\\\|)", "", source).replace(r"\|", r"\Vert ")
    return source.replace(r"\arg\max", r"\mathrm{arg\,max}").replace(r"\arg\min", r"\mathrm{arg\,min}")
