"""Without the extra, one line says what to install."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

import pytest_greta as greta
from pytest_greta.engine.store import ModelMissing
from pytest_greta.llamacpp import library


def test_without_the_extra_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.gguf"
    file.touch()
    found = importlib.util.find_spec

    def none(name: str, *args: Any) -> Any:
        return None if name == library.PACKAGE else found(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", none)
    with pytest.raises(ModelMissing) as caught:
        greta.load_model(f"llamacpp:{file}")
    assert f"'llamacpp:{file}' needs the package 'xllamacpp', which is not installed" in str(caught.value)
    assert "pip install 'pytest-greta[llamacpp]'" in str(caught.value)


def test_the_release_is_the_same_wherever_it_is_said() -> None:
    root = Path(__file__).resolve().parents[2]
    required = re.findall(r"xllamacpp[=<>~]=[\w.]+", (root / "pyproject.toml").read_text(encoding="utf-8"))
    assert required == [library.REQUIREMENT]
    assert "xllamacpp==" not in (root / ".ci/run").read_text(encoding="utf-8")
    own = sorted((root / "pytest_greta/llamacpp").glob("*.py"))
    said = {
        build for page in (*own, root / "docs/llamacpp.md") for build in re.findall(r"\bb(\d{4,})\b", page.read_text())
    }
    assert said == {library.RELEASES[-1].rpartition(".")[2]}
