"""A process that runs what it is told, a line of JSON a run: a native crash costs one run, not the study."""

from __future__ import annotations

import os
import signal
import sys

import orjson

from pytest_greta.jsonline import json_line
from pytest_greta.plain import from_plain, to_plain
from pytest_greta.selftest.plan import Planned
from pytest_greta.selftest.run import execute


def main() -> None:
    """Plans on standard input, records on standard output, in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study ends its workers itself
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not look like a record
    for line in sys.stdin.buffer:
        record = execute(from_plain(Planned, orjson.loads(line)))
        out.write(json_line(to_plain(record)))
        out.flush()


if __name__ == "__main__":
    main()
