"""What is sent: case files and the prompts that they name, laid out as they are here, and pytest's settings."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_greta.cases.loader import PATTERNS, is_case_file, load_suite
from pytest_greta.report.text import clean
from pytest_greta.texts import SaidError, join, text

HERE = Path(__file__).parent
PLUGIN = "greta_remote_progress"
CASES = "cases"


class PackError(SaidError):
    """There is nothing to send, or it cannot be read."""


@dataclass(frozen=True)
class Pack:
    """``data``: a tar. ``argument``: what pytest is to collect, a path in the run's folder. ``files``: of cases."""

    data: bytes
    argument: str
    files: int


def pack(path: Path) -> Pack:
    """All case files below a folder, or one file. Raises ``PackError``, ``CaseError`` for a wrong case."""
    files = [path] if path.is_file() else _below(path)
    if not files or not all(is_case_file(file, explicit=True) for file in files):
        raise PackError(text("remote.no_cases", path=clean(str(path))))
    suites = [load_suite(file) for file in files]
    cases = [case for suite in suites for case in suite.cases]
    prompts = {_absolute(case.prompt.file) for case in cases if case.prompt.file is not None}
    everything = sorted({*map(_absolute, files), *prompts})
    top = _absolute(path if path.is_dir() else path.parent)
    root = os.path.commonpath([top, *(file.parent for file in everything)])

    def name(file: Path) -> str:
        return (Path(CASES) / file.relative_to(root)).as_posix()

    contents = {name(file): _read(file) for file in everything}
    contents |= {
        "agent.py": _read(HERE / "agent.py"),
        f"{PLUGIN}.py": _read(HERE / f"{PLUGIN}.py"),
        "pytest.ini": _ini(mark for case in cases for mark in case.marks),
    }
    return Pack(_tar(contents), name(_absolute(path)), len(files))


def _absolute(path: Path) -> Path:
    """Links are kept: a prompt must lie there as its case file names it."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _below(folder: Path) -> list[Path]:
    found = {file for pattern in PATTERNS for file in folder.rglob(pattern) if file.is_file()}
    return sorted(f for f in found if not any(part.startswith(".") for part in f.relative_to(folder).parts))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise PackError(join(": ", clean(str(file)), error.strerror or str(error))) from None


def _ini(marks: Iterable[str]) -> bytes:
    """An ini file of their own, so that none in a folder above the run is taken; the cases' marks are known in it."""
    lines = ["[pytest]", "markers =", *(f"    {mark}: named by a case" for mark in sorted(set(marks)))]
    return ("\n".join(lines) + "\n").encode()


def _tar(contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
