"""The command ``greta``: one parser, one module a subcommand."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

FAILED, BROKEN_PIPE = 1, 128 + 13
"""Exit codes: the output could not be written; its reader went away (SIGPIPE, as a shell reports it)."""


def build_parser() -> argparse.ArgumentParser:
    from pytest_greta import (
        cli_analyze,
        cli_backend,
        cli_doctor,
        cli_faults,
        cli_model,
        cli_remote,
        cli_report,
        cli_selftest,
    )

    parser = argparse.ArgumentParser(
        prog="greta",
        description="pytest-greta: is the difference between prefill and decode rounding, or a bug? / "
        "¿la diferencia entre prefill y decode es redondeo o un error?",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pytest-greta {_version()}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    cli_analyze.add_parser(subparsers)
    cli_backend.add_parser(subparsers)
    cli_doctor.add_parser(subparsers)
    cli_faults.add_parser(subparsers)
    cli_model.add_parser(subparsers)
    cli_remote.add_parser(subparsers)
    cli_report.add_parser(subparsers)
    cli_selftest.add_parser(subparsers)
    schema = subparsers.add_parser(
        "schema", help="print the JSON Schema of case files / imprimir el JSON Schema de los archivos de casos"
    )
    schema.set_defaults(func=_schema)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; 2 is a usage error, as argparse has it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal shows escapes, and no traceback
    parser = build_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:  # said with the usage of the subcommand
        (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        commands.choices[args.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        code: int = args.func(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) went away: as other programs end then, and no traceback
        _drop_output()
        return BROKEN_PIPE
    except OSError as error:
        if error.filename is not None:  # not of the output
            raise
        _drop_output()
        from pytest_greta.report.messages import prose

        for line in prose("artifacts.output", "both", error=error.strerror or error):
            print(f"greta: {line}", file=sys.stderr)
        return FAILED
    return code


def _drop_output() -> None:
    """What is left in the buffer goes nowhere: Python would try once more at its end, and print a traceback."""
    with contextlib.suppress(OSError), Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _version() -> str:
    try:
        return metadata.version("pytest-greta")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "?"


def _schema(_: argparse.Namespace) -> int:
    from pytest_greta.cases.schema import schema_text

    print(schema_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
