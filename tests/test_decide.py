"""Every rule of the decision table: a healthy input, then one thing changed, and the verdict turns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_greta import schedules
from pytest_greta.checks.result import ByteCheck, Rounding, StageCheck
from pytest_greta.decide import Again, decide_as_designed, decide_kv_aligned, indicators_of, settle_suspect
from pytest_greta.verdict import Breach, Evidence, FirstFailure

EVIDENCE = Evidence(stages=4, rows=4, elements=40)


def check(stage: str, rho: float = 0.5, layer: int = 2, path: str = "decode", rho2: float | None = None, **more):
    found = {"positions": (9,), "heads": (1,)} if rho > 1 else {}
    return StageCheck(path, layer, stage, rho, rho if rho2 is None else rho2, 1, 8, **{**found, **more})


def same(stage: str, right: str = "decode", layer: int = 2) -> ByteCheck:
    return ByteCheck(layer, stage, "", "full", right, "aa", "aa", 1)


def differs(stage: str, right: str = "decode", layer: int = 2) -> ByteCheck:
    return ByteCheck(layer, stage, "", "full", right, "aa", "bb", 1, (9,), 1e-6)


HEALTHY = [
    check(s) for s in ("q_proj", "k_proj", "v_proj", "q_rope", "k_rope", "kv_write", "kv_read", "lse", "attn_out")
]


def with_wrong(*wrong: StageCheck) -> list[StageCheck]:
    return [*HEALTHY, *wrong]


def test_every_rho_at_most_1_and_equal_bytes_is_aligned():
    verdict = decide_kv_aligned(HEALTHY, [same("q_proj")], EVIDENCE)
    assert (verdict.status, verdict.scenario, verdict.hypothesis) == ("PASS", "ALIGNED", "H0")
    assert verdict.rho == 0.5


def test_one_differing_byte_turns_aligned_into_structural_drift():
    verdict = decide_kv_aligned(HEALTHY, [same("q_proj"), differs("attn_out")], EVIDENCE)
    assert (verdict.status, verdict.scenario, verdict.finding) == ("PASS", "STRUCTURAL_DRIFT", "NONE")


@pytest.mark.parametrize(
    ("stage", "scenario"),
    [
        ("embed_out", "REAL_MISMATCH"),
        ("x_in", "REAL_MISMATCH"),
        ("attn_norm", "REAL_MISMATCH"),
        ("q_proj", "REAL_MISMATCH"),
        ("k_proj", "REAL_MISMATCH"),
        ("v_proj", "REAL_MISMATCH"),
        ("q_rope", "KV_MISALIGNMENT"),
        ("k_rope", "KV_MISALIGNMENT"),
        ("kv_write", "REAL_MISMATCH"),
        ("kv_read", "REAL_MISMATCH"),
        ("lse", "KV_MISALIGNMENT"),
        ("attn_out", "KV_MISALIGNMENT"),
        ("o_proj", "REAL_MISMATCH"),
        ("residual_attn", "REAL_MISMATCH"),
        ("ffn_act", "REAL_MISMATCH"),
        ("final_norm", "REAL_MISMATCH"),
        ("logits", "REAL_MISMATCH"),
    ],
)
def test_the_culprit_decides_the_scenario(stage, scenario):
    verdict = decide_kv_aligned(with_wrong(check(stage, 7.0)), [], EVIDENCE)
    assert (verdict.status, verdict.scenario, verdict.hypothesis) == ("KV_MISMATCH", scenario, "H1")
    failure = verdict.first_failure
    assert failure is not None
    assert (failure.layer, failure.stage, failure.phase) == (2, stage, "decode")
    assert (failure.positions, failure.heads, failure.rho) == ((9,), (1,), 7.0)
    assert failure.causes


def test_the_first_stage_in_layer_order_is_the_culprit_whatever_the_order_of_the_checks():
    wrong = [check("logits", 99.0, layer=-1), check("lse", 5.0, layer=1), check("q_proj", 2.0, layer=3)]
    failure = decide_kv_aligned(with_wrong(*wrong), [], EVIDENCE).first_failure
    assert failure is not None
    assert (failure.layer, failure.stage) == (1, "lse")
    failure = decide_kv_aligned(with_wrong(*wrong, check("embed_out", 2.0, layer=-1)), [], EVIDENCE).first_failure
    assert failure is not None
    assert failure.stage == "embed_out"


@pytest.mark.parametrize("cause", ["kv_head", "layer", "sequence", "page", "previous_bytes"])
def test_wrong_rows_read_by_the_kernel_are_addressing(cause):
    verdict = decide_kv_aligned(with_wrong(check("lse", 7.0, cause=cause)), [], EVIDENCE)
    assert verdict.scenario == "REAL_MISMATCH"


@pytest.mark.parametrize("cause", ["kv_len", "qk_scale", "window"])
def test_a_wrong_length_or_scale_is_misalignment(cause):
    verdict = decide_kv_aligned(with_wrong(check("lse", 7.0, cause=cause)), [], EVIDENCE)
    assert verdict.scenario == "KV_MISALIGNMENT"


def test_a_rope_culprit_with_a_broken_cache_beside_it_is_a_real_mismatch():
    verdict = decide_kv_aligned(with_wrong(check("q_rope", 7.0), check("kv_read", float("inf"))), [], EVIDENCE)
    assert verdict.scenario == "REAL_MISMATCH"


@pytest.mark.parametrize(
    ("paths", "phase"),
    [(("decode",), "decode"), (("full", "prefix"), "prefill"), (("prefix",), "prefill"), (("full", "decode"), "both")],
)
def test_the_phase_is_that_of_the_wrong_paths(paths, phase):
    failure = decide_kv_aligned(with_wrong(*(check("q_rope", 7.0, path=p) for p in paths)), [], EVIDENCE).first_failure
    assert failure is not None
    assert failure.phase == phase


@pytest.mark.parametrize(
    ("paths", "who"),
    [
        (("decode", "aligned"), "who.decode_kernel"),
        (("decode",), "who.decode_run"),
        (("full",), "who.prefill_kernel"),
        (("prefix", "aligned"), "who.prefill_kernel"),
        (("full", "decode"), "who.both_separately"),
        (("full", "prefix", "decode", "aligned"), "who.both"),
    ],
)
def test_the_aligned_call_says_who_is_to_blame(paths, who):
    checks = [check("lse", 7.0 if p in paths else 0.5, path=p) for p in ("full", "prefix", "decode", "aligned")]
    failure = decide_kv_aligned(with_wrong(*checks), [], EVIDENCE).first_failure
    assert failure is not None
    assert who in failure.causes
    assert len([c for c in failure.causes if c.startswith("who.")]) == 1


def test_nobody_is_blamed_where_the_aligned_call_was_not_made():
    failure = decide_kv_aligned(with_wrong(check("lse", 7.0, path="decode")), [], EVIDENCE).first_failure
    assert failure is not None
    assert not [c for c in failure.causes if c.startswith("who.")]


def test_only_the_aligned_call_wrong_is_the_harness():
    verdict = decide_kv_aligned(with_wrong(check("attn_out", 7.0, path="aligned")), [], EVIDENCE)
    assert (verdict.status, verdict.scenario, verdict.reason) == ("INCONCLUSIVE", None, "harness")


def test_the_first_tier_alone_is_a_shown_suspect():
    verdict = decide_kv_aligned(with_wrong(check("attn_out", 1.4, rho2=0.3)), [], EVIDENCE)
    assert (verdict.status, verdict.scenario, verdict.finding) == ("PASS", "STRUCTURAL_DRIFT", "SUSPECT")
    assert verdict.first_failure is not None
    assert verdict.first_failure.stage == "attn_out"


def suspect(stage: str, layer: int = 2) -> StageCheck:
    return check(stage, 1.4, layer, rho2=0.3)


def settled(first: list[StageCheck], *again: list[StageCheck], broken: tuple[Breach, ...] = ()):
    """The verdict on ``first`` after reruns that saw ``again``."""
    compared = [differs("attn_out")]
    runs = [
        Again((1, 3, i), checks, decide_kv_aligned(checks, compared, replace(EVIDENCE, breaches=broken)))
        for i, checks in enumerate(again)
    ]
    return settle_suspect(decide_kv_aligned(first, compared, EVIDENCE), first, compared, runs)


def test_a_suspect_that_stays_away_is_structural_and_says_what_the_reruns_said():
    verdict = settled(with_wrong(suspect("attn_out")), HEALTHY, HEALTHY)
    assert (verdict.status, verdict.scenario, verdict.finding) == ("PASS", "STRUCTURAL_DRIFT", "SUSPECT")
    assert verdict.hypothesis == "H0"
    assert [(r.seed, r.layer, r.stage, r.said, r.rho) for r in verdict.evidence.reruns] == [
        ((1, 3, 0), 2, "attn_out", "ok", 0.5),
        ((1, 3, 1), 2, "attn_out", "ok", 0.5),
    ]


@pytest.mark.parametrize(
    ("stage", "scenario"), [("attn_out", "KV_MISALIGNMENT"), ("q_rope", "KV_MISALIGNMENT"), ("o_proj", "REAL_MISMATCH")]
)
@pytest.mark.parametrize("rho2", [0.9, 1.1], ids=["suspect", "worse"])
def test_a_suspect_that_comes_again_in_one_of_the_reruns_is_a_mismatch(stage, scenario, rho2):
    verdict = settled(with_wrong(suspect(stage)), HEALTHY, with_wrong(check(stage, 1.2, rho2=rho2)))
    assert (verdict.status, verdict.scenario, verdict.finding) == ("KV_MISMATCH", scenario, "SUSPECT")
    assert verdict.hypothesis == "H1"
    failure = verdict.first_failure
    assert failure is not None
    assert (failure.layer, failure.stage, failure.phase, failure.rho) == (2, stage, "decode", 1.4)
    assert [r.said for r in verdict.evidence.reruns] == ["ok", "suspect" if rho2 < 1 else "definite"]


@pytest.mark.parametrize("other", [suspect("o_proj"), suspect("attn_out", layer=3)], ids=["stage", "layer"])
def test_another_suspect_in_a_rerun_is_not_the_same(other):
    verdict = settled(with_wrong(suspect("attn_out")), with_wrong(other), with_wrong(other))
    assert (verdict.status, verdict.finding) == ("PASS", "SUSPECT")


def test_of_several_suspects_the_first_that_comes_again_is_the_culprit():
    first = with_wrong(suspect("q_proj"), suspect("lse", layer=4), suspect("o_proj", layer=5))
    again = with_wrong(suspect("lse", layer=4), suspect("o_proj", layer=5))
    verdict = settled(first, again, HEALTHY)
    assert (verdict.status, verdict.scenario) == ("KV_MISMATCH", "KV_MISALIGNMENT")
    assert verdict.first_failure is not None
    assert (verdict.first_failure.layer, verdict.first_failure.stage) == (4, "lse")


def test_what_a_rerun_finds_beyond_doubt_elsewhere_counts():
    verdict = settled(with_wrong(suspect("attn_out")), with_wrong(check("q_proj", 7.0)), HEALTHY)
    assert (verdict.status, verdict.scenario, verdict.finding) == ("KV_MISMATCH", "REAL_MISMATCH", "NONE")
    assert verdict.evidence.reruns[0].wrong == "L2 q_proj"


def test_a_rerun_without_evidence_clears_nobody():
    broken = (Breach("kernel_not_run", {"path": "decode"}),)
    verdict = settled(with_wrong(suspect("attn_out")), HEALTHY, HEALTHY, broken=broken)
    assert (verdict.status, verdict.scenario, verdict.reason) == ("INCONCLUSIVE", None, "kernel_not_run")
    assert [r.said for r in verdict.evidence.reruns] == ["unclear", "unclear"]


def tile(rho: float, path: str = "decode", layer: int = 2, **rounding) -> StageCheck:
    return check("attn_out", rho, layer, path, part="tile", rounding=Rounding(**rounding))


def test_a_repeat_that_differs_is_structural_and_found():
    again = check("attn_out", part="repeat", differs=(4, 9))
    verdict = decide_kv_aligned(with_wrong(again), [], EVIDENCE)
    assert (verdict.status, verdict.scenario, verdict.finding) == ("PASS", "STRUCTURAL_DRIFT", "NONDETERMINISTIC")
    failure = verdict.first_failure
    assert failure is not None
    assert (failure.layer, failure.stage, failure.positions) == (2, "attn_out", (4, 9))
    assert failure.causes == ("cause.nondeterministic",)


def test_a_repeat_beyond_its_bound_is_a_mismatch_and_still_called_a_race():
    wrong = [check("attn_out", 7.0, part="repeat", differs=(9,))]
    verdict = decide_kv_aligned(with_wrong(*wrong), [], EVIDENCE)
    assert (verdict.status, verdict.scenario, verdict.finding) == ("KV_MISMATCH", "KV_MISALIGNMENT", "NONDETERMINISTIC")
    elsewhere = [check("q_proj", 7.0), check("attn_out", layer=3, part="repeat", differs=(9,))]
    assert decide_kv_aligned(with_wrong(*elsewhere), [], EVIDENCE).finding == "NONE"


def test_a_batch_that_changes_bytes_within_the_bound_is_no_finding():
    verdict = decide_kv_aligned(with_wrong(check("attn_out", part="alone", differs=(9,))), [], EVIDENCE)
    assert (verdict.status, verdict.finding) == ("PASS", "NONE")


def test_only_the_call_with_q_0_wrong_is_precision():
    wrong = [check("lse", 50.0, part="q0"), check("attn_out", 40.0, part="q0")]
    verdict = decide_kv_aligned(with_wrong(*wrong), [], EVIDENCE)
    assert (verdict.status, verdict.scenario, verdict.finding) == ("KV_MISMATCH", "KV_MISALIGNMENT", "PRECISION")
    assert verdict.first_failure is not None
    assert verdict.first_failure.causes == ("cause.precision",)
    # where the run's own output is wrong too, or another reading of the cache fits, it is that
    assert decide_kv_aligned(with_wrong(*wrong, check("attn_out", 3.0)), [], EVIDENCE).finding == "NONE"
    explained = [replace(c, cause="kv_head") for c in wrong]
    verdict = decide_kv_aligned(with_wrong(*explained), [], EVIDENCE)
    assert (verdict.scenario, verdict.finding) == ("REAL_MISMATCH", "NONE")


def test_a_schedule_that_fits_is_named_beside_the_declared_one():
    wrong = [tile(30.0, declared="64", found="96"), tile(0.2, "full", declared="64")]
    verdict = decide_kv_aligned(with_wrong(*wrong), [], EVIDENCE)
    assert (verdict.status, verdict.scenario, verdict.finding) == ("PASS", "STRUCTURAL_DRIFT", "SCHEDULE")
    assert verdict.rho == 0.5  # what is out of its schedule is within its bound
    assert verdict.first_failure is not None
    assert verdict.first_failure.detail == (
        "P rounding schedules differ (decode 96, prefill 64), not bit-reproducible; "
        "decode: declared schedule 64, found 96"
    )
    assert not schedules.are_equal(wrong)


def test_a_declaration_that_no_schedule_mends_is_false():
    verdict = decide_kv_aligned(with_wrong(tile(30.0, declared="64")), [], EVIDENCE)
    assert (verdict.status, verdict.scenario, verdict.finding) == ("KV_MISMATCH", "KV_MISALIGNMENT", "PRECISION")
    assert verdict.rho == 30.0


def test_nothing_declared_and_nothing_found_is_a_schedule_unknown():
    verdict = decide_kv_aligned(with_wrong(tile(30.0)), [], EVIDENCE)
    assert (verdict.status, verdict.finding) == ("PASS", "SCHEDULE")
    assert verdict.first_failure is not None
    assert "decode ?" in verdict.first_failure.detail
    assert not schedules.are_equal([tile(30.0)])


def test_declared_schedules_that_show_in_the_values():
    """Equal in effect: no finding, though the contract knows that they are not one schedule."""
    wide, narrow = tile(0.1, "full", declared="160"), tile(0.1, declared="96", apart=(9,))
    verdict = decide_kv_aligned(with_wrong(wide, narrow), [], EVIDENCE)
    assert verdict.finding == "SCHEDULE"
    assert verdict.first_failure is not None
    assert verdict.first_failure.positions == (9,)
    assert verdict.first_failure.detail == "P rounding schedules differ (decode 96, prefill 160), not bit-reproducible"
    short = [wide, tile(0.1, declared="96")]
    assert decide_kv_aligned(with_wrong(*short), [], EVIDENCE).finding == "NONE"
    assert not schedules.are_equal(short)
    assert schedules.are_equal([wide, tile(0.1, declared="160")])


def test_the_order_of_the_findings_within_the_bounds():
    """A false declaration before a race, a race before a suspect, a suspect before a schedule."""
    race, suspect = check("lse", part="repeat", differs=(9,)), check("o_proj", 1.4, rho2=0.3)
    other = tile(30.0, declared="64", found="96")
    found = [decide_kv_aligned(with_wrong(*c), [], EVIDENCE).finding for c in (
        (race, suspect, tile(30.0, declared="64")), (race, suspect, other), (suspect, other), (other,),
    )]  # fmt: skip
    assert found == ["PRECISION", "NONDETERMINISTIC", "SUSPECT", "SCHEDULE"]
    # what is above the first tier of a schedule that is not the one is no suspect
    assert (
        decide_kv_aligned(with_wrong(other, replace(other, path="full", rho2=0.4)), [], EVIDENCE).finding == "SCHEDULE"
    )


def test_a_definite_stage_outranks_an_earlier_suspect():
    verdict = decide_kv_aligned(with_wrong(check("q_proj", 1.4, rho2=0.3), check("lse", 3.0)), [], EVIDENCE)
    assert verdict.status == "KV_MISMATCH"
    assert verdict.first_failure is not None
    assert verdict.first_failure.stage == "lse"


def test_an_overflow_of_the_reference_too_concludes_nothing_and_names_the_stage():
    verdict = decide_kv_aligned(with_wrong(check("gate_proj", float("inf"), overflow=True)), [], EVIDENCE)
    assert (verdict.status, verdict.scenario, verdict.finding) == ("INCONCLUSIVE", None, "OVERFLOW")
    assert verdict.first_failure is not None
    assert verdict.first_failure.stage == "gate_proj"


def test_a_definite_stage_before_the_overflow_is_still_the_culprit():
    wrong = with_wrong(check("q_proj", 9.0), check("gate_proj", float("inf"), overflow=True))
    assert decide_kv_aligned(wrong, [], EVIDENCE).status == "KV_MISMATCH"


@pytest.mark.parametrize("checks", [HEALTHY, with_wrong(check("lse", 7.0))], ids=["healthy", "wrong"])
def test_no_verdict_without_evidence(checks):
    evidence = replace(EVIDENCE, breaches=(Breach("kernel_not_run", {"path": "decode"}),))
    verdict = decide_kv_aligned(checks, [same("q_proj")], evidence)
    assert (verdict.status, verdict.scenario, verdict.reason) == ("INCONCLUSIVE", None, "kernel_not_run")
    assert verdict.hypothesis == "open"
    assert decide_as_designed([same("q_proj")], evidence).status == "INCONCLUSIVE"


def test_as_designed_equal_bytes_everywhere_is_aligned():
    verdict = decide_as_designed([same("q_proj"), same("k_proj", "prefix")], EVIDENCE)
    assert (verdict.status, verdict.scenario) == ("PASS", "ALIGNED")


def test_as_designed_names_the_first_stage_that_differs_and_keeps_h0():
    verdict = decide_as_designed([differs("attn_out"), differs("q_proj", layer=3), same("k_proj")], EVIDENCE)
    assert (verdict.status, verdict.scenario) == ("KV_MISMATCH", "ATTENTION_COMPUTATION_MISMATCH")
    assert verdict.hypothesis == "H0"
    assert verdict.first_failure is not None
    assert (verdict.first_failure.layer, verdict.first_failure.stage) == (2, "attn_out")
    assert verdict.first_failure.hashes == ("aa", "bb")


def test_as_designed_still_gates_what_must_be_equal():
    broken = FirstFailure(-1, "embed_out", "decode", (9,))
    verdict = decide_as_designed([differs("q_proj")], EVIDENCE, broken)
    assert (verdict.status, verdict.scenario, verdict.hypothesis) == ("KV_MISMATCH", "REAL_MISMATCH", "H1")


def test_indicators_are_measured_or_say_that_they_are_not():
    assert indicators_of([], []).k_hash_consistent is None
    assert indicators_of([], []).kv_aligned is None
    found = indicators_of(HEALTHY, [same("k_proj", "prefix"), differs("v_proj", "prefix"), differs("k_proj", "decode")])
    assert (found.k_hash_consistent, found.v_hash_consistent, found.kv_aligned) == (True, False, True)
    assert indicators_of([check("kv_write", 2.0)], []).kv_aligned is False
    assert indicators_of([check("kv_read", float("inf"))], []).kv_aligned is False
