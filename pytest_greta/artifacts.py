"""The files of a run.

::

    <root>/<YYYY-MM-DD>/<suite>[.2, .3, ...]/     a later run of the day gets the next number
      run/<case>_<mode>[-<variant>].log
      traces/<case>_<mode>[-<variant>]_trace.jsonl (+ .safetensors)
      <SUITE>_FINAL_REPORT.md
      <SUITE>_ANALYSIS.tsv
      results.jsonl                                one line a probe

Nothing is written outside the run's folder whatever an id contains, and never over another run. A file that is there is
complete: text is written beside it, flushed to the disk and renamed. ``results.jsonl`` grows by one write a line; a
kill inside that write may cut the last line (Linux ends a write at a page), never one before it, and ``read_results``
says so.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import os
import secrets
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pytest_greta.packed import Line, line_of, unpack
from pytest_greta.report.messages import prose, translate
from pytest_greta.report.text import clean
from pytest_greta.result import ProbeResult
from pytest_greta.texts import Text

RESULTS = "results.jsonl"
REPORT = "_FINAL_REPORT.md"
"""What ends the name of a run's report."""
OPTION = "--greta-artifacts"
BUFFER = 1 << 20
"""Bytes read at once: a line has tens of thousands, and pieces of 8 KiB cost as much as the reading."""
MAX_NAME = 120
"""Bytes of a name made from ids; the longest suffix of ours fits into what file systems leave (255)."""

Seen = Callable[[ProbeResult], None]

_SAFE = frozenset(string.ascii_letters + string.digits + "._-=")


class ArtifactError(Exception):
    """A file of the run cannot be written or read. ``str()`` is one line, in both languages, and says what to do."""

    def __init__(self, said: Text) -> None:
        super().__init__(" / ".join(said.lines("both")))
        self.said = said


def safe_name(text: str) -> str:
    """A file name from an id: everything but letters, digits and ``._-=`` percent-encoded, no leading dot.

    Two ids never give one name; one that would be too long ends in a hash of the whole.
    """
    raw = text.encode("utf-8", "surrogatepass")
    name = "".join(chr(b) if chr(b) in _SAFE else f"%{b:02X}" for b in raw) or "%00"
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 18]}~{hashlib.sha256(raw).hexdigest()[:16]}"


@dataclass(frozen=True)
class RunFolder:
    """One run of one suite. A worker of xdist writes only the files of its own probes: ``log``, ``trace_path``."""

    path: Path
    suite: str = ""
    is_worker: bool = False

    @classmethod
    def create(cls, root: str | os.PathLike[str], date: datetime.date | str, suite: str) -> RunFolder:
        """A new folder below ``root``, the next free number of the day. Raises ``ArtifactError``."""
        day = datetime.date.fromisoformat(date) if isinstance(date, str) else date
        parent = Path(root) / day.isoformat()
        name = safe_name(suite)
        with explained(Path(root)):
            parent.mkdir(parents=True, exist_ok=True)
            path = next_folder(parent, name)
            for below in ("run", "traces"):
                (path / below).mkdir()
        return cls(path, suite)

    @classmethod
    def worker(cls, path: str | os.PathLike[str]) -> RunFolder:
        """The view of a worker on the folder that the controller chose."""
        return cls(Path(path), is_worker=True)

    def log_path(self, case: str, probe: str) -> Path:
        """``probe``: mode and variant, ``kv_aligned-bf16``."""
        return self.path / "run" / (safe_name(f"{case}_{probe}") + ".log")

    def trace_path(self, case: str, probe: str, suffix: str = ".jsonl") -> Path:
        """``suffix``: ``.jsonl``, or ``.safetensors`` for the sidecar."""
        return self.path / "traces" / (safe_name(f"{case}_{probe}") + "_trace" + suffix)

    def log(self, case: str, probe: str, text: str) -> None:
        """Append whole lines to a probe's log; they are in the file when this returns. Raises ``ArtifactError``."""
        _append(self.log_path(case, probe), (text.rstrip("\n") + "\n").encode("utf-8", "backslashreplace"))

    def append(self, result: ProbeResult) -> None:
        """Add one line to ``results.jsonl``. Only the controller does. Raises ``ArtifactError``."""
        if self.is_worker:
            raise ValueError("results.jsonl belongs to the controller")
        _append(self.path / RESULTS, line_of(result))

    @property
    def report_path(self) -> Path:
        return self.path / (safe_name(self.suite).upper() + REPORT)

    @property
    def analysis_path(self) -> Path:
        return self.path / (safe_name(self.suite).upper() + "_ANALYSIS.tsv")

    def files(self) -> list[str]:
        """What the folder holds, with the report that is written last; relative to it."""
        with explained(self.path):
            found = {path for path in self.path.rglob("*") if path.is_file()} | {self.report_path}
        return sorted(path.relative_to(self.path).as_posix() for path in found)

    def write(self, path: Path, text: str | Iterable[str]) -> None:
        """A whole text, or its pieces, atomically. Raises ``ArtifactError``, ``ValueError`` for a path outside the
        folder."""
        if path.parent.resolve() != self.path.resolve():
            raise ValueError(f"{path} is not in {self.path}")
        with replacing(path) as temporary, temporary.open("wb") as file:
            for piece in [text] if isinstance(text, str) else text:
                file.write(piece.encode("utf-8", "backslashreplace"))


def next_folder(parent: Path, name: str) -> Path:
    """A new, empty folder ``name``, ``name.2``, ... whichever is free first. Raises ``OSError``."""
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}.{number}")
        try:
            path.mkdir()  # not exist_ok: of two runs that start together only one gets the number
            return path
        except FileExistsError:
            number += 1


def write_atomic(path: Path, data: bytes, option: str = OPTION) -> None:
    """Replace ``path`` by ``data``: a kill at any moment leaves the old file or the new. Raises ``ArtifactError``.

    ``option``: the one that the user would change, named in the error.
    """
    with replacing(path, option) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path, option: str = OPTION) -> Iterator[Path]:
    """A path to write to; what is there at the end is flushed to the disk and takes the place of ``path``."""
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"  # in the same folder: a rename within one file system
    with explained(path, option):
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def read_results(path: Path, seen: Seen | None = None) -> tuple[list[ProbeResult], list[str]]:
    """The results of a ``results.jsonl``, and a sentence for each line that is none (a kill may cut the last one).

    Their rows stay in the file, and are read again when someone asks for them; ``seen`` gets each result while they are
    at hand. Raises ``ArtifactError`` where the file cannot be read.
    """
    results, problems = [], []
    for number, place, raw in _lines_of(path):
        line = Line(partial(bytes, raw))
        try:
            result = unpack(line)
            if seen is not None:
                seen(result)
            line.read = partial(_part_of, path, place, len(raw))
            results.append(result)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            where = clean(f"{path}:{number}")
            problems.append(_both("breach.unreadable", where=where, error=clean(str(error))))
    return results, problems


def _lines_of(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(number from 1, first byte, the line) of each line that is not blank."""
    place = 0
    with _unread(path), path.open("rb", BUFFER) as file:
        for number, line in enumerate(file, 1):
            if not line.isspace():
                yield number, place, line
            place += len(line)


def _part_of(path: Path, place: int, size: int) -> bytes:
    with _unread(path), path.open("rb", 0) as file:
        return os.pread(file.fileno(), size, place)


@contextlib.contextmanager
def _unread(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(_text("artifacts.unread", path=clean(str(path)), error=_why(error))) from None


def _append(path: Path, line: bytes) -> None:
    """One write; where the disk takes only a part of it the file is cut back to whole lines."""
    with explained(path):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            size = os.fstat(file).st_size
            if os.write(file, line) != len(line):
                os.ftruncate(file, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)


@contextlib.contextmanager
def explained(path: Path, option: str = OPTION) -> Iterator[None]:
    """Turns what the system says of a file into ``ArtifactError``, with the option that the user would change."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            key = "artifacts.full"
        elif isinstance(error, (FileExistsError, NotADirectoryError)):
            key = "artifacts.file"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            key = "artifacts.denied"
        else:
            key = "artifacts.failed"
        raise ArtifactError(_text(key, path=clean(str(path)), error=_why(error), option=option)) from error


def _text(key: str, **values: object) -> Text:
    return Text(translate(key, "en", **values), translate(key, "es", **values))


def _both(key: str, **values: object) -> str:
    return " / ".join(prose(key, "both", **values))


def _why(error: OSError) -> str:
    return clean(error.strerror or str(error))
