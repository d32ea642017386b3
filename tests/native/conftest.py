"""Fixtures of the native tests."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import hip_build
import pytest
from attention_cases import backend

collect_ignore = [] if importlib.util.find_spec("torch") else ["test_device_memory.py"]


@pytest.fixture(params=["avx512", "avx2", "portable"])
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set; one that the processor lacks is checked to be refused, in test_native_library."""
    best = backend().describe().raw["isa"]
    order = ["avx512", "avx2", "portable"]
    name = max(request.param, best, key=order.index)
    monkeypatch.setenv("GRETA_CPU_ISA", name)
    return name


@pytest.fixture(scope="session")
def hip_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HIP library for gfx942 and gfx90a, its twin beside it. GRETA_TEST_HIP_BUILD: a build folder to keep."""
    folder = os.environ.get("GRETA_TEST_HIP_BUILD") or tmp_path_factory.mktemp("hip")
    return hip_build.build(Path(folder), "greta_attn_hip", "-DGRETA_HIP=ON")
