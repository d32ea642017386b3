"""``greta backend new | check``: an attention library of one's own, from a skeleton to a conformance table."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from pathlib import Path

from pytest_greta import texts
from pytest_greta.options import LANGS

OK, FAILED, USAGE = 0, 1, 2
"""Exit codes: written, or conformant; not conformant; a path or number that cannot be meant."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``backend`` and its two commands; ``args.func(args)`` returns the exit code."""
    backend = subparsers.add_parser(
        "backend", help="write or check an attention library / escribir o comprobar una biblioteca de atención"
    )
    commands = backend.add_subparsers(dest="backend_command", required=True, metavar="new | check")
    new = commands.add_parser("new", help="write a library to start from / escribir una biblioteca para empezar")
    new.add_argument("folder", type=Path, metavar="DIR")
    new.add_argument("--lang", choices=LANGS, default="both")
    new.set_defaults(func=_new)
    check = commands.add_parser("check", help="exercise a library's ABI / ejercitar la ABI de una biblioteca")
    check.add_argument("library", type=Path, metavar="LIBRARY")
    check.add_argument("--json", action="store_true", help="as JSON / en JSON")
    check.add_argument(
        "--timeout", default="10", metavar="SECONDS", help="that one case may take; 10 / que puede tardar un caso; 10"
    )
    check.add_argument("--lang", choices=LANGS, default="both")
    check.set_defaults(func=_check)


def _new(args: argparse.Namespace) -> int:
    from pytest_greta.skeleton import SkeletonError, write

    try:
        files = write(args.folder)
    except SkeletonError as error:
        return _usage(error.said, args.lang)
    print(texts.say(args.lang, "new.written", path=args.folder, files=", ".join(files)))
    folder, library = (shlex.quote(str(path)) for path in (args.folder, args.folder / "libmine.so"))
    commands = f"make -C {folder} && greta backend check {library} && pytest {folder}"
    print(texts.say(args.lang, "new.next", commands=commands))
    return OK


def _check(args: argparse.Namespace) -> int:
    try:
        seconds = float(args.timeout)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 3600:
        return _usage(texts.text("conform.seconds", value=repr(args.timeout)), args.lang)
    if not args.library.is_file():
        key = "native.folder" if args.library.is_dir() else "native.no_library"
        said = texts.join("; ", texts.text(key, path=args.library), texts.text("native.give_path"))
        return _usage(said, args.lang)
    from pytest_greta.conformance.run import check
    from pytest_greta.conformance.table import as_plain, render

    report = check(args.library, seconds)
    if args.json:
        print(json.dumps(as_plain(report), indent=1, ensure_ascii=False))
    else:
        print("\n".join(render(report, args.lang)))
    return OK if report.conformant else FAILED


def _usage(said: texts.Text, lang: str) -> int:
    for line in said.lines(lang):
        print(f"greta backend: {line}", file=sys.stderr)
    return USAGE
