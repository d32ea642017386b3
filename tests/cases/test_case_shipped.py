"""The case files that ship: each loads, says which schema it has, and expects what the fault table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_greta.cases.loader import check_unique, is_case_file, load_suite
from pytest_greta.cases.model import Case, Expect
from pytest_greta.faults.kinds import KINDS
from pytest_greta.plan import expand

CASES = Path(__file__).parents[2] / "cases"
FILES = sorted(CASES.rglob("*.yaml"))
FAULTS = sorted((CASES / "faults").glob("*.yaml"))

# Written by hand from the table of fault kinds: scenario, and the stages at which a perfect localiser may point.
MISALIGNED, REAL = "KV_MISALIGNMENT", "REAL_MISMATCH"
TABLE = {
    "rope_pos": (MISALIGNED, {"q_rope", "k_rope"}),
    "kv_slot": (REAL, {"kv_write"}),
    "kv_len": (MISALIGNED, {"lse"}),
    "qk_scale": (MISALIGNED, {"lse"}),
    "gqa_map": (REAL, {"lse", "attn_out"}),
    "w_route": (REAL, {"embed_out", "q_proj", "k_proj", "v_proj", "o_proj", "logits"}),
    "split_merge": (MISALIGNED, {"attn_out", "lse"}),
}
B3_66 = ["p0_short", "p6_len_16", "p6_len_32", "es_prompt", "code_prompt"]


def fault_cases() -> list[Case]:
    return [case for file in FAULTS for case in load_suite(file).cases]


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


@pytest.mark.parametrize("case", fault_cases(), ids=lambda case: case.id)
def test_a_fault_expects_what_the_table_says(case: Case) -> None:
    assert case.inject is not None
    scenario, stages = TABLE[case.inject.fault]
    expect = case.expect["kv_aligned"]
    assert case.modes == ("kv_aligned",)
    assert (expect.status, expect.scenario) == (("KV_MISMATCH",), (scenario,))
    failure = expect.first_failure or {}
    assert set(failure["stage"]) <= stages
    assert failure["phase"] == (case.inject.phase,)
    if case.inject.fault == "w_route":
        assert failure["stage"] == (case.inject.stage,)
    outside = case.inject.stage in ("embed_out", "logits")
    assert failure["layer"] == (-1 if outside else case.inject.layer or 0,)


def test_fault_prompts_are_long_enough() -> None:
    """A byte is a token; a split merge needs keys in two tiles of 64 at least."""
    for case in fault_cases():
        tokens = case.prompt.random_tokens or len((case.prompt.text or "").encode())
        assert tokens >= 16
        if case.inject and case.inject.fault == "split_merge":
            assert tokens > 2 * case.settings["schedule"]["decode"]["tile"]
            assert case.settings["schedule"]["decode"]["splits"] >= 2
