"""The public Python API: ``load_model`` and ``probe``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import AttentionBackend
from pytest_greta.backends.registry import open_backends
from pytest_greta.cases.model import Case, Prompt, Where
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import Library, RunPlan, last_logits
from pytest_greta.engine.spec import ModelConfig, ModelSource
from pytest_greta.plan import expand
from pytest_greta.probing import run_judged
from pytest_greta.report.terminal import failure_text
from pytest_greta.result import ProbeResult
from pytest_greta.settings import RunSettings
from pytest_greta.trace.records import Trace
from pytest_greta.verdict import Verdict


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

    def assert_aligned(self) -> None:
        """Raises ``AssertionError`` with the report of the failure, unless the verdict is PASS."""
        if self.verdict.status != "PASS":
            raise AssertionError(failure_text(self.result, "both"))


def load_model(name: str) -> Model:
    """A model by name (``synthetic``, ``smollm2-135m``) or by the path of a GGUF file.

    Raises ``engine.store.ModelError`` where it is wrong, ``ModelMissing`` where it or the extra ``gguf`` is absent.
    """
    return Model(load_source(name))


def probe(
    model: Model | str,
    ids: Sequence[int] | str,
    *,
    mode: str = "kv_aligned",
    backend: str | Mapping[str, Any] | AttentionBackend = "cpu",
    dtype: str = "f32",
    name: str = "probe",
    settings: RunSettings | None = None,
    **keys: Any,
) -> Run:
    """Run one probe: prefill against decode of ``ids`` (token ids, or text for the model's tokenizer).

    ``keys`` are those of a case file: ``kv_dtype``, ``page_size``, ``steps``, ``schedule``, ``gemm``, ``seed``,
    ``layers``, ... The run says what was found and raises nothing for a mismatch: see ``Run.verdict`` and
    ``Run.assert_aligned``.
    """
    loaded = load_model(model) if isinstance(model, str) else model
    settings = settings or RunSettings()
    if not isinstance(backend, (str, Mapping)):
        own = backend
        backend = own.describe().name
        settings = _with_backend(settings, backend, own)
    prompt = Prompt(text=ids) if isinstance(ids, str) else Prompt(token_ids=tuple(int(i) for i in ids))
    case = Case(
        id=name,
        suite="api",
        where=_caller(),
        prompt=prompt,
        modes=(mode,),
        settings={"model": loaded.name, "backend": backend, "dtype": dtype, **keys},
    )
    (cell,) = expand(case, {})
    result, judged = run_judged(cell, settings, loaded.source)
    return Run(judged.verdict, judged.trace, result)


def _backend(backend: str | AttentionBackend) -> AttentionBackend:
    if isinstance(backend, str):
        return open_backends(backend, extra={}, base=Path())["prefill"]
    return backend


def _with_backend(settings: RunSettings, name: str, backend: AttentionBackend) -> RunSettings:
    from dataclasses import replace

    return replace(settings, backends={**settings.backends, name: lambda: backend})


def _caller() -> Where:
    """The first frame outside the package: failures point at the user's line."""
    package = Path(__file__).parent
    for frame in inspect.stack()[1:]:
        path = Path(frame.filename)
        if package not in path.parents:
            return Where(path, frame.lineno)
    return Where(Path("?"), 0)
