"""A model by what a user writes: ``synthetic``, a known name, the path of a GGUF file, or ``transformers:PATH``."""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path

from pytest_greta.engine.spec import ModelSource
from pytest_greta.engine.store import ModelError, known_models, resolve
from pytest_greta.texts import text


@lru_cache(maxsize=4)
def load_source(name: str) -> ModelSource:
    """Loaded once a process. Raises ``ModelError`` (wrong) or ``ModelMissing`` (absent), each with what to do."""
    family, _, variant = name.partition(":")
    if family == "synthetic":
        from pytest_greta.engine.synthetic import VARIANTS, synthetic

        if variant and variant not in VARIANTS:
            near = difflib.get_close_matches(variant, VARIANTS, 1)
            known = ", ".join(f"synthetic:{variant}" for variant in VARIANTS)
            hint = text("mend.near", name=f"synthetic:{near[0]}") if near else text("mend.known", names=known)
            raise ModelError("unknown", text("model.no_variant", name=name, variant=variant), hint)
        return synthetic(variant or "llama")
    if family == "transformers":
        from pytest_greta.hf.load import load_folder

        return load_folder(name)
    if "://" in name:
        known = ", ".join(["synthetic", *known_models()])
        raise ModelError("unknown", text("model.not_yet", name=name), text("mend.use", names=known))
    from pytest_greta.engine.gguf import load_gguf

    return load_gguf(Path(name).expanduser() if is_path(name) else resolve(name))


def is_path(name: str) -> bool:
    """Whether a user means a file by it."""
    return name.endswith(".gguf") or "/" in name
