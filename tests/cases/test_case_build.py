"""From a right file to cases: defaults, matrices, expectations; and which files are case files at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_greta.cases.loader import check_unique, is_case_file, load_suite
from pytest_greta.cases.model import Case, CaseError, Expect, Inject

BOTH = ("as_designed", "kv_aligned")


def cases(text: str, tmp_path: Path) -> tuple[Case, ...]:
    file = tmp_path / "f.greta.yaml"
    file.write_text(text, encoding="utf-8")
    return load_suite(file).cases


def case(line: str, tmp_path: Path, defaults: str = "{}") -> Case:
    return cases(f"suite: s\ndefaults: {defaults}\ncases:\n  - id: a\n    prompt: Hi\n    {line}\n", tmp_path)[0]


def test_a_whole_case(tmp_path: Path) -> None:
    text = """
suite: b3
defaults: {model: smollm2-135m, dtype: bf16, marks: slow, seed: 7}
cases:
  - id: first
    token_ids: [3, 0, 2]
    mode: [as_designed, kv_aligned]
    seed: 8
    layers: [2, 0]
    backend: {prefill: cpu, decode: {library: ./x.so}}
    schedule: {decode: {tile: 64, splits: 2}}
    inject: {fault: window, phase: both, layer: 3, magnitude: 1e-3, position: 4, head: 1}
    marks: [slow, gpu]
    timeout: 1.5
  - {id: second, random_tokens: 8}
"""
    one, two = cases(text, tmp_path)
    assert (one.id, one.suite, one.where.line, one.where.column) == ("first", "b3", 5, 5)
    assert one.where.path == tmp_path / "f.greta.yaml"
    assert one.prompt.token_ids == (3, 0, 2)
    assert (one.prompt.text, one.prompt.random_tokens, one.prompt.file) == (None, None, None)
    assert one.modes == BOTH
    assert one.settings == {
        "model": "smollm2-135m",
        "dtype": "bf16",
        "seed": 8,
        "layers": (2, 0),
        "backend": {"prefill": "cpu", "decode": {"library": "./x.so"}},
        "schedule": {"decode": {"tile": 64, "splits": 2}},
        "timeout": 1.5,
    }
    assert one.inject == Inject("window", "both", 3, None, 1, 4, 0.001)
    assert one.marks == ("slow", "gpu")
    assert (two.settings["seed"], two.marks, two.modes) == (7, ("slow",), ("kv_aligned",))
    assert two.prompt.random_tokens == 8
    assert two.inject is None
    assert two.where.line == 15


class TestDefaultsAndMatrix:
    def test_a_list_and_a_key_under_matrix_are_the_same(self, tmp_path: Path) -> None:
        listed = case("dtype: [f32, bf16]", tmp_path)
        under = case("matrix: {dtype: [f32, bf16]}", tmp_path)
        assert listed.matrix == under.matrix == {"dtype": ("f32", "bf16")}
        assert "dtype" not in listed.settings

    def test_layers_are_a_list_by_nature(self, tmp_path: Path) -> None:
        assert case("layers: [0, 1]", tmp_path).settings["layers"] == (0, 1)
        assert case("matrix: {layers: [all, [0, 1]]}", tmp_path).matrix["layers"] == ("all", (0, 1))

    def test_a_case_replaces_what_the_defaults_say(self, tmp_path: Path) -> None:
        found = case("dtype: f16", tmp_path, "{matrix: {dtype: [f32, bf16], page_size: [0, 16]}}")
        assert (dict(found.settings), dict(found.matrix)) == ({"dtype": "f16"}, {"page_size": (0, 16)})
        found = case("matrix: {dtype: [f32, bf16]}", tmp_path, "{dtype: f16, seed: [1, 2]}")
        assert (dict(found.settings), dict(found.matrix)) == ({}, {"seed": (1, 2), "dtype": ("f32", "bf16")})

    def test_modes(self, tmp_path: Path) -> None:
        assert case("seed: 1", tmp_path).modes == ("kv_aligned",)
        assert case("seed: 1", tmp_path, "{mode: as_designed}").modes == ("as_designed",)
        assert case("mode: kv_aligned", tmp_path, "{mode: as_designed}").modes == ("kv_aligned",)
        assert case("matrix: {mode: [kv_aligned, as_designed]}", tmp_path).modes == ("kv_aligned", "as_designed")

    def test_matrix_keys_keep_their_order(self, tmp_path: Path) -> None:
        found = case("matrix: {page_size: [16, 0], dtype: [f16, f32]}", tmp_path)
        assert list(found.matrix.items()) == [("page_size", (16, 0)), ("dtype", ("f16", "f32"))]


class TestExpect:
    AS_DESIGNED = Expect(accept=("ALIGNED", "ATTENTION_COMPUTATION_MISMATCH"))
    KV_ALIGNED = Expect(accept=("PASS",))

    def test_without(self, tmp_path: Path) -> None:
        found = case("mode: [as_designed, kv_aligned]", tmp_path).expect
        assert found == {"as_designed": self.AS_DESIGNED, "kv_aligned": self.KV_ALIGNED}

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("KV_MISMATCH", Expect(accept=("KV_MISMATCH",))),
            ("[ALIGNED, PASS]", Expect(accept=("ALIGNED", "PASS"))),
            ("{status: PASS}", Expect(status=("PASS",))),
            ("{status: [PASS, KV_MISMATCH], finding: NONE}", Expect(status=("PASS", "KV_MISMATCH"), finding=("NONE",))),
            ("{scenario: ALIGNED}", Expect(scenario=("ALIGNED",))),
            ("{kv_aligned: {scenario: ALIGNED}}", Expect(scenario=("ALIGNED",))),
            ("{kv_aligned: [PASS, ALIGNED]}", Expect(accept=("PASS", "ALIGNED"))),
            (
                "{status: INCONCLUSIVE, reason: no rows}",
                Expect(status=("INCONCLUSIVE",), reason="no rows"),
            ),
            (
                "{first_failure: {layer: 3, stage: [lse, attn_out], phase: decode, positions: [7], heads: [1, 2]}}",
                Expect(
                    first_failure={
                        "layer": (3,),
                        "stage": ("lse", "attn_out"),
                        "phase": ("decode",),
                        "positions": (7,),
                        "heads": (1, 2),
                    }
                ),
            ),
        ],
    )
    def test_spellings(self, written: str, expected: Expect, tmp_path: Path) -> None:
        assert case(f"expect: {written}", tmp_path).expect == {"kv_aligned": expected}

    def test_of_one_mode_only(self, tmp_path: Path) -> None:
        found = case("mode: [as_designed, kv_aligned]\n    expect: {as_designed: KV_MISMATCH}", tmp_path).expect
        assert found == {"as_designed": Expect(accept=("KV_MISMATCH",)), "kv_aligned": self.KV_ALIGNED}

    def test_of_all_modes(self, tmp_path: Path) -> None:
        found = case("mode: [as_designed, kv_aligned]\n    expect: ALIGNED", tmp_path).expect
        assert found == dict.fromkeys(BOTH, Expect(accept=("ALIGNED",)))

    def test_defaults_may_name_a_mode_that_a_case_has_not(self, tmp_path: Path) -> None:
        found = case("mode: kv_aligned", tmp_path, "{expect: {as_designed: ALIGNED}}").expect
        assert found == {"kv_aligned": self.KV_ALIGNED}

    def test_an_injected_fault_may_have_any_mode(self, tmp_path: Path) -> None:
        assert case("mode: as_designed\n    inject: {fault: kv_len}", tmp_path).inject == Inject("kv_len")


class TestWhichFiles:
    def put(self, tmp_path: Path, name: str, text: str = "suite: s\ncases: []\n") -> Path:
        file = tmp_path / name
        file.write_text(text)
        return file

    def test_by_name(self, tmp_path: Path) -> None:
        assert is_case_file(self.put(tmp_path, "a.greta.yaml", "anything: [\n"), explicit=False)
        assert not is_case_file(self.put(tmp_path, "a.yaml"), explicit=False)
        assert not is_case_file(self.put(tmp_path, "a.greta.yaml.txt"), explicit=True)

    def test_other_patterns(self, tmp_path: Path) -> None:
        file = self.put(tmp_path, "probe_a.yml")
        assert is_case_file(file, explicit=False, patterns=("probe_*.yml",))
        assert is_case_file(file, explicit=False, patterns=(f"{tmp_path.name}/*.yml",))
        assert not is_case_file(file, explicit=False, patterns=("elsewhere/*.yml",))

    @pytest.mark.parametrize("name", ["a.yaml", "a.yml"])
    def test_named_on_the_command_line(self, name: str, tmp_path: Path) -> None:
        assert is_case_file(self.put(tmp_path, name), explicit=True)
        assert is_case_file(self.put(tmp_path, name, "suite: s\ncases: [\n"), explicit=True)  # to be told what is wrong
        assert is_case_file(self.put(tmp_path, name, "{suite: s, cases: [{id: a, prompt: x}]}"), explicit=True)

    @pytest.mark.parametrize("text", ["services: {a: b}\n", "suite: x\n", "a:\n  suite: x\n  cases: []\n", "", "\x00"])
    def test_somebody_elses_yaml(self, text: str, tmp_path: Path) -> None:
        assert not is_case_file(self.put(tmp_path, "a.yaml", text), explicit=True)

    def test_no_file(self, tmp_path: Path) -> None:
        assert not is_case_file(tmp_path / "no.yaml", explicit=True)


def test_one_id_in_two_files_of_a_suite(tmp_path: Path) -> None:
    for name, suite in (("a", "s"), ("b", "t"), ("c", "s")):
        (tmp_path / f"{name}.greta.yaml").write_text(f"suite: {suite}\ncases: [{{id: x, prompt: y}}]\n")
    seen: dict[tuple[str, str], object] = {}
    check_unique(load_suite(tmp_path / "a.greta.yaml"), seen)  # type: ignore[arg-type]
    check_unique(load_suite(tmp_path / "a.greta.yaml"), seen)  # type: ignore[arg-type]
    check_unique(load_suite(tmp_path / "b.greta.yaml"), seen)  # type: ignore[arg-type]
    with pytest.raises(CaseError, match=r"c\.greta\.yaml:2:9: key id: two cases x in suite s, the first at .*a\.greta"):
        check_unique(load_suite(tmp_path / "c.greta.yaml"), seen)  # type: ignore[arg-type]


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, pytest_greta.cases.loader, pytest_greta.cases.expect, pytest_greta.plan;"
        "print([m for m in ('numpy', 'yaml', 'jsonschema', 'cffi', 'pytest') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
