"""Stands for ``pytest_greta.probing`` in the tests of the plugin: a case's id says what its probe does."""

from __future__ import annotations

import os
import re
import signal
import time

import numpy as np
import pytest

from pytest_greta.backends.base import BackendMissing, Unsupported
from pytest_greta.cases.expect import matches
from pytest_greta.cases.model import CaseError
from pytest_greta.checks.result import StageCheck
from pytest_greta.engine.store import ModelMissing
from pytest_greta.result import ProbeResult
from pytest_greta.texts import text
from pytest_greta.verdict import FirstFailure, Verdict


def _ok(mode: str) -> Verdict:
    return Verdict("PASS", "ALIGNED", mode=mode, rho=0.25)


def _bad(mode: str) -> Verdict:
    failure = FirstFailure(3, "q_rope", "decode", positions=(16,), rho=412.0, hashes=("aaaa", "bbbb"))
    return Verdict("KV_MISMATCH", "KV_MISALIGNMENT", mode=mode, first_failure=failure, hypothesis="H1", rho=412.0)


def _nomodel(mode: str) -> Verdict:
    raise ModelMissing("model", text("model.not_pulled", name="tiny", folder="the cache"), "greta model pull tiny")


def _nolib(mode: str) -> Verdict:
    raise BackendMissing("library", "no native library", "reinstall pytest-greta")


def _nofeature(mode: str) -> Verdict:
    raise Unsupported("softcap", "library mine has none")


def _badcase(mode: str) -> Verdict:
    from pathlib import Path

    from pytest_greta.cases.model import Where

    raise CaseError(Where(Path("x.greta.yaml"), 7), text("probe.layer", layer=99, model="tiny", last=5))


def _boom(mode: str) -> Verdict:
    raise RuntimeError("the backend exploded")


def _skip(mode: str) -> Verdict:
    pytest.skip("not today")


def _xfail(mode: str) -> Verdict:
    pytest.xfail("known")


def _interrupt(mode: str) -> Verdict:
    raise KeyboardInterrupt


def _hang(mode: str) -> Verdict:
    time.sleep(60)
    return _ok(mode)


def _spin(mode: str) -> Verdict:
    """Holds the GIL for good, inside C."""
    re.match(r"(a+)+$", "a" * 60 + "b")
    return _ok(mode)


def _segv(mode: str) -> Verdict:
    os.kill(os.getpid(), signal.SIGSEGV)
    return _ok(mode)


def _exit(mode: str) -> Verdict:
    """What a C library does that calls ``exit(0)``."""
    from cffi import FFI

    ffi = FFI()
    ffi.cdef("void leave(void);")
    ffi.dlopen(os.environ["GRETA_TEST_LEAVES"]).leave()
    return _ok(mode)


def _numpy(mode: str) -> Verdict:
    return Verdict("PASS", "ALIGNED", mode=mode, rho=np.float32(0.5))  # type: ignore[arg-type]


def _rho(mode: str) -> Verdict:
    """As far from its bound as GRETA_TEST_RHO says, at o_proj of layer 3; see ``_stages``."""
    scenario = os.environ.get("GRETA_TEST_SCENARIO", "STRUCTURAL_DRIFT")
    return Verdict("PASS", scenario, mode=mode, rho=float(os.environ.get("GRETA_TEST_RHO", "0.1")))


def _stages(case_id: str, seed: int) -> tuple[StageCheck, ...]:
    """Of a case ``rho``: with seed 3 it is a little worse."""
    if not case_id.startswith("rho"):
        return ()
    rho = float(os.environ.get("GRETA_TEST_RHO", "0.1")) + (0.05 if seed == 3 else 0.0)
    calm = [StageCheck("full", layer, "o_proj", 0.01, 0.01, 1, 1) for layer in range(4)]
    return (*calm, StageCheck("decode", 3, "o_proj", rho, rho, 1, 1), StageCheck("decode", 5, "o_proj", rho, rho, 1, 1))


run_judged = None
"""Imported, never called: tests of the fixture stub the public API's ``probe``."""


def run_probe(probe, settings) -> ProbeResult:  # type: ignore[no-untyped-def]
    case = probe.case
    verdict = globals()["_" + case.id.split("_")[0]](probe.mode)
    return ProbeResult(
        suite=case.suite,
        case=case.id,
        probe=probe.id,
        mode=probe.mode,
        variant=probe.variant,
        nodeid=settings.nodeid,
        where=settings.where,
        outcome="passed" if matches(verdict, probe.expect) else "failed",
        expected="PASS",
        verdict=verdict,
        reproduce=settings.reproduce,
        settings={
            **{key: probe.settings[key] for key in ("backend", "model", "seed")},
            "layers": str(probe.settings["layers"]),
            "threads": settings.threads,
            "library": settings.library,
            "trace": settings.trace,
            "canary": settings.canary,
            "lang": settings.lang,
            "backends": sorted(settings.backends),
            "folder": str(settings.artifacts.path) if settings.artifacts else None,
            "masks": {k: v for k, v in os.environ.items() if k.endswith("_VISIBLE_DEVICES")},
            "omp": os.environ.get("OMP_NUM_THREADS"),
            "blas": os.environ.get("OPENBLAS_NUM_THREADS"),
            "mkl": os.environ.get("MKL_NUM_THREADS"),
        },
        worker=os.environ.get("PYTEST_XDIST_WORKER", ""),
        stages=_stages(case.id, probe.settings["seed"]),
        environment={
            "library": "stub",
            "library_version": "1.0",
            "device_kind": os.environ.get("GRETA_TEST_DEVICE", "cpu"),
        },
    )
