"""Markdown by hand: what comes from outside cannot end a cell, open a tag or start a heading."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pytest_greta.report.messages import Lang, languages, translate
from pytest_greta.report.text import clean

_SPECIAL = re.compile(r"([\\`*{}\[\]<>#|~!&$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")  # inside a word _ is plain


def escape(text: str) -> str:
    """Outside text as inline Markdown that reads as it is."""
    return _SPECIAL.sub(r"\\\1", clean(text))


def code(text: str) -> str:
    """Inline code, fit for a table cell: the fence is longer than any run of backticks inside, pipes are escaped."""
    text = clean(text).replace("|", "\\|")
    if not text:
        return ""
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; cells are inline Markdown already."""
    return [
        "| " + " | ".join(headers) + " |",
        "|" + "---|" * len(headers),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def block(text: str) -> list[str]:
    """A fenced block whose fence the text cannot close."""
    lines = [clean(line) for line in text.splitlines()]
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return [f"{fence}bash", *lines, fence, ""]


def paragraph(key: str, lang: Lang, **values: object) -> list[str]:
    """A sentence, one paragraph a language, each marked where there are two."""
    safe = {k: escape(v) if isinstance(v, str) else v for k, v in values.items()}
    marked = len(languages(lang)) > 1
    out = []
    for language in languages(lang):
        text = translate(key, language, **safe)
        out += [f"**{language.upper()}** {text}" if marked else text, ""]
    return out
