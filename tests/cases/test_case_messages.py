"""Every wrong case file: one message with place, key, what was expected and the nearest valid name."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from pytest_greta.cases import model, schema
from pytest_greta.cases.loader import load_suite
from pytest_greta.cases.model import CaseError
from pytest_greta.trace.stages import STAGES
from pytest_greta.verdict import FINDINGS, SCENARIOS, STATUSES

ONE = "suite: s\ncases:\n  - id: a\n    prompt: Hi\n"
"""A right file; each row below adds one line to its case."""

LINE_5 = {
    # what stands on line 5: column of the complaint, the complaint
    "promt: x": (5, "key promt (case a): unknown key; did you mean prompt?"),
    "zzz: x": (5, "key zzz (case a): unknown key; expected one of id, prompt, prompt_file, token_ids,"),
    "<: x": (5, "key < (case a): unknown key"),
    "chunk: 0": (12, "key chunk (case a): expected at least 1, got 0"),
    "chunks: 8": (5, "key chunks (case a): unknown key; did you mean chunk?"),
    "q_len: 0": (12, "key q_len (case a): expected at least 1, got 0"),
    "left_pad: -1": (15, "key left_pad (case a): expected at least 0, got -1"),
    "reuse: {rollback: 1}": (12, "key reuse (case a): the key prefix is missing"),
    "numerics: {}": (15, "key numerics (case a): is empty"),
    "numerics: {min_acc_bits: 7}": (30, "key numerics.min_acc_bits (case a): expected at least 8, got 7"),
    "numerics: {max_exp_rel: 0}": (29, "key numerics.max_exp_rel (case a): expected more than 0, got 0"),
    "numerics: {acc_bits: 24}": (16, "key numerics.acc_bits (case a): unknown"),
    "lengths: sweep": (14, "key lengths (case a): a sweep is laid out before any model is loaded"),
    "lengths: swep": (14, "key lengths (case a): expected sweep or a list of lengths, got 'swep'"),
    "lengths: 65": (14, "key lengths (case a): expected sweep or a list of lengths, got 65"),
    "lengths: []": (14, "key lengths (case a): is empty"),
    "lengths: [1, 0]": (18, "key lengths[1] (case a): expected at least 1, got 0"),
    "lengths: [8, 8]": (14, "key lengths (case a): the value 8 is given twice; keep one"),
    "lengths: [x]": (15, "key lengths[0] (case a): expected a whole number, got 'x'"),
    "window: 0": (5, "key window (case a): unknown key"),
    "reuse: {rollback: 2}": (12, "key reuse (case a): the key prefix is missing"),
    "reuse: {prefix: 4, rollback: -1}": (34, "key reuse.rollback (case a): expected at least 0, got -1"),
    "batch: 4": (12, "key batch (case a): expected a list, got 4"),
    "batch: [0]": (13, "key batch[0] (case a): expected at least 1, got 0"),
    "reuse: {prefix: 0}": (21, "key reuse.prefix (case a): expected at least 1, got 0"),
    "contract: {schedule: same}": (26, "key contract.schedule (case a): expected equal, got 'same'"),
    "contract: {repeatable: 1}": (28, "key contract.repeatable (case a): expected one of true, false, got 1"),
    "contract: {batch_invariant: false}": (33, "key contract.batch_invariant (case a): expected true, got false"),
    "contract: {batch: true}": (16, "key contract.batch (case a): unknown key; expected one of bitwise, schedule,"),
    "contract: {bitwise: no}": (25, "key contract.bitwise (case a): expected true, got 'no'"),
    "schedule: {decode: {direction: back}}": (36, "expected one of forward, reverse, got 'back'"),
    "schedule: {decode: {max_update: lazy}}": (37, "expected every_tile, none or lazy:NUMBER, got 'lazy'"),
    "schedule: {decode: {p_scale: 0}}": (34, "key schedule.decode.p_scale (case a): expected more than 0, got 0"),
    "schedule: {decode: {tile: 0}}": (31, "key schedule.decode.tile (case a): expected at least 1, got 0"),
    "schedule: {decod: {tile: 1}}": (16, "key schedule.decod (case a): unknown key; did you mean decode?"),
    "schedule: {}": (15, "key schedule (case a): is empty"),
    "dtype: fp8_e4m3": (12, "key dtype (case a): expected one of f32, bf16, f16, got 'fp8_e4m3'"),
    "dtype: fp32": (12, "key dtype (case a): expected one of f32, bf16, f16, got 'fp32'; did you mean f32?"),
    "dtype: 32": (12, "key dtype (case a): expected one of f32, bf16, f16, got 32"),
    "kv_dtype: [f32, bfloat16]": (
        21,
        "key kv_dtype[1] (case a): expected one of f32, bf16, f16, fp8_e4m3, fp8_e4m3fn, fp8_e4m3fnuz, got 'bfloat16'",
    ),
    "mode: kv_alined": (
        11,
        "key mode (case a): expected one of as_designed, kv_aligned, got 'kv_alined'; did you mean kv",
    ),
    "mode: both": (11, "key mode (case a): expected one of as_designed, kv_aligned, got 'both'"),
    "mode: []": (11, "key mode (case a): is empty"),
    "mode: [kv_aligned, kv_aligned]": (11, "key mode (case a): the value 'kv_aligned' is given twice"),
    "steps: 0": (12, "key steps (case a): expected at least 1, got 0"),
    "steps: 1.0": (12, "key steps (case a): expected a whole number, got 1.0"),
    "steps: '1'": (12, "key steps (case a): expected a whole number, got '1'; remove the quotes"),
    "steps: true": (12, "key steps (case a): expected a whole number, got true"),
    "seed: -1": (11, "key seed (case a): expected at least 0, got -1"),
    "page_size: 1e1": (16, "key page_size (case a): expected a whole number, got 10.0"),
    "layers: 3": (13, "key layers (case a): expected all or a list of layer numbers, got 3"),
    "layers: [0, x]": (17, "key layers[1] (case a): expected a whole number, got 'x'"),
    "layers: []": (13, "key layers (case a): is empty"),
    "model: 7": (12, "key model (case a): expected text, got 7; quote it"),
    "model: ": (11, "key model (case a): expected text, got nothing"),
    "backend: {libary: x.so}": (15, "key backend.libary (case a): unknown key; did you mean library?"),
    "backend: {prefill: cpu}": (
        14,
        "key backend (case a): the key decode is missing; expected prefill and decode together",
    ),
    "backend: {prefill: cpu, decode: {}}": (37, "key backend.decode (case a): the key library is missing"),
    "gemm: row": (11, "key gemm (case a): expected one of blas, rowwise, got 'row'"),
    "timeout: 0": (14, "key timeout (case a): expected more than 0, got 0"),
    "timeout: .inf": (14, "key timeout (case a): expected a number, got inf"),
    "context: 1": (14, "key context (case a): expected at least 2, got 1"),
    "marks: {slow: 1}": (12, "key marks (case a): expected text, got a mapping"),
    "token_ids: [1, 2]": (
        5,
        "case a: expected one of prompt, prompt_file, token_ids, random_tokens, got prompt and token",
    ),
    "inject: rope_pos": (13, "key inject (case a): expected a mapping, got 'rope_pos'"),
    "inject: {layer: 1}": (13, "key inject (case a): the key fault is missing"),
    "inject: {fault: rope_poss}": (
        21,
        "key inject.fault (case a): unknown fault rope_poss; expected one of w_route, in_row",
    ),
    "inject: {fault: kv_len, stage: qrope}": (36, "got 'qrope'; did you mean q_rope?"),
    "inject: {fault: kv_len, stage: zz}": (
        36,
        "key inject.stage (case a): expected one of embed_out, pos_embed, x_in,",
    ),
    "inject: {fault: kv_len, phase: prefil}": (
        36,
        "expected one of prefill, decode, both, got 'prefil'; did you mean pref",
    ),
    "inject: {fault: kv_len, magnitude: big}": (40, "key inject.magnitude (case a): expected a number, got 'big'"),
    "inject: {fault: kv_len, magnitude: .nan}": (40, "key inject.magnitude (case a): expected a number, got nan"),
    "inject: {fault: w_route, stage: attn_out}": (
        37,
        "key inject.stage (case a): fault w_route is not planted at attn_out; expected one of q_proj, k_proj, v_proj, "
        "o_proj, embed_out, logits",
    ),
    "inject: {fault: rope_pos, stage: q_rope}": (
        38,
        "key inject.stage (case a): fault rope_pos does not use stage; remove the key, or use one of w_route, "
        "in_row, qk_norm, gemm_prec",
    ),
    "inject: {fault: kv_len, position: 3}": (39, "use one of in_row, qk_norm, gemm_prec, rope_pos"),
    "inject: {fault: rope_pos, head: 3}": (37, "use one of kv_stale, kv_scale, layer_base, page_addr, gqa_map"),
    "inject: {fault: gain, stage: o_proj, head: 3}": (48, "fault gain does not use head"),
    "inject: {fault: rope_apply, magnitude: 3}": (
        44,
        "key inject.magnitude (case a): fault rope_apply knows the magnitudes -1, 1, 2, got 3",
    ),
    "inject: {fault: tail_nan, magnitude: 3}": (
        42,
        "key inject.magnitude (case a): fault tail_nan is there or not, got magnitude 3: leave the key out",
    ),
    "inject: {fault: kv_len, magnitude: 0}": (
        40,
        "key inject.magnitude (case a): a fault of magnitude 0 changes nothing; the usual one is -1",
    ),
    "inject: {fault: kv_len, magnitude: -0.0}": (40, "a fault of magnitude 0 changes nothing"),
    "timeout: 1000000001": (14, "key timeout (case a): expected at most 1000000000, got 1000000001"),
    "inject: {fault: kv_len, head: -1}": (35, "key inject.head (case a): expected at least 0, got -1"),
    "expect: pass": (13, "got 'pass'; did you mean PASS?"),
    "expect: {kv_alined: PASS}": (14, "key expect.kv_alined (case a): unknown key; did you mean kv_aligned?"),
    "expect: {kv_aligned: PAS}": (26, "key expect.kv_aligned (case a): expected one of PASS, KV_MISMATCH,"),
    "expect: {status: ALIGNED}": (
        22,
        "key expect.status (case a): expected one of PASS, KV_MISMATCH, INCONCLUSIVE, got 'AL",
    ),
    "expect: {scenario: DRIFT}": (24, "key expect.scenario (case a): expected one of ALIGNED, STRUCTURAL_DRIFT,"),
    "expect: {finding: NONE}": (14, "key expect (case a).finding: a mismatch has the finding NONE, too; expected"),
    "expect: {kv_aligned: {finding: [SUSPECT, NONE]}}": (
        27,
        "a mismatch has the finding NONE, too; expected status or",
    ),
    "expect: {finding: SUS}": (23, "key expect.finding (case a): expected one of NONE, CONFIGURATION,"),
    "expect: {first_failure: {stage: lsee}}": (37, "got 'lsee'; did you mean lse?"),
    "expect: {first_failure: {layer: -2}}": (
        37,
        "key expect.first_failure.layer (case a): expected at least -1, got -2",
    ),
    "expect: {first_failure: {heads: 3}}": (37, "key expect.first_failure.heads (case a): expected a list, got 3"),
    "expect: {as_designed: ALIGNED}": (14, "key expect (case a): the case has no mode as_designed; it has kv_aligned"),
    "expect: {kv_aligned: PASS, status: PASS}": (32, "key expect (case a): status among modes; give fields under each"),
    "expect: INCONCLUSIVE": (
        13,
        "key expect (case a): INCONCLUSIVE needs a reason; expected {status: INCONCLUSIVE, reason:",
    ),
    "expect: [PASS, INCONCLUSIVE]": (13, "INCONCLUSIVE needs a reason"),
    "expect: {kv_aligned: INCONCLUSIVE}": (26, "INCONCLUSIVE needs a reason"),
    "expect: {status: [PASS, INCONCLUSIVE]}": (13, "INCONCLUSIVE needs a reason"),
    "expect: {status: PASS, reason: x}": (28, "key expect (case a).reason: only with status: INCONCLUSIVE"),
    "matrix: {dtype: f32}": (21, "key matrix.dtype (case a): expected a list, got 'f32'"),
    "matrix: {dtype: []}": (21, "key matrix.dtype (case a): is empty"),
    "matrix: {dtype: [f32, f32]}": (21, "key matrix.dtype (case a): the value 'f32' is given twice"),
    "matrix: {prompt: [a, b]}": (14, "key matrix.prompt (case a): unknown key"),
    "matrix: {dtpye: [f32]}": (14, "key matrix.dtpye (case a): unknown key; did you mean dtype?"),
    "matrix: {q_len: [0]}": (22, "key matrix.q_len[0] (case a): expected at least 1, got 0"),
    "matrix: {lengths: sweep}": (23, "key matrix.lengths (case a): expected a list, got 'sweep'"),
    "matrix: {lengths: [0]}": (24, "key matrix.lengths[0] (case a): expected at least 1, got 0"),
    "matrix: {page_size: [0, x]}": (29, "key matrix.page_size[1] (case a): expected a whole number, got 'x'"),
}

WHOLE = {
    "a list": ("- 1\n", "1:1: the file: expected a mapping, got a list"),
    "text": ("hello\n", "1:1: the file: expected a mapping, got 'hello'"),
    "no suite": ("cases: [{id: a, prompt: x}]\n", "1:1: the file: the key suite is missing"),
    "no cases": ("suite: s\n", "1:1: the file: the key cases is missing"),
    "empty cases": ("suite: s\ncases: []\n", "2:8: key cases: is empty"),
    "cases a mapping": ("suite: s\ncases: {id: a}\n", "2:8: key cases: expected a list, got a mapping"),
    "case is text": ("suite: s\ncases: [a]\n", "2:9: case number 1: expected a mapping, got 'a'"),
    "empty suite": ("suite: ''\ncases: [{id: a, prompt: x}]\n", "1:8: key suite: is empty"),
    "suite in brackets": ("suite: s[1]\ncases: [{id: a, prompt: x}]\n", "1:8: key suite: 's[1]' holds [, which pytest"),
    "unknown top key": ("suit: s\ncases: [{id: a, prompt: x}]\n", "1:1: key suit: unknown key; did you mean suite?"),
    "default id": (
        "suite: s\ndefaults: {id: a}\ncases: [{id: a, prompt: x}]\n",
        "2:12: key defaults.id: belongs to a case, not to defaults; give it in each case",
    ),
    "default prompt": (
        "suite: s\ndefaults: {random_tokens: 12}\ncases: [{id: a}, {id: b}]\n",
        "2:12: key defaults.random_tokens: belongs to a case, not to defaults; give it in each case",
    ),
    "default dtype": (
        "suite: s\ndefaults: {dtype: f31}\ncases: [{id: a, prompt: x}]\n",
        "2:19: key defaults.dtype: exp",
    ),
    "no id": ("suite: s\ncases:\n  - prompt: x\n", "3:5: case number 1: the key id is missing"),
    "id a number": (
        "suite: s\ncases: [{id: 1, prompt: x}]\n",
        "2:14: key id (case number 1): expected text, got 1; quote",
    ),
    "id empty": ("suite: s\ncases: [{id: '', prompt: x}]\n", "is empty"),
    "id long": (f"suite: s\ncases: [{{id: {'x' * 201}, prompt: x}}]\n", "expected at most 200 characters, got 201"),
    "no prompt": (
        "suite: s\ncases: [{id: a}]\n",
        "2:9: case a: expected one of prompt, prompt_file, token_ids, random_",
    ),
    "prompt empty": ("suite: s\ncases: [{id: a, prompt: ''}]\n", "2:25: key prompt (case a): is empty"),
    "prompt null": ("suite: s\ncases: [{id: a, prompt: }]\n", "key prompt (case a): expected text, got nothing"),
    "prompt number": (
        "suite: s\ncases: [{id: a, prompt: 42}]\n",
        "key prompt (case a): expected text, got 42; quote it",
    ),
    "token negative": (
        "suite: s\ncases: [{id: a, token_ids: [1, -1]}]\n",
        "2:32: key token_ids[1] (case a): expected at l",
    ),
    "token huge": (
        "suite: s\ncases: [{id: a, token_ids: [1, 2147483648]}]\n",
        "expected at most 2147483647, got 21474",
    ),
    "one token": ("suite: s\ncases: [{id: a, token_ids: [1]}]\n", "key token_ids (case a): expected at least 2, got 1"),
    "no token": ("suite: s\ncases: [{id: a, token_ids: []}]\n", "key token_ids (case a): is empty"),
    "random 1": (
        "suite: s\ncases: [{id: a, random_tokens: 1}]\n",
        "key random_tokens (case a): expected at least 2, got 1",
    ),
    "steps > ids": (
        "suite: s\ncases: [{id: a, token_ids: [1, 2], steps: 2}]\n",
        "2:28: key token_ids (case a): 2 tokens are too few for 2 steps; expected at least 3",
    ),
    "steps > random": (
        "suite: s\ndefaults: {matrix: {steps: [1, 9]}}\ncases: [{id: a, random_tokens: 9}]\n",
        "3:32: key random_tokens (case a): 9 tokens are too few for 9 steps; expected at least 10",
    ),
    "length > ids": (
        "suite: s\ncases: [{id: a, token_ids: [1, 2, 3], lengths: [2, 3]}]\n",
        "2:52: key lengths (case a): N = 3 needs 4 tokens, 1 of them decoded; the prompt has 3: expected at most 2",
    ),
    "length > random, steps of a matrix": (
        "suite: s\ndefaults: {matrix: {lengths: [30]}}\ncases: [{id: a, random_tokens: 32, steps: [1, 4]}]\n",
        "key lengths (case a): N = 30 needs 34 tokens, 4 of them decoded; the prompt has 32: expected at most 28",
    ),
    "one id twice": (
        "suite: s\ncases:\n  - {id: a, prompt: x}\n  - {id: b, prompt: x}\n  - {id: a, prompt: y}\n",
        "5:6: key id: two cases a in suite s, the first on line 3",
    ),
    "key and matrix": (
        "suite: s\ncases:\n  - id: a\n    prompt: x\n    dtype: f32\n    matrix: {dtype: [f32]}\n",
        "5:5: key dtype (case a): also under matrix; keep one",
    ),
    "default expect": (
        "suite: s\ndefaults: {expect: INCONCLUSIVE}\ncases: [{id: a, prompt: x}]\n",
        "2:20: key expect (defaults): INCONCLUSIVE needs a reason",
    ),
}

BAD_IDS = ["a[0]", "a]", "a::b", ":a", "a:", " a", "a ", "a\\nb", "a\\tb", "a\\0b", "a\\u200bb"]


def complaint(text: str, tmp_path: Path) -> str:
    file = tmp_path / "f.greta.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CaseError) as caught:
        load_suite(file)
    return str(caught.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize("line", LINE_5)
def test_a_wrong_line_in_a_right_case(line: str, tmp_path: Path) -> None:
    column, expected = LINE_5[line]
    found = complaint(f"{ONE}    {line}\n", tmp_path)
    if expected.startswith("case a"):
        assert found.startswith(f"f.greta.yaml:3:5: {expected}")
        return
    assert found.startswith(f"f.greta.yaml:5:{column}: ")
    assert expected in found
    assert "\n" not in found


@pytest.mark.parametrize("name", WHOLE)
def test_a_wrong_file(name: str, tmp_path: Path) -> None:
    text, expected = WHOLE[name]
    assert expected in complaint(text, tmp_path)


def test_the_right_file_is_right(tmp_path: Path) -> None:
    (tmp_path / "f.greta.yaml").write_text(ONE)
    assert load_suite(tmp_path / "f.greta.yaml").cases[0].prompt.text == "Hi"


@pytest.mark.parametrize("bad", BAD_IDS)
def test_ids_that_a_node_id_cannot_hold(bad: str, tmp_path: Path) -> None:
    found = complaint(f'suite: s\ncases:\n  - {{id: "{bad}", prompt: x}}\n', tmp_path)
    assert found.startswith("f.greta.yaml:3:10: key id: ")
    assert found.isprintable()


@pytest.mark.parametrize("good", ["../../x", "/etc/passwd", "a b", "ñandú", "a:b", "a.b-c_d", "..", "-x", "@a"])
def test_ids_are_otherwise_free(good: str, tmp_path: Path) -> None:
    file = tmp_path / "f.greta.yaml"
    file.write_text(f'suite: s\ncases:\n  - {{id: "{good}", prompt: x}}\n', encoding="utf-8")
    assert load_suite(file).cases[0].id == good


def test_all_errors_of_a_file_in_its_order(tmp_path: Path) -> None:
    rows = "".join(f"  - {{id: a{i}, prompt: x, dtype: f31}}\n" for i in range(12))
    lines = complaint(f"suite: s\nkases: 1\ncases:\n{rows}", tmp_path).splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("f.greta.yaml:2:1: key kases: unknown key; did you mean cases?")
    assert [line.split(":")[1] for line in lines[1:10]] == [str(n) for n in range(4, 13)]
    assert lines[10] == "and 3 more"


class TestPromptFiles:
    def load(self, name: str, tmp_path: Path) -> str:
        return complaint(f"suite: s\ncases:\n  - {{id: a, prompt_file: {name}}}\n", tmp_path)

    def test_missing(self, tmp_path: Path) -> None:
        found = self.load("no.txt", tmp_path)
        assert found == "f.greta.yaml:3:26: key prompt_file (case a): no.txt: no such file"

    def test_a_folder(self, tmp_path: Path) -> None:
        assert "is not a file" in self.load(".", tmp_path)

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "p.txt").touch()
        assert self.load("p.txt", tmp_path).endswith("key prompt_file (case a): p.txt: is empty")

    def test_not_utf8(self, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_bytes(b"ok\nni\xf1o")
        assert "p.txt:2:3: byte 0xf1 is not UTF-8" in self.load("p.txt", tmp_path)

    def test_too_large(self, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_bytes(b"x" * ((1 << 20) + 1))
        assert "1048577 bytes are too many for a prompt" in self.load("p.txt", tmp_path)

    def test_a_name_with_nul(self, tmp_path: Path) -> None:
        assert "key prompt_file (case a)" in self.load('"a\\0b"', tmp_path)

    def test_above_the_case_file(self, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_bytes(b"uno\r\ndos\n")
        folder = tmp_path / "deep"
        folder.mkdir()
        file = folder / "f.greta.yaml"
        file.write_text("suite: s\ncases: [{id: a, prompt_file: ../p.txt}]\n")
        assert load_suite(file).cases[0].prompt.text == "uno\r\ndos\n"


class TestSchema:
    def test_it_is_draft_07(self) -> None:
        found = json.loads(schema.schema_text())
        jsonschema.Draft7Validator.check_schema(found)
        assert found["$schema"] == "http://json-schema.org/draft-07/schema#"
        assert "//" not in found["$id"]

    def test_it_names_what_the_code_names(self) -> None:
        named = json.loads(schema.schema_text())["definitions"]
        assert tuple(named["stage"]["enum"]) == STAGES
        assert tuple(named["status"]["enum"]) == STATUSES
        assert tuple(named["scenario"]["enum"]) == SCENARIOS
        assert tuple(named["finding"]["enum"]) == FINDINGS
        assert tuple(named["outcome"]["enum"]) == STATUSES + SCENARIOS
        assert tuple(named["mode"]["enum"]) == model.MODES

    def test_no_object_takes_any_key(self) -> None:
        def objects(node: object) -> list[dict[str, object]]:
            if isinstance(node, list):
                return [found for item in node for found in objects(item)]
            if not isinstance(node, dict):
                return []
            own = [node] if "properties" in node and "additionalProperties" not in node else []
            return own + [found for item in node.values() for found in objects(item)]

        assert objects(json.loads(schema.schema_text())["definitions"]) == []

    def test_every_rule_it_uses_has_a_message(self) -> None:
        """A rule without one would be a traceback on somebody's typo."""
        quiet = {
            "$ref",
            "$schema",
            "$id",
            "title",
            "description",
            "definitions",
            "properties",
            "items",
            "if",
            "then",
            "else",
        }
        told = {
            "enum",
            "type",
            "required",
            "dependencies",
            "oneOf",
            "minimum",
            "exclusiveMinimum",
            "pattern",
            "maximum",
            "minLength",
        }
        told |= {"minItems", "minProperties", "maxLength", "uniqueItems", "additionalProperties", "x-expected"}

        def rules(node: object) -> set[str]:
            if isinstance(node, list):
                return set().union(*map(rules, node)) if node else set()
            if not isinstance(node, dict):
                return set()
            found = set(node)
            for key, value in node.items():
                named = key in ("properties", "definitions", "dependencies")
                found |= set().union(*map(rules, value.values())) if named else rules(value)
            return found

        assert rules(json.loads(schema.schema_text())) <= quiet | told
