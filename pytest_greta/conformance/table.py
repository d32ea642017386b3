"""A report as a table of 80 columns, and as plain values for JSON."""

from __future__ import annotations

from typing import Any

from pytest_greta import texts
from pytest_greta.conformance.run import Report, Row
from pytest_greta.report.text import shorten, table, wrap

WIDTH = 80
TRIED, RESULT = 34, 26


def render(report: Report, lang: str) -> list[str]:
    """Lines of at most ``WIDTH`` columns."""
    if report.refused is not None:
        return _prose(report.refused, lang)
    lines = _say(lang, "conform.head", name=report.name, version=report.version, path=report.path)
    heads = [texts.say(lang, f"conform.column_{name}") for name in ("function", "tried", "result")]
    lines += ["", *table(heads, [_cells(row, lang) for row in report.rows], ("left",) * 3)]
    for key, names in (("conform.absent", report.absent), ("conform.undeclared", report.undeclared)):
        if names:
            lines += ["", *_say(lang, key, names=", ".join(names))]
    bad = [row for row in report.rows if not row.ok]
    for row in bad:
        lines += ["", f"{row.case.function}, {row.case.tried.lines('en')[0]}: {result(row)}"]
        lines += [line for part in _reason(row).lines(lang) for line in wrap(part, WIDTH, "  ")]
    key = "conform.failed" if bad else "conform.conformant"
    return [*lines, "", *_say(lang, key, count=len(report.rows), bad=len(bad))]


def result(row: Row) -> str:
    """The cell of a case: the status that the library gave, or the kind of finding."""
    if row.ok:
        return row.status.removeprefix("GRETA_")
    more = {"crash": "signal", "overread": "signal", "exit": "code", "accepted": "", "refused": "status"}.get(row.kind)
    return f"FAIL {row.kind} {row.record[more] if more else ''}".strip().replace("GRETA_", "")


def as_plain(report: Report) -> dict[str, Any]:
    """For programs: ids and numbers, and the words in both languages."""
    return {
        "library": str(report.path),
        "name": report.name,
        "version": report.version,
        "conformant": report.conformant,
        "refused": _both(report.refused),
        "absent": list(report.absent),
        "undeclared": list(report.undeclared),
        "rows": [
            {
                "function": row.case.function,
                "case": row.case.id,
                "tried": _both(row.case.tried),
                "outcome": row.kind,
                "status": row.status or None,
                "reason": _both(row.reason),
                "record": {k: v for k, v in row.record.items() if k not in ("case", "kind", "status")},
            }
            for row in report.rows
        ],
    }


def _cells(row: Row, lang: str) -> list[str]:
    tried = "\n".join(shorten(line, TRIED) for line in row.case.tried.lines(lang))
    return [row.case.function, tried, shorten(result(row), RESULT)]


def _reason(row: Row) -> texts.Text:
    assert row.reason is not None
    words = row.record.get("stderr")
    return texts.join(" ", row.reason, texts.text("conform.stderr", words=words)) if words else row.reason


def _say(lang: str, key: str, **values: object) -> list[str]:
    return _prose(texts.text(key, **values), lang)


def _prose(said: texts.Text, lang: str) -> list[str]:
    return [line for part in said.lines(lang) for line in wrap(part, WIDTH, hang="  ")]


def _both(said: texts.Text | None) -> dict[str, str] | None:
    return None if said is None else {"en": said.en, "es": said.es}
