"""``greta_describe``'s JSON object, checked and turned into a ``Description``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pytest_greta.backends.base import PHASES, BackendError, Description, Numerics
from pytest_greta.dtypes import DTYPES

OPTIONAL = ("rope", "kv_write", "kv_read", "kv_load", "kv_trim", "counters", "sync", "device_count")
"""The functions of the ABI that are capabilities; as a feature each counts when it is exported."""
JSON_NAMES: dict[type, str] = {str: "string", dict: "object", list: "array", bool: "boolean"}


def description(raw: Mapping[str, Any], present: frozenset[str], path: str) -> Description:
    """``greta_describe``'s object, checked. A function that is declared and not exported is no feature."""

    def get(key: str, kind: type, default: Any = None) -> Any:
        value = raw.get(key, default)
        if not isinstance(value, kind):
            raise BackendError(
                "GRETA_INTERNAL", f"greta_describe of {path}: '{key}' is {value!r}, expected a JSON {JSON_NAMES[kind]}"
            )
        return value

    def choice(key: str, allowed: tuple[str, ...]) -> Any:
        value = raw.get(key, allowed[0])
        if value not in allowed:
            raise BackendError(
                "GRETA_INTERNAL", f"greta_describe of {path}: '{key}' is {value!r}, expected {' or '.join(allowed)}"
            )
        return value

    def names(key: str, allowed: tuple[str, ...] = ()) -> tuple[str, ...]:
        values = get(key, list, [])
        for value in values:
            if not isinstance(value, str) or (allowed and value not in allowed):
                expected = f"one of {', '.join(allowed)}" if allowed else "a string"
                raise BackendError(
                    "GRETA_INTERNAL", f"greta_describe of {path}: '{key}' holds {value!r}, expected {expected}"
                )
        return tuple(values)

    kernels = get("kernels", dict)
    for phase in PHASES:
        if not isinstance(kernels.get(phase), str):
            raise BackendError("GRETA_INTERNAL", f"greta_describe of {path}: 'kernels' names none for {phase}")
    declared = get("numerics", dict, {})
    dtypes = tuple(DTYPES)
    return Description(
        name=get("name", str),
        version=str(raw.get("version", "")),
        device_kind=get("device_kind", str, "cpu"),
        features=(frozenset(names("features")) - frozenset(OPTIONAL)) | present,
        act_dtypes=names("act_dtypes", dtypes),
        kv_dtypes=names("kv_dtypes", dtypes),
        p_dtypes=names("p_dtypes", dtypes),
        kernels={phase: kernels[phase] for phase in PHASES},
        numerics={phase: _numerics(declared.get(phase, {}), phase, path) for phase in PHASES},
        kv=choice("kv", ("cached", "stateless")),
        prefill_kv=choice("prefill_kv", ("cache", "fresh")),
        one_kernel=get("one_kernel", bool, False),
        path=path,
        raw=dict(raw),
    )


def _numerics(declared: Any, phase: str, path: str) -> Numerics:
    known = {field.name: type(field.default) for field in fields(Numerics)}
    where = f"greta_describe of {path}: numerics.{phase}"
    if not isinstance(declared, dict):
        raise BackendError("GRETA_INTERNAL", f"{where} is {declared!r}, expected a JSON object")
    values: dict[str, Any] = {}
    for key, value in declared.items():
        if key not in known:
            raise BackendError("GRETA_INTERNAL", f"{where}.{key} is unknown; known: {', '.join(known)}")
        kind = known[key]
        fits = isinstance(value, (int, float)) if kind is float else isinstance(value, kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise BackendError("GRETA_INTERNAL", f"{where}.{key} is {value!r}, expected {kind.__name__}")
        values[key] = float(value) if kind is float else value
    return Numerics(**values)
