"""``greta backend check``: right libraries pass, each kind of wrong is one lost row, and nothing is suffered."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from backend_command import SKELETON, Build, check, greta

from pytest_greta.conformance.cases import CASES, Case
from pytest_greta.conformance.table import TRIED
from pytest_greta.report.text import shorten

HOSTILE = Path(__file__).with_name("hostile.c")
WRONG = {
    # case: what is found, a word of the reason
    "config_null": ("exit", "code 0"),
    "session_null": ("exit", "code 0"),
    "struct_size": ("exit", "code 0"),
    "abi": ("exit", "code 3"),
    "n_layers": ("crash", "SIGABRT"),
    "n_heads": ("hang", "within 0.5 s"),
    "n_kv_heads": ("hang", "within 0.5 s"),
    "head_group": ("accepted", "GRETA_OK"),
    "head_dim_qk": ("fork", "forked"),
    "head_dim_v": ("fork", "forked"),
    "max_seqs": ("fork", "forked"),
    "max_len": ("fork", "forked"),
    "act_dtype": ("printed", "hello from open"),
    "kv_dtype": ("printed", "raw"),
    "memory": ("status", "99"),
    "layers_null": ("input", "config"),
    "one_row": ("crash", "SIGSEGV"),
    "full": ("overrun", "4 bytes past the end of out"),
    "full_decode": ("overread", "reads past"),
    "unseen": ("unseen", "out is 1"),
    "chunk": ("overrun", "8 bytes before the start of out"),
    "q_len": ("overrun", "8 bytes past the end of lse"),
    "kv_start": ("nan", "NaN"),
    "ragged": ("input", "batch.kv_len"),
    "ragged_decode": ("unwritten", "128 elements of out"),
}


@pytest.fixture(scope="module")
def hostile(build: Build) -> Path:
    return build(HOSTILE, "-Wno-unused-result")


def test_each_wrong_costs_its_row_and_no_other(hostile: Path) -> None:
    found = check(hostile, "--timeout", "0.5")
    outcomes = {id: row["outcome"] for id, row in found["rows"].items() if row["outcome"] != "ok"}
    assert outcomes == {id: kind for id, (kind, _) in WRONG.items()}
    for id, (_, word) in WRONG.items():
        reason = found["rows"][id]["reason"]
        assert word in reason["en"], reason
        assert reason["es"] != reason["en"]


def test_nothing_of_it_is_left_running(hostile: Path) -> None:
    running = [p for p in Path("/proc").glob("[0-9]*/maps") if str(hostile) in _read(p)]
    assert running == []


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def test_the_skeleton_and_both_built_in_libraries_conform(build: Build) -> None:
    native = pytest.importorskip("_greta_native")
    folder = Path(next(iter(native.__path__)))
    mine = check(build(SKELETON / "mine.c"))
    assert mine["conformant"]
    assert "greta_rope" in mine["absent"]
    ours = check(folder / "libgreta_attn.so")
    assert ours["conformant"]
    assert ours["absent"] == ours["undeclared"] == []
    assert set(ours["rows"]) == {case.id for case in CASES} - {"null_rows"}
    assert check(folder / "libgreta_attn_hip_emulated.so")["conformant"]


def test_the_table_is_80_columns_in_both_languages(hostile: Path) -> None:
    done = greta("check", hostile, "--timeout", "0.5")
    assert (done.returncode, done.stderr) == (1, "")
    assert max(map(len, done.stdout.splitlines()), default=0) <= 80
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "greta_open config = NULL FAIL exit 0" in lines
    assert "greta_attend decode, q 1, kv 9 OK" in lines
    for words in (
        "no conforme: fallaron 25 de 59 filas",
        "not conformant: 25 of 59 rows failed",
        "greta_attend, decode, q 1, kv 1: FAIL crash SIGSEGV",
    ):
        assert words in lines
    spanish = greta("check", hostile, "--timeout", "0.5", "--lang", "es").stdout
    assert "una biblioteca devuelve" in spanish
    assert "a library returns" not in spanish


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_was_tried_is_not_cut_in_either_language(case: Case) -> None:
    said = case.tried
    assert shorten(said.en, TRIED) == said.en
    assert shorten(said.es, TRIED) == said.es
    assert not re.search(r"\b(beyond|descends)\b", said.es)


REFUSED = {
    "no library": ("", "cannot be loaded"),
    "no attend": ("#define greta_attend attends\n#include <mine.c>", "lacks greta_attend"),
    "abi": ("#define greta_abi_version old\n#include <mine.c>\n#undef greta_abi_version\n"
            "int32_t greta_abi_version(void) { return 7; }", "speaks version 7 of the ABI"),
    "describe": ("#define greta_describe said\n#include <mine.c>\n#undef greta_describe\n"
                 "const char *greta_describe(void) { return \"{\"; }", "is not JSON"),
    "describe null": ("#define greta_describe said\n#include <mine.c>\n#undef greta_describe\n"
                      "const char *greta_describe(void) { return NULL; }", "returned NULL"),
    "device only": (r'''#define greta_describe said
#include <mine.c>
#undef greta_describe
const char *greta_describe(void) {
  return "{\"name\": \"d\", \"memory\": [\"device\"], \"kernels\": {\"prefill\": \"p\", \"decode\": \"d\"}}";
}''', "takes device memory only"),
    "exit at load": ("#include <mine.c>\n__attribute__((constructor)) static void leave(void) { exit(0); }",
                     "dlopen ended its process with exit code 0"),
    "crash at load": ("#include <mine.c>\n__attribute__((constructor)) static void leave(void) { abort(); }",
                      "SIGABRT"),
    "hang at load": ("#include <mine.c>\n__attribute__((constructor)) static void leave(void) { for (;;) continue; }",
                     "dlopen did not return within 0.5 s"),
    "prints at load": ("#include <stdio.h>\n#include <mine.c>\n"
                       "__attribute__((constructor)) static void greet(void) { puts(\"hi\"); }", "printed 'hi'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_tried_is_one_message(name: str, build: Build, tmp_path: Path) -> None:
    source, said = REFUSED[name]
    path = build(source, "-Wno-missing-prototypes") if source else tmp_path / "notes.so"
    if not source:
        path.write_text("not a library", encoding="utf-8")
    done = greta("check", path, "--timeout", "0.5")
    assert done.returncode == 1
    assert done.stderr == ""
    words = " ".join(done.stdout.split())
    assert said in words
    assert "Traceback" not in words
    assert len(done.stdout.splitlines()) <= 12
    assert check(path, "--timeout", "0.5")["refused"]["en"] != check(path, "--timeout", "0.5")["refused"]["es"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nothing.so"], "nothing.so does not exist; give the path of a shared library"),
        (["."], ". is a folder"),
        ([str(HOSTILE), "--timeout", "0"], "--timeout: '0' is no number of seconds"),
        ([str(HOSTILE), "--timeout", "soon"], "--timeout: 'soon' is no number of seconds"),
        ([], "the following arguments are required: LIBRARY"),
    ],
)
def test_usage_errors(args: list[str], said: str, tmp_path: Path) -> None:
    done = greta("check", *args, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_sleeping_machine_is_no_hang(build: Build) -> None:
    """A case that is slow, and not for want of trying, has its time: the limit is on what it uses or sleeps."""
    slow = "#include <unistd.h>\n#include <mine.c>\n__attribute__((constructor)) static void nap(void) { sleep(1); }"
    begin = time.monotonic()
    assert "did not return" in greta("check", build(slow, "-D_GNU_SOURCE"), "--timeout", "0.1").stdout
    assert time.monotonic() - begin < 60


def test_the_skeleton_is_what_make_builds(tmp_path: Path) -> None:
    done = greta("new", "mine", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert {p.name for p in (tmp_path / "mine").iterdir()} == {"mine.c", "Makefile", "mine.greta.yaml", "greta_attn.h"}
    again = greta("new", "mine", cwd=tmp_path)
    assert again.returncode == 2
    assert "mine exists, and nothing is overwritten" in again.stderr
    (tmp_path / "file").write_text("x")
    for folder in ("file", "file/below"):
        assert greta("new", folder, cwd=tmp_path).returncode == 2
    source = tmp_path / "mine" / "mine.c"
    command = (tmp_path / "mine" / "Makefile").read_text().splitlines()[0].partition("Without make: ")[2]
    subprocess.run(command, shell=True, cwd=source.parent, check=True)
    assert (tmp_path / "mine" / "libmine.so").is_file()
