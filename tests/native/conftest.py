"""Fixtures of the native tests."""

from __future__ import annotations

import pytest
from attention_cases import backend


@pytest.fixture(params=["avx512", "avx2", "portable"])
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set; one that the processor lacks is checked to be refused, in test_native_library."""
    best = backend().describe().raw["isa"]
    order = ["avx512", "avx2", "portable"]
    name = max(request.param, best, key=order.index)
    monkeypatch.setenv("GRETA_CPU_ISA", name)
    return name
