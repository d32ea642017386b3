"""``greta doctor``: what a run would find on this machine, and what is missing."""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pytest_greta.options import LANGS, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_greta.doctor.facts import Facts
    from pytest_greta.doctor.lacks import Lack
    from pytest_greta.report.text import Style

WELL, ILL = 0, 1
"""Exit codes: cases can run here; they cannot, or a library that is there crashes, hangs or cannot be loaded."""

SCHEMA = 1
"""Of the JSON."""

_COLOURS = {"good": "32", "bad": "31;1", "warn": "33", "dim": "2", "bold": "1"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``doctor``; ``args.func(args)`` returns the exit code."""
    from pytest_greta.doctor.ask import TIMEOUT

    parser = subparsers.add_parser(
        "doctor",
        help="what there is on this machine, and what is missing / qué hay en esta máquina y qué falta",
        epilog="exit codes / códigos de salida: 0 cases can run here, 1 they cannot or a library is broken, 2 usage",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="as JSON / en JSON")
    parser.add_argument(
        "--library", type=Path, action="append", default=[], metavar="PATH", help="ask this one too / también a esta"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=TIMEOUT,
        metavar="S",
        help=f"seconds for a library to answer; {TIMEOUT:g} / segundos para que responda una biblioteca",
    )
    parser.add_argument("--lang", choices=LANGS, default="both")
    parser.set_defaults(func=_doctor)


def _seconds(raw: str) -> float:
    try:
        return seconds(raw)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{raw!r}: {' / '.join(error.args[0].lines('both'))}") from None


def _doctor(args: argparse.Namespace) -> int:
    from pytest_greta.doctor.ask import ask
    from pytest_greta.doctor.gather import gather
    from pytest_greta.doctor.lacks import lacks
    from pytest_greta.doctor.show import lines

    facts = gather(partial(ask, timeout=args.timeout), args.library)
    missing = lacks(facts)
    if args.json:
        print(json.dumps(as_plain(facts, missing), indent=1, ensure_ascii=False))
    else:
        for line in lines(facts, missing, args.lang, _style(sys.stdout)):
            print(line)
    return ILL if any(lack.serious for lack in missing) else WELL


def as_plain(facts: Facts, missing: Sequence[Lack]) -> dict[str, Any]:
    """For programs: all facts, what is missing and what was never run, in both languages."""
    from dataclasses import asdict

    from pytest_greta.texts import text

    not_run = asdict(text("doctor.never_run"))
    return {"schema": SCHEMA, **facts.plain(), "missing": [asdict(lack) for lack in missing], "not_run": not_run}


def _style(stream: TextIO) -> Style:
    """Colour on a terminal, unless NO_COLOR (no-color.org) forbids it."""
    from pytest_greta.report.text import plain

    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return plain
    return lambda words, role: f"\x1b[{_COLOURS[role]}m{words}\x1b[0m"
