"""The words of a verdict: statuses, scenarios, findings, and what stands beside them. ``decide.py`` chooses among
them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_greta.checks.result import Pattern

PASS = "PASS"
KV_MISMATCH = "KV_MISMATCH"
INCONCLUSIVE = "INCONCLUSIVE"
STATUSES = (PASS, KV_MISMATCH, INCONCLUSIVE)

ALIGNED = "ALIGNED"
STRUCTURAL_DRIFT = "STRUCTURAL_DRIFT"
REAL_MISMATCH = "REAL_MISMATCH"
KV_MISALIGNMENT = "KV_MISALIGNMENT"
ATTENTION_COMPUTATION_MISMATCH = "ATTENTION_COMPUTATION_MISMATCH"
SCENARIOS = (ALIGNED, STRUCTURAL_DRIFT, REAL_MISMATCH, KV_MISALIGNMENT, ATTENTION_COMPUTATION_MISMATCH)

DRIFT_REGRESSION = "DRIFT_REGRESSION"
"""Worse than the baseline. No rule of ``decide.py`` gives it: see ``baseline.judging``."""

FINDINGS = (
    "NONE",
    "CONFIGURATION",
    "NONDETERMINISTIC",
    "SCHEDULE",
    "PRECISION",
    "SUSPECT",
    "OVERFLOW",
    DRIFT_REGRESSION,
)


@dataclass(frozen=True)
class FirstFailure:
    """The first guilty stage. ``causes`` are message keys of ``report.messages``, most likely first."""

    layer: int
    stage: str
    phase: str
    positions: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    rho: float = 0.0
    causes: tuple[str, ...] = ()
    hashes: tuple[str, str] | None = None
    """Of the first differing row: in the full prefill, and in the other path."""
    detail: str = ""
    after: tuple[str, ...] = ()
    """The taps that the stage was judged from: what is wrong happened between them and its own."""
    pattern: tuple[Pattern, ...] = ()
    """Which rows, heads, channels, layers and phases are wrong, where that says something."""
    pages: tuple[tuple[int, int], ...] = ()
    """(block, page) of the wrong rows of a paged cache."""


@dataclass(frozen=True)
class Indicators:
    """None: not measured."""

    k_hash_consistent: bool | None = None
    v_hash_consistent: bool | None = None
    kv_aligned: bool | None = None

    @property
    def by_key(self) -> dict[str, bool | None]:
        """By the key of their names, ``indicator.KEY`` of ``report.messages``."""
        return {"k": self.k_hash_consistent, "v": self.v_hash_consistent, "kv": self.kv_aligned}


@dataclass(frozen=True)
class Drift:
    """How far the logits of the decoded token are from those of the full prefill."""

    max_abs: float
    p99_abs: float
    top1_agrees: bool
    margin: float
    """Between the full run's best and second logit."""
    kl: float


@dataclass(frozen=True)
class Breach:
    """One reason why nothing can be concluded: a key of ``report.messages`` (``breach.KEY``) and its values."""

    key: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Canary:
    """One fault that the harness planted by itself, and what the checks said of its layer.

    ``stage``: where it must be found; ``said``: the first stage there that was found wrong, "" for none. ``outcome``:
    ``found``, ``missed``, or ``skipped`` where this model or library leaves no room for it, with ``why``.
    """

    fault: str
    phase: str
    layer: int
    stage: str
    said: str = ""
    outcome: str = "found"
    why: str = ""
    """A key of ``report.messages`` (``canary.KEY``), or the library's own words."""


@dataclass(frozen=True)
class Rerun:
    """A suspect looked at again, with other tokens. ``said``: the grade at the suspect's ``layer`` and ``stage``, with
    ``rho`` there; ``wrong`` is where else something was wrong beyond doubt."""

    seed: tuple[int, ...]
    """Of the random tokens."""
    layer: int
    stage: str
    said: str
    rho: float
    wrong: str = ""


@dataclass(frozen=True)
class Evidence:
    """What was really run and compared. ``kernels``: plain rows (path, phase, library, kernel, calls, source);
    ``ways``: how the token was reached, where that is not one prefill and one decoded token (see ``evidence.ways``)."""

    stages: int = 0
    rows: int = 0
    elements: int = 0
    kernels: tuple[Mapping[str, Any], ...] = ()
    canary: str = "off"
    """off; inject: the case's own fault is one; planted; none: no fault could be planted here."""
    weights: str = ""
    cache: str = "library"
    ways: tuple[Mapping[str, Any], ...] = ()
    canaries: tuple[Canary, ...] = ()
    reruns: tuple[Rerun, ...] = ()
    repeats: int = 0
    """Attention layers of which a path's calls were repeated and compared by bytes; 0: not measured."""
    zeros: int = 0
    """Attention layers of which a path's calls were made with q = 0 as well."""
    breaches: tuple[Breach, ...] = ()


@dataclass(frozen=True)
class Verdict:
    status: str
    scenario: str | None
    finding: str = "NONE"
    mode: str = "kv_aligned"
    first_failure: FirstFailure | None = None
    indicators: Indicators = field(default_factory=Indicators)
    hypothesis: str = "H0"
    """``H0`` kept, ``H1`` where it is rejected, ``open`` where nothing was concluded."""
    p_value: float | None = None
    """Of the case under H0, see ``hypotheses.py``; None where no bound is statistical."""
    evidence: Evidence = field(default_factory=Evidence)
    drift: Drift | None = None
    rho: float = 0.0
    """The largest of the case."""
    reason: str = ""
    """Why INCONCLUSIVE: the key of the first breach, or English words where there is none."""
    reason_es: str = ""
    """``reason`` in Spanish, where it is words."""
