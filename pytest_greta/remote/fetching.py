"""A run's files, brought home: checked against the sums made there, then put where no other run lies.

::

    <artifacts>/<date>/<suite>[.2, .3, ...]/
      all that pytest wrote there
      run/pytest.log      what pytest printed
      origin.json         where and how the run was made, and the sums
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pytest_greta.artifacts import explained, next_folder
from pytest_greta.exit_codes import INCONCLUSIVE
from pytest_greta.remote.ssh import Conversation, RemoteError
from pytest_greta.report.text import clean
from pytest_greta.texts import join, text

LOG, ABOUT = "pytest.log", "origin.json"
ABOUT_KEYS = ("run", "date", "host", "hostname", "user", "arguments", "environment", "code", "state", "total", "done")
OPTION = "--artifacts"

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NAMED = 5
"""Damaged files that are named."""


@dataclass(frozen=True)
class Fetched:
    """``header``: the state of the run as the host gave it. ``log``: the end of what pytest printed there."""

    header: Mapping[str, Any]
    folders: tuple[Path, ...]
    log: tuple[str, ...] = ()


def receive(conversation: Conversation, artifacts: Path) -> Fetched:
    """All suites of the run. Raises ``RemoteError`` for a stream that ends early or a file that is not what it was,
    and then nothing is kept; ``ArtifactError`` where it cannot be written here."""
    header = conversation.answer()
    with explained(artifacts, OPTION):
        day = artifacts / _DATE.fullmatch(header["date"]).group()  # type: ignore[union-attr]  # ours, sent with the run
        day.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".remote-", dir=day) as temporary:
            got = _unpack(conversation, Path(temporary))
            _compare(header["files"], got)
            folders = tuple(_place(header, suite, day) for suite in sorted(Path(temporary).glob("artifacts/*/*/")))
            log = (Path(temporary) / LOG).read_text("utf-8", "replace").splitlines()
    return Fetched(header, folders, tuple(log))


def _unpack(conversation: Conversation, folder: Path) -> dict[str, str]:
    """Writes each file and gives its sum. Only plain files below ``folder`` are ever made."""
    sums = {}
    try:
        with tarfile.open(fileobj=conversation.stream, mode="r|") as tar:
            for entry in tar:
                path = PurePosixPath(entry.name)
                stream = tar.extractfile(entry) if entry.isreg() else None
                if stream is None or path.is_absolute() or ".." in path.parts:
                    raise RemoteError(text("remote.strange_file", file=clean(entry.name)), INCONCLUSIVE)
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    sums[entry.name] = _copy(stream, file)
    except (tarfile.TarError, EOFError) as error:
        raise RemoteError(join(": ", text("remote.cut_receiving"), clean(str(error))), INCONCLUSIVE) from None
    return sums


def _copy(stream: IO[bytes], file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for block in _blocks(stream):
        digest.update(block)
        file.write(block)
    return digest.hexdigest()


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(1 << 20):
        yield block


def _compare(made: Mapping[str, str], got: Mapping[str, str]) -> None:
    wrong = sorted(name for name in {*made, *got} if made.get(name) != got.get(name))
    if wrong:
        names = ", ".join(clean(name) for name in wrong[:_NAMED])
        raise RemoteError(text("remote.altered", count=len(wrong), files=names), INCONCLUSIVE)


def _place(header: Mapping[str, Any], suite: Path, day: Path) -> Path:
    """The folder of one suite, in its place. One that is there already, unchanged, from an earlier fetch is kept."""
    prefix = f"artifacts/{suite.parent.name}/{suite.name}/"
    files = {name.removeprefix(prefix): made for name, made in header["files"].items() if name.startswith(prefix)}
    about = {key: header[key] for key in ABOUT_KEYS}
    (suite / ABOUT).write_text(json.dumps({**about, "files": files}, indent=1) + "\n")
    for known in sorted(day.glob(f"*/{ABOUT}")):
        if known.read_bytes() == (suite / ABOUT).read_bytes() and _unchanged(known.parent, files):
            return known.parent
    (suite / "run").mkdir(exist_ok=True)
    shutil.copyfile(suite.parents[2] / LOG, suite / "run" / LOG)
    target = next_folder(day, suite.name)
    suite.rename(target)  # over the empty folder: it is there whole or not at all
    return target


def _unchanged(folder: Path, files: Mapping[str, str]) -> bool:
    try:
        return all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == made for name, made in files.items())
    except OSError:
        return False
