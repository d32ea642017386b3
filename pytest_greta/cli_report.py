"""``greta report --merge`` and ``greta compare``: several runs as one, and one beside another."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_greta import exit_codes, texts
from pytest_greta.memory import uncollected
from pytest_greta.options import LANGS

if TYPE_CHECKING:
    from pytest_greta.compare import Change
    from pytest_greta.result import ProbeResult

WIDTH = 80
LISTED = 200
"""Lines of one kind on the terminal; the rest is counted."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``report`` and ``compare``; ``args.func(args)`` returns the exit code."""
    report = subparsers.add_parser(
        "report", help="shards and hosts into one run / partes y hosts en una sola corrida", allow_abbrev=False
    )
    report.add_argument(
        "--merge", nargs="+", required=True, type=Path, metavar="DIR", help="folders of runs / carpetas de corridas"
    )
    report.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="DIR",
        help="where the run is written / dónde se escribe la corrida",
    )
    report.add_argument("--lang", choices=LANGS, default="both")
    report.set_defaults(func=_merge)
    compare = subparsers.add_parser(
        "compare", help="two runs, worst change first / dos corridas, primero lo que empeoró", allow_abbrev=False
    )
    compare.add_argument("before", type=Path, metavar="A", help="folder of the earlier run / carpeta de la primera")
    compare.add_argument("after", type=Path, metavar="B", help="folder of the later run / carpeta de la segunda")
    compare.add_argument("--lang", choices=LANGS, default="both")
    compare.set_defaults(func=_compare)


def _merge(args: argparse.Namespace) -> int:
    with uncollected():
        return _merged(args)


def _merged(args: argparse.Namespace) -> int:
    import pytest

    from pytest_greta.artifacts import ArtifactError
    from pytest_greta.files import Files
    from pytest_greta.merge import merge, read
    from pytest_greta.report.terminal import summary

    try:
        files = Files(str(args.output), "--output", args.lang)
        runs = merge(read(args.merge, files.sheet.add))
        for suite in dict.fromkeys(result.suite for result in runs.results):
            files.folder(suite)
    except ArtifactError as error:
        return _usage("greta report", error.said.lines(args.lang))
    except pytest.UsageError as error:
        return _usage("greta report", str(error).splitlines())
    files.append(runs.results)
    files.finish(runs.results, args.lang)
    print(summary(runs.results, lang=args.lang, width=WIDTH))
    for said in (*runs.notes, *runs.problems):
        _wrapped("\n".join(said.lines(args.lang)))
    for problem in files.problems:
        print(f"greta report: {problem}", file=sys.stderr)
    for folder in files.folders.values():
        print(texts.say(args.lang, "written", path=folder.path))
    return runs.code or (exit_codes.INCONCLUSIVE if files.problems else exit_codes.PASSED)


def _compare(args: argparse.Namespace) -> int:
    from pytest_greta.artifacts import ArtifactError
    from pytest_greta.compare import ORDER, compare, exit_code
    from pytest_greta.merge import merge, read

    try:
        before, after = merge(read([args.before])), merge(read([args.after]))
    except ArtifactError as error:
        return _usage("greta compare", error.said.lines(args.lang))
    changes = compare(before.results, after.results)
    for kind in ORDER:
        found = [change for change in changes if change.kind == kind]
        if not found:
            continue
        _wrapped(texts.say(args.lang, f"runs.{kind}", count=len(found)))
        for change in found[:LISTED] if kind != "same" else ():
            for line in _lines(change):
                print(line)
        if kind != "same" and len(found) > LISTED:
            _wrapped(texts.say(args.lang, "runs.more", count=len(found) - LISTED))
    problems = before.problems + after.problems
    for said in (*before.notes, *after.notes, *problems):
        _wrapped("\n".join(said.lines(args.lang)))
    code = exit_code(changes)
    return code or (exit_codes.INCONCLUSIVE if problems else exit_codes.PASSED)


def _usage(command: str, lines: list[str]) -> int:
    for line in lines:
        print(f"{command}: {line}", file=sys.stderr)
    return exit_codes.USAGE


def _lines(change: Change) -> list[str]:
    from pytest_greta.report.text import clean, wrap

    name = clean(f"{change.result.suite} {change.result.case}::{change.result.probe}")
    lines = wrap(name, WIDTH, "  ")
    if change.before:
        lines += wrap(f"A {_said(change.before)}", WIDTH, "    ")
    if change.after:
        lines += wrap(f"B {_said(change.after)}", WIDTH, "    ")
    return lines


def _said(result: ProbeResult) -> str:
    """Ids only, so that both languages read the same."""
    from pytest_greta.report import pick

    verdict = result.verdict
    failure = verdict.first_failure if verdict else None
    where = f", {pick.place(failure)} {failure.phase}" if failure else ""
    rho = f", rho {pick.rho_text(verdict)}" if verdict else ""
    return f"{result.outcome}: {pick.title(result)}{where}{rho}"


def _wrapped(said: str) -> None:
    from pytest_greta.report.text import clean, wrap

    for line in said.splitlines():
        print("\n".join(wrap(clean(line), WIDTH)))
