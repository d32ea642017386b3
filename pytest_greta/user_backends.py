"""Backends that a conftest.py or a plugin gives by the hook ``pytest_greta_backends``."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_greta import settings as settings_
from pytest_greta import texts
from pytest_greta.located import where_of

if TYPE_CHECKING:
    from pytest_greta.backends.base import AttentionBackend

Backends = Mapping[str, "Callable[[], AttentionBackend]"]
_BACKENDS: pytest.StashKey[Backends] = pytest.StashKey()


def user_backends(config: pytest.Config) -> Backends:
    """From the hook ``pytest_greta_backends``; of two with one name that of the nearer conftest.py wins."""
    if _BACKENDS not in config.stash:
        merged: dict[str, Callable[[], AttentionBackend]] = {}
        results = config.hook.pytest_greta_backends(config=config)
        for found, place in reversed(list(zip(results, _places(config, len(results)), strict=True))):
            if problem := _problem(found, place):
                raise pytest.UsageError("\n".join(problem.lines(settings_.lang(config))))
            merged.update(found)
        config.stash[_BACKENDS] = merged
    return config.stash[_BACKENDS]


def _places(config: pytest.Config, count: int) -> list[str]:
    """Where each of the hook's ``count`` results comes from: file:line. All of the places for each, where a hook that
    returned None, which pluggy leaves out, makes it unknown which is whose."""
    hooks = [impl for impl in reversed(config.hook.pytest_greta_backends.get_hookimpls()) if not impl.hookwrapper]
    codes = [getattr(impl.function, "__code__", None) for impl in hooks]
    places = [where_of(config, Path(code.co_filename), code.co_firstlineno) if code else "?" for code in codes]
    return places if len(places) == count else [", ".join(places)] * count


def _problem(found: object, place: str) -> texts.Text | None:
    """Why this is no answer of the hook; None where it is one."""
    if not isinstance(found, Mapping):
        return texts.text("bad_hook", place=place, found=reprlib.repr(found))
    for name, function in found.items():
        if not isinstance(name, str):
            kind = type(name).__name__
            return texts.text("bad_hook_name", place=place, name=reprlib.repr(name), kind=kind)
        if not callable(function):
            return texts.text("bad_hook_entry", place=place, name=name, kind=type(function).__name__)
    return None
