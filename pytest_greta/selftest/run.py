"""One run of a study: from its plan to a plain record. The same pipeline as a case's: ``probing.run_judged``."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pytest_greta.backends.base import Unsupported
from pytest_greta.cases.model import Case, Inject, Prompt, Where
from pytest_greta.engine.load import load_source
from pytest_greta.engine.spec import ModelSource
from pytest_greta.faults.fixtures import FIXTURES, Fixture
from pytest_greta.plan import expand
from pytest_greta.probing import Judged, run_judged
from pytest_greta.result import ProbeResult
from pytest_greta.selftest.baselines import attention_differs, logits_differ
from pytest_greta.selftest.plan import Planned, Shape
from pytest_greta.selftest.views import some_layers
from pytest_greta.settings import RunSettings

ISA = "GRETA_CPU_ISA"
BY_NAME: Mapping[str, Fixture] = {fixture.name: fixture for fixture in FIXTURES}


@dataclass(frozen=True)
class Record:
    """What came of one run. ``error``: a crash or an exception, in words; then nothing else is known. ``not_run``: what
    the library does not have, in words; likewise.

    ``found``, ``stage_right``, ``layer_right``, ``scenario_right``: of a fault, by its fixture's ``expect``. ``alarm``:
    of a benign run, that it did not pass. ``planted``: False where a fault changed nothing. ``logits`` and ``close``:
    what the two fixed tolerances flag.
    """

    id: str
    error: str = ""
    not_run: str = ""
    status: str = ""
    scenario: str = ""
    finding: str = ""
    layer: int | None = None
    stage: str = ""
    phase: str = ""
    rho: float = 0.0
    reason: str = ""
    planted: bool = True
    found: bool = False
    stage_right: bool = False
    layer_right: bool = False
    scenario_right: bool = False
    alarm: bool = False
    logits: bool = False
    close: bool = False
    seconds: float = 0.0


def execute(planned: Planned) -> Record:
    """Run and judge. An exception is a record too: it costs this run, and fails the study."""
    started = time.perf_counter()
    try:
        result, judged = probe(planned)
    except Unsupported as error:
        return Record(planned.id, not_run=why(error), seconds=time.perf_counter() - started)
    except Exception as error:
        return Record(planned.id, error=f"{type(error).__name__}: {error}", seconds=time.perf_counter() - started)
    return record(planned, result, judged, time.perf_counter() - started)


def why(error: Unsupported) -> str:
    """What the library does not have, in its own words."""
    return error.message if error.message.startswith(error.feature) else f"{error.feature}: {error.message}"


def probe(planned: Planned) -> tuple[ProbeResult, Judged]:
    """The probe of a plan, as a case's is run."""
    steps = int(planned.keys.get("steps", 1))
    where = Where(Path("selftest"), 0)
    settings = {"model": planned.model, **_as_settings(planned.keys)}
    prompt = Prompt(random_tokens=planned.rows + steps)
    inject = Inject(**planned.inject) if planned.inject else None
    case = Case(planned.id, "selftest", where, prompt, ("kv_aligned",), settings, inject=inject)
    (cell,) = expand(case)
    with _isa(planned.isa):
        return run_judged(cell, RunSettings(threads=1, canary="off"), source_of(planned.model, planned.view))


def record(planned: Planned, result: ProbeResult, judged: Judged, seconds: float) -> Record:
    """The record of a judged run."""
    verdict, failure = judged.verdict, judged.verdict.first_failure
    found = stage = layer = scenario = False
    if planned.fixture:
        expect = BY_NAME[planned.fixture].expect
        found = verdict.status == expect.status and (not expect.finding or verdict.finding in expect.finding)
        scenario = found and expect.scenario in ("", verdict.scenario)
        stage = found and failure is not None and failure.stage in expect.stages
        wanted = planned.inject.get("layer", 0) if expect.layer else -1
        layer = found and failure is not None and failure.layer == wanted
    return Record(
        id=planned.id,
        status=verdict.status,
        scenario=verdict.scenario or "",
        finding=verdict.finding,
        layer=failure.layer if failure else None,
        stage=failure.stage if failure else "",
        phase=failure.phase if failure else "",
        rho=float(verdict.rho),
        reason=verdict.reason,
        planted=verdict.reason != "fault_not_planted",
        found=found,
        stage_right=stage,
        layer_right=layer,
        scenario_right=scenario,
        alarm=not planned.fixture and result.outcome != "passed",
        logits=logits_differ(verdict.drift),
        close=attention_differs(judged.trace),
        seconds=seconds,
    )


@cache
def source_of(model: str, view: tuple[int, ...] | None = None) -> ModelSource:
    """A model, or some of its layers by themselves."""
    return load_source(model) if view is None else some_layers(source_of(model), view)


def shape_of(model: str) -> Shape:
    config = source_of(model).config
    return Shape(config.n_layers, config.n_heads)


def usable_isas(backend: str) -> tuple[str, ...]:
    """The instruction sets of the CPU library that this processor has; "" for another library, once it and its twin are
    shown to open a session here. Raises ``BackendMissing`` or ``BackendError`` where one does not."""
    from pytest_greta.backends.base import LayerConfig, SessionConfig
    from pytest_greta.backends.native import load
    from pytest_greta.backends.registry import NATIVE

    if backend != "cpu":
        smallest = SessionConfig(
            n_layers=1, n_heads=1, n_kv_heads=1, head_dim_qk=64, head_dim_v=64, max_seqs=1, max_len=1, act_dtype="f32",
            kv_dtype="f32", softmax_scale=0.0, layers=(LayerConfig(),),
        )  # fmt: skip
        for faulty in (False, True):
            load(faulty=faulty, ending=NATIVE[backend]).open(smallest).close()
        return ("",)
    usable = []
    for name in ("portable", "avx2", "avx512"):
        with _isa(name):
            if load().describe().raw.get("isa") == name:
                usable.append(name)
    return tuple(usable)


@contextlib.contextmanager
def _isa(name: str) -> Iterator[None]:
    """The library reads the variable whenever a session is opened. "" leaves it as it is."""
    if not name:
        yield
        return
    before = os.environ.get(ISA)
    os.environ[ISA] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[ISA]
        else:
            os.environ[ISA] = before


def _as_settings(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Lists, as a plan that went through JSON has them, as the tuples of a case."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in keys.items()}
