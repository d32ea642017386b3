"""A study's figures as text and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_greta.report import md
from pytest_greta.report.text import number, width, wrap
from pytest_greta.report.text import table as text_table
from pytest_greta.selftest.plan import DTYPES, MOST_ROWS, MOST_ROWS_QUICK, Study
from pytest_greta.selftest.tally import BINS, Summary, upper_limit
from pytest_greta.texts import Text, as_text, text

_NONE, _BARS = "·", "▁▂▃▄▅▆▇█"
_LISTED = 20
_COLUMNS = 80
"""Of a terminal: what is wider is hard to read there."""


@dataclass(frozen=True)
class _Section:
    title: Text
    note: Text | None
    headers: tuple[Text, ...]
    rows: tuple[tuple[str | Text, ...], ...]


def as_lines(summary: Summary, lang: str) -> list[str]:
    """For a terminal."""
    lines: list[str] = []
    for section in _sections(summary):
        lines += ["", *_wrapped(section.title, lang)]
        lines += _table(section, lang)
        lines += _wrapped(section.note, lang) if section.note else []
    lines += ["", *_wrapped(_rate(summary), lang)]
    if summary.not_run:
        lines += ["", *_wrapped(text("selftest.not_run"), lang)]
        for what, words in _left_out(summary, lang):
            lines += wrap(f"{what}: {words}", _COLUMNS, "  ", "    ")
    if summary.odd:
        lines += ["", *_wrapped(text("selftest.odd"), lang)]
        for odd in summary.odd[:_LISTED]:
            what = " / ".join(text(f"selftest.odd_{odd.what}").lines(lang))
            lines += [f"  {odd.id}: {what}", *wrap(odd.plan, _COLUMNS, "    ", "      "), f"    -> {odd.got}"]
        if len(summary.odd) > _LISTED:
            lines += _wrapped(text("selftest.more", count=len(summary.odd) - _LISTED), lang)
        size = _size(summary)
        lines += _wrapped(text("selftest.again", seed=summary.study.seed, size=size, id=summary.odd[0].id), lang)
    return [*lines, "", *_wrapped(conclusion(summary), lang)]


def _table(section: _Section, lang: str) -> list[str]:
    """Cells in all languages, with words under one another where the table would not fit otherwise."""
    align = ("left", *["right"] * (len(section.headers) - 1))
    lines: list[str] = []
    for narrow in range(_COLUMNS, 0, -1):
        head, *body = (_cells(row, lang, narrow) for row in (section.headers, *section.rows))
        lines = text_table(head, body, align)
        if max(map(width, lines)) <= _COLUMNS:
            break
    return lines


def _cells(row: Sequence[str | Text], lang: str, columns: int) -> list[str]:
    """Each cell in at most ``columns``, unless a word is longer; a language begins on the same line in all of them."""
    cells: list[list[str]] = [[] for _ in row]
    for said in zip(*_said(row, lang), strict=True):
        parts = [wrap(words, max([columns, *map(width, words.split())])) for words in said]
        for cell, part in zip(cells, parts, strict=True):
            cell += [*part, *[""] * (max(map(len, parts)) - len(part))]
    return ["\n".join(cell).rstrip("\n") for cell in cells]


def _said(row: Sequence[str | Text], lang: str) -> list[list[str]]:
    """The lines of each cell, a language each, as many in all of them."""
    lines = [as_text(cell).lines(lang) for cell in row]
    return [[*found, *[""] * (max(map(len, lines)) - len(found))] for found in lines]


def conclusion(summary: Summary) -> Text:
    if summary.odd:
        return text("selftest.failed", odd=len(summary.odd), done=summary.done)
    if summary.done < summary.planned:
        return text("selftest.unfinished", done=summary.done, all=summary.planned)
    if summary.nothing:
        return text("selftest.nothing", backend=summary.study.backend)
    if summary.not_run:
        return text("selftest.clean_but", count=sum(n.runs for n in summary.not_run), backend=summary.study.backend)
    return text("selftest.clean")


def as_page(summary: Summary, language: str) -> str:
    """Markdown, in one language."""

    def said(words: str | Text) -> str:
        return as_text(words).lines(language)[0]

    study = summary.study
    where = {
        "version": summary.machine.get("pytest-greta", "?"),
        "isas": ", ".join(study.isas),
        "backend": study.backend,
        "cpu": summary.machine.get("processor", "?"),
    }
    lines = ["# " + said(text("selftest.page_title")), ""]
    lines += _paragraph(
        said(
            text(
                "selftest.page_how",
                size=_size(summary),
                seed=study.seed,
                most=study.library.most_rows or (MOST_ROWS_QUICK if study.quick else MOST_ROWS),
            )
        )
    )
    lines += _paragraph(said(text("selftest.page_claims")))
    key = "selftest.page_where" if study.backend == Study.backend else "selftest.page_where_else"
    lines += _paragraph(md.escape(said(text(key, **where))))
    lines += _paragraph(f"**{said(conclusion(summary))}**")
    for section in _sections(summary):
        lines += [f"## {said(section.title)}", ""]
        lines += _paragraph(said(section.note)) if section.note else []
        rows = ([_cell(said(cell)) for cell in row] for row in section.rows)
        lines += md.table([said(header) for header in section.headers], rows)
    lines += _paragraph(md.escape(said(_rate(summary))))
    if summary.not_run:
        lines += [f"## {said(text('selftest.not_run'))}", ""]
        for what, words in _left_out(summary, language):
            lines += wrap(f"{md.escape(what)}: {md.escape(words)}", 120, "- ", "  ")
        lines.append("")
    if summary.odd:
        lines += [f"## {said(text('selftest.odd'))}", ""]
        for odd in summary.odd:
            words = f"{odd.id}, {said(text(f'selftest.odd_{odd.what}'))}: {md.escape(odd.plan)}; {md.escape(odd.got)}"
            lines += wrap(words, 120, "- ", "  ")
        lines.append("")
    return "\n".join(lines)


def _size(summary: Summary) -> str:
    """The options that ask for as many runs."""
    study = summary.study
    backend = "" if study.backend == Study.backend else f" --backend {study.backend}"
    return f"--runs {study.runs}" + " --quick" * study.quick + backend


def _left_out(summary: Summary, lang: str) -> list[tuple[str, str]]:
    """What was not run, how often, and the library's reason."""
    healthy = " / ".join(text("selftest.benign").lines(lang))
    return [(n.what or healthy, f"{n.runs}; {n.why}") for n in summary.not_run]


def _paragraph(words: str) -> list[str]:
    return [*wrap(words, 120), ""]


def _cell(words: str) -> str:
    return md.code(words) if set(words) <= set(f"{_NONE}{_BARS}|") else md.escape(words)


def _wrapped(words: Text, lang: str) -> list[str]:
    return [line for said in words.lines(lang) for line in wrap(said, _COLUMNS)]


_NAMES = {"logits": "dlogit", "close": "assert_close"}
"""Headings that are names."""


def _heads(*names: str) -> tuple[Text, ...]:
    return tuple(as_text(_NAMES[name]) if name in _NAMES else text(f"selftest.{name}") for name in names)


def _sections(summary: Summary) -> list[_Section]:
    return [_faults(summary), *_magnitudes(summary), *_curves(summary), _healthy(summary), _baselines(summary)]


def _faults(summary: Summary) -> _Section:
    names = ("found", "stage", "layer", "scenario", "logits", "close")
    headers = _heads("kind", "runs", *names)
    rows: list[tuple[str | Text, ...]] = [
        (k.kind, str(k.runs), *(_of(getattr(k, name), k.runs) for name in names)) for k in summary.kinds if k.runs
    ]
    runs = sum(k.runs for k in summary.kinds)
    totals = (_of(sum(getattr(k, name) for k in summary.kinds), runs) for name in names)
    rows.append((text("selftest.total"), str(runs), *totals))
    return _Section(text("selftest.faults"), text("selftest.faults_note"), headers, tuple(rows))


def _of(count: int, runs: int) -> str:
    """``all`` is what is looked for: what falls short is told by its figures."""
    return f"{count} / {runs}" if count < runs else str(count)


def _magnitudes(summary: Summary) -> list[_Section]:
    rows = tuple(
        (c.fixture, *(number(side[d]) if d in side else "-" for d in DTYPES for side in (c.stated, c.seen)))
        for c in summary.curves
        if sum(c.runs)
    )
    if not rows:
        return []
    headers = [text("selftest.variant")]
    for dtype in DTYPES:
        headers += [text("selftest.stated", dtype=dtype), text("selftest.seen", dtype=dtype)]
    return [_Section(text("selftest.magnitudes"), text("selftest.magnitudes_note"), tuple(headers), rows)]


def _curves(summary: Summary) -> list[_Section]:
    middle = BINS // 2
    rows = []
    for curve in summary.curves:
        if not sum(curve.runs):
            continue
        bars = [_bar(f, n) for f, n in zip(curve.found, curve.runs, strict=True)]
        shown = "".join(bars[:middle]) + "|" + "".join(bars[middle:])
        parts = (slice(0, middle), slice(middle, BINS))
        rows.append((curve.fixture, shown, *(f"{sum(curve.found[p])} / {sum(curve.runs[p])}" for p in parts)))
    if not rows:
        return []
    headers = _heads("variant", "share", "below", "above")
    return [_Section(text("selftest.curve"), text("selftest.curve_note"), headers, tuple(rows))]


def _bar(found: int, runs: int) -> str:
    """A block as high as the share that was found; a dot where nothing was planted."""
    return _BARS[round(found / runs * (len(_BARS) - 1))] if runs else _NONE


def _healthy(summary: Summary) -> _Section:
    names = ("runs", "alarms", "suspects", "logits", "close")
    headers = _heads("model", *names, "rho")
    rows: list[tuple[str | Text, ...]] = [
        (b.model, *(str(getattr(b, name)) for name in names), number(b.rho)) for b in summary.benign
    ]
    totals = (str(sum(getattr(b, name) for b in summary.benign)) for name in names)
    rows.append((text("selftest.total"), *totals, number(max((b.rho for b in summary.benign), default=0.0))))
    return _Section(text("selftest.benign"), text("selftest.benign_note"), headers, tuple(rows))


def _baselines(summary: Summary) -> _Section:
    faults, healthy = sum(k.runs for k in summary.kinds), sum(b.runs for b in summary.benign)
    rows = []
    for rule, ours, theirs in (
        ("greta", "found", "alarms"),
        ("logits", "logits", "logits"),
        ("close", "close", "close"),
    ):
        found = sum(getattr(k, ours) for k in summary.kinds)
        alarms = sum(getattr(b, theirs) for b in summary.benign)
        rows.append((text(f"selftest.rule_{rule}"), f"{found} / {faults}", f"{alarms} / {healthy}"))
    headers = _heads("rule", "faults_found", "false_alarms")
    return _Section(text("selftest.baselines"), None, headers, tuple(rows))


def _rate(summary: Summary) -> Text:
    runs, alarms = (sum(getattr(b, name) for b in summary.benign) for name in ("runs", "alarms"))
    return text("selftest.rate", alarms=alarms, runs=runs, limit=f"{100 * upper_limit(alarms, runs):.2g} %")
