"""An attention library by what a user writes: a name, ``{library: PATH}``, or one of these for each phase."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pytest_greta.backends.base import PHASES, AttentionBackend, BackendMissing, Phase, Unsupported
from pytest_greta.texts import SaidError, text

ENTRY_POINTS = "pytest_greta.backends"
BUILT_IN = ("cpu",)

Factory = Callable[[], AttentionBackend]


class UnknownBackend(SaidError):
    """No library of that name. ``str()`` lists those that there are."""


def known_backends(extra: Mapping[str, Factory]) -> tuple[str, ...]:
    """Built-in names, those of installed packages and those of the hook, in this order."""
    installed = sorted(e.name for e in entry_points(group=ENTRY_POINTS))
    return tuple(dict.fromkeys([*BUILT_IN, *installed, *sorted(extra)]))


def open_backends(
    spec: Any, *, extra: Mapping[str, Factory], base: Path, faulty: bool = False
) -> dict[Phase, AttentionBackend]:
    """The library of each phase; one object where both phases name the same.

    ``spec``: the value of the case's ``backend``. ``extra`` come before built-in ones of the same name. ``base``:
    relative paths start there. ``faulty``: the twin with faults. Raises ``UnknownBackend``, ``BackendMissing``, or
    ``Unsupported`` where a library has no twin.
    """
    if isinstance(spec, Mapping) and set(spec) == set(PHASES):
        if spec["prefill"] == spec["decode"]:
            spec = spec["prefill"]
        else:
            return {phase: _open(spec[phase], extra, base, faulty) for phase in PHASES}
    backend = _open(spec, extra, base, faulty)
    return dict.fromkeys(PHASES, backend)


def _open(spec: Any, extra: Mapping[str, Factory], base: Path, faulty: bool) -> AttentionBackend:
    if isinstance(spec, Mapping):
        if faulty:
            raise Unsupported("faulty twin", text("backend.no_twin"))
        return _native(base / Path(str(spec["library"])).expanduser())
    if spec == "cpu" and spec not in extra:
        return _native(None, faulty)
    if spec not in known_backends(extra):
        known = known_backends(extra)
        near = difflib.get_close_matches(str(spec), known, 1)
        hint = text("backend.near", name=near[0]) if near else ""
        raise UnknownBackend(text("backend.unknown", name=spec, near=hint, names=", ".join(known)))
    if faulty:
        raise Unsupported("faulty twin", text("backend.no_twin_of", name=spec))
    if spec in extra:
        return extra[spec]()
    (entry,) = entry_points(group=ENTRY_POINTS, name=spec)
    try:
        factory: Factory = entry.load()
    except ImportError as error:
        mend = text("backend.import_mend", entry=entry.value)
        raise BackendMissing("extra", f"backend {spec!r}: {error}", mend) from error
    return factory()


def _native(path: Path | None, faulty: bool = False) -> AttentionBackend:
    from pytest_greta.backends.native import load

    return load(path, faulty=faulty)
