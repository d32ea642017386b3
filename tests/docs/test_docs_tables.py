"""The tables of the docs hold what the code holds: each is read from the page and compared with the module."""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import re
from dataclasses import fields

import pytest

from pytest_greta import decide, evidence, options, verdict
from pytest_greta.backends import registry
from pytest_greta.backends.base import BackendMissing, Numerics
from pytest_greta.backends.function import PARAMETERS
from pytest_greta.cases.loader import load_suite
from pytest_greta.cases.schema import schema_text
from pytest_greta.checks import constants, liveness
from pytest_greta.checks.readings import HYPOTHESES
from pytest_greta.cli_faults import found
from pytest_greta.faults.fixtures import FIXTURES
from pytest_greta.faults.kinds import BY_NAME, KINDS
from pytest_greta.texts import say
from tests.docs.pages import ROOT, code, section, table

NUMERICS, VERDICTS, FAULTS = "docs/concepts/numerics.md", "docs/concepts/verdicts.md", "docs/concepts/faults.md"
CASES, LIBRARY, OPTIONS = "docs/cases.md", "docs/library.md", "docs/options.md"


def number(text: str) -> object:
    """``2^-24``, ``5`` or ``(2, 4)`` as a value."""

    def of(node: ast.expr) -> object:
        if isinstance(node, ast.Tuple):
            return tuple(of(part) for part in node.elts)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            return of(node.left) ** of(node.right)  # type: ignore[operator]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -of(node.operand)  # type: ignore[operator]
        assert isinstance(node, ast.Constant), text
        return node.value

    return of(ast.parse(text.replace("^", "**"), mode="eval").body)


def one(cell: str) -> str:
    (word,) = code(cell)
    return word


# -- numerics ----------------------------------------------------------------------------------------------------------


def test_constants_are_those_of_the_module():
    module = {k: v for k, v in vars(constants).items() if k.isupper() and not k.startswith("_")}
    page = {one(row["name"]): number(row["value"]) for row in table(NUMERICS, "Constants")}
    assert page == module


def test_bounds_quote_the_constants():
    """The formulas are prose; the numbers in them are not: each must be the module's."""
    bounds = {", ".join(code(row["stage"])) or row["stage"]: row["bound b"] for row in table(NUMERICS, "The bounds")}
    c = constants
    a, b, k = c.ROPE_ANGLE
    slope, constant = c.SWIGLU
    lse_slope, lse_constant = c.LSE_DET
    assert c.NORM_SUM == 1 / 2
    assert bounds["norms"] == f"u (c sqrt(d)/2 + {c.NORM_DET:g}) |y|"
    assert bounds["q_rope, k_rope"] == (
        f"{c.ROPE_PRODUCT:g}u (|x0 cos| + |x1 sin|) + u (({a:g} ln base + {b:g}) theta + {k:g})(|x0| + |x1|)"
    )
    assert bounds["kv_write"] == f"0 at scale 1, else {c.CACHE_SCALE:g}u |y|, y = row / scale"
    assert bounds["ffn_act"] == f"u ({slope:g} |gate| + {constant:g}) |y|"
    assert bounds["lse"] == f"sum p_j eps_j + c sqrt(n) u + {lse_slope:g}u |lse| + {lse_constant:g}u"
    text = (ROOT / NUMERICS).read_text(encoding="utf-8")
    e, f = c.EPS_RESCALE
    assert f"ds_j   = u (c sqrt(d) A_j + {c.DS_PRODUCT:g} |s_j|)" in text
    assert f"u ({c.EPS_DISTANCE:g} |s_j - m| + ({e:g} max(|m|, |s_j|) + {f:g})(1 + c sqrt(T)))" in text
    assert f"core   = sum p_j eps_j |v_j - o| + {c.OUT_DET:g}u |o|" in text
    assert f"{c.OUT_DET:g}u |o|)(1 + u_P)" in text
    assert f"u ({c.FLIP_SHIFT:g} |s_j - m_t| + {c.FLIP_SHIFT:g} |m_t| + {c.FLIP_DET:g}) + exp_rel" in text
    assert f"ceil(n / {c.TILE_UNDECLARED}) + {c.SPLITS_UNDECLARED}" in text
    assert f"c = {c.C:g}" in text
    assert f"exp(-{c.C_EXPONENT:g} c^2)" in text


def test_declarations_are_those_of_numerics():
    page = {one(row["name"]): row["default"].partition(" ")[0] for row in table(NUMERICS, "Declarations")}
    module = {f.name: f.default for f in fields(Numerics)}
    assert list(page) == list(module)
    for name, default in module.items():
        shown = page[name]
        if isinstance(default, bool):
            assert shown == str(default).lower(), name
        else:
            assert shown == default if isinstance(default, str) else number(shown) == default, name


def test_every_declaration_that_widens_is_used_by_the_checks():
    """One of which the page says that it changes nothing must be read by no check; every other one by some."""
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "pytest_greta/checks").glob("*.py"))
    for row in table(NUMERICS, "Declarations"):
        used = f"numerics.{one(row['name'])}" in text
        assert used != row["what it adds to b"].startswith("nothing"), row["name"]


# -- verdicts ----------------------------------------------------------------------------------------------------------


def test_verdict_words():
    rows = {one(row["field"]): code(row["values"]) for row in table(VERDICTS, "Verdicts")}
    assert tuple(rows["status"]) == verdict.STATUSES
    assert tuple(rows["scenario"]) == verdict.SCENARIOS
    assert set(rows) == {f.name for f in fields(verdict.Verdict)} - {"mode", "drift", "rho", "reason", "reason_es"}
    given = set(re.findall(r'finding="(\w+)"', inspect.getsource(decide))) | {"NONE"}
    assert set(rows["finding"]) == given, "findings that decide.py can give"
    assert set(verdict.FINDINGS) - given == {verdict.DRIFT_REGRESSION}, "which only a baseline gives"


def test_outcomes_use_the_words_and_all_of_them():
    rows = table(VERDICTS, "Outcomes")
    assert {word for row in rows for word in code(row["status"])} == set(verdict.STATUSES)
    assert {word for row in rows for word in code(row["scenario"])} == set(verdict.SCENARIOS)
    assert {word for row in rows for word in code(row["finding"])} <= set(verdict.FINDINGS)
    misaligned = next(row for row in rows if code(row["scenario"]) == ["KV_MISALIGNMENT"])
    named = re.search(r"culprit is (.*), and in", misaligned["observed"])
    assert named is not None
    assert tuple(re.split(r", | or ", named[1])) == decide.MISALIGNED_STAGES


def test_who_is_to_blame():
    rows = {p.strip(): row["to blame"] for row in table(VERDICTS, "Who: prefill / decode / aligned")
            for p in row["pattern"].split(",")}  # fmt: skip
    assert set(rows) == {*decide.WHO, "rrw"}
    for pattern, key in decide.WHO.items():
        word = {"who.decode_kernel": "the decode kernel", "who.decode_run": "the decode run", "who.both": "alike",
                "who.prefill_kernel": "the prefill kernel", "who.both_separately": "each on its own"}[key]  # fmt: skip
        assert word in rows[pattern]


def test_provenance_readings():
    rows = table(VERDICTS, "Provenance")
    assert [one(row["key"]) for row in rows] == list(HYPOTHESES)
    for row in rows:
        real = one(row["scenario"]) == "REAL_MISMATCH"
        assert real == (one(row["key"]) in decide.ADDRESSING), row["key"]


def test_breaches():
    page = {word for row in table(VERDICTS, "Evidence rules") for word in code(row["breach"])}
    source = "".join(inspect.getsource(m) for m in (evidence, liveness, decide))
    found = set(re.findall(r'Breach\(\s*"(\w+)"', source))
    found |= {f"{n}_differ" for n in ("tokens", "rows", "positions")}  # an f-string in evidence.py
    assert page == found


# -- faults ------------------------------------------------------------------------------------------------------------


def faults_table() -> dict[str, dict[str, str]]:
    return {one(row["kind"]): row for row in table(FAULTS, "Injectable now")}


def test_injectable_now_is_kinds():
    rows = faults_table()
    assert tuple(rows) == KINDS
    for name, row in rows.items():
        kind = BY_NAME[name]
        assert row["planted"] == kind.planted
        assert row["seen in"] == kind.seen_in
        assert row["magnitude (default)"] == f"{say('en', f'fault.{name}.magnitude')} ({kind.magnitude:g})"
        assert row["found at"] == ", ".join(found(kind))
        assert row["scenario"] == (kind.scenario or "by stage")


@pytest.mark.parametrize("file", sorted((ROOT / "cases/faults").glob("*.yaml")), ids=lambda file: file.name)
def test_the_suite_expects_of_a_fault_what_the_page_says(file):
    row = faults_table()[file.name.partition(".")[0]]
    for case in load_suite(file).cases:
        expect = case.expect["kv_aligned"]
        if "_unseen" in case.id:
            continue
        assert expect.scenario == (row["scenario"],) or row["scenario"] == "by stage"
        assert expect.first_failure is not None
        assert set(expect.first_failure["stage"]) <= set(row["found at"].split(", ")), case.id


def test_smallest_magnitudes_are_those_of_the_fixtures():
    page = [
        (one(row["kind"]), row["stage"], row["dtype"], float(row["smallest magnitude"]), code(row["fixture"])[0])
        for row in table(FAULTS, "How little is seen")
    ]
    claimed = [
        (f.kind, f.inject.get("stage", ("",))[0], dtype, least, f.model)
        for f in FIXTURES
        for dtype, least in (f.smallest or {}).items()
    ]
    assert page == claimed


# -- cases -------------------------------------------------------------------------------------------------------------


def schema() -> dict[str, dict]:
    return json.loads(schema_text())


def test_case_keys_are_those_of_the_schema():
    definitions = schema()["definitions"]
    rows = {one(row["key"]): row for row in table(CASES, "Keys of a case")}
    assert sorted(rows) == sorted(definitions["case"]["properties"])
    for part in ("defaults", "matrix"):
        assert {k for k, row in rows.items() if row[f"`{part}`"] == "yes"} == set(definitions[part]["properties"]), part
    assert {one(row["key"]) for row in table(CASES, "The file")} == set(schema()["properties"])


def test_case_defaults_are_those_of_the_plan():
    from pytest_greta.cases.build import DEFAULT_MODES
    from pytest_greta.plan import DEFAULTS

    rows = {one(row["key"]): row["default"] for row in table(CASES, "Keys of a case")}
    for key, default in DEFAULTS.items():
        if default in (None, {}, ()):
            continue
        assert rows[key] == str(default), key
    assert (rows["mode"],) == DEFAULT_MODES
    assert [float(rows["timeout"])] == [o.default for o in options.OPTIONS if o.name == "timeout"]


def test_inject_and_expect_keys():
    definitions = schema()["definitions"]
    assert {one(row["key"]) for row in table(CASES, "inject")} == set(definitions["inject"]["properties"])
    assert {one(row["field"]) for row in table(CASES, "expect")} == set(definitions["expect_one"]["then"]["properties"])
    (failure,) = [row["value"] for row in table(CASES, "expect") if one(row["field"]) == "first_failure"]
    assert set(code(failure)) == set(definitions["first_failure"]["properties"])
    assert definitions["dtype"]["enum"] == ["f32", "bf16", "f16"]
    stages = next(row["value"] for row in table(CASES, "inject") if one(row["key"]) == "stage")
    of_kinds = "; ".join(f"`{kind.name}`: {', '.join(kind.stages)}" for kind in BY_NAME.values() if kind.stages)
    assert stages == f"where it is planted, for {of_kinds}"


def test_reader_limits():
    from pytest_greta.cases import yaml_

    (text,) = ["\n".join(section(CASES, "What the reader takes"))]
    assert yaml_.MAX_BYTES == 1 << 20
    assert f"at most {yaml_.MAX_ALIASES} aliases,\n{yaml_.MAX_DEPTH} levels and 1 MiB" in text


# -- options -----------------------------------------------------------------------------------------------------------


def test_options_are_those_of_the_table():
    rows = {one(row["option"]): row for row in table(OPTIONS, "Options")}
    assert list(rows) == [o.flag for o in options.OPTIONS]
    for option in options.OPTIONS:
        row = rows[option.flag]
        assert one(row["ini"]) == option.dest
        assert code(row["environment"]) == list(option.env)
        if option.is_flag:
            assert row["default"] == "off"
        elif option.overrides:
            assert row["default"] == "the case's"
        elif isinstance(option.default, (str, float)):
            assert option.parse(row["default"]) == option.default
        else:
            assert not option.default
            assert row["default"] in ("none", "both")


def test_planned_options_do_not_exist():
    planned = {word for line in section(OPTIONS, "Planned") for word in code(line) if word.startswith("--")}
    assert planned
    assert not planned & {o.flag for o in options.OPTIONS}


def test_choices_are_named():
    rows = {one(row["option"]): row["values"] for row in table(OPTIONS, "Options")}
    for flag, choices in (
        ("--greta-trace", options.TRACE_LEVELS),
        ("--greta-lang", options.LANGS),
        ("--greta-require", (*options.REQUIRABLE, "all")),
        ("--greta-mode", options.MODES),
    ):
        assert rows[flag].startswith(", ".join(choices)), flag


def test_analyze_flags_and_exit_codes():
    from pytest_greta import cli_model, cli_selftest, exit_codes
    from pytest_greta.cli import build_parser

    choices = next(a.choices for a in build_parser()._actions if a.choices)
    for command in ("analyze", "doctor", "selftest"):
        flags = {s for a in choices[command]._actions for s in a.option_strings} - {"-h", "--help"}
        assert {one(row["flag"]) for row in table(OPTIONS, f"greta {command}")} == flags
    codes = {one(row["command"]): row for row in table(OPTIONS, "Exit codes")}
    assert set(codes) == {"pytest"} | {f"greta {name}" for name in choices}
    row = codes["greta analyze"]
    assert row[str(exit_codes.PASSED)] == "pass"
    assert row[str(exit_codes.MISMATCH)] == "mismatch"
    assert row[str(exit_codes.USAGE)] == "usage error"
    assert row[str(exit_codes.INCONCLUSIVE)] == "inconclusive"
    row = codes["greta selftest"]
    assert row[str(cli_selftest.CLEAN)].startswith("all found")
    assert row[str(cli_selftest.FAILED)].startswith("a miss")
    assert row[str(cli_selftest.USAGE)] == "usage error"
    row = codes["greta model"]
    assert row[str(cli_model.UNKNOWN)] == "unknown name"
    assert "failed download" in row[str(cli_model.FAILED)]
    assert "no downloader" in row[str(cli_model.NOT_HERE)]


# -- library -----------------------------------------------------------------------------------------------------------


def header() -> str:
    return (ROOT / "native/include/greta_attn.h").read_text(encoding="utf-8")


def test_functions_are_those_of_the_header():
    declared = set(re.findall(r"^(?:const char\* |int32_t |void |greta_status )(greta_\w+)\(", header(), re.M))
    rows = table(LIBRARY, "The C ABI")
    assert {f for row in rows for f in code(row["function"])} == declared
    required = {f for row in rows for f in code(row["function"]) if row[""] == "required"}
    from pytest_greta.backends.native import OPTIONAL, REQUIRED

    assert required == set(REQUIRED)
    assert {f.removeprefix("greta_") for f in declared - required} == {*OPTIONAL, "last_error"}


def test_describe_keys_are_those_that_are_read():
    from pytest_greta.backends import native, native_description

    source = inspect.getsource(native) + inspect.getsource(native_description)
    read = set(re.findall(r'(?:get|choice|names|raw\.get|_raw\(\)\.get)\(\s*"(\w+)"', source))
    rows = {k: row for row in table(LIBRARY, "describe") for k in code(row["key"])}
    assert set(rows) == read
    minimal = {"name": "x", "kernels": {"prefill": "a", "decode": "b"}}
    assert {k for k, row in rows.items() if row["default"] == "required"} == set(minimal)
    found = native.description(minimal, frozenset(), "x.so")
    assert (found.kv, found.prefill_kv) == (rows["kv"]["default"], rows["prefill_kv"]["default"])
    assert found.device_kind == rows["device_kind"]["default"]
    assert found.one_kernel is False
    for key in minimal:
        with pytest.raises(Exception, match=key):
            native.description({k: v for k, v in minimal.items() if k != key}, frozenset(), "x.so")


def test_capabilities_are_those_of_the_protocol():
    from pytest_greta.backends.base import Description

    assert Description.__doc__ is not None
    stated = re.search(r"may ask for \(([^)]*)\)", Description.__doc__)
    assert stated is not None
    names = set(stated[1].replace("...", "").split())
    text = " ".join(section(LIBRARY, "Capabilities")).partition("asked of")[0]
    assert set(code(text)) - {"features"} == names


# -- backends ----------------------------------------------------------------------------------------------------------


def test_every_built_in_backend_is_listed_and_exists():
    rows = [name for row in table("docs/functions.md", "Built-in backends") for name in code(row["name"])]
    assert rows == list(registry.BUILT_IN)
    for name in rows:
        with contextlib.suppress(BackendMissing):  # what it needs is not here, and it says so
            backend = registry.open_backends(name, extra={}, base=ROOT)["decode"]
            assert set(backend.describe().kernels) == {"prefill", "decode"}


def test_the_parameters_of_a_function():
    rows = table("docs/functions.md", "What it is given, and what it gives")
    assert sorted(name for row in rows for name in code(row["parameter"])) == sorted(PARAMETERS)
