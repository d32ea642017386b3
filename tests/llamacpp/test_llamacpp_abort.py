"""An assertion that fails inside llama.cpp ends the process by abort(): its words name the case, and with a worker the
other cases go on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_llamacpp_models import IDS, write

pytestmark = pytest.mark.llamacpp

CONFTEST = """
from pytest_greta.llamacpp.context import Context

decode = Context.decode

def broken(self, tokens, *rest):
    if len(tokens) == 24 and not self.wanted.others:  # more at once than this context says that it takes
        return self.again(n_batch=1, n_ubatch=1, n_outputs_max=1).decode(tokens, *rest)
    return decode(self, tokens, *rest)

Context.decode = broken
"""
WORDS = "an assertion failed inside llama.cpp, which ends the process: "


@pytest.fixture
def project(tmp_path: Path) -> Path:
    model = write(tmp_path, "F16")
    rows = "".join(f"- {{id: {name}, token_ids: {IDS[:n]}}}\n" for name, n in (("one", 12), ("two", 24), ("three", 13)))
    suite = f"suite: s\ndefaults: {{model: '{model}', kv_dtype: f16, mode: kv_aligned}}\ncases:\n{rows}"
    (tmp_path / "own.greta.yaml").write_text(suite)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    return tmp_path


def run(project: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", ".", "-p", "no:cacheprovider", *more]
    return subprocess.run([*command, "own.greta.yaml"], cwd=project, capture_output=True, text=True, check=False)


def test_with_a_worker_it_costs_one_case(project: Path) -> None:
    pytest.importorskip("xdist")
    done = run(project, "-n", "1")
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert "1 failed" in done.stdout
    said = " ".join(done.stdout.split())
    assert "INCONCLUSIVE own.greta.yaml:5 two kv_aligned" in said
    assert f"crash: worker gw0 died inside this case: {WORDS}" in said
    assert "GGML_ASSERT(" in said
    assert "caída: el proceso gw0 murió en este caso: falló una aserción dentro de llama.cpp" in said


def test_without_one_the_run_ends_with_the_case_and_the_results_so_far(project: Path) -> None:
    done = run(project, "-p", "no:xdist")
    assert done.returncode == -signal.SIGABRT
    said = done.stderr
    assert "own.greta.yaml::one::kv_aligned PASS" in said
    assert f"own.greta.yaml:5: own.greta.yaml::two::kv_aligned came to no end: {WORDS}" in said
    assert "GGML_ASSERT(" in said
    assert "with pytest -n 1 the cases have a process of their own, and one alone is lost" in said
    assert 'own.greta.yaml", line 5 in own.greta.yaml::two::kv_aligned' in said, "the stack, too"


def test_a_script_is_told_on_stderr(project: Path) -> None:
    script = f"""
import pytest_greta as greta
model = greta.load_model("llamacpp:tiny.gguf", between=lambda context: context.again(n_batch=1, n_outputs_max=1))
greta.probe(model, {IDS}, kv_dtype="f16", q_len=3, steps=6)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGABRT
    assert done.stderr.splitlines()[0].startswith(WORDS)
    assert "#0" not in done.stderr, "no debugger is started"


def test_that_is_said_at_the_start_of_a_run_without_workers(project: Path) -> None:
    said = "greta: --greta-model: a crash of it would end this run, and lose the cases after it; with -n 1 it costs one"
    given = ("-q", "--greta-model=llamacpp:tiny.gguf", "-k", "one")
    assert said in run(project, *given).stdout
    assert said not in run(project, *given, "-n", "1").stdout
