"""Starts the process that tries a library, and reads what becomes of each case. The library is never loaded here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_greta.conformance.cases import CASES, FUNCTIONS, Case, find
from pytest_greta.texts import Text, text

SECONDS = 10.0
"""That a case may take. The longest of a correct library takes milliseconds."""
SERVER = "pytest_greta.conformance.server"


@dataclass(frozen=True)
class Row:
    """One case, and what became of it. ``kind`` is "ok" or a kind of finding; ``status`` the library's own word."""

    case: Case
    kind: str
    status: str
    reason: Text | None
    record: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        return self.kind == "ok"


@dataclass(frozen=True)
class Report:
    """``refused``: why no case could be tried, where that is so."""

    path: Path
    name: str = ""
    version: str = ""
    rows: tuple[Row, ...] = ()
    refused: Text | None = None
    absent: tuple[str, ...] = ()
    """Functions that the library does not export."""
    undeclared: tuple[str, ...] = ()
    """Features for which there are cases, and which it does not declare."""

    @property
    def conformant(self) -> bool:
        return self.refused is None and all(row.ok for row in self.rows)


def check(path: Path, seconds: float = SECONDS) -> Report:
    """Tries every case on the library at ``path``; each may take ``seconds``."""
    path = path.absolute()
    # one thread: the process forks, and a BLAS has no business there
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", SERVER, str(path), str(seconds)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,  # Ctrl-C is ours alone; the server's children end with it
    ) as server:
        assert server.stdout is not None
        try:
            return _report(path, (json.loads(line) for line in server.stdout))
        finally:
            server.kill()


def _report(path: Path, records: Iterator[dict[str, Any]]) -> Report:
    known = next(records, {"kind": "server"})
    if known["kind"] != "ok":
        return Report(path, refused=reason(known))
    has = set(known["has"])
    rows = tuple(_row(record) for record in records)
    if len(rows) != sum(set(case.needs) <= has for case in CASES):
        return Report(path, refused=text("conform.server"))
    tried = {row.case.function for row in rows}
    kinds = {"cached", "stateless"}  # of libraries: no feature that one could add
    missing = {need for c in CASES if c.function in tried and set(c.needs) & kinds <= has for need in c.needs} - has
    return Report(
        path,
        known["name"],
        known["version"],
        rows,
        absent=tuple(f for f in FUNCTIONS if f not in tried),
        undeclared=tuple(sorted(missing)),
    )


def _row(record: dict[str, Any]) -> Row:
    kind, status = record["kind"], record.get("status", "")
    return Row(find(record["case"]), kind, status, None if kind == "ok" else reason(record), record)


def reason(record: Mapping[str, Any]) -> Text:
    """What is wrong, in both languages."""
    if record["kind"] == "said":
        return _plain(record["said"])  # type: ignore[no-any-return]
    kind = "past" if record["kind"] == "overrun" and record["side"] == "after" else record["kind"]
    return text(f"conform.{kind}", **{key: _plain(value) for key, value in record.items()})


def _plain(said: Any) -> Any:
    """``{"en": .., "es": ..}`` of a record as a ``Text``."""
    return Text(said["en"], said["es"]) if isinstance(said, dict) and set(said) == {"en", "es"} else said
