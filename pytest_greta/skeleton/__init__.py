"""``greta backend new``: a library to start from. It computes right attention, so its owner starts from green."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

from pytest_greta.texts import SaidError, text

CASES = "mine.greta.yaml"
FILES = ("mine.c", "Makefile", CASES)
HEADER = "greta_attn.h"


class SkeletonError(SaidError):
    """The folder cannot be made, or exists."""


def header() -> Path:
    """Of this pytest-greta: beside the native libraries, or in the source tree where they are not installed."""
    spec = find_spec("_greta_native")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (path := Path(folder) / HEADER).is_file():
            return path
    return Path(__file__).parents[2] / "native" / "include" / HEADER


def _suite(folder: Path) -> str:
    """Named after the folder, so that the cases of two libraries are two suites; quoted, as one may be called null."""
    name = re.sub(r"[^\w .-]+", "-", folder.resolve().name).strip(" -")[:200]
    return json.dumps(name or "mine", ensure_ascii=False)


def write(folder: Path) -> tuple[str, ...]:
    """Writes the files into ``folder``, which must not exist yet. Their names."""
    here = Path(__file__).parent
    sources = [*(here / name for name in FILES), header()]
    try:
        contents = {source.name: source.read_bytes() for source in sources}
        contents[CASES] = contents[CASES].replace(b"suite: mine", f"suite: {_suite(folder)}".encode())
        folder.mkdir(parents=True)
        for name, content in contents.items():
            with (folder / name).open("xb") as file:
                file.write(content)
    except FileExistsError:
        raise SkeletonError(text("new.exists", path=folder)) from None
    except OSError as error:
        raise SkeletonError(text("new.unwritable", path=folder, error=error.strerror or error)) from None
    return tuple(contents)
