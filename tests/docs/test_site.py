"""The documentation as a site: links lead somewhere, what programs write is up to date, it builds without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ristretto.cli.main import _COMMANDS
from ristretto.dialects.fields import PLAIN_TYPES, QUANTIZED_TYPES
from tests.docs.pages import DOCS, ROOT, all_pages, page_id
from tools import make_figures, make_reference

SITE = ROOT / "tools" / "site" / "mkdocs.yml"
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {re.sub(r"[ -]+", "-", heading.strip()) for heading in plain}


@pytest.mark.parametrize("page", [*all_pages(), ROOT / "CHANGELOG.md"], ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert page_id(page).startswith("docs/") is False or DOCS in target.parents, f"{link} is not on the site"
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_in_the_navigation() -> None:
    named = re.findall(r": ([\w/]+\.md)$", SITE.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("name", make_reference.PAGES)
def test_the_reference_is_up_to_date(name: str) -> None:
    written = (DOCS / "reference" / name).read_text()
    assert written == make_reference.PAGES[name](), "run: python tools/make_reference.py"


def test_the_reference_is_whole() -> None:
    commands = (DOCS / "reference" / "commands.md").read_text()
    prototxt = (DOCS / "reference" / "prototxt.md").read_text()
    for name in _COMMANDS:
        assert f"\n## {name}\n" in commands
    for flag in ("--trimming_mode", "--accumulator_bits", "--log-format", "--no-fold"):
        assert f"`{flag}`" in commands
    fields = {name for name, _, _, _ in make_reference.quantization_fields()}
    assert fields == set(make_reference.MEANINGS)
    assert len(fields) > 26
    for name in (*fields, *PLAIN_TYPES, *QUANTIZED_TYPES):
        assert f"`{name}`" in prototxt


@pytest.mark.parametrize("name", make_figures.FIGURES)
def test_the_figures_are_up_to_date(name: str) -> None:
    text = (DOCS / "figures" / f"{name}.svg").read_text()
    assert text == make_figures.FIGURES[name]().svg(), "run: python tools/make_figures.py"
    root = ElementTree.fromstring(text)
    assert root.findtext("{*}title")
    assert "prefers-color-scheme: dark" in text
    assert len(text) < 40_000


def test_every_figure_is_shown() -> None:
    shown = "".join(page.read_text() for page in all_pages()) + SITE.read_text()
    for name in make_figures.FIGURES:
        assert f"figures/{name}.svg" in shown


class Loads(HTMLParser):
    """What a page loads by itself, and its links to other pages."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag in ("script", "img", "iframe", "source") and values.get("src"):
            self.loaded.append(str(values["src"]))
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.loaded.append(str(values["href"]))
        if tag == "a" and values.get("href"):
            self.linked.append(str(values["href"]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install -e .[docs]")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", SITE, "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def built(site: Path) -> Iterator[tuple[Path, Loads]]:
    for page in site.rglob("*.html"):
        loads = Loads()
        loads.feed(page.read_text())
        yield page, loads


def test_the_site_builds_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = 0
    for page, loads in built(site):
        pages += 1
        for source in loads.loaded:
            assert not source.startswith(("http:", "https:", "//")), (page.name, source)
            if page.name != "404.html":  # its links are those of the server's root
                assert (page.parent / source.partition("?")[0]).exists(), (page.name, source)
    assert pages > len(all_pages()) - 1
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?https?:", sheet.read_text()), sheet


def test_the_search_finds_words_without_a_server(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text()
    assert "accumulator" in index
    assert (site / "site" / "iframe-worker.js").exists()
