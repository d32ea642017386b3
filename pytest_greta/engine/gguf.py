"""A GGUF checkpoint as a ``ModelSource``: hyper-parameters, float32 weights, tokenizer.

Read by the package ``gguf``, once: the result goes into the weight cache (``weight_cache.py``), and a later start
parses no GGUF. Hyper-parameter keys and tensor names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import LayerConfig
from pytest_greta.engine import gguf_plan
from pytest_greta.engine.gguf_families import FAMILIES
from pytest_greta.engine.gguf_layout import check_layout
from pytest_greta.engine.spec import ModelConfig, ModelSource
from pytest_greta.engine.store import ModelError, ModelMissing, check_known, printable, sha256_of
from pytest_greta.engine.tokenizer import GgufTokenizer, missing_extra, tokenizer_facts
from pytest_greta.engine.weight_cache import CachedWeights, load_or_build
from pytest_greta.texts import as_text, text

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor


def load_gguf(path: Path) -> ModelSource:
    """The model in the file ``path``. Weights are read-only views of the memory-mapped cache file.

    ``extras``: ``path``, ``sha256``, ``cache`` (``Text``: the cache file, or why there is none), ``licence``,
    ``file_type`` (types of the stored tensors with their counts), ``tied`` (output matrix is the embedding).
    Raises ``ModelMissing`` (no such file, extra not installed), ``ModelError`` (anything wrong with the file).
    """
    try:
        sha256 = sha256_of(path)
    except FileNotFoundError:
        raise ModelMissing("model", text("model.no_file", path=path), text("mend.path")) from None
    except OSError as error:
        message = text("model.io", path=path, error=error.strerror)
        raise ModelError("io", message, text("mend.readable")) from None
    check_known(path, sha256)
    cached = load_or_build(sha256, lambda: _convert(path))
    facts = cached.facts
    return ModelSource(
        name=facts["name"] or path.stem,
        config=_config_from(facts["config"]),
        weights=_with_aliases(cached, facts["aliases"]),
        tokenizer=GgufTokenizer(facts["tokenizer"]),
        origin=f"gguf sha256:{sha256} {path.name}",
        extras={
            "path": str(path),
            "sha256": sha256,
            "cache": cached.note or as_text(str(cached.path)),
            "licence": facts["licence"],
            "file_type": facts["file_type"],
            "tied": bool(facts["aliases"]),
        },
    )


def _with_aliases(cached: CachedWeights, aliases: dict[str, str]) -> CachedWeights:
    """A tied output matrix is a second name for the same memory."""
    tensors = {**cached.tensors, **{alias: cached.tensors[name] for alias, name in aliases.items()}}
    return dataclasses.replace(cached, tensors=tensors)


def _config_from(facts: dict[str, Any]) -> ModelConfig:
    def layer(entry: dict[str, Any]) -> LayerConfig:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
        return LayerConfig(**values)

    return ModelConfig(**{**facts, "layers": tuple(layer(entry) for entry in facts["layers"])})


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a file holds: its fields, its tensors as they are stored, and how to read them."""

    fields: dict[str, Any]
    tensors: dict[str, ReaderTensor]
    plan: gguf_plan.Plan


def contents(path: Path) -> Contents:
    """Parse the file. Raises ``ModelMissing`` (extra not installed), ``ModelError`` (anything wrong with the file)."""
    try:
        import gguf
    except ImportError:
        raise missing_extra("gguf") from None
    check_layout(path, {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()})
    fields, tensors = _read(path, gguf.GGUFReader)
    arch = str(fields.get("general.architecture"))
    if arch not in FAMILIES:
        mend = text("mend.one_of", names=", ".join(FAMILIES))
        raise ModelError("arch", text("gguf.arch", path=path, arch=arch), mend)
    plan = gguf_plan.plan(
        str(path), arch, fields, {t.name: tuple(int(n) for n in reversed(t.shape)) for t in tensors.values()}
    )
    return Contents(fields, tensors, plan)


def _convert(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """Tensors by our names, and the facts that go beside them into the cache."""
    found = contents(path)
    fields, tensors, plan = found.fields, found.tensors, found.plan
    weights = {ours: _float32(path, tensors[theirs]) for ours, theirs in plan.tensors.items()}
    config = plan.config
    if plan.rope_factors is not None:
        config = gguf_plan.with_rope_factors(config, _float32(path, tensors[plan.rope_factors]))
    own = {
        key.removeprefix("tokenizer.ggml."): value for key, value in fields.items() if key.startswith("tokenizer.ggml.")
    }
    facts = {
        "name": printable(str(fields.get("general.name", ""))),
        "licence": printable(str(fields.get("general.license", ""))),
        "config": dataclasses.asdict(config),
        "aliases": plan.aliases,
        "tokenizer": tokenizer_facts(str(path), own),
        "file_type": _types(tensors),
    }
    return weights, facts


def _read(path: Path, reader: type[GGUFReader]) -> tuple[dict[str, Any], dict[str, ReaderTensor]]:
    try:
        file = reader(path)
        fields = {key: field.contents() for key, field in file.fields.items()}
        return fields, {tensor.name: tensor for tensor in file.tensors}
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        # What the layout check lets through and the package does not take: duplicate names, text that is no UTF-8.
        message = text("gguf.foreign", path=path, error=" ".join(map(str, error.args)))
        raise ModelError("foreign", message, text("mend.damaged")) from None


def _types(tensors: dict[str, ReaderTensor]) -> str:
    names = [tensor.tensor_type.name for tensor in tensors.values()]
    return ", ".join(f"{name} {names.count(name)}" for name in sorted(set(names)))


def _float32(path: Path, tensor: ReaderTensor) -> NDArray[np.float32]:
    """Dequantised, C-contiguous, in NumPy's order of dimensions: [out, in] for a matrix. Raises on NaN and infinity."""
    from gguf.quants import dequantize

    try:
        with np.errstate(all="ignore"):  # a damaged scale overflows here and is found below
            values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    except NotImplementedError:
        message = text("gguf.dequantise", path=path, name=tensor.name, type=tensor.tensor_type.name)
        raise ModelError("tensor", message, text("mend.tensor_type")) from None
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        at = np.argwhere(~np.isfinite(values))[0].tolist()
        message = text("gguf.not_finite", path=path, name=tensor.name, count=bad, at=at)
        raise ModelError("nan", message, text("mend.finite"))
    return values
