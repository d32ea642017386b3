"""What a faulty twin remembers of a session is gone with it: another one at the same address starts anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from attention_cases import batch, config, randn
from hip_cases import emulated

from pytest_greta.backends import native

ROWS = 40
KINDS = {"kv_stale": 1.0, "race": 2.0}
"""Those that remember: rows as they were, and which calls were made."""


@pytest.fixture(params=["cpu", "hip-emulated"])
def twin(request: pytest.FixtureRequest) -> Iterator[native.NativeBackend]:
    twin = native.load(faulty=True) if request.param == "cpu" else emulated(faulty=True)
    yield twin
    twin.clear_fault()


def attended(session: Any, seed: int) -> None:
    """One decode call over rows of the seed, with the query of all seeds."""
    rng = np.random.default_rng(seed)
    session.kv_write(0, batch([ROWS], [ROWS]), *(randn(rng, (ROWS, 2, 16), "f32") for _ in range(2)))
    session.attend(0, "decode", batch([1], [ROWS]), randn(np.random.default_rng(0), (1, 4, 16), "f32"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_session_at_an_address_inherits_nothing(twin: native.NativeBackend, kind: str) -> None:
    twin.set_fault(kind, magnitude=KINDS[kind])
    used, again = set[Any](), 0
    for seed in range(20):  # sooner or later the allocator gives a block again
        with twin.open(config()) as session:
            again += session._handle in used
            used.add(session._handle)
            attended(session, seed)
        assert twin.fault_fired() == 0
    assert again


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_that_stays_open_keeps_its_own(twin: native.NativeBackend, kind: str) -> None:
    twin.set_fault(kind, magnitude=KINDS[kind])
    with twin.open(config()) as session:
        attended(session, 1)
        with twin.open(config()) as other:
            attended(other, 2)
        assert twin.fault_fired() == 0
        attended(session, 3)
        assert twin.fault_fired() == 1
