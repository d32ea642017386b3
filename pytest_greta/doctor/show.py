"""The facts as lines of at most 80 columns; ``ok``, ``--`` (absent), ``!!`` (broken) say what colour only repeats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_greta.doctor.facts import Driver, Facts, Library
from pytest_greta.doctor.lacks import NEEDED, Lack
from pytest_greta.masks import entries
from pytest_greta.report.messages import Lang
from pytest_greta.report.text import Style, clean, plain, wrap
from pytest_greta.texts import Text, text

COLUMNS = 80
_NAME = 22
"""Columns of a row's name."""

_ROLES = {"ok": "good", "--": "dim", "!!": "bad", "  ": "dim"}

Row = tuple[str, str, str]
"""Mark, name, what there is."""


def lines(facts: Facts, missing: Sequence[Lack], lang: Lang, style: Style) -> Iterator[str]:
    """The whole page."""
    head = [f"pytest-greta {facts.greta}", f"Python {facts.python}", facts.system, facts.processor]
    yield from wrap(", ".join([*head, _label(text("doctor.cores", count=facts.cores), lang)]), COLUMNS, "", "  ")
    for heading, rows in (
        ("doctor.compilers", _compilers(facts, lang)),
        ("doctor.libraries", [_library(library, lang) for library in facts.libraries]),
        ("doctor.drivers", [*(_driver(driver, lang) for driver in facts.drivers), _rocm(facts, lang)]),
        ("doctor.masks", _masks(facts, lang)),
        ("doctor.extras", _extras(facts, lang)),
        ("doctor.cache", _models(facts, lang)),
    ):
        yield from _heading(heading, lang, style)
        for row in rows:
            yield from _row(row, style)
    yield from _heading("doctor.missing", lang, style)
    yield from missing_lines(missing, lang, style)
    if not missing:
        yield "  " + _label(text("doctor.nothing_missing"), lang)
    yield from _heading("doctor.not_run", lang, style)
    for said in (text("doctor.never_run"), text("doctor.asked_apart")):
        for line in said.lines(lang):
            yield from wrap(line, COLUMNS, "  ")


def _heading(key: str, lang: Lang, style: Style) -> Iterator[str]:
    yield ""
    yield style(_label(text(key), lang), "bold")


def _label(said: Text, lang: Lang) -> str:
    """One language, or ``English / Español``, as the labels of reports."""
    found = {"en": [said.en], "es": [said.es], "both": [said.en, said.es]}[lang]
    return " / ".join(dict.fromkeys(found))


def _row(row: Row, style: Style) -> Iterator[str]:
    mark, name, words = row
    head = f"  {mark} {clean(name):{_NAME}} "
    first, *others = wrap(words, COLUMNS, head, " " * len(head)) if words else [head.rstrip()]
    yield _coloured(first, mark, style)
    yield from others


def missing_lines(missing: Iterable[Lack], lang: Lang, style: Style = plain) -> Iterator[str]:
    """What is missing and what to do, a language after the other; what to do once where it is a command."""
    for lack in missing:
        what, mend = lack.what.lines(lang), lack.mend.lines(lang)
        for i, words in enumerate(what):
            yield from _what(words, lack, style)
            if len(mend) == len(what) or i == len(what) - 1:
                yield from wrap(mend[min(i, len(mend) - 1)], COLUMNS, "     -> ", "        ")


def _what(words: str, lack: Lack, style: Style) -> Iterator[str]:
    mark = "!!" if lack.serious else "--"
    first, *others = wrap(words, COLUMNS, f"  {mark} ", "     ")
    yield _coloured(first, mark, style)
    yield from others


def _coloured(line: str, mark: str, style: Style) -> str:
    return line.replace(f"  {mark} ", f"  {style(mark, _ROLES[mark])} ", 1)


# -- what each row says ------------------------------------------------------------------------------------------------


def _compilers(facts: Facts, lang: Lang) -> list[Row]:
    absent = _label(text("doctor.none"), lang)
    return [("ok" if c.path else "--", c.name, f"{c.version}  {c.path}" if c.path else absent) for c in facts.compilers]


def _library(library: Library, lang: Lang) -> Row:
    answer = library.answer
    if answer is None:
        return "!!" if library.name == NEEDED else "--", library.name, _label(text("doctor.unbuilt"), lang)
    parts = [answer.version, answer.kind, answer.isa]
    if answer.devices is not None:
        parts.append(_label(text("doctor.count", count=answer.devices), lang))
    if answer.opens:
        twin = text("doctor.twin" if library.twin else "doctor.no_twin")
        return "ok", library.name, ", ".join([*filter(None, parts), _label(twin, lang)])
    if answer.reason is not None:
        parts.append(_label(answer.reason, lang))
    return "!!" if answer.broken else "--", library.name, ", ".join(filter(None, parts))


def _driver(driver: Driver, lang: Lang) -> Row:
    if not driver.loaded:
        return "--", driver.vendor, _label(text("doctor.none"), lang)
    parts = [driver.version or _label(text("doctor.version_untold"), lang), _cards(driver.cards)]
    if not driver.usable:
        parts.append(_label(text("doctor.unusable"), lang))
    return "ok" if driver.usable else "--", driver.vendor, ", ".join(filter(None, parts))


def _cards(cards: Sequence[str]) -> str:
    """8 x gfx942"""
    return ", ".join(f"{cards.count(card)} x {card}" for card in dict.fromkeys(cards))


def _rocm(facts: Facts, lang: Lang) -> Row:
    return ("ok", "ROCm", facts.rocm) if facts.rocm else ("--", "ROCm", _label(text("doctor.none"), lang))


def _masks(facts: Facts, lang: Lang) -> list[Row]:
    rows: list[Row] = []
    hides = _label(text("doctor.hides"), lang)
    for name, value in facts.masks.items():
        if value is None:
            rows.append(("  ", name, _label(text("doctor.unset"), lang)))
        elif entries(value):
            rows.append(("ok", name, value))
        else:
            rows.append(("--", name, f"{value!r}: {hides}"))
    return rows


def _extras(facts: Facts, lang: Lang) -> list[Row]:
    absent = _label(text("doctor.not_installed"), lang)
    return [
        (
            "ok" if all(packages.values()) else "--",
            extra,
            ", ".join(f"{name} {version or absent}" for name, version in packages.items()),
        )
        for extra, packages in facts.packages.items()
    ]


def _models(facts: Facts, lang: Lang) -> list[Row]:
    marks = {"ready": "ok", "absent": "--", "wrong": "!!"}
    rows: list[Row] = [
        (marks[model.state], model.name, _label(text(f"doctor.model_{model.state}"), lang)) for model in facts.models
    ]
    return [*rows, ("  ", facts.cache, "")]
