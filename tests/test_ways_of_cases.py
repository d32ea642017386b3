"""What a case may ask of its way, and the one line that says why it cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_greta.backends.base import Unsupported
from pytest_greta.cases.loader import load_suite
from pytest_greta.cases.model import CaseError
from pytest_greta.plan import expand
from pytest_greta.probing import run_probe
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
    ("keys", "message"),
    [
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
    assert "ways.greta.yaml:3" in str(error.value)


@pytest.mark.parametrize(
    ("keys", "feature"), [("q_len: 2\n    steps: 4", "q_len"), ("left_pad: 2", "kv_start"), ("batch: [3]", "ragged")]
)
def test_a_library_that_lacks_the_feature_is_not_run(tmp_path, keys, feature):
    backend = PlainBackend(features=frozenset({"gqa"}))
    with pytest.raises(Unsupported) as error:
        run(tmp_path, keys, backend)
    assert error.value.feature == feature


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
