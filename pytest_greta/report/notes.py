"""The notes of the checks in Spanish. Traces and results hold their English words; those are the templates here."""

from __future__ import annotations

import re
from functools import cache

from pytest_greta.report.en import CATALOGUE
from pytest_greta.report.messages import translate

_FIELD = re.compile(r"\\\{(\w+)\\\}")


def note_text(note: str, language: str) -> str:
    """A note (``StageCheck.note``, ``FirstFailure.detail``) in one language; what no template fits stays as it is."""
    return "; ".join(_one(part, language) for part in note.split("; "))


def _one(part: str, language: str) -> str:
    for key, template in _templates().items():
        if found := template.fullmatch(part):
            return translate(key, language, **found.groupdict())
    return part


@cache
def _templates() -> dict[str, re.Pattern[str]]:
    notes = {key: text for key, text in CATALOGUE.items() if key.startswith("note.")}
    return {key: re.compile(_FIELD.sub(r"(?P<\1>.+)", re.escape(text))) for key, text in notes.items()}
