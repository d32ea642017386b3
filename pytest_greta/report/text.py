"""Text that came from outside (ids, prompts, error messages), made fit for a terminal, a table, a line."""

from __future__ import annotations

import itertools
import re
import textwrap
import unicodedata
from collections.abc import Callable, Sequence

import tabulate as _tabulate

Style = Callable[[str, str], str]
"""(text, role) -> text, perhaps with colour. Roles: ``good bad warn dim bold``. Meaning never rests on colour alone."""

_FILLER = "\ue000"
_SUM = re.compile(r"\b[0-9a-f]{64}\b")


def plain(text: str, role: str) -> str:  # noqa: ARG001
    """The style without colour."""
    return text


def clean(text: str) -> str:
    """One line without control or format characters: each becomes its escape (``\\n``, ``\\x1b``, ``\\u202e``)."""
    if text.isprintable() and _FILLER not in text:
        return text
    return "".join(c if c.isprintable() and c != _FILLER else c.encode("unicode_escape").decode() for c in text)


def width(text: str) -> int:
    """Columns that printable text takes in a terminal: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_columns(c) for c in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def shorten(text: str, columns: int) -> str:
    """``text`` cut in the middle, so that the telling ends of a long id stay."""
    text = clean(text)
    if width(text) <= columns:
        return text
    tail = (columns - 1) // 2
    return _head(text, columns - 1 - tail) + "…" + _head(text[::-1], tail)[::-1]


def _head(text: str, columns: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += _columns(char)
        if used > columns:
            return text[:index]
    return text


def short_sums(text: str) -> str:
    """Checksums of 64 hex digits cut to twelve, which tell any two apart; the results hold all of them."""
    return _SUM.sub(lambda found: found.group()[:12], text)


def wrap(text: str, columns: int, indent: str = "", hang: str | None = None) -> list[str]:
    """Lines of at most ``columns``; later lines start with ``hang`` (``indent`` where it is None)."""
    filler = "".join(c + _FILLER * (_columns(c) - 1) for c in clean(text))
    lines = textwrap.wrap(
        filler,
        columns - (_FILLER in filler),  # a break may part a wide character from its filler
        initial_indent=indent,
        subsequent_indent=indent if hang is None else hang,
        break_on_hyphens=False,
    )
    return [line.replace(_FILLER, "") for line in lines] or [indent.rstrip()]


def wrap_name(name: str, columns: int) -> list[str]:
    """A NAME_WITH_UNDERSCORES cut at underscores into pieces of at most ``columns``."""
    lines = [""]
    parts = name.split("_")
    for index, part in enumerate(parts):
        piece = part + ("_" if index < len(parts) - 1 else "")
        if lines[-1] and len(lines[-1]) + len(piece) > columns:
            lines.append("")
        lines[-1] += piece
    return [shorten(line, columns) for line in lines]


_COMPACT = _tabulate.TableFormat(
    lineabove=None,
    linebelowheader=None,
    linebetweenrows=None,
    linebelow=None,
    headerrow=None,
    datarow=_tabulate.DataRow("", " ", ""),
    padding=0,
    with_header_hide=None,
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[str]) -> list[str]:
    """Lines of a table by tabulate, one space between columns. Cells may hold several lines and colour."""
    head, body = _expand([headers]), _expand(rows)
    widths = [max(width(_COLOUR.sub("", line[i])) for line in head + body) for i in range(len(headers))]
    rule = ["-" * columns for columns in widths]
    text = _tabulate.tabulate(
        [[_fill(cell) for cell in line] for line in [*head, rule, *body]],
        tablefmt=_COMPACT,
        disable_numparse=True,
        colalign=tuple(align),
    )
    return [line.replace(_FILLER, "").rstrip() for line in text.splitlines()]


def _expand(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """One table line a text line: tabulate knows multi-line cells only in its own, wider formats."""
    return [
        list(line) for row in rows for line in itertools.zip_longest(*(cell.split("\n") for cell in row), fillvalue="")
    ]


def _fill(cell: str) -> str:
    """Give every character as many code points as columns: without wcwidth tabulate counts code points."""
    if cell.isascii() or _tabulate.WIDE_CHARS_MODE:
        return cell
    return "".join(c + _FILLER * (_columns(c) - 1) for c in cell)


def number(value: float) -> str:
    """Three significant digits in at most eight columns; nan and inf by name."""
    if value == 0:
        return "0"
    return f"{value:.3g}" if 0.001 <= abs(value) < 10000 else f"{value:.1e}"
