"""The lines of a file, plain or gzip, one at a time: memory does not grow with the file, nor with a hostile line."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from pytest_greta.verdict import Breach

LIMIT = 1 << 24
"""Bytes of a line. A record of a full vocabulary has two or three million."""


def lines(path: Path) -> Iterator[tuple[int, bytes | Breach]]:
    """(number from 1, line) of every line that is not blank; a ``Breach`` in the place of what cannot be read."""
    number = 0
    try:
        with path.open("rb") as file, _plain(file) as stream:
            while line := stream.readline(LIMIT):
                number += 1
                if len(line) == LIMIT and not line.endswith(b"\n"):
                    while (more := stream.readline(LIMIT)) and not more.endswith(b"\n"):
                        pass
                    yield number, Breach("line_long", {"where": f"{path}:{number}", "limit": LIMIT})
                elif not line.isspace():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        yield number + 1, Breach("file_cut", {"where": f"{path}:{number + 1}", "error": why})


def _plain(file: BinaryIO) -> BinaryIO:
    """By what the file starts with, not by its name."""
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=file), 1 << 20)) if packed else file
