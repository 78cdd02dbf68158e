"""One self-contained HTML document: nothing is fetched, it can be mailed."""

from __future__ import annotations

import html

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; } .wide { overflow-x: auto; }
"""


def document(title: str, body: str, style: str = "") -> str:
    r"""Return a document with a title, a body that is HTML already, and rules of CSS beside those of all.

    >>> document("a < b", "<p>body</p>").endswith("<body><h1>a &lt; b</h1><p>body</p></body></html>\n")
    True
    """
    head = (
        f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{html.escape(title)}</title>"
    )
    return (
        f"<!doctype html><html lang='en'><head>{head}<style>{_STYLE}{style}</style></head>"
        f"<body><h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )
