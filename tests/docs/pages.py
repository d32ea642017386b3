"""The pages of the documentation as data: fenced blocks, tables, headings, links."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (*sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md")

_FENCE = re.compile(r"^(`{3,})(.*)$")
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)")
_HEADING = re.compile(r"^(#{1,6})\s+(.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block. Its info string: ``lang word word key=value``."""

    page: Path
    line: int
    lang: str
    words: tuple[str, ...]
    text: str
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{name(self.page)}:{self.line}"


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    found: list[Block] = []
    fence, start, info, body = "", 0, "", []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        match = _FENCE.match(line)
        if fence and match and match[1] == fence and not match[2].strip():
            lang, *words = info.split() or [""]
            pairs = dict(word.split("=", 1) for word in words if "=" in word)
            plain = tuple(word for word in words if "=" not in word)
            found.append(Block(page, start, lang, plain, "\n".join(body) + "\n", pairs))
            fence = ""
        elif fence:
            body.append(line)
        elif match:
            fence, start, info, body = match[1], number, match[2], []
    assert not fence, f"{name(page)}:{start}: the fence is not closed"
    return tuple(found)


def all_blocks(*langs: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.lang in langs]


def prose(page: Path) -> list[tuple[int, str]]:
    """Numbered lines outside fenced blocks."""
    inside = {n for b in blocks(page) for n in range(b.line, b.line + b.text.count("\n") + 2)}
    lines = page.read_text(encoding="utf-8").splitlines()
    return [(n, line) for n, line in enumerate(lines, 1) if n not in inside]


def links(page: Path) -> list[tuple[int, str]]:
    return [(n, target) for n, line in prose(page) for target in _LINK.findall(line)]


def headings(page: Path) -> list[str]:
    return [match[2] for _, line in prose(page) if (match := _HEADING.match(line))]


def anchors(page: Path) -> list[str]:
    """As GitHub makes them from headings."""
    return [re.sub(r"[^\w\- ]", "", h.replace("`", "").lower()).replace(" ", "-") for h in headings(page)]


def section(page: str, heading: str) -> list[str]:
    """The lines under a heading, up to the next heading of any level."""
    lines, on = [], False
    for _, line in prose(ROOT / page):
        match = _HEADING.match(line)
        if match:
            on = match[2] == heading
        elif on:
            lines.append(line)
    assert lines, f"{page} has no section {heading!r}"
    return lines


def table(page: str, heading: str, number: int = 0) -> list[dict[str, str]]:
    """The rows of a table under a heading, by column."""
    tables: list[list[str]] = []
    last = ""
    for line in section(page, heading):
        if line.startswith("|"):
            if not last.startswith("|"):
                tables.append([])
            tables[-1].append(line)
        last = line
    head, _, *rows = [_cells(line) for line in tables[number]]
    for row in rows:
        assert len(row) == len(head), f"{page}, {heading}: {len(row)} cells in a table of {len(head)}: {row}"
    return [dict(zip(head, row, strict=True)) for row in rows]


def _cells(line: str) -> list[str]:
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def code(cell: str) -> list[str]:
    """What stands in backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)
