"""Every test of the plugin gets a project of its own, free of the caller's settings."""

from __future__ import annotations

import pytest
from greta_project import Project


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("GRETA_B3_66_MODE", "GRETA_TRACE_LAYERS", "GRETA_SEED", "GRETA_TRACE_B3_66", "GRETA_TEST_REQUIRE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("COLUMNS", "200")  # -rs and the short summary cut their lines otherwise
    return Project(pytester)
