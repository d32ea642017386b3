"""A model by what a user writes: ``synthetic``, a known name, the path of a GGUF file, ``transformers:PATH`` or
``llamacpp:PATH``."""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path

from pytest_greta.engine.names import RUN_BY
from pytest_greta.engine.spec import ModelSource
from pytest_greta.engine.store import ModelError, ModelMissing, known_models, resolve
from pytest_greta.texts import text


@lru_cache(maxsize=4)
def load_source(name: str) -> ModelSource:
    """Loaded once a process. Raises ``ModelError`` (wrong) or ``ModelMissing`` (absent), each with what to do."""
    check_name(name)
    family, _, variant = name.partition(":")
    if family == "synthetic":
        from pytest_greta.engine.synthetic import synthetic

        return synthetic(variant or "llama")
    if family == "transformers":
        from pytest_greta.hf.load import load_folder

        return load_folder(name)
    if family == "llamacpp":
        from pytest_greta.llamacpp.load import load

        return load(name)
    from pytest_greta.engine.gguf import load_gguf

    return load_gguf(Path(name).expanduser() if is_path(name) else resolve(name))


def check_name(name: str) -> None:
    """Whether there is something of that name, as far as that can be told without loading it.

    Raises ``ModelError`` for a name that is none, ``ModelMissing`` for a path at which there is nothing and for a known
    model that was not pulled (``is_path`` tells the two apart).
    """
    family, colon, rest = name.partition(":")
    if family in RUN_BY and not rest:
        mend = text("hf.mend.folder") if family == "transformers" else text("mend.path_or_name")
        raise ModelError("unknown", text("model.nothing_behind", name=name if colon else f"{name}:"), mend)
    if family == "synthetic":
        _check_variant(name, rest)
    elif family == "transformers":
        from pytest_greta.hf.load import is_id

        if rest.endswith(".gguf") or rest in known_models():
            resolve(rest)
        elif not is_id(rest) and not Path(rest).expanduser().is_dir():
            raise ModelMissing("model", text("hf.no_folder", name=rest), text("hf.mend.folder"))
    elif family == "llamacpp":
        resolve(rest)
    elif "://" in name:
        names = ", ".join([*known_models(), *synthetic_names()])
        raise ModelError("unknown", text("model.not_yet", name=name), text("mend.use", names=names))
    elif not (is_path(name) and Path(name).expanduser().exists()):
        resolve(name, synthetic_names())


def synthetic_names() -> list[str]:
    """The synthetic models by the names that users type."""
    from pytest_greta.engine.synthetic import VARIANTS

    return ["synthetic", *(f"synthetic:{variant}" for variant in VARIANTS)]


def _check_variant(name: str, variant: str) -> None:
    from pytest_greta.engine.synthetic import VARIANTS

    if variant and variant not in VARIANTS:
        near = difflib.get_close_matches(variant, VARIANTS, 1)
        known = ", ".join(synthetic_names())
        hint = text("mend.near", name=f"synthetic:{near[0]}") if near else text("mend.known", names=known)
        raise ModelError("unknown", text("model.no_variant", name=name, variant=variant), hint)


def is_path(name: str) -> bool:
    """Whether a user means a file or a folder by it."""
    return name.endswith(".gguf") or "/" in name
