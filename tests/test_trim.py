"""A library whose ``kv_trim`` does nothing, over the real engine: a rollback that cannot be shown is no evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_greta.backends.base import BackendError
from pytest_greta.backends.registry import open_backends
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.ways import Reuse, Ways
from pytest_greta.probing import judge
from pytest_greta.report.sentence import reasons
from tests.support.plain import PlainBackend


class Library:
    """The CPU library with another ``kv_trim``: ``none`` does nothing, ``refuses`` makes trimmed rows unreadable."""

    def __init__(self, how: str) -> None:
        self.inner, self.how = open_backends("cpu", extra={}, base=Path())["prefill"], how

    def open(self, config: Any) -> Session:
        return Session(self.inner.open(config), self.how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Session:
    def __init__(self, inner: Any, how: str) -> None:
        self.inner, self.how, self.length = inner, how, 1 << 30

    def kv_trim(self, seq: int, length: int) -> None:
        if self.how == "refuses":
            self.length = length

    def kv_write(self, layer: int, batch: Any, k: Any, v: Any) -> None:
        self.length = max(self.length, int(batch.slots.max()) + 1)
        self.inner.kv_write(layer, batch, k, v)

    def kv_read(self, layer: int, seq: int, start: int, count: int) -> Any:
        if start + count > self.length:
            raise BackendError("GRETA_INVALID_ARGUMENT", "no such row")
        return self.inner.kv_read(layer, seq, start, count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def verdict(backend: Any, page_size: int = 0) -> Any:
    ways = Ways(reuse=Reuse(8, 3), left_pad=2)
    plan = RunPlan(tuple(range(1, 21)), layers=(0, 3), ways=ways, page_size=page_size, further=())
    return judge(load_source("synthetic"), plan, {"prefill": backend, "decode": backend}, "kv_aligned").verdict


@pytest.mark.parametrize("page_size", [0, 4])
def test_a_trim_that_does_nothing_is_no_evidence(page_size: int) -> None:
    found = verdict(Library("none"), page_size)
    assert (found.status, found.reason) == ("INCONCLUSIVE", "untrimmed")
    (said,) = reasons(found, "en")
    assert "layers 2: ..0,3 still give the bytes of the 3 rows from row 8 on" in said


@pytest.mark.parametrize("how", ["cpu", "refuses", "engine"])
def test_rows_that_are_zero_refused_or_the_harness_own_are_forgotten(how: str) -> None:
    backends = {"cpu": lambda: Library("none").inner, "refuses": lambda: Library("refuses"), "engine": PlainBackend}
    assert verdict(backends[how]()).status == "PASS"
