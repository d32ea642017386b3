"""The command ``greta``: one parser, one module a subcommand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def build_parser() -> argparse.ArgumentParser:
    from pytest_greta import cli_analyze, cli_model

    parser = argparse.ArgumentParser(
        prog="greta",
        description="pytest-greta: is the difference between prefill and decode rounding, or a bug? / "
        "¿la diferencia entre prefill y decode es redondeo o un error?",
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    cli_analyze.add_parser(subparsers)
    cli_model.add_parser(subparsers)
    schema = subparsers.add_parser("schema", help="print the JSON Schema of case files")
    schema.set_defaults(func=_schema)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; 2 is a usage error, as argparse has it."""
    args = build_parser().parse_args(argv)
    try:
        code: int = args.func(args)
    except BrokenPipeError:  # the reader (head, less) went away: not our error, and no traceback
        sys.stderr.close()
        return 0
    return code


def _schema(_: argparse.Namespace) -> int:
    from pytest_greta.cases.schema import schema_text

    print(schema_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
