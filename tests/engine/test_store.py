"""Names, paths and the cache folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pytest_greta.engine import store
from pytest_greta.engine.load import check_name
from pytest_greta.engine.store import ModelError, ModelMissing


def test_cache_folder_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("GRETA_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert store.cache_dir() == Path("/home/someone/.cache/pytest-greta")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says its specification
    assert store.cache_dir() == Path("/home/someone/.cache/pytest-greta")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert store.cache_dir() == Path("/xdg/pytest-greta")
    monkeypatch.setenv("GRETA_CACHE", "~/own")
    assert store.cache_dir() == Path("/home/someone/own")


def test_known_name_not_pulled(own_cache: Path) -> None:
    assert store.find_model("smollm2-135m") is None
    with pytest.raises(ModelMissing) as caught:
        store.resolve("smollm2-135m")
    assert caught.value.kind == "model"
    assert caught.value.mend == "greta model pull smollm2-135m"
    assert str(own_cache) in str(caught.value)


def test_known_name_and_path(own_cache: Path, tmp_path: Path) -> None:
    path = own_cache / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert store.find_model("smollm2-135m") == store.resolve("smollm2-135m") == path
    assert store.resolve(str(path)) == path


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("smollm", "did you mean smollm2-135m?"),
        ("sintetic", "did you mean synthetic?"),
        ("zzz", "give the path of a .gguf file"),
        ("", "give the path of a .gguf file"),
    ],
)
def test_unknown_name(own_cache: Path, name: str, hint: str) -> None:
    with pytest.raises(ModelError) as caught:
        store.resolve(name, ["synthetic"])
    assert not isinstance(caught.value, ModelMissing)
    assert caught.value.kind == "unknown"
    assert repr(name) in str(caught.value)
    assert "smollm2-135m, synthetic" in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("llamacpp:foo", r"unknown model 'foo'; known: smollm2-135m; give the path of a \.gguf file"),
        ("llamacpp:", r"'llamacpp:': nothing stands behind the colon; give the path of a \.gguf file"),
        ("llamacpp", r"'llamacpp:': nothing stands behind the colon; give the path of a \.gguf file"),
        ("transformers:", "'transformers:': nothing stands behind the colon; give the folder"),
        ("transformers", "'transformers:': nothing stands behind the colon; give the folder"),
    ],
)
def test_names_of_models_that_others_run(own_cache: Path, name: str, words: str) -> None:
    """What is said names what that family takes, and nothing else."""
    with pytest.raises(ModelError, match=words) as caught:
        check_name(name)
    assert not isinstance(caught.value, ModelMissing)
    assert "synthetic" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere.gguf", "models/nowhere"])
def test_missing_path(name: str) -> None:
    with pytest.raises(ModelMissing, match=r"no model file at .*nowhere"):
        store.resolve(name)


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc" * 1_000_000)
    assert store.sha256_of(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
