"""Every example in the docs is run, loaded or checked.

A fenced block's info string says how: ``yaml`` is a case file and ``yaml case`` the keys of one case; ``file=NAME``
makes a block a file that others lay down beside them; ``sh`` and ``python`` are run (``file=A,B``: with those files),
``sh check`` only looked at, because it would install or take minutes; ``c`` and ``ini`` are read by what reads them. Of
the README only YAML and Python are taken here: ``.ci/run`` runs its commands.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_greta.cases.loader import load_suite
from pytest_greta.cases.model import CaseError
from pytest_greta.options import FILES_INI, OPTIONS
from pytest_greta.plan import expand
from tests.docs.pages import PAGES, ROOT, Block, all_blocks, blocks, name

README = [b for b in blocks(ROOT / "README.md") if b.lang in ("yaml", "python")]
KINDS = {"yaml", "python", "sh", "c", "ini", "text"}


def params(found: list[Block]) -> list[object]:
    return [pytest.param(b, id=b.id, marks=[pytest.mark.model] if "model" in b.words else []) for b in found]


def file_block(page: Path, file: str) -> Block:
    """The block of that name, of the page itself before the others."""
    found = [b for p in (page, *PAGES) for b in blocks(p) if b.attributes.get("file") == file and b.lang != "sh"]
    assert found, f"{name(page)}: no block is {file}"
    return found[0]


def wrapped(text: str) -> str:
    """The keys of a case as a whole file."""
    prompts = ("prompt:", "prompt_file:", "token_ids:", "random_tokens:")
    lines = text.splitlines()
    if not any(line.startswith(prompts) for line in lines):
        lines.insert(0, "random_tokens: 8")
    return "suite: docs\ncases:\n  - id: example\n" + "".join(f"    {line}\n" for line in lines)


@pytest.mark.parametrize("page", [pytest.param(p, id=name(p)) for p in PAGES])
def test_no_block_escapes(page):
    """A block of another language would be an example that nothing looks at; ``text`` is for output and drawings."""
    assert {b.lang for b in blocks(page)} <= KINDS


@pytest.mark.parametrize("block", params([b for b in (*README, *all_blocks("yaml")) if b.lang == "yaml"]))
def test_yaml(block, tmp_path):
    path = tmp_path / block.attributes.get("file", "example.greta.yaml")
    path.write_text(wrapped(block.text) if "case" in block.words else block.text, encoding="utf-8")
    suite = load_suite(path)
    assert [probe for case in suite.cases for probe in expand(case)]


def test_a_wrong_yaml_example_is_seen(tmp_path):
    path = tmp_path / "wrong.greta.yaml"
    path.write_text(wrapped("kv_dtpye: f32\n"), encoding="utf-8")
    with pytest.raises(CaseError, match="kv_dtype"):
        load_suite(path)


def test_the_listed_ids_are_those_of_the_file(tmp_path):
    page = ROOT / "docs/cases.md"
    block = file_block(page, "first.greta.yaml")
    path = tmp_path / "first.greta.yaml"
    path.write_text(block.text, encoding="utf-8")
    ids = [f"{path.name}::{c.id}::{p.id}" for c in load_suite(path).cases for p in expand(c)]
    (listed,) = [b.text.split() for b in blocks(page) if b.lang == "text" and "::" in b.text]
    assert listed == ids


@pytest.mark.parametrize("block", params(all_blocks("ini")))
def test_ini(block):
    parser = configparser.ConfigParser()
    parser.read_string(block.text)
    assert set(parser["pytest"]) <= {FILES_INI, *(o.dest for o in OPTIONS)}


@pytest.mark.parametrize("block", params(all_blocks("c")))
def test_c(block, tmp_path):
    """As strict C11. Whether it also computes the right thing says the shell example that builds it."""
    source = tmp_path / "example.c"
    source.write_text(block.text, encoding="utf-8")
    compiler = shutil.which("gcc") or shutil.which("cc") or shutil.which("g++")
    assert compiler, "no C compiler; install g++"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", f"-I{ROOT / 'native/include'}"]
    done = subprocess.run([compiler, "-x", "c", *flags, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- shell -------------------------------------------------------------------------------------------------------------

RUN = [
    b for b in all_blocks("sh", "python") if "check" not in b.words and (b.lang == "sh" or "file" not in b.attributes)
]


@pytest.fixture
def shell(tmp_path):
    """Runs a script where ``pytest``, ``greta`` and ``python`` are those of this interpreter."""
    pytest.importorskip("_greta_native", reason="the native library is not installed: pip install .")
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool, module in (("pytest", "-m pytest"), ("greta", "-m pytest_greta.cli"), ("python", "")):
        (tools / tool).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n', encoding="utf-8")
        (tools / tool).chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    (work / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")  # so that no ini of a parent folder is taken

    def run(script: str, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
        for file, text in files.items():
            (work / file).write_text(text, encoding="utf-8")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GRETA_", "PYTEST_")) or k == "GRETA_CACHE"}
        env = {**kept, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        # a process group of its own, without a terminal: what hangs is ended, and nothing waits for keys
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=work, env=env, timeout=300, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip

    return run


@pytest.mark.parametrize("block", params(RUN))
def test_run(block, shell):
    files = {f: file_block(block.page, f).text for f in block.attributes.get("file", "").split(",") if f}
    script = block.text
    if block.lang == "python":
        files["example.py"], script = block.text, "python example.py"
    done = shell(script, files)
    assert done.returncode == 0, done.stdout


def test_python_tests_in_the_docs_pass(shell):
    found = [b for b in all_blocks("python") if b.attributes.get("file", "").startswith("test_")]
    assert found
    done = shell(
        "pytest -q " + " ".join(b.attributes["file"] for b in found), {b.attributes["file"]: b.text for b in found}
    )
    assert done.returncode == 0, done.stdout


def test_a_failing_example_is_seen(shell):
    block = file_block(ROOT / "docs/library.md", "mine.greta.yaml")
    wrong = block.text.replace("kv_aligned: PASS", "kv_aligned: REAL_MISMATCH")
    assert wrong != block.text
    done = shell("pytest -q mine.greta.yaml\necho unreachable", {"mine.greta.yaml": wrong})
    assert done.returncode == 1, done.stdout
    assert "unreachable" not in done.stdout


FIGURES = re.compile(
    r"rho|dlogit|margin|stored|reference|error|bound|hashes|decode {2,}|e-0|compared|/ |worst|consistency"
)
"""Of the failure in the README: what another processor may give otherwise in its last digits, or in its kernel."""


@pytest.mark.model
def test_the_failure_of_the_readme_is_what_its_case_gives(shell):
    page = ROOT / "README.md"
    (printed,) = [b.text for b in blocks(page) if "failure" in b.words]
    case = next(b.text for b in blocks(page) if b.attributes.get("file") == "demo.greta.yaml")
    done = shell("pytest demo.greta.yaml --greta-lang=en", {"demo.greta.yaml": case})
    assert done.returncode == 1
    lines = [line for line in printed.splitlines() if not FIGURES.search(line)]
    assert len(lines) > 20
    assert [line for line in lines if line not in done.stdout.splitlines()] == []


@pytest.mark.parametrize("block", params([b for b in all_blocks("sh") if "check" in b.words]))
def test_checked_only(block):
    """Scripts that install: bash can read them, and what they name is there."""
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    marks = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = set(re.findall(r"^(\w+) = \[", marks.partition("[project.optional-dependencies]")[2], re.M))
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        for word in words:
            if match := re.fullmatch(r"\.\[(\w+)\]", word):
                assert match[1] in extras, line
            if word in ("tests", "cases") or word.startswith(("tests/", "cases/")):
                assert (ROOT / word).exists(), line
        if len(words) > 1 and words[0].endswith("greta"):
            from pytest_greta.cli import build_parser

            build_parser().parse_args(words[1:])


@pytest.mark.parametrize(
    "block", [b for b in blocks(ROOT / "docs/ci.md") if b.lang == "text" and "file" in b.attributes], ids=lambda b: b.id
)
def test_workflows_are_yaml_and_their_options_exist(block: Block) -> None:
    import yaml

    assert isinstance(yaml.safe_load(block.text), dict)
    known = {option.flag for option in OPTIONS}
    assert set(re.findall(r"--greta-[a-z-]+", block.text)) <= known
