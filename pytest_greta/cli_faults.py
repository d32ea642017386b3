"""``greta faults``: the kinds of faults that ``inject:`` can plant, a line each."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

from pytest_greta import texts
from pytest_greta.options import LANGS

if TYPE_CHECKING:
    from pytest_greta.faults.kinds import Kind


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``faults``; ``args.func(args)`` returns the exit code."""
    parser = subparsers.add_parser(
        "faults", help="the kinds of faults that inject: can plant / los tipos de fallos que inject: puede plantar"
    )
    parser.add_argument("--json", action="store_true", help="as JSON / en JSON")
    parser.add_argument("--lang", choices=LANGS, default="both")
    parser.set_defaults(func=_faults)


def _faults(args: argparse.Namespace) -> int:
    from pytest_greta.faults.kinds import BY_NAME

    if args.json:
        print(json.dumps([as_plain(kind) for kind in BY_NAME.values()], indent=1, ensure_ascii=False))
        return 0
    print(texts.say(args.lang, "fault.head", count=len(BY_NAME)))
    for lang in texts.languages(args.lang):
        print("\n" + "\n".join(_fitting(texts.say(lang, "fault.columns"))))
        for kind in BY_NAME.values():
            print("\n".join(_fitting(line(kind, lang))))
    print()
    for said in texts.say(args.lang, "fault.where").splitlines():
        print("\n".join(_fitting(said, 0)))
    return 0


def _fitting(row: str, hang: int = 13) -> list[str]:
    """Wrapped to a terminal's width, ``hang`` columns free below the name; one line each for ``grep`` and the like."""
    from pytest_greta.report.text import wrap

    columns = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or len(row) <= columns:
        return [row]
    return wrap(row, max(columns, 40), "", " " * hang)


def line(kind: Kind, lang: str) -> str:
    """Name, who plants it, where it is found, what it is, what its magnitude means, where it was seen."""
    seen = f" [{kind.seen_in}]" if kind.seen_in else ""
    meaning = texts.say(lang, "fault.line", default=f"{kind.magnitude:g}", meaning=said(kind, ".magnitude", lang))
    where = ", ".join(found(kind))
    return f"{kind.name:12} {kind.planted:8} {where:34} {said(kind, '', lang)}; {meaning}{seen}"


def found(kind: Kind) -> tuple[str, ...]:
    """All stages at which a fault of the kind is found, wherever it is planted."""
    if kind.found:
        return kind.found
    return tuple(dict.fromkeys(s for stage in kind.stages for s in kind.found_at.get(stage, (stage,))))


def said(kind: Kind, what: str, lang: str) -> str:
    return texts.say(lang, f"fault.{kind.name}{what}")


def as_plain(kind: Kind) -> dict[str, Any]:
    """For programs: names and numbers, and the words in both languages."""
    return {
        "kind": kind.name,
        "planted": kind.planted,
        "planted_at": dict(kind.elsewhere),
        "stages": list(kind.stages),
        "uses": list(kind.uses),
        "found_at": list(found(kind)),
        "scenario": kind.scenario or None,
        "magnitude": kind.magnitude,
        "magnitudes": list(kind.choices),
        "what": {lang: said(kind, "", lang) for lang in texts.languages("both")},
        "meaning": {lang: said(kind, ".magnitude", lang) for lang in texts.languages("both")},
        "seen_in": kind.seen_in,
    }
