"""Results to report: one of every kind that a summary must tell apart."""

from __future__ import annotations

from typing import Any

from pytest_greta.checks.result import ByteCheck, Pattern, StageCheck, Worst
from pytest_greta.report.causes import likely_causes
from pytest_greta.result import AttentionStat, ProbeResult
from pytest_greta.verdict import Breach, Drift, Evidence, FirstFailure, Indicators, Verdict

HOSTILE = (
    "../../x",
    "=cmd|'/c calc'!A0",
    "a|b`c`<script>alert(1)</script>",
    "line\nbreak\ttab\r",
    "\x1b[31mred\x1b[0m\x07",
    "\u202eevil\u200b",
    "日本語のとても長い名前" * 6,
    "\ud800 lone",
    "x" * 400,
    "",
)

KERNELS = tuple(
    {"path": path, "phase": phase, "library": "greta-cpu", "kernel": kernel, "calls": 30, "source": "library"}
    for path, phase, kernel in (("full", "prefill", "flash_prefill"), ("decode", "decode", "split_decode"))
)
HASHES = ("00aa11bb22cc33dd", "44ee55ff66008811")


def result(case: str = "p0_short", mode: str = "kv_aligned", **changes: Any) -> ProbeResult:
    """A structural pass; ``changes`` of the verdict by its own field names, of the result by its."""
    verdict_fields = {f: changes.pop(f) for f in list(changes) if f in Verdict.__dataclass_fields__}
    facts: dict[str, Any] = {
        "status": "PASS",
        "scenario": "STRUCTURAL_DRIFT",
        "mode": mode,
        "indicators": Indicators(False, False, True),
        "evidence": Evidence(12, 345, 67890, KERNELS, weights="sha256:abc"),
        "drift": Drift(0.0123, 0.004, True, 1.5, 1e-6),
        "rho": 0.31,
    }
    verdict = Verdict(**{**facts, **verdict_fields})
    probe: dict[str, Any] = {
        "suite": "b3_66_v2",
        "case": case,
        "probe": mode,
        "mode": mode,
        "variant": "",
        "nodeid": f"cases/b3_66.greta.yaml::{case}::{mode}",
        "where": "cases/b3_66.greta.yaml:12",
        "outcome": "passed",
        "expected": "PASS",
        "verdict": verdict,
        "reproduce": f"pytest 'cases/b3_66.greta.yaml::{case}::{mode}'",
    }
    return ProbeResult(**{**probe, **changes})


def mismatch(case: str = "rope_bug", **changes: Any) -> ProbeResult:
    """Found at layer 3, stage q_rope, phase decode, and not expected."""
    pattern = (Pattern("heads_each_group", {"place": 0}), Pattern("layers_from", {"first": 3}), Pattern("decode_only"))
    failure = FirstFailure(
        3,
        "q_rope",
        "decode",
        (32,),
        (0, 2),
        12345.6,
        likely_causes("q_rope"),
        HASHES,
        after=("q_norm",),
        pattern=pattern,
        pages=((2, 7),),
    )
    worst = Worst(32, 2, 7, 0.5, 0.25, 0.25, 2e-5)
    facts: dict[str, Any] = {
        "outcome": "failed",
        "status": "KV_MISMATCH",
        "scenario": "KV_MISALIGNMENT",
        "hypothesis": "H1",
        "first_failure": failure,
        "rho": 12345.6,
        "stages": (
            StageCheck("full", 3, "q_rope", 0.2, 0.2, 5, 500),
            StageCheck("decode", 3, "q_rope", 12345.6, 9.0, 1, 100, (32,), (0, 2), worst),
        ),
        "bytes": (ByteCheck(3, "q_rope", "", "full", "decode", *HASHES, 1, (32,), 0.25),),
        "stats": (
            AttentionStat(3, "scores", "decode", -4.0, 9.0, 0.5),
            AttentionStat(3, "probs", "decode", 0.0, 0.9, 0.1),
        ),
    }
    return result(case, **{**facts, **changes})


def as_designed(case: str = "p0_short") -> ProbeResult:
    """The documented, expected mismatch."""
    return result(
        case,
        "as_designed",
        status="KV_MISMATCH",
        scenario="ATTENTION_COMPUTATION_MISMATCH",
        first_failure=FirstFailure(0, "q_proj", "decode", (5,), causes=("cause.as_designed",)),
        rho=0.0,
    )


def inconclusive(case: str = "crash", **changes: Any) -> ProbeResult:
    values = {"path": "decode", "kernel": "k", "library": "lib", "phase": "decode", "seen": "-"}
    breach = Breach("kernel_not_run", values)
    facts: dict[str, Any] = {
        "outcome": "failed",
        "status": "INCONCLUSIVE",
        "scenario": None,
        "hypothesis": "open",
        "rho": 0.0,
        "reason": "kernel_not_run",
        "evidence": Evidence(breaches=(breach,)),
    }
    return result(case, **{**facts, **changes})


def not_run(case: str = "p6_len_32", **changes: Any) -> ProbeResult:
    facts: dict[str, Any] = {
        "outcome": "not_run",
        "verdict": None,
        "not_run": "model smollm2-135m is not in the cache",
        "not_run_kind": "model",
        "mend": "greta model pull smollm2-135m",
    }
    return result(case, **{**facts, **changes})


def every_kind() -> list[ProbeResult]:
    return [
        result(),
        as_designed(),
        result("aligned", scenario="ALIGNED", rho=0.0, indicators=Indicators(True, True, True)),
        result("suspect", finding="SUSPECT", rho=1.2),
        mismatch(),
        mismatch("planted", outcome="passed", fault="rope_pos layer=3"),
        result("missed", outcome="failed", fault="kv_len", expected="KV_MISMATCH"),
        inconclusive(),
        inconclusive("died", evidence=Evidence(), reason="crash: worker gw1 died inside this case"),
        not_run(),
        not_run("p6_len_64"),
    ]
