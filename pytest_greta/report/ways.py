"""How a token was reached, in words: the rows of ``Evidence.ways``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pytest_greta.report.messages import known, translate
from pytest_greta.report.text import clean
from pytest_greta.verdict import Verdict


def way_texts(verdict: Verdict | None, language: str) -> list[str]:
    """One entry a way; ``2 of 48, 1 of 33`` for sizes that repeat."""
    return [_text(row, language) for row in verdict.evidence.ways] if verdict else []


def _text(row: Mapping[str, Any], language: str) -> str:
    key = f"way.{row.get('way')}"
    if not known(key):  # a trace of another version
        return clean(str(row.get("way")))
    values = {name: _value(name, value, language) for name, value in row.items() if name != "way"}
    return translate(key, language, **values)


def _value(name: str, value: Any, language: str) -> str:
    if not isinstance(value, (list, tuple)):
        return clean(str(value))
    if name == "sizes":
        pairs = Counter(value).items()  # in the order in which they first ran
        return ", ".join(translate("way.size", language, count=count, rows=rows) for rows, count in pairs)
    return ", ".join(clean(str(item)) for item in value)
