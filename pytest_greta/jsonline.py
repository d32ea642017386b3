"""One JSON line from plain values. orjson alone would turn nan and inf into null and refuse lone surrogates."""

from __future__ import annotations

import math
from typing import Any

import orjson

_INT64 = 1 << 63


def json_line(plain: Any) -> bytes:
    """``plain`` (see ``plain.to_plain``) as UTF-8 JSON and a newline; nan and inf as "nan", "inf", "-inf"."""
    return orjson.dumps(fit(plain), option=orjson.OPT_APPEND_NEWLINE)


def fit(value: Any) -> Any:
    """What JSON can hold of plain values."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {fit(k): fit(v) for k, v in value.items()}
    if isinstance(value, list):
        return [fit(v) for v in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -_INT64 <= value < 2 * _INT64:
        return str(value)
    return value
