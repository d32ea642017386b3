"""What becomes of the library that ``greta backend new`` writes, and of two: as a user meets it, in both languages."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from backend_command import ROOT, Build, greta

from pytest_greta.cases.loader import load_suite

MINE = "#include <mine.c>"


def pytest_says(folder: Path, *args: str, code: int = 0) -> str:
    """What ``pytest`` prints, on one line."""
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir=.", "-p", "no:cacheprovider", *args]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def new(parent: Path, name: str, build: Build, source: str = MINE, *flags: str) -> None:
    assert greta("new", name, cwd=parent).returncode == 0
    build(source, *flags).rename(parent / name / "libmine.so")


def test_a_feature_that_it_lacks_is_named(build: Build, tmp_path: Path) -> None:
    """With its own greta_last_error, and without one, when the declaration alone can tell."""
    new(tmp_path, "mine", build)
    new(tmp_path, "mute", build, MINE, "-Dgreta_last_error=greta_nothing")
    run = ("--greta-model=synthetic:gemma2", "--greta-lang=en")
    mend = "to run them: use another model, or implement softcap, window and declare it"
    said = pytest_says(tmp_path, "mine", *run, code=1)
    assert f"not run: 3, unsupported window {mend}" in said
    said = pytest_says(tmp_path, "mute", *run, code=1)
    assert "not run: 3, unsupported softcap, window (" in said
    why = "the case asks for softcap, window, which its features (gqa, kv_start, q_len, ragged) do not declare"
    assert f"{why}) {mend}" in said
    spanish = pytest_says(tmp_path, "mute", "--greta-model=synthetic:gemma2", "--greta-lang=es", code=1)
    assert "el caso pide softcap, window, que sus features (gqa, kv_start, q_len, ragged) no declaran)" in spanish
    assert "para ejecutarlos: use otro modelo, o implemente softcap, window y declárelo" in spanish
    assert "unknown" not in said + spanish


def test_what_the_declaration_cannot_tell_is_the_librarys_to_say(build: Build, tmp_path: Path) -> None:
    source = f"#define greta_open opened\n{MINE}\n#undef greta_open\n"
    source += "greta_status greta_open(const greta_config *c, greta_session **s);\n"
    source += "greta_status greta_open(const greta_config *c, greta_session **s)\n"
    source += "{ return c->n_layers > 0 && s ? GRETA_UNSUPPORTED : opened(c, s); }\n"
    new(tmp_path, "mine", build, source, "-Dgreta_last_error=greta_nothing")
    said = pytest_says(tmp_path, "mine", "--greta-lang=en", code=1)
    assert "returned GRETA_UNSUPPORTED and gives no reason)" in said
    assert "to run them: export greta_last_error, which says what is missing" in said


def test_a_type_that_it_lacks_has_a_mend(build: Build, tmp_path: Path) -> None:
    new(tmp_path, "mine", build)
    cases = tmp_path / "mine" / "mine.greta.yaml"
    cases.write_text(cases.read_text().replace("random_tokens: 24\n", "random_tokens: 24\n    dtype: bf16\n"))
    for lang, words in (
        ("en", "to run them: give dtype one of: f32; or implement bf16 and declare it in act_dtypes"),
        ("es", "para ejecutarlos: dé a dtype uno de: f32; o implemente bf16 y declárelo en act_dtypes"),
    ):
        assert words in pytest_says(tmp_path, "mine", f"--greta-lang={lang}", code=1)


def test_two_of_them_are_two_suites(tmp_path: Path) -> None:
    """One folder's name is YAML's word for nothing, one holds what no node id may."""
    suites = {"mine": "mine", "my lib": "my lib", "null": "null", "a::b[c]": "a-b-c", 'a"b': "a-b", "año": "año"}
    for folder, suite in suites.items():
        assert greta("new", folder, cwd=tmp_path).returncode == 0
        assert load_suite(tmp_path / folder / "mine.greta.yaml").name == suite
    assert "9 tests collected" in pytest_says(tmp_path, "--collect-only", "mine", "my lib", "null")


def test_two_of_one_suite_are_told_what_to_change(build: Build, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        assert greta("new", "mine", cwd=tmp_path / folder).returncode == 0
    said = pytest_says(tmp_path, "--collect-only", "--greta-lang=both", code=2)
    assert "give one file another suite name or id" in said
    assert "dé otra suite u otro id a un archivo" in said


def test_the_next_commands_can_be_pasted(tmp_path: Path) -> None:
    done = greta("new", "my lib", "--lang=en", cwd=tmp_path)
    commands = done.stdout.partition("probe it: ")[2].strip()
    assert shlex.split(commands)[2::4][0] == "my lib"
    assert "greta backend check 'my lib/libmine.so' && pytest 'my lib'" in commands
