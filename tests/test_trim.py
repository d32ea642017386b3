"""What a library makes of a rollback: one that keeps lengths of its own and does not trim them is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_greta.backends.base import BackendError
from pytest_greta.backends.registry import open_backends
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.ways import Reuse, Ways
from pytest_greta.probing import judge
from tests.support.plain import PlainBackend


class Library:
    """The CPU library with another ``kv_trim``: ``none`` does nothing, ``refuses`` makes trimmed rows unreadable;
    ``appends`` goes on behind a row that it should have trimmed."""

    def __init__(self, how: str) -> None:
        self.inner, self.how = open_backends("cpu", extra={}, base=Path())["prefill"], how

    def open(self, config: Any) -> Session:
        return Session(self.inner.open(config), self.how, config.max_len)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Session:
    def __init__(self, inner: Any, how: str, rows: int) -> None:
        self.inner, self.how, self.rows, self.length = inner, how, rows, 1 << 30
        self.end = self.late = 0

    def kv_trim(self, seq: int, length: int) -> None:
        if self.how == "refuses":
            self.length = length
        self.late = int(self.end > length)

    def kv_write(self, layer: int, batch: Any, k: Any, v: Any) -> None:
        self.length = max(self.length, int(batch.slots.max()) + 1)
        self.end = max(self.end, int(batch.slots.max()) + 1)
        if self.how == "appends":
            batch = replace(batch, slots=(batch.slots + batch.slots.dtype.type(self.late)) % self.rows)
        self.inner.kv_write(layer, batch, k, v)

    def kv_read(self, layer: int, seq: int, start: int, count: int) -> Any:
        if start + count > self.length:
            raise BackendError("GRETA_INVALID_ARGUMENT", "no such row")
        return self.inner.kv_read(layer, seq, start, count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def judged(backend: Any, **ways: Any) -> Any:
    plan = RunPlan(tuple(range(1, 21)), layers=(0, 3), ways=Ways(**ways), further=())
    return judge(load_source("synthetic"), plan, {"prefill": backend, "decode": backend}, "kv_aligned").verdict


@pytest.mark.parametrize("how", ["none", "refuses", "engine"])
def test_batches_bring_every_length_so_that_a_trim_may_do_nothing(how: str) -> None:
    backend = PlainBackend() if how == "engine" else Library(how)
    assert judged(backend, reuse=Reuse(8, 3), left_pad=2).status == "PASS"


def test_a_library_that_goes_on_behind_a_row_it_should_have_trimmed_is_found() -> None:
    assert judged(Library("appends")).status == "PASS"
    found = judged(Library("appends"), reuse=Reuse(8, 3))
    assert (found.status, found.scenario) == ("KV_MISMATCH", "REAL_MISMATCH")
    assert (found.first_failure.layer, found.first_failure.stage) == (0, "kv_write")
