"""Libraries built from C."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from backend_command import ROOT, SKELETON, Build


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    def built(source: Path | str, *flags: str) -> Path:
        folder = tmp_path_factory.mktemp("library")
        if isinstance(source, str):
            (folder / "user.c").write_text(source, encoding="utf-8")
            source = folder / "user.c"
        include = [f"-I{SKELETON}", f"-I{ROOT / 'native/include'}"]
        path = folder / "libuser.so"
        command = ["gcc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *include, *flags]
        subprocess.run([*command, "-o", str(path), str(source), "-lm"], check=True)
        return path

    return built
