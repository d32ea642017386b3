"""The public Python API: ``load_model`` and ``probe``."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import AttentionBackend
from pytest_greta.backends.registry import open_backends
from pytest_greta.cases import build
from pytest_greta.cases.model import Case, CaseError, Where
from pytest_greta.cases.schema import raise_for, validate
from pytest_greta.cases.yaml_ import Node
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import Library, RunPlan, last_logits
from pytest_greta.engine.spec import ModelConfig, ModelSource
from pytest_greta.plan import expand
from pytest_greta.probing import run_judged
from pytest_greta.report.failure import failure_text
from pytest_greta.report.messages import Lang
from pytest_greta.report.unmet import contract
from pytest_greta.result import ProbeResult
from pytest_greta.settings import API_SUITE, RunSettings
from pytest_greta.texts import text
from pytest_greta.trace.records import Trace
from pytest_greta.verdict import ATTENTION_COMPUTATION_MISMATCH, PASS, Verdict


@dataclass(frozen=True)
class Model:
    """A loaded model: its weights, its tokenizer, and the decoder around an attention library."""

    source: ModelSource

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def config(self) -> ModelConfig:
        return self.source.config

    def tokenize(self, text: str) -> list[int]:
        return self.source.tokenizer.encode(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        return self.source.tokenizer.decode(ids)

    def logits(
        self, ids: Sequence[int], *, backend: str | AttentionBackend = "cpu", dtype: str = "f32"
    ) -> NDArray[np.float32]:
        """Float32 logits [vocab] of the last position, by one prefill of ``ids``.

        Raises ``ValueError`` for no ids, an id outside the vocabulary or more than the context holds.
        """
        if self.source.own_engine is not None:
            raise ValueError(text("probe.own_attention", model=self.name).en)
        config = self.config
        if not 0 < len(ids) <= config.context:
            raise ValueError(f"{len(ids)} ids; expected 1 to {config.context}")
        outside = [i for i in ids if not 0 <= i < config.vocab]
        if outside:
            raise ValueError(f"id {outside[0]} is not a token; expected 0 to {config.vocab - 1}")
        library = Library(_backend(backend))
        plan = RunPlan(tuple(int(i) for i in ids), steps=0, act_dtype=dtype, kv_dtype=dtype, layers=())
        return last_logits(self.source, plan, library)


@dataclass(frozen=True)
class Run:
    """One probe that was run."""

    verdict: Verdict
    trace: Trace
    result: ProbeResult
    lang: Lang = "both"

    def assert_aligned(self) -> None:
        """Raises ``AssertionError`` with the report of the failure, unless it is a PASS and the contract is kept."""
        __tracebackhide__ = True
        if self.verdict.status != PASS or contract(self.result):
            said = failure_text(self.result, self.lang)
            if self.verdict.scenario == ATTENTION_COMPUTATION_MISMATCH and not contract(self.result):
                head, rest = said.split("\n", 1)
                why = (f"  {line}" for line in text("fixture.wants_pass").lines(self.lang))
                said = "\n".join([head, *why, rest])
            raise AssertionError(said)


class WatchedRun(Run):
    """A run that knows whether anyone has asked for its verdict."""

    asked = False
    refused = False
    """``assert_aligned`` has raised."""

    def assert_aligned(self) -> None:
        __tracebackhide__ = True
        try:
            super().assert_aligned()
        except AssertionError:
            object.__setattr__(self, "refused", True)
            raise

    def __repr__(self) -> str:
        """Without the verdict: a line that prints the run has not looked at it."""
        return f"<{type(self).__name__} {super().__getattribute__('result').case}>"

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __getattribute__(self, name: str) -> Any:
        if name in ("verdict", "result", "assert_aligned"):
            object.__setattr__(self, "asked", True)
        return super().__getattribute__(name)

    @property
    def overlooked(self) -> bool:
        """The verdict is no PASS, or not what the probe was told to expect, and nobody has asked for it."""
        return not self.asked and (self.verdict.status != PASS or self.result.outcome == "failed")


def load_model(
    model: Any, *, cache: Callable[[Any], Any] | None = None, between: Callable[[Any], Any] | None = None
) -> Model:
    """A model by name (``synthetic``, ``smollm2-135m``), by the path of a GGUF file, by ``transformers:PATH`` or
    ``llamacpp:PATH``, by a ``pathlib.Path`` (a folder is one of transformers); or a loaded module of transformers,
    which is run as it is and whose weights are a copy of its own.

    ``cache``: of a model of transformers, makes an empty cache from its configuration, in place of ``DynamicCache``.
    ``between``: of a model that llama.cpp runs, called with its context (``llamacpp.context.Context``) between prefill
    and decode, which goes on with the context that it gives back, or with the same.

    Raises ``engine.store.ModelError`` where it is wrong, ``ModelMissing`` where it or the extra ``gguf`` is absent.
    """
    if isinstance(model, os.PathLike):
        path = os.fspath(model)
        model = f"transformers:{path}" if Path(path).is_dir() else path
    if isinstance(model, str):
        source = load_source(model)
        if cache is not None:
            from pytest_greta.hf.load import with_cache

            source = with_cache(source, cache)
        if between is not None:
            from pytest_greta.llamacpp.load import with_between

            source = with_between(source, between)
        return Model(source)
    from pytest_greta.hf.load import from_module

    return Model(from_module(model, cache))


def probe(
    model: Any,
    ids: Sequence[int] | str,
    *,
    mode: str = "kv_aligned",
    backend: str | Mapping[str, Any] | AttentionBackend = "cpu",
    dtype: str = "",
    name: str = "probe",
    settings: RunSettings | None = None,
    **keys: Any,
) -> Run:
    """Run one probe: prefill against decode of ``ids`` (token ids, or text for the model's tokenizer).

    ``model``: what ``load_model`` gives or takes. ``dtype``: "" for that of a loaded module, f32 of all others.

    ``keys`` are those of a case file: ``kv_dtype``, ``page_size``, ``steps``, ``schedule``, ``gemm``, ``seed``,
    ``layers``, ... The run says what was found and raises nothing for a mismatch: see ``Run.verdict`` and
    ``Run.assert_aligned``. Raises ``cases.model.CaseError`` for a key or value that a case file could not have, or for
    what the model cannot do; ``engine.store.ModelMissing``, ``backends.base.BackendMissing`` and ``Unsupported`` where
    it cannot be run here.
    """
    loaded = model if isinstance(model, Model) else load_model(model)
    dtype = dtype or loaded.source.extras.get("dtype", "f32")
    settings = settings or RunSettings()
    if not isinstance(backend, (str, Mapping)):
        own = backend
        backend = own.describe().name
        settings = _with_backend(settings, backend, own)
    prompt = {"prompt": ids} if isinstance(ids, str) else {"token_ids": [int(i) for i in ids]}
    stated = {"mode": mode, "model": loaded.name, "backend": backend, "dtype": dtype, **prompt, **keys}
    case = _case(name, _caller(), stated)
    cells = expand(case)
    if len(cells) != 1:
        raise CaseError(case.where, text("probe.one_of_each"))
    (cell,) = cells
    result, judged = run_judged(cell, settings, loaded.source)
    return Run(judged.verdict, judged.trace, result, settings.lang)


def _backend(backend: str | AttentionBackend) -> AttentionBackend:
    if isinstance(backend, str):
        return open_backends(backend, extra={}, base=Path())["prefill"]
    return backend


def _case(name: str, where: Where, stated: Mapping[str, Any]) -> Case:
    """The case that a file with these keys would hold: by the same schema and builder, so that a typo is no default."""
    keys = {key: value for key, value in stated.items() if value is not None}
    root = _tree({"suite": API_SUITE, "cases": [{"id": "probe", **keys}]}, where.line)
    raise_for(validate(root, where.path))
    (case,) = build.suite(root, where.path).cases
    return replace(case, id=name)  # a test's name may hold what a case's may not


def _tree(value: Any, line: int) -> Node:
    """Python values as the tree of a YAML text, all on one line."""
    if isinstance(value, Mapping):
        fields = {str(key): _tree(item, line) for key, item in value.items()}
        return Node(fields, line, 1, keys=dict.fromkeys(fields, (line, 1)))
    if isinstance(value, (list, tuple)):
        return Node(tuple(_tree(item, line) for item in value), line, 1)
    if isinstance(value, np.generic):
        value = value.item()
    return Node(os.fspath(value) if isinstance(value, os.PathLike) else value, line, 1)


def _with_backend(settings: RunSettings, name: str, backend: AttentionBackend) -> RunSettings:
    return replace(settings, backends={**settings.backends, name: lambda: backend})


def _caller() -> Where:
    """The first frame outside the package: failures point at the user's line."""
    package = Path(__file__).parent
    frame = inspect.currentframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if package not in path.parents:
            return Where(path, frame.f_lineno)
        frame = frame.f_back
    return Where(Path("?"), 0)
