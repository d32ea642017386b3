"""The command ``greta`` where its output goes: an ASCII terminal, a full disk, a reader that went away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_greta import cli

GRETA = [sys.executable, "-m", "pytest_greta.cli"]


def greta(*words: str, **how: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GRETA, *words], capture_output="stdout" not in how, text=True, check=False, **how)


def test_version():
    done = greta("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("pytest-greta ")


def test_python_m_is_the_command():
    command = [sys.executable, "-m", "pytest_greta", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, greta("--version").stdout)


def test_an_ascii_terminal_gets_escapes():
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = greta("model", "list", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe9" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_one_message():
    with Path("/dev/full").open("w") as full:
        done = greta("schema", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == cli.FAILED
    assert "cannot write the output" in done.stderr
    assert "no se puede escribir la salida" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("words", [["schema"], ["model", "list"]])
def test_a_reader_that_went_away(words):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = greta(*words, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_list_fits_and_knows_the_synthetic_model(own_cache, capsys):
    assert cli.main(["model", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("synthetic ") and "built in / incluido" in line for line in lines)
    assert max(len(line) for line in lines if str(own_cache) not in line) <= 80


def test_info_of_the_synthetic_model(capsys):
    assert cli.main(["model", "info", "synthetic"]) == 0
    assert "layers / capas" in capsys.readouterr().out


@pytest.mark.parametrize(("lang", "said", "unsaid"), [("en", "built in", "incluido"), ("es", "incluido", "built in")])
def test_models_in_one_language(own_cache, capsys, lang, said, unsaid):
    assert cli.main(["model", "list", "--lang", lang]) == 0
    assert cli.main(["model", "info", "synthetic", "--lang", lang]) == 0
    assert cli.main(["model", "info", "nosuch", "--lang", lang]) == 2
    out, err = capsys.readouterr()
    assert said in out
    assert unsaid not in out
    assert " / " not in out
    assert len(err.splitlines()) == 1


def test_a_stray_word_is_said_with_the_usage_of_its_subcommand(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["faults", "kvlen"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: greta faults ")
    assert "greta faults: error: unrecognized arguments: kvlen" in said


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRETA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
