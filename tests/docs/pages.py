"""The pages of the documentation as what they show: commands, programs, files and outputs, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: sh, python, text, or whatever stands first behind the fence; "" if nothing does.
        title: the name of the file that the block is, or "".
        text: what stands in it.
        line: the line of the page at which its text begins.
        follows: whether only blank space lies between it and the block before.
    """

    language: str
    title: str
    text: str
    line: int
    follows: bool

    @property
    def runs(self) -> bool:
        return not self.title and self.language in ("sh", "python")

    @property
    def is_output(self) -> bool:
        """Whether it shows what the last block that runs prints."""
        return not self.title and (self.language == "text" or (self.language == "" and self.follows))


def all_pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> Iterator[Block]:
    end = 0
    for found in _FENCE.finditer(text):
        language, _, _ = found["info"].strip().partition(" ")
        title = _TITLE.search(found["info"])
        indent = len(found["indent"])
        body = "".join(line[indent:] or "\n" for line in found["body"].splitlines(keepends=True))
        follows = end > 0 and not text[end : found.start()].strip()
        line = text.count("\n", 0, found.start()) + 2
        yield Block(language, title[1] if title else "", body, line, follows)
        end = found.end()
