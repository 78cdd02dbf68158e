"""The site builds without a warning, and nothing on its pages is cut off, on a screen or on a phone."""

from __future__ import annotations

import html
import html.parser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import systems

ROOT = Path(__file__).parents[2]
SHOWN = (
    "index",
    "concepts",
    "reference/methods/bpkd",
    "reference/losses/dac_kl",
    "results/gnn-to-mlp",
    "reference/index",
    "systems",
)
MEASURE = """<script>addEventListener("load", () => {
  const wide = document.documentElement.clientWidth;
  const scrolls = e => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const out = e => e.getBoundingClientRect().right > wide + 1 && !scrolls(e);
  const cut = [...document.querySelectorAll(".md-content *")].filter(out);
  document.body.dataset.cut = cut.slice(0, 5).map(e => e.outerHTML.slice(0, 80)).join(" | ") || "nothing";
})</script>"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of mkdocs is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]  # without -q: quiet, mkdocs counts no warnings
    return folder


def test_every_part_has_a_page(site: Path) -> None:
    import kdlosses
    from densekd.methods import METHODS
    from densekd.policies import POLICIES
    from graphkd.recipes import RECIPES
    from graphkd.scenes.methods import SCENE_METHODS
    from graphkd.teachers import TEACHERS
    from graphkd.unlearning.methods import UNLEARNERS

    for what, parts in (
        ("losses", kdlosses.LOSSES),
        ("recipes", RECIPES),
        ("methods", METHODS),
        ("policies", POLICIES),
        ("teachers", TEACHERS),
        ("unlearning", UNLEARNERS),
        ("scenes", SCENE_METHODS),
    ):
        missing = [
            name
            for name, part in parts.items()
            if re.match("kdlosses|graphkd|densekd", part.__module__)
            and not (site / "reference" / what / f"{name}.html").is_file()
        ]
        assert missing == []


def test_every_system_has_a_row(site: Path) -> None:
    page = html.unescape((site / "systems.html").read_text())
    rows = re.findall(r"<tr>\s*<td>(.*?)</td>", page)
    assert rows == [system.name for system in systems.SYSTEMS]


def test_pages_ask_no_other_host(site: Path) -> None:
    """What a page loads lies beside it. Links may lead elsewhere."""
    for page in site.rglob("*.html"):
        loads = re.findall(r'<(?:script|img|link|source|iframe)[^>]*?(?:src|href)="(https?:[^"]+)"', page.read_text())
        assert loads == [], page


def test_every_formula_is_shown(site: Path) -> None:
    """No LaTeX is left in the text of a page outside of code."""

    class Text(html.parser.HTMLParser):
        inside = 0
        found = ""

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.inside += tag in ("code", "pre", "script", "style")

        def handle_endtag(self, tag: str) -> None:
            self.inside -= tag in ("code", "pre", "script", "style")

        def handle_data(self, data: str) -> None:
            if not self.inside:
                self.found += data

    for page in (site / "reference").rglob("*.html"):
        parser = Text()
        parser.feed(page.read_text())
        assert "<math" not in parser.found
        assert re.findall(r"\\[a-zA-Z]+|\$\$|formulaX", parser.found) == [], page


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", SHOWN)
def test_nothing_is_cut_off(site: Path, page: str, width: int, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "this test needs Chromium (Debian: apt-get install chromium)"
    source = site / f"{page}.html"
    probe = source.with_name(f"{source.stem}-{width}.html")
    probe.write_text(source.read_text().replace("</body>", f"{MEASURE}</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    options += [f"--window-size={width},1600", f"--screenshot={tmp_path / 'page.png'}", "--virtual-time-budget=4000"]
    done = subprocess.run(
        [browser, *options, "--dump-dom", probe.as_uri()], capture_output=True, text=True, timeout=120
    )
    (cut,) = re.findall(r'data-cut="(.*?)"', done.stdout)
    assert cut == "nothing"
    assert (tmp_path / "page.png").stat().st_size > 10_000
