"""A model of transformers as a ``ModelSource`` that runs itself: from a folder, an id in the local cache, or a loaded
module."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from pytest_greta.backends.base import PHASES, Description, Numerics, Unsupported
from pytest_greta.dtypes import DTYPES
from pytest_greta.engine.engine import Engine
from pytest_greta.engine.gguf import load_gguf
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.spec import ModelSource, Tokenizer, decoder_stages
from pytest_greta.engine.store import ModelError, ModelMissing, known_models, resolve
from pytest_greta.faults.own_pass import PLANTED, plantable
from pytest_greta.hf import numerics
from pytest_greta.hf.attention import FLEX, IMPLEMENTATIONS, NEEDED
from pytest_greta.hf.caches import CACHES, new_cache
from pytest_greta.hf.families import Family
from pytest_greta.hf.parameters import family_of, parameters
from pytest_greta.hf.run import LIBRARY, Subject, trace
from pytest_greta.hf.weights import HfWeights, Read, checksum, files_of, gguf_reader, module_reader, reader
from pytest_greta.pytorch.arrays import torch_type
from pytest_greta.texts import text

PREFIX = "transformers:"
GGUF_PACKAGES = ("gguf", "accelerate")
"""What transformers reads a GGUF with."""
_LATE = "transformers.cache_utils"
"""Transformers imports its parts when they are asked for, and this one hqq with torch's compiler, where it is there."""
NewCache = Callable[[Any], Any]
"""Makes an empty cache from the model's configuration, of the user's own class."""
_TYPES = ("f32", "bf16", "f16")


@dataclass(frozen=True)
class _Given:
    """Where a model comes from. ``module``: from the type's name to the module in that type."""

    name: str
    config: Any
    family: Family
    module: Callable[[str], Any]
    read: Read
    names: frozenset[str]
    origin: str
    tokenizer: Tokenizer
    new_cache: NewCache | None = None
    types: tuple[str, ...] = _TYPES


def load_folder(name: str) -> ModelSource:
    """``transformers:PATH``, an id that is in the local cache of huggingface_hub, or a GGUF by its path or by the name
    of a known model. Nothing is fetched.

    Raises ``ModelMissing`` where the extra or the model is not there, ``ModelError`` for a model that cannot be probed.
    """
    needed(name)
    said = name.removeprefix(PREFIX)
    if said.endswith(".gguf") or said in known_models():
        return _load_gguf(name, resolve(said))
    folder = _folder(name)
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(
            "io", text("hf.config", path=folder, error=_first_line(error)), text("hf.mend.saved")
        ) from None
    family, files = family_of(config, name), files_of(folder)
    read, names = reader(files, family.body)
    given = _Given(
        name=name,
        config=config,
        family=family,
        module=lru_cache(maxsize=1)(partial(_from_folder, folder)),
        read=read,
        names=names,
        origin=f"safetensors sha256:{checksum(files)[:12]} {folder.name}",
        tokenizer=_Tokenizer(folder),
    )
    return _source(given)


def _load_gguf(name: str, path: Path) -> ModelSource:
    """A GGUF that transformers dequantises and runs, held to what our own reader finds in the file."""
    needed(name, *GGUF_PACKAGES)
    from transformers import AutoConfig, AutoModelForCausalLM

    source = load_gguf(path)
    file: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(path.parent, **file)
    except (OSError, ValueError) as error:
        raise ModelError("io", text("hf.gguf", path=path, error=_first_line(error)), text("hf.mend.saved")) from None
    family = family_of(config, name)
    read, names = gguf_reader(source, family, parameters(config, family, DTYPES["f32"], name))

    def module(act: str) -> Any:
        try:
            return AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch_type(act), **file).eval()
        except (OSError, ValueError, RuntimeError) as error:  # a tensor that does not fit among them
            message = text("hf.gguf", path=path, error=_first_line(error))
            raise ModelError("io", message, text("hf.mend.saved")) from None

    given = _Given(
        name=name,
        config=config,
        family=family,
        module=lru_cache(maxsize=1)(module),
        read=read,
        names=names,
        origin=source.origin,
        tokenizer=source.tokenizer,
    )
    return _source(given)


def from_module(module: Any, cache: NewCache | None = None) -> ModelSource:
    """A module in memory, as it is: its type, its weights, its attention. It has no checkpoint to be held to, so that
    its weights are a copy of its own.

    Raises ``ModelError`` for a module that is not a causal language model of ``families.FAMILIES``, one in training
    mode, or on another device than a CPU.
    """
    name = f"{PREFIX}{type(module).__name__}"
    needed(name)
    config = getattr(module, "config", None)
    if config is None or not hasattr(module, "set_attn_implementation"):
        raise ModelError("foreign", text("hf.not_a_model", kind=type(module).__name__), text("hf.mend.causal"))
    family = family_of(config, name)
    if not hasattr(module, family.body) or not hasattr(module, "lm_head"):
        raise ModelError("foreign", text("hf.no_head", kind=type(module).__name__), text("hf.mend.causal"))
    if module.training:
        raise ModelError("foreign", text("hf.training", kind=type(module).__name__), text("hf.mend.eval"))
    devices = {str(value.device) for value in module.parameters()}
    if devices != {"cpu"}:
        message = text("hf.device", kind=type(module).__name__, devices=", ".join(sorted(devices)))
        raise ModelError("foreign", message, text("hf.mend.cpu"))
    found = {name for name in _TYPES for value in module.parameters() if value.dtype == torch_type(name)}
    if len(found) != 1:
        types = ", ".join(sorted({str(value.dtype) for value in module.parameters()}))
        raise ModelError("foreign", text("hf.types", kind=type(module).__name__, types=types), text("hf.mend.one_type"))
    read, names = module_reader(module)
    given = _Given(
        name=name,
        config=config,
        family=family,
        module=lambda _: module,
        read=read,
        names=names,
        origin="weights not independent: a module in memory",
        tokenizer=_Tokenizer(None),
        new_cache=cache,
        types=tuple(found),
    )
    return _source(given)


def needed(name: str, *more: str) -> None:
    """Raises ``ModelMissing`` where torch, transformers or one of ``more`` is not installed."""
    for package in ("torch", "transformers", _LATE, *more):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                __import__(package)
        except ImportError:
            message = text("hf.extra", model=name, package=package.partition(".")[0])
            mend = f"pip install {' '.join(more)}" if package in more else "pip install 'pytest-greta[transformers]'"
            raise ModelMissing("extra", message, mend) from None


def _source(given: _Given, act: str = "") -> ModelSource:
    """``act``: what activations are in; a model that is only loaded is in the first of its types."""
    dtype = DTYPES[act or given.types[0]]
    config = parameters(given.config, given.family, dtype, given.name)
    weights = HfWeights(given.read, given.names, given.family, config, dtype)
    extras, engine = {"dtype": dtype.name}, partial(_engine, given)
    in_act = partial(_source, given)
    return ModelSource(given.name, config, weights, given.tokenizer, given.origin, extras, engine, in_act)


def _engine(given: _Given, spec: Any, plan: RunPlan) -> Engine:
    _require(given, plan)
    implementation, cache = _chosen(given, spec)
    source = _source(given, plan.act_dtype)
    declared = numerics.attention(implementation, plan.act_dtype)
    make = given.new_cache
    subject = Subject(
        module=given.module(plan.act_dtype),
        family=given.family,
        source=source,
        implementation=implementation,
        new_cache=(lambda _: make(given.config)) if make else partial(new_cache, cache, given.config),
    )
    further = tuple(part for part in plan.further if part != "q0" or declared.rounds_p or not declared.schedule_known)
    described = _description(implementation, declared)
    return Engine(
        source=source,
        stages=tuple(spec for spec in decoder_stages(source.config) if spec.stage != "lse"),
        descriptions=dict.fromkeys(PHASES, described),
        numerics=dict.fromkeys(PHASES, declared),
        model_numerics=numerics.model(given.family, plan.act_dtype),
        trace=partial(trace, subject, further),
        identity=(LIBRARY, implementation, cache, id(subject.module)),
    )


def _description(implementation: str, declared: Numerics) -> Description:
    import torch
    import transformers

    return Description(
        name=LIBRARY,
        version=f"{transformers.__version__}, torch {torch.__version__}",
        device_kind="cpu",
        features=frozenset(),
        act_dtypes=_TYPES,
        kv_dtypes=_TYPES,
        p_dtypes=_TYPES,
        kernels=dict.fromkeys(PHASES, implementation),
        numerics=dict.fromkeys(PHASES, declared),
        one_kernel=True,
    )


def _chosen(given: _Given, spec: Any) -> tuple[str, str]:
    """(attention, cache) that a case's ``backend`` asks for: ``cpu`` is the model's own choice."""
    wanted = spec if isinstance(spec, Mapping) else {} if spec == "cpu" else {"attention": spec}
    if foreign := set(wanted) - {"attention", "cache"}:
        raise Unsupported("backend", text("hf.backend", model=given.name, backend=", ".join(sorted(foreign))))
    capped = bool(getattr(given.config, "attn_logit_softcapping", None))
    own = getattr(given.config, "_attn_implementation", None) or "sdpa"
    implementation = str(wanted.get("attention", "eager" if capped or own == "eager" else own))
    if implementation not in IMPLEMENTATIONS:
        names = ", ".join(IMPLEMENTATIONS)
        if implementation in NEEDED:
            needs = NEEDED[implementation]
            raise Unsupported("attention", text("hf.attention_needs", name=implementation, needs=needs, names=names))
        raise Unsupported("attention", text("hf.attention", name=implementation, names=names))
    if implementation == FLEX and shutil.which(compiler := os.environ.get("CXX", "g++")) is None:
        raise ModelMissing("extra", text("hf.compiler", name=FLEX, compiler=compiler), f"apt-get install {compiler}")
    if implementation == "sdpa" and capped:
        raise Unsupported("attention", text("hf.softcap", model=given.name))
    cache = str(wanted.get("cache", CACHES[0]))
    if cache not in CACHES:
        raise Unsupported("cache", text("hf.cache_name", name=cache, names=", ".join(CACHES)))
    return implementation, cache


def _require(given: _Given, plan: RunPlan) -> None:
    """Raises ``Unsupported`` for what a model that runs itself cannot be asked."""
    asked = {
        "page_size": plan.page_size > 0,
        "left_pad": plan.ways.left_pad > 0,
        "batch": bool(plan.ways.companions),
        "reuse": plan.ways.reuse is not None,
        "schedule": bool(plan.schedule),
        "kv_dtype": plan.kv_dtype != plan.act_dtype,
        "gemm": plan.gemm != "blas",
    }
    for feature, wanted in asked.items():
        if wanted:
            raise Unsupported(feature, text("hf.feature", feature=feature, model=given.name))
    config = parameters(given.config, given.family, DTYPES[plan.act_dtype], given.name)
    if plan.inject is not None and not plantable(plan.inject, config):
        names = ", ".join(PLANTED)
        raise Unsupported("inject", text("hf.inject", fault=plan.inject.fault, model=given.name, names=names))
    if plan.act_dtype not in given.types:
        message = text("hf.other_type", model=given.name, types=", ".join(given.types), dtype=plan.act_dtype)
        raise Unsupported("dtype", message)


def is_id(said: str) -> bool:
    """Whether it may be a model's id, OWNER/NAME, to be looked for in the local cache where no such folder is."""
    return said.count("/") == 1 and not said.startswith((".", "/", "~"))


def _folder(name: str) -> Path:
    said = name.removeprefix(PREFIX)
    folder = Path(said).expanduser()
    if folder.is_dir():
        return folder
    if is_id(said):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(said, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError):
            pass
    raise ModelMissing("model", text("hf.no_folder", name=said), text("hf.mend.folder"))


def _from_folder(folder: Path, act: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch_type(act), local_files_only=True).eval()


class _Tokenizer:
    """That of the folder, loaded when a prompt is text."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._loaded: Any = None

    def encode(self, text: str) -> list[int]:
        return [int(i) for i in self._own()(text)["input_ids"]]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._own().decode(list(ids)))

    def _own(self) -> Any:
        if self._loaded is None:
            if self._folder is None or not any(self._folder.glob("tokenizer*")):
                raise ModelError("tokenizer", text("hf.no_tokenizer"), text("mend.token_ids"))
            from transformers import AutoTokenizer

            self._loaded = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
        return self._loaded


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]


def with_cache(source: ModelSource, cache: NewCache) -> ModelSource:
    """The same model with caches of the user's own class. Raises ``ModelError`` for one that our decoder runs."""
    engine = source.own_engine
    if not isinstance(engine, partial):
        raise ModelError("foreign", text("hf.no_cache", model=source.name), text("hf.mend.causal"))
    given = replace(engine.args[0], new_cache=cache)
    return _source(given)
