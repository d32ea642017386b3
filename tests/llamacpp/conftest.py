"""Tests that need the extra llamacpp; conftest.py of the root deselects them where it is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))


@pytest.fixture(autouse=True)
def _own_cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of a small file by an earlier run, of other code perhaps, is not found again."""
    if request.node.get_closest_marker("model") is None:
        monkeypatch.setenv("GRETA_CACHE", str(tmp_path / "cache"))
