"""Backends by the names of installed packages, and what is said where an entry point is wrong."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from pytest_greta.backends import registry
from pytest_greta.backends.base import BackendMissing


def open_installed(monkeypatch: pytest.MonkeyPatch, *values: str) -> Any:
    entries = [EntryPoint("theirs", value, registry.ENTRY_POINTS) for value in values]
    monkeypatch.setattr(registry, "entry_points", lambda group, name="theirs": [e for e in entries if e.name == name])
    return registry.open_backends("theirs", extra={}, base=Path())["decode"]


def test_an_entry_point_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_installed(monkeypatch, "builtins:dict") == {}


def test_the_same_entry_of_two_installs_of_one_package_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_installed(monkeypatch, "builtins:dict", "builtins:dict") == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("builtins:dict", "builtins:list"), r"several installed packages have this name: builtins:dict .*uninstall"),
        (("builtins:dictt",), r"entry point builtins:dictt leads nowhere .*expected MODULE:FUNCTION"),
        (("builtins:True",), r"entry point builtins:True is of type bool; expected a function"),
    ],
)
def test_what_is_wrong_with_an_entry_point(
    monkeypatch: pytest.MonkeyPatch, values: tuple[str, ...], message: str
) -> None:
    with pytest.raises(registry.UnknownBackend, match=message):
        open_installed(monkeypatch, *values)


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendMissing, match="No module named 'no_such_module'"):
        open_installed(monkeypatch, "no_such_module:f")
