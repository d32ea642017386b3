"""The case files that ship: each loads, says which schema it has, and expects what the fault table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_greta.cases.loader import check_unique, is_case_file, load_suite
from pytest_greta.cases.model import Case, Expect
from pytest_greta.faults.kinds import KINDS, found_at
from pytest_greta.plan import expand

CASES = Path(__file__).parents[2] / "cases"
FILES = sorted(CASES.rglob("*.yaml"))
FAULTS = sorted((CASES / "faults").glob("*.yaml"))

# Written by hand from the table of fault kinds: scenario, and the stages at which a perfect localiser may point.
MISALIGNED, REAL, DRIFT = "KV_MISALIGNMENT", "REAL_MISMATCH", "STRUCTURAL_DRIFT"
PROJECTIONS, ATTENTION, TURNED = {"q_proj", "k_proj", "v_proj", "o_proj"}, {"lse", "attn_out"}, {"q_rope", "k_rope"}
TABLE = {
    "w_route": (REAL, {"embed_out", *PROJECTIONS, "logits"}),
    "in_row": (REAL, {"x_in", "attn_norm", "ffn_norm", "final_norm"}),
    "qk_norm": (REAL, {"q_norm", "k_norm"}),
    "gemm_prec": (REAL, PROJECTIONS),
    "rope_pos": (MISALIGNED, TURNED),
    "rope_table": (MISALIGNED, TURNED),
    "rope_apply": (MISALIGNED, TURNED),
    "kv_slot": (REAL, {"kv_write"}),
    "kv_stale": (REAL, {"kv_read", *ATTENTION}),
    "kv_scale": (REAL, {"kv_read", *ATTENTION}),
    "dtype_mix": (REAL, {"kv_write", "x_in"}),
    "layer_base": (REAL, ATTENTION),
    "page_addr": (REAL, {"kv_read", *ATTENTION}),
    "gqa_map": (REAL, ATTENTION),
    "tile_walk": (MISALIGNED, {"attn_out"}),
    "kv_len": (MISALIGNED, {"lse"}),
    "causal_align": (MISALIGNED, {"lse"}),
    "window": (MISALIGNED, {"lse"}),
    "qk_scale": (MISALIGNED, {"lse"}),
    "score_mod": (MISALIGNED, {"lse"}),
    "split_merge": (MISALIGNED, ATTENTION),
    "tile_quant": (DRIFT, {"attn_out"}),
    "tail_nan": (MISALIGNED, {"attn_out"}),
    "gain": (None, {"o_proj", "kv_write", *TURNED, *ATTENTION}),
    "race": (None, ATTENTION),
}
FINDING = {"tile_quant": ("SCHEDULE",), "race": ("NONDETERMINISTIC",)}
"""Kinds that may leave every stage within its bound: found where this finding is reported."""
B3_66 = ["p0_short", "p6_len_16", "p6_len_32", "es_prompt", "code_prompt"]


def fault_cases(*, seen: bool | None = None) -> list[Case]:
    """``seen``: those that must be found, or those that show a fault invisible without its fixture."""
    cases = [case for file in FAULTS for case in load_suite(file).cases]
    return [case for case in cases if seen is None or seen != ("_unseen" in case.id)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_loads_and_its_modeline_finds_the_schema(file: Path) -> None:
    assert is_case_file(file, explicit=False)
    assert all(expand(case) for case in load_suite(file).cases)
    key, _, target = file.read_text().splitlines()[0].partition("$schema=")
    assert key == "# yaml-language-server: "
    assert (file.parent / target).resolve() == CASES.parent / "pytest_greta" / "cases" / "case.schema.json"


def test_ids_are_unique_over_all_files() -> None:
    seen: dict[tuple[str, str], object] = {}
    for file in FILES:
        check_unique(load_suite(file), seen)  # type: ignore[arg-type]
    assert len(seen) > 30


def test_b3_66_is_the_seeds_suite_in_both_modes() -> None:
    suite = load_suite(CASES / "b3_66.greta.yaml")
    assert suite.name == "b3_66_v2"
    assert [case.id for case in suite.cases] == B3_66
    assert suite.cases[0].prompt.text == "Hi\n"
    for case in suite.cases:
        assert [probe.id for probe in expand(case)] == ["as_designed", "kv_aligned"]
        assert case.settings["model"] == "smollm2-135m"
        assert case.expect["as_designed"] == Expect(accept=("ALIGNED", "ATTENTION_COMPUTATION_MISMATCH"))
        assert case.expect["kv_aligned"] == Expect(accept=("PASS",))


def test_the_same_prompts_on_the_synthetic_model() -> None:
    cases = {case.id: case for case in load_suite(CASES / "synthetic.greta.yaml").cases}
    real = {case.id: case for case in load_suite(CASES / "b3_66.greta.yaml").cases}
    assert all(cases[name].prompt == real[name].prompt for name in B3_66)
    cells = [probe.settings for case in cases.values() for probe in expand(case)]
    assert {cell["model"] for cell in cells} == {"synthetic"}
    assert {cell["dtype"] for cell in cells} == {cell["kv_dtype"] for cell in cells} == {"f32", "bf16", "f16"}
    assert {cell["page_size"] for cell in cells} == {0, 16}


def test_a_bitwise_case_expects_aligned() -> None:
    (case,) = (c for c in load_suite(CASES / "synthetic.greta.yaml").cases if c.settings.get("contract"))
    assert case.settings["gemm"] == "rowwise"
    assert case.settings["schedule"]["prefill"] == case.settings["schedule"]["decode"] == {"tile": 128, "splits": 1}
    assert len((case.prompt.text or "").encode()) < 128  # one tile
    assert set(case.expect.values()) == {Expect(accept=("ALIGNED",))}


def test_a_file_for_each_kind() -> None:
    assert {file.name for file in FAULTS} == {f"{kind}.greta.yaml" for kind in KINDS}
    assert set(TABLE) == set(KINDS)
    for file in FAULTS:
        found = [case.inject.fault for case in load_suite(file).cases if case.inject]
        assert set(found) == {file.name.removesuffix(".greta.yaml")}
        assert len(found) == len(load_suite(file).cases) >= 3


def test_each_kind_is_shown_invisible_without_its_fixture() -> None:
    assert {case.inject.fault for case in fault_cases(seen=False) if case.inject} == set(KINDS)
    for case in fault_cases(seen=False):
        expect = case.expect["kv_aligned"]
        assert expect == Expect(accept=("PASS",)) or expect.reason == "fault_not_planted"


@pytest.mark.parametrize("case", fault_cases(seen=True), ids=lambda case: case.id)
def test_a_fault_expects_what_the_table_says(case: Case) -> None:
    assert case.inject is not None
    scenario, stages = TABLE[case.inject.fault]
    expect = case.expect["kv_aligned"]
    assert case.modes == ("kv_aligned",)
    within = case.inject.fault in FINDING and case.inject.magnitude != 2  # every stage within its bound
    assert expect.status == (("PASS",) if within else ("KV_MISMATCH",))
    assert expect.finding == FINDING.get(case.inject.fault)
    assert scenario is None or expect.scenario == (scenario,)
    failure = expect.first_failure or {}
    assert set(failure["stage"]) <= stages & set(found_at(case.inject))
    assert failure["phase"] == (case.inject.phase,)
    outside = case.inject.stage in ("embed_out", "logits", "final_norm")
    assert failure["layer"] == (-1 if outside else case.inject.layer or 0,)


def test_fault_prompts_are_long_enough() -> None:
    """A byte is a token; a split merge needs keys in two tiles of 64 at least."""
    for case in fault_cases(seen=True):
        tokens = case.prompt.random_tokens or len((case.prompt.text or "").encode())
        assert tokens >= 16
        if case.inject and case.inject.fault == "split_merge":
            assert tokens > 2 * case.settings["schedule"]["decode"]["tile"]
            assert case.settings["schedule"]["decode"]["splits"] >= 2
