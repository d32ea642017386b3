"""Sessions of a run are closed, whatever goes wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_greta.backends.base import PHASES, Description, SessionConfig, Unsupported
from pytest_greta.backends.native import load
from pytest_greta.engine.run import Library, RunPlan, trace_probe
from pytest_greta.engine.synthetic import synthetic
from pytest_greta.engine.ways import Reuse, Ways


class Counted:
    """The built-in library, its open sessions counted; ``fails``: a session whose close raises."""

    def __init__(self, without: str = "", fails: bool = False) -> None:
        self.without, self.fails = without, fails
        self.open_now = 0

    def describe(self) -> Description:
        said = load().describe()
        return replace(said, features=said.features - {self.without})

    def device_count(self) -> int:
        return 1

    def open(self, config: SessionConfig) -> Any:
        session = load().open(config)
        self.open_now += 1
        close = session.close

        def counted() -> None:
            close()
            self.open_now -= 1
            if self.fails:
                raise RuntimeError("cannot be closed")

        session.close = counted  # type: ignore[method-assign]
        return session


def _trace(backend: Counted, **plan: Any) -> None:
    trace_probe(synthetic(), RunPlan((256, 1, 2, 3), **plan), dict.fromkeys(PHASES, Library(backend)))


def test_after_a_run() -> None:
    backend = Counted()
    _trace(backend)
    assert backend.open_now == 0


def test_of_a_library_that_lacks_what_a_cache_needs() -> None:
    backend = Counted(without="kv_read")
    with pytest.raises(Unsupported, match="kv_read"):
        _trace(backend)
    assert backend.open_now == 0


def test_of_a_library_that_cannot_forget_what_was_rolled_back() -> None:
    backend = Counted(without="kv_trim")
    with pytest.raises(Unsupported, match="does not declare kv_trim"):
        _trace(backend, ways=Ways(reuse=Reuse(1, 1)))
    assert backend.open_now == 0


def test_all_of_them_where_one_cannot_be_closed() -> None:
    backend = Counted(fails=True)
    with pytest.raises(RuntimeError, match="cannot be closed"):
        _trace(backend)
    assert backend.open_now == 0
