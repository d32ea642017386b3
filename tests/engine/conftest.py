"""Fixtures of the engine's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GRETA_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The GGUF of SmolLM2-135M in the cache; without it the test is skipped, with the command that fetches it."""
    pytest.importorskip("gguf", reason="pip install 'pytest-greta[gguf]'")
    pytest.importorskip("tokenizers", reason="pip install 'pytest-greta[gguf]'")
    from pytest_greta.engine.store import ModelMissing, resolve

    try:
        return resolve("smollm2-135m")
    except ModelMissing as missing:
        pytest.skip(f"{missing.message}: {missing.mend}")
