"""The command ``greta backend`` as a user runs it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SKELETON = ROOT / "pytest_greta" / "skeleton"
Build = Callable[..., Path]
"""``build(source, *flags)``: a C file, or its text, as a shared library."""


def greta(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest_greta.cli", "backend", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)


def check(path: Path, *args: str) -> dict[str, Any]:
    """What ``greta backend check --json`` says, its rows by case."""
    done = greta("check", path, "--json", *args)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["conformant"] else 1)
    found["rows"] = {row["case"]: row for row in found["rows"]}
    return found
