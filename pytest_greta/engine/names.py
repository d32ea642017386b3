"""What users write for a model, taken apart. Imports nothing heavy, so that the plugin can read it."""

from __future__ import annotations

from pathlib import Path, PurePath

RUN_BY = ("transformers", "llamacpp")
"""What may stand before a colon: whose forward pass runs the model."""


def split(name: str) -> tuple[str, str]:
    """``llamacpp:./a.gguf`` is (llamacpp:, ./a.gguf); a name without such a part is ("", name)."""
    family, colon, rest = name.partition(":")
    return (family + colon, rest) if colon and family in RUN_BY else ("", name)


def based(name: str, folder: Path) -> str:
    """The path of a GGUF, and one that begins with ".", "/" or "~", is relative to ``folder``; every other name, such
    as OWNER/NAME, stays as it is."""
    prefix, said = split(name)
    if "://" in said or not (said.endswith(".gguf") or said.startswith((".", "/", "~"))):
        return name
    return prefix + str(folder / Path(said).expanduser())  # an absolute path stays as it is


def portable(name: str) -> str:
    """A path differs from machine to machine, its last part does not."""
    prefix, said = split(name)
    return prefix + PurePath(said).name if said.endswith(".gguf") else name
