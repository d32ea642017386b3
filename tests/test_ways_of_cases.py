"""What a case may ask of its way, and the one line that says why it cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_greta.backends.base import Unsupported
from pytest_greta.cases.loader import load_suite
from pytest_greta.cases.model import CaseError
from pytest_greta.plain import from_plain, to_plain
from pytest_greta.plan import expand
from pytest_greta.probing import run_probe
from pytest_greta.report.failure import failure_text
from pytest_greta.report.markdown import final_report
from pytest_greta.report.ways import way_texts
from pytest_greta.result import ProbeResult
from pytest_greta.settings import RunSettings
from tests.support.plain import PlainBackend


def run(folder: Path, keys: str, backend: PlainBackend | None = None) -> ProbeResult:
    path = folder / "ways.greta.yaml"
    path.write_text(f"suite: ways\ncases:\n  - id: one\n    random_tokens: 30\n    {keys}\n")
    (case,) = load_suite(path).cases
    (probe,) = expand(case, {"backend": "mine"} if backend else {})
    return run_probe(probe, RunSettings(backends={"mine": lambda: backend} if backend else {}))


@pytest.mark.parametrize(
    ("keys", "path", "rows"),
    [
        ("chunk: 12", "prefix", [12, 12, 5]),
        ("{steps: 5, q_len: 2}", "decode", [2, 2, 1]),
        ("reuse: {prefix: 10, rollback: 2}", "prefix", [10, 19]),
        ("reuse: {prefix: 29, rollback: 2}", "prefix", [29]),
        ("left_pad: 3", "prefix", [29]),
        ("batch: [4, 50]", "decode", [1]),
    ],
)
def test_the_evidence_says_how_the_rows_were_cut(tmp_path, keys, path, rows):
    result = run(tmp_path, keys.strip("{}").replace(", q_len", "\n    q_len") if keys.startswith("{") else keys)
    assert result.outcome == "passed"
    assert result.verdict is not None
    (kernel,) = [k for k in result.verdict.evidence.kernels if k["path"] == path]
    assert kernel["rows"] == rows
    assert kernel["calls"] == 6 * len(rows)


@pytest.mark.parametrize(
    ("keys", "english", "spanish"),
    [
        ("chunk: 12", "3 chunks ran in prefill: 2 of 12, 1 of 5 rows", "se ejecutaron 3 fragmentos: 2 de 12, 1 de 5"),
        ("steps: 5\n    q_len: 2", "3 calls ran in decode: 2 of 2, 1 of 1 rows", "se ejecutaron 3 llamadas: 2 de 2"),
        ("left_pad: 3", "3 pad rows stand before the prompt", "hay 3 filas de relleno antes del prompt"),
        (
            "reuse: {prefix: 10, rollback: 2}",
            "the first 10 rows come from an earlier request, after which 2 other tokens were decoded and trimmed",
            "las primeras 10 filas vienen de un pedido anterior",
        ),
        ("batch: [4, 50]", "companions in the batch: 2, of 5, 51 rows in the end", "acompañantes en el lote: 2, con 5"),
        ("lengths: [8]", "the prompt of 30 tokens was cut to 9: N = 8", "el prompt de 30 tokens se cortó a 9: N = 8"),
    ],
)
@pytest.mark.parametrize("mode", ["kv_aligned", "as_designed"])
def test_the_evidence_says_the_way_in_words(tmp_path, keys, english, spanish, mode):
    """In a failure, in the report, and in what a trace stores: read from the calls that were made."""
    result = run(tmp_path, f"{keys}\n    mode: {mode}")
    assert result.verdict is not None
    for language, words in (("en", english), ("es", spanish)):
        assert words in "; ".join(way_texts(result.verdict, language))
        assert words in " ".join(failure_text(result, language).split())
        assert words in final_report([result], suite="s", date="2026-01-01", lang=language)
    assert from_plain(ProbeResult, to_plain(result)).verdict.evidence.ways == result.verdict.evidence.ways


def test_one_prefill_and_one_decoded_token_need_no_words(tmp_path):
    result = run(tmp_path, "chunk: 40")
    assert result.verdict is not None
    assert result.verdict.evidence.ways == ()


@pytest.mark.parametrize("keys", ["chunk: 12", "reuse: {prefix: 10, rollback: 2}"])
def test_a_prefill_in_pieces_is_judged_against_the_whole(tmp_path, keys):
    """Every stage of its rows, by bytes and by bounds; K and V alone where the prefill is one call."""
    whole, pieces = run(tmp_path, "seed: 1"), run(tmp_path, keys)
    stages = {b.stage for b in pieces.bytes if b.right == "prefix"}
    assert {b.stage for b in whole.bytes if b.right == "prefix"} == {"k_proj", "v_proj", "k_rope", "kv_write"}
    assert stages >= {b.stage for b in pieces.bytes if b.right == "decode"} - {"kv_read", "final_norm", "logits"}
    judged = {(c.layer, c.stage) for c in pieces.stages if c.path == "prefix"}
    assert judged == {(c.layer, c.stage) for c in pieces.stages if c.path == "full"}
    first = 12 if keys.startswith("chunk") else 10
    (check,) = [b for b in pieces.bytes if (b.layer, b.stage, b.right) == (0, "o_proj", "prefix")]
    assert check.rows >= len({0, 1, first - 1, first, 28})  # both sides of the cut are among the rows looked at


def test_a_chunk_that_embeds_other_tokens_is_no_drift(tmp_path):
    """as_designed: the rows of the chunks must hold what the whole prefill's do, where nothing may be rounded."""

    class Forgets(PlainBackend):
        """Attention of a later chunk without the rows before it: dead rows, as of a cache that was reset."""

        def open(self, config):
            session = super().open(config)
            attend = session.attend

            def forgetful(layer, phase, batch, q, k_new=None, v_new=None):
                out, lse = attend(layer, phase, batch, q, k_new, v_new)
                if phase == "prefill" and int(batch.slots[0]) > 0:
                    out[:] = 0
                return out, lse

            session.attend = forgetful
            return session

    result = run(tmp_path, "chunk: 12\n    mode: as_designed", Forgets())
    assert result.verdict is not None
    assert result.outcome == "failed"
    assert result.verdict.scenario == "REAL_MISMATCH"
    assert result.verdict.first_failure is not None
    assert (result.verdict.first_failure.stage, result.verdict.first_failure.phase) == ("attn_out", "prefill")
    assert result.verdict.first_failure.positions == (12,)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("lengths: [30]", "N = 30 needs 31 tokens, 1 of them decoded; the prompt has 30: expected at most 29"),
        ("reuse: {prefix: 10}\n    lengths: [5]", "key reuse: prefix 10 is longer than the 5 rows before"),
        ("reuse: {prefix: 30}", "key reuse: prefix 30 is longer than the 29 rows before the decoded tokens"),
        ("reuse: {prefix: 20, rollback: 8190}", "a sequence needs 8210 rows; the context holds 8192"),
        ("left_pad: 8190", "a sequence needs 8220 rows; the context holds 8192"),
        ("batch: [8192]", "a sequence needs 8193 rows; the context holds 8192"),
    ],
)
def test_a_way_that_does_not_fit_is_one_clear_line(tmp_path, keys, message):
    with pytest.raises(CaseError) as error:
        run(tmp_path, keys)
    assert message in str(error.value)
    assert f"ways.greta.yaml:{5 if keys.startswith('lengths') else 3}" in str(error.value)


@pytest.mark.parametrize(
    ("keys", "feature"), [("q_len: 2\n    steps: 4", "q_len"), ("left_pad: 2", "kv_start"), ("batch: [3]", "ragged")]
)
def test_a_library_that_lacks_the_feature_is_not_run(tmp_path, keys, feature):
    backend = PlainBackend(features=frozenset({"gqa"}))
    with pytest.raises(Unsupported) as error:
        run(tmp_path, keys, backend)
    assert error.value.feature == feature


def test_a_text_that_is_too_short_is_known_once_it_has_tokens(tmp_path):
    path = tmp_path / "ways.greta.yaml"
    path.write_text('suite: ways\ncases:\n  - {id: one, prompt: "abc", lengths: [4]}\n')
    (case,) = load_suite(path).cases
    (probe,) = expand(case)
    with pytest.raises(CaseError, match="key lengths: N = 4 needs 5 tokens, 1 of them decoded; the prompt has 4"):
        run_probe(probe, RunSettings())


def test_a_kernel_that_forgets_its_start_is_found(tmp_path):
    """Left padding is the fixture for a mask that ignores kv_start: without it the same library is right."""

    class Forgets(PlainBackend):
        def open(self, config):
            session = super().open(config)
            attend = session.attend

            def forgetful(layer, phase, batch, q, k_new=None, v_new=None):
                from dataclasses import replace

                return attend(layer, phase, replace(batch, kv_start=None), q, k_new, v_new)

            session.attend = forgetful
            return session

    assert run(tmp_path, "chunk: 40", Forgets()).outcome == "passed"
    result = run(tmp_path, "left_pad: 2", Forgets())
    assert result.outcome == "failed"
    assert result.verdict is not None
    assert result.verdict.first_failure is not None
    assert (result.verdict.first_failure.layer, result.verdict.first_failure.stage) == (0, "lse")
