"""An attention library by what a user writes: a name, ``{library: PATH}``, or one of these for each phase."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pytest_greta.backends.base import PHASES, AttentionBackend, BackendMissing, Phase, PythonError, Unsupported
from pytest_greta.pytorch import NAMES as TORCH
from pytest_greta.texts import SaidError, Text, text

ENTRY_POINTS = "pytest_greta.backends"
Factory = Callable[[], AttentionBackend]

NATIVE: Mapping[str, str] = {"cpu": "", "hip": "_hip", "cuda": "_cuda", "hip-emulated": "_hip_emulated"}
"""The shared libraries that come with the package, or can be built with it, by name: the ending of their files."""


def _numpy() -> AttentionBackend:
    from pytest_greta.backends.numpy_reference import backend

    return backend()


def _torch(name: str) -> AttentionBackend:
    from pytest_greta.pytorch.sdpa import backend

    return backend(name)


FUNCTIONS: Mapping[str, Factory] = {"numpy": _numpy, **{name: partial(_torch, name) for name in TORCH}}
"""Those in Python, by name. They have no faulty twin."""
BUILT_IN = (*NATIVE, *FUNCTIONS)


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
    if isinstance(spec, str) and spec in NATIVE and spec not in extra:
        return _built_in(NATIVE[spec], faulty)
    known = known_backends(extra)
    if spec not in known:
        raise UnknownBackend(unknown(str(spec), known))
    if faulty:
        raise Unsupported("faulty twin", text("backend.no_twin_of", name=spec))
    factory = extra.get(spec) or FUNCTIONS.get(spec) or _installed(str(spec))
    try:
        return factory()
    except SaidError:
        raise
    except Exception as error:
        said = traceback.format_exception_only(type(error), error)[-1].strip()
        raise PythonError(text("backend.raised", name=spec, error=said, place=_raised_at(error, factory))) from error


def _raised_at(error: Exception, factory: Factory) -> str:
    """The line of the user's that raised, or the name of what could not even be called."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # but this module's
    if frames:
        return f"{frames[-1].filename}:{frames[-1].lineno}"
    return f"{factory.__module__}.{getattr(factory, '__qualname__', type(factory).__name__)}"


def unknown(name: str, known: Sequence[str]) -> Text:
    """What is said of a name that is none."""
    near = difflib.get_close_matches(name, known, 1)
    hint = text("backend.near", name=near[0]) if near else ""
    return text("backend.unknown", name=name, near=hint, names=", ".join(known))


def _installed(name: str) -> Factory:
    """What the entry point of that name stands for."""
    found = list(entry_points(group=ENTRY_POINTS, name=name))
    if len({entry.value for entry in found}) > 1:
        values = ", ".join(sorted(f"{entry.value} ({entry.dist.name if entry.dist else '?'})" for entry in found))
        raise UnknownBackend(text("backend.ambiguous", name=name, entries=values))
    try:
        factory: Factory = found[0].load()
    except ImportError as error:
        mend = text("backend.import_mend", entry=found[0].value)
        raise BackendMissing("extra", f"backend {name!r}: {error}", mend) from error
    except AttributeError as error:
        raise UnknownBackend(text("backend.no_entry", name=name, entry=found[0].value, error=error)) from error
    if not callable(factory):
        raise UnknownBackend(text("backend.no_factory", name=name, entry=found[0].value, kind=type(factory).__name__))
    return factory


def _native(path: Path) -> AttentionBackend:
    from pytest_greta.backends.native import load

    return load(path)


def _built_in(ending: str, faulty: bool) -> AttentionBackend:
    from pytest_greta.backends.native import load

    return load(faulty=faulty, ending=ending)
