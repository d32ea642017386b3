"""``greta_describe``'s JSON object, checked and turned into a ``Description``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pytest_greta.backends.base import PHASES, BackendError, Description, Numerics
from pytest_greta.dtypes import DTYPES
from pytest_greta.texts import Text, chain, text

OPTIONAL = ("rope", "kv_write", "kv_read", "kv_load", "kv_trim", "counters", "sync", "device_count")
"""The functions of the ABI that are capabilities; as a feature each counts when it is exported."""
JSON_NAMES: dict[type, str] = {str: "string", dict: "object", list: "array", bool: "boolean"}


def description(raw: Mapping[str, Any], present: frozenset[str], path: str) -> Description:
    """``greta_describe``'s object, checked. A function that is declared and not exported is no feature."""

    def wrong(key_of_text: str, /, **values: object) -> BackendError:
        return BackendError("GRETA_INTERNAL", text(key_of_text, path=path, **values))

    def get(key: str, kind: type, default: Any = None) -> Any:
        value = raw.get(key, default)
        if not isinstance(value, kind):
            raise wrong("describe.type", key=key, value=value, type=JSON_NAMES[kind])
        return value

    def choice(key: str, allowed: tuple[str, ...]) -> Any:
        value = raw.get(key, allowed[0])
        if value not in allowed:
            raise wrong("describe.choice", key=key, value=value, expected=chain("or", allowed))
        return value

    def names(key: str, allowed: tuple[str, ...] = ()) -> tuple[str, ...]:
        values = get(key, list, [])
        for value in values:
            if not isinstance(value, str) or (allowed and value not in allowed):
                if allowed:
                    raise wrong("describe.holds", key=key, value=value, names=", ".join(allowed))
                raise wrong("describe.holds_string", key=key, value=value)
        return tuple(values)

    kernels = get("kernels", dict)
    for phase in PHASES:
        if not isinstance(kernels.get(phase), str):
            raise wrong("describe.kernel", phase=phase)
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
        memory=names("memory", ("host", "device")) or ("host",),
        kv=choice("kv", ("cached", "stateless")),
        prefill_kv=choice("prefill_kv", ("cache", "fresh")),
        one_kernel=get("one_kernel", bool, False),
        path=path,
        raw=dict(raw),
    )


def _numerics(declared: Any, phase: str, path: str) -> Numerics:
    known = {field.name: type(field.default) for field in fields(Numerics)}

    def wrong(key: str, value: Any, expected: str | Text) -> BackendError:
        what = text("describe.numerics", path=path, key=key, value=value, type=expected)
        return BackendError("GRETA_INTERNAL", what)

    if not isinstance(declared, dict):
        raise wrong(phase, declared, text("describe.object"))
    values: dict[str, Any] = {}
    for key, value in declared.items():
        if key not in known:
            what = text("describe.unknown", path=path, key=f"{phase}.{key}", names=", ".join(known))
            raise BackendError("GRETA_INTERNAL", what)
        kind = known[key]
        fits = isinstance(value, (int, float)) if kind is float else isinstance(value, kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise wrong(f"{phase}.{key}", value, kind.__name__)
        values[key] = float(value) if kind is float else value
    return Numerics(**values)
