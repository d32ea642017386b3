"""Which verdicts an expectation takes, and which it does not."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_greta.cases.expect import contract_breach, matches
from pytest_greta.cases.model import Expect
from pytest_greta.verdict import FirstFailure, Verdict

FAILURE = FirstFailure(layer=3, stage="lse", phase="decode", positions=(69,), heads=(1, 2), rho=9.0)
FOUND = Verdict("KV_MISMATCH", "KV_MISALIGNMENT", "PRECISION", first_failure=FAILURE)
CLEAN = Verdict("PASS", "STRUCTURAL_DRIFT")
OPEN = Verdict("INCONCLUSIVE", None, reason="decode ran no kernel")

RIGHT = [
    (CLEAN, Expect(accept=("PASS",))),
    (CLEAN, Expect(accept=("ALIGNED", "STRUCTURAL_DRIFT"))),
    (FOUND, Expect(accept=("KV_MISALIGNMENT",))),
    (FOUND, Expect(status=("KV_MISMATCH",), scenario=("KV_MISALIGNMENT",), finding=("SUSPECT", "PRECISION"))),
    (FOUND, Expect(first_failure={"layer": (3,), "stage": ("attn_out", "lse"), "phase": ("decode",)})),
    (FOUND, Expect(first_failure={"layer": 3, "stage": "lse"})),
    (FOUND, Expect(first_failure={"positions": (69,), "heads": (2, 1)})),
    (OPEN, Expect(status=("INCONCLUSIVE",), reason="no kernel")),
]
WRONG = [
    (CLEAN, Expect()),
    (CLEAN, Expect(accept=("ALIGNED",))),
    (CLEAN, Expect(accept=("PASS",), finding=("SCHEDULE",))),
    (CLEAN, Expect(status=("PASS",), first_failure={"layer": (3,)})),
    (FOUND, Expect(accept=("PASS",))),
    (FOUND, Expect(status=("KV_MISMATCH",), scenario=("REAL_MISMATCH",))),
    (FOUND, Expect(status=("KV_MISMATCH",), first_failure={"layer": (2,), "stage": ("lse",)})),
    (FOUND, Expect(first_failure={"layer": (3,), "stage": ("q_rope",)})),
    (FOUND, Expect(first_failure={"phase": ("both", "prefill")})),
    (FOUND, Expect(first_failure={"heads": (1,)})),
    (FOUND, Expect(first_failure={"heads": (1, 2, 3)})),
    (FOUND, Expect(first_failure={"positions": (68,)})),
    (OPEN, Expect(accept=("PASS",))),
    (OPEN, Expect(status=("INCONCLUSIVE",), reason="timeout")),
]


@pytest.mark.parametrize(("verdict", "expect"), RIGHT)
def test_taken(verdict: Verdict, expect: Expect) -> None:
    assert matches(verdict, expect)


@pytest.mark.parametrize(("verdict", "expect"), WRONG)
def test_refused(verdict: Verdict, expect: Expect) -> None:
    assert not matches(verdict, expect)


@pytest.mark.parametrize(
    ("contract", "kept", "broken"),
    [
        ({"bitwise": True}, {"bitwise": False}, "bitwise"),
        ({"bitwise": True}, {"bitwise": True}, ""),
        ({}, {"bitwise": False}, ""),
        ({"schedule": "equal", "repeatable": False}, {"schedule": False}, "schedule"),
        ({"repeatable": False}, {"repeatable": False}, ""),
        ({"batch_invariant": True, "repeatable": True}, {"repeatable": True}, ""),
    ],
)
def test_contract(contract: dict[str, Any], kept: dict[str, bool], broken: str) -> None:
    assert contract_breach(contract, kept, Expect()) == broken


@pytest.mark.parametrize(
    ("finding", "broken"),
    [
        (("SCHEDULE",), "repeatable"),
        (("NONDETERMINISTIC",), "schedule"),
        (("SCHEDULE", "NONDETERMINISTIC"), "batch_invariant"),
        (("NONE", "SUSPECT"), "schedule"),
        (None, "schedule"),
    ],
)
def test_a_case_may_expect_what_a_broken_promise_is_found_to_be(finding: tuple[str, ...] | None, broken: str) -> None:
    contract = {"schedule": "equal", "repeatable": True, "batch_invariant": True}
    kept = dict.fromkeys(contract, False)
    assert contract_breach(contract, kept, Expect(finding=finding)) == broken


def test_nothing_excuses_other_bytes() -> None:
    findings = ("NONE", "SCHEDULE", "NONDETERMINISTIC", "SUSPECT", "PRECISION")
    assert contract_breach({"bitwise": True}, {"bitwise": False}, Expect(finding=findings)) == "bitwise"
