"""``metadata.json`` beside the logits of a phase: shown, and held against that of the other phase."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from pytest_greta.report.text import clean, shorten
from pytest_greta.verdict import Breach

FILE = "metadata.json"
LIMIT = 1 << 20
"""Bytes; one that is larger describes no run."""
_SHOWN = 40
_SAME = ("seed", "model", "prompt", "dtype", "kv_aligned")
"""A name that holds one of these says which run it was: the phases of one run must agree on it."""


def read(path: Path) -> tuple[dict[str, str], list[Breach]]:
    """Names and values, nested ones as ``a.b``; a breach where the file is no object. Nothing where there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise ValueError(f"longer than {LIMIT} bytes")
        found = orjson.loads(data)
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return {}, [Breach("metadata_unread", {"path": str(path), "error": clean(why)[:200]})]
    return _flat(found), []


def apart(found: Mapping[str, Mapping[str, str]]) -> list[Breach]:
    """What the two phases say differently of the run that they both claim to be."""
    left, right = found.values()
    return [
        Breach("metadata_apart", {"name": name, "left": left[name], "right": right[name]})
        for name in left.keys() & right.keys()
        if left[name] != right[name] and any(word in name.lower() for word in _SAME)
    ][:3]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    out: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict) and len(prefix) < 200:
            out |= _flat(value, f"{prefix}{name}.")
        elif len(out) < _SHOWN:
            out[shorten(f"{prefix}{name}", 80)] = shorten(str(value), 200)
    return dict(list(out.items())[:_SHOWN])
