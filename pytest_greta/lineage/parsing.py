"""One line of JSON: the strict, fast parser first; a slower one, which knows bare nan and inf, for what that refuses.

No key may stand twice, and orjson would not say so: the colons of a line are counted, one to each key.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from pytest_greta.verdict import Breach

_TWICE = "offset_bytes"
"""Some writers give it twice; the first counts."""
_DEEP = 100
_OFFSET = re.compile(rb'"offset_bytes"\s*:\s*(\d+)')
_BARE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|(-?)\b(nan|inf(?:inity)?)\b', re.IGNORECASE | re.DOTALL)


class LineError(Exception):
    """A line that cannot be used: ``key`` (``breach.KEY``) and its values, the place aside."""

    def __init__(self, key: str, **values: Any) -> None:
        super().__init__(key)
        self.breach = Breach(key, values)


def parse(line: bytes) -> dict[str, Any]:
    """The object of a line. Raises ``LineError``."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _tolerant(line)
    if type(record) is not dict:
        raise LineError("line_object")
    extra = line.count(b":") - len(record)
    if extra and not _explained(line, record, extra):
        return _tolerant(line)
    return record


def _explained(line: bytes, record: dict[str, Any], extra: int) -> bool:
    """More colons than keys, and yet only ``offset_bytes`` is twice, or strings hold them. Otherwise look closely."""
    if extra == 1 and line.count(b'"offset_bytes":') == 2:
        first = _OFFSET.search(line)
        if first is not None:
            record[_TWICE] = int(first.group(1))
            return True
    return b"\\" not in line and extra == sum(v.count(":") for v in record.values() if type(v) is str)


def _tolerant(line: bytes) -> dict[str, Any]:
    if line.count(b"[") + line.count(b"{") > _DEEP:
        raise LineError("line_json", error="nested too deep")
    try:
        text = _BARE.sub(_spelled, line.decode("utf-8"))
        record = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise LineError("line_json", error=str(error)[:200]) from None
    if type(record) is not dict:
        raise LineError("line_object")
    return record


def _spelled(found: re.Match[str]) -> str:
    if found.group(2) is None:
        return found.group(0)
    return "NaN" if found.group(2).lower() == "nan" else f"{found.group(1)}Infinity"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name, value in pairs:
        if name not in record:
            record[name] = value
        elif name != _TWICE:
            raise LineError("line_twice", name=name[:80])
    return record
