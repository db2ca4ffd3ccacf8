"""Every command and program that the documentation shows is run, and prints what the pages say it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import reader
from tests.docs.outputs import missing_line
from tests.docs.pages import DOCS, ROOT, Block, all_pages, blocks, page_id

SKIPPED = {
    "README.md": {
        "python3 tools/dev.py": "continuous integration runs them, on a bare machine",
        "pip install": "tests/test_release.py installs the package",
    },
    "docs/index.md": {"pip install": "tests/test_release.py installs the package"},
    "docs/tutorial.md": {"pip install": "tests/test_release.py installs the package"},
    "docs/hardware.md": {
        start: "tests/export/test_verilog.py simulates, where iverilog is installed"
        for start in ("python docs/examples", "iverilog ", "vvp ")
    },
    "docs/scaling.md": {
        "pip install": "the test environment has it",
        "dask ": "a scheduler and workers run until they are stopped; tests/pipeline/test_shards.py starts them",
        "ristretto quantize $job --scheduler": "the same",
    },
}
"""By page, what the lines begin with that are not run, and why."""

ELSEWHERE = {
    "docs/python.md": "tests/test_python_api.py runs it",
    "docs/plugins.md": "tests/pipeline/test_plugins.py runs it",
}
"""Pages whose blocks other tests run."""

HELP = "console"
"""The examples of help texts, which test_help_examples.py runs."""

NEEDS = {"docs/finetune.md": "torch"}
"""Packages without which a page is passed over."""

SLOW = {"docs/comparing.md", "docs/finetune.md", "docs/howto/resnet.md", "docs/howto/scripts.md"}

LANGUAGES = {"", "sh", "python", "text", "prototxt", "json", "toml", "yaml"}

PAGES = [page for page in all_pages() if any(block.runs for block in blocks(page.read_text()))]


def told(page: Path) -> list[Block]:
    return list(blocks(page.read_text()))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page_id(page) in SLOW else [])
        for page in PAGES
        if page_id(page) not in ELSEWHERE
    ],
    ids=page_id,
)
def test_what_a_page_shows_happens(page: Path, tmp_path: Path) -> None:
    if page_id(page) in NEEDS:
        package = NEEDS[page_id(page)]
        pytest.importorskip(package, reason=f"the page needs {package}, which is not installed")
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    reader.prepare(folder, home)
    if "photos" in page.read_text():
        reader.write_photos(folder / "photos")
    shown = told(page)
    printed = reader.read(shown, folder, home, tuple(SKIPPED.get(page_id(page), ())))
    last: str | None = None
    for block, text in zip(shown, printed, strict=True):
        if block.runs:
            last = text
        elif block.is_output and last is not None:
            line = missing_line(block.text, last)
            assert line is None, f"{page_id(page)}:{block.line}: not printed: {line}\n\nprinted:\n{last}"


@pytest.mark.parametrize("page", all_pages(), ids=page_id)
def test_blocks_are_of_kinds_that_are_known(page: Path) -> None:
    """A block of another language would be neither run nor checked."""
    text = page.read_text()
    languages = LANGUAGES | {HELP} if page.name == "commands.md" and page.parent.name == "reference" else LANGUAGES
    assert {block.language for block in told(page)} <= languages
    assert text.count("\n```") + text.startswith("```") == 2 * len(told(page))


def test_what_is_skipped_is_there() -> None:
    for page, lines in SKIPPED.items():
        commands = "".join(block.text for block in told(ROOT / page) if block.runs)
        for start in lines:
            assert any(line.startswith(start) for line in commands.splitlines()), (page, start)
    for page in ELSEWHERE:
        assert (ROOT / page) in PAGES
    assert DOCS / "tutorial.md" in PAGES


SHOWN = "one 0.985\n...\ntwo 4.736 words"


@pytest.mark.parametrize(
    ("printed", "missing"),
    [
        ("one 0.985\nx\ntwo 4.736 words", None),
        ("before\none 0.9855\ntwo 4.74 words\nafter", None),
        ("one 0.93\ntwo 4.736 words", "one 0.985"),
        ("one 0.985\ntwo 4.736 other", "two 4.736 words"),
        ("two 4.736 words\none 0.985", "two 4.736 words"),
        ("one 0.985 more\ntwo 4.736 words", "one 0.985"),
    ],
)
def test_outputs_are_compared(printed: str, missing: str | None) -> None:
    assert missing_line(SHOWN, printed) == missing


def test_whole_numbers_are_compared_exactly() -> None:
    assert missing_line("8bit: \t0.985", "8bit: \t0.983") is None
    assert missing_line("8bit: \t0.985", "7bit: \t0.985") is not None
    assert missing_line("<8, 5> at 12", "<8, 5> at 13") is not None
    assert missing_line("a\nb", "a\nx\nb") == "b"
    assert missing_line("took ... s", "took 1.3 s") is None
    prefix = "I1123 09:40:19.031114  4746 quantization.cpp:298] "
    assert missing_line(prefix + "text", "I0101 00:00:00.000000     1 quantization.cpp:298] text") is None
