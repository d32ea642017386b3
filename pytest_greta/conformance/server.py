"""A process that never loads the library and forks another for each case, which does.

    python -m pytest_greta.conformance.server LIBRARY SECONDS

One JSON object a line goes to stdout: first what the library is, then what became of each case, which ran ``apart`` and
has no way to that stream.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from pytest_greta.backends.native import declarations, open_library
from pytest_greta.conformance.apart import Record, Tell, apart, prepare
from pytest_greta.conformance.bench import Bench
from pytest_greta.conformance.cases import CASES, Case
from pytest_greta.conformance.finding import Finding

_MEMORY_SIGNALS = (signal.SIGSEGV, signal.SIGBUS)


def main(argv: list[str]) -> int:
    path, seconds = Path(argv[0]), float(argv[1])
    prepare()
    known = apart(lambda tell: _known(path, tell), seconds)
    say(known)
    if known["kind"] != "ok":
        return 1
    for case in CASES:
        if set(case.needs) <= set(known["has"]):
            say({"case": case.id, **attempt(path, case, seconds)})
    return 0


def say(record: Record) -> None:
    print(json.dumps(record), flush=True)


def attempt(path: Path, case: Case, seconds: float) -> Record:
    """One case. A crash at a guard page is run once more without them, to learn whose page it was."""
    found = apart(lambda tell: _run(path, case, tell, guards=True), seconds)
    if found["kind"] == "crash" and found["number"] in _MEMORY_SIGNALS:
        again = apart(lambda tell: _run(path, case, tell, guards=False), seconds)
        if again["kind"] in ("overrun", "input"):
            return {**found, **again}
        if again["kind"] == "ok":
            return {**found, "kind": "overread"}
    return found


def _known(path: Path, tell: Tell) -> Record:
    """Loads the library; what it exports and says of itself."""
    tell("dlopen")
    library = open_library(declarations(), path)
    bench = Bench(library, tell)
    if "host" not in bench.said.memory:
        raise Finding("device_only")
    has = bench.said.features | {bench.said.kv} | ({"last_error"} if library.exports("greta_last_error") else set())
    return {"kind": "ok", "has": sorted(has), "name": bench.said.name, "version": bench.said.version}


def _run(path: Path, case: Case, tell: Tell, *, guards: bool) -> Record:
    tell("dlopen")
    bench = Bench(open_library(declarations(), path), tell, guards=guards, at_start=case.at_start)
    return {"kind": "ok", "status": case.run(bench) or "GRETA_OK"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
