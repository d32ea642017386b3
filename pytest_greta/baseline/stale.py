"""Entries of a baseline to which no probe answers any more."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greta import settings as settings_
from pytest_greta.cases.model import CaseError
from pytest_greta.merge import SHARD

if TYPE_CHECKING:
    from pytest_greta.baseline.entry import Entry

_NARROWING = ("keyword", "markexpr", "deselect", "lf", "stepwise", "ignore", "ignore_glob")
"""pytest's own options that leave out a part of what there is."""


def is_whole(config: pytest.Config) -> bool:
    """Whether the run was of everything that its files hold."""
    narrowed = any(getattr(config.option, name, None) for name in _NARROWING)
    named = any("::" in str(argument) for argument in config.args)
    return not (narrowed or named or settings_.read(config)["mode"] or os.environ.get(SHARD))


def stale(config: pytest.Config, entries: Mapping[str, Entry]) -> list[str]:
    """Those that no case file holds. A file that cannot be read says nothing against its entries."""
    from pytest_greta.cases.loader import load_suite
    from pytest_greta.plan import expand

    overrides: tuple[Any, ...] = ({}, settings_.read(config).overrides)

    @cache
    def probes(file: str) -> Iterable[str] | None:
        path = config.rootpath / file
        if not path.exists():
            return ()
        try:
            cases = load_suite(path).cases
            return {f"{case.id}::{probe.id}" for case in cases for given in overrides for probe in expand(case, given)}
        except (CaseError, OSError):
            return None

    found = []
    for name in entries:
        file, _, rest = name.partition("::")
        known = probes(file)
        if known is not None and rest not in known:
            found.append(name)
    return sorted(found)
