"""The journal of a study: its plan, then a line a run, so that an interrupted study goes on where it stopped."""

from __future__ import annotations

import errno
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import xxhash

import pytest_greta
from pytest_greta.jsonline import json_line
from pytest_greta.plain import from_plain, to_plain
from pytest_greta.selftest.plan import Planned, Study
from pytest_greta.selftest.run import Record
from pytest_greta.texts import SaidError, join, text

SCHEMA = 1


class JournalError(SaidError):
    """The file is no journal, or that of another study, or it cannot be read or written."""


@dataclass
class Journal:
    """``records``: what earlier runs left. Lines are appended whole, one write each."""

    path: Path
    records: list[Record]

    def add(self, record: Record) -> None:
        """Raises ``JournalError`` where it cannot be written."""
        _append(self.path, json_line(to_plain(record)))


def open_journal(path: Path, study: Study, planned: Sequence[Planned]) -> Journal:
    """The journal at ``path``, begun where there is none. A last line that was cut off is dropped, and run again.

    Raises ``JournalError``.
    """
    head = _head(study, planned)
    if not path.exists() or path.stat().st_size == 0:
        _append(path, json_line(head))
        return Journal(path, [])
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JournalError(join(": ", str(path), error.strerror or str(error))) from error
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.splitlines()
    found = _parsed(lines[0]) if lines else None
    if not isinstance(found, dict) or found.get("event") != "selftest" or found.get("schema") != SCHEMA:
        raise JournalError(text("selftest.no_journal", path=path))
    differing = [key for key in head if found.get(key) != head[key]]
    if differing:
        key = differing[0]
        raise JournalError(text("selftest.other_study", path=path, key=key, there=found.get(key), here=head[key]))
    if len(whole) != len(data):
        os.truncate(path, len(whole))
    known = {p.id for p in planned}
    records: dict[str, Record] = {}
    for number, line in enumerate(lines[1:], 2):
        plain = _parsed(line)
        if not isinstance(plain, dict) or plain.get("id") not in known:
            raise JournalError(text("selftest.bad_line", path=path, line=number))
        records.setdefault(plain["id"], from_plain(Record, plain))
    return Journal(path, list(records.values()))


def _head(study: Study, planned: Sequence[Planned]) -> dict[str, Any]:
    """``plan``: a digest, because another version may plan other runs for the same study."""
    digest = xxhash.xxh3_64()
    for run in planned:
        digest.update(json_line(to_plain(run)))
    return {"event": "selftest", "schema": SCHEMA, **to_plain(study), "plan": digest.hexdigest(), "code": _code()}


def _code() -> str:
    """A digest of this package and of the native libraries: what other code has shown is no proof of this."""
    digest = xxhash.xxh3_64()
    native = importlib.util.find_spec("_greta_native")
    folders = [(Path(pytest_greta.__file__).parent, "*.py")]
    folders += [(Path(path), "*.so") for path in (native and native.submodule_search_locations) or ()]
    for folder, pattern in folders:
        for path in sorted(folder.rglob(pattern)):
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _append(path: Path, line: bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            written = os.write(handle, line)
        finally:
            os.close(handle)
        if written != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise JournalError(join(": ", str(path), error.strerror or str(error))) from error
