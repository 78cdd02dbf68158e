"""A self-contained HTML page: pictures are embedded, nothing is fetched, it can be mailed."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from kdlosses.cli.document import document


class Row(NamedTuple):
    """One model of the table. Quality in per cent of the metric, latency in milliseconds."""

    task: str
    role: str
    metric: str
    quality: float
    params: int
    latency: float


class Picture(NamedTuple):
    """A figure with what it shows."""

    title: str
    caption: str
    figure: Figure


STYLE = """
:root { --good: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --good: #4ac26b; } }
h1 { font-size: 1.7rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
p { max-width: 48rem; } .soft { opacity: .75; }
table { width: 100%; } td:nth-child(2), th:nth-child(2) { text-align: left; }
tr.distilled { background: #8881; font-weight: 600; } .gain { color: var(--good); }
figure { margin: 1rem 0; } img { width: 100%; background: #fff; border-radius: .4rem; }
"""


def page(title: str, intro: str, rows: Sequence[Row], pictures: Sequence[Picture], foot: str) -> str:
    """Lay out table and pictures as one HTML document."""
    parts = [f"<p>{html.escape(intro)}</p>", _table(rows)]
    for picture in pictures:
        alt = html.escape(picture.title, quote=True)
        parts.append(f"<h2>{html.escape(picture.title)}</h2><p class='soft'>{html.escape(picture.caption)}</p>")
        parts.append(f"<figure><img alt='{alt}' src='data:image/png;base64,{_png(picture.figure)}'></figure>")
    parts.append(f"<p class='soft'>{html.escape(foot)}</p>")
    return document(title, "".join(parts), STYLE)


def _table(rows: Sequence[Row]) -> str:
    control = {row.task: row.quality for row in rows if row.role == "control"}
    cells = ["<tr><th>task<th>model<th>quality<th>against control<th>parameters<th>latency</tr>"]
    for row in rows:
        gain = row.quality - control[row.task]
        against = "" if row.role == "control" else f"<span class='{'gain' if gain > 0 else ''}'>{gain:+.1f}</span>"
        cells.append(
            f"<tr class='{row.role}'><td>{html.escape(row.task)}<td>{row.role}<td>{row.quality:.1f} {row.metric}"
            f"<td>{against}<td>{row.params:,}<td>{row.latency:.1f} ms</tr>"
        )
    return f"<div class='wide'><table>{''.join(cells)}</table></div>"


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
    return base64.b64encode(buffer.getvalue()).decode()
