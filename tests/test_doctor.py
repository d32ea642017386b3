"""``greta doctor``: what it finds, what it says is missing, what a library that hangs or crashes does to it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_greta import cli_doctor
from pytest_greta.doctor.ask import ask
from pytest_greta.doctor.facts import Answer, Driver, Facts, Library, Model
from pytest_greta.doctor.gather import EXTRAS, gather, gfx_name
from pytest_greta.doctor.lacks import Lack, lacks
from pytest_greta.doctor.show import lines
from pytest_greta.report.text import plain
from pytest_greta.texts import Text
from tests.support import fake_device

GRETA = [sys.executable, "-m", "pytest_greta.cli", "doctor"]
MASKS = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_device.build(tmp_path_factory.mktemp("fake"))


def doctor(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name not in MASKS}
    patient = ("--timeout", "300")  # a busy machine must not look like a driver that hangs
    return subprocess.run([*GRETA, *patient, *words], capture_output=True, text=True, check=False, env={**own, **env})


def found(*words: str, code: int = 0, **env: str) -> dict[str, Any]:
    done = doctor("--json", *words, **env)
    assert done.returncode == code, done.stderr
    plain: dict[str, Any] = json.loads(done.stdout)
    return plain


def asked(fake: Path, does: str = "", *words: str, code: int = 0, **env: str) -> dict[str, Any]:
    """What is said of the fake library."""
    given = {"FAKE_REAL": str(fake_device.CPU), "FAKE_DOES": does, **env}
    libraries = found("--library", str(fake), *words, code=code, **given)["libraries"]
    return {library["name"]: library for library in libraries}[fake.name]["answer"]


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["both", "es", "en"])
def test_it_fits_80_columns_and_says_what_was_never_run(lang):
    done = doctor("--lang", lang, HIP_VISIBLE_DEVICES="2,3", ROCR_VISIBLE_DEVICES="")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout
    flat = " ".join(done.stdout.split())
    assert ("on AMD hardware nothing of pytest-greta was run so far, on NVIDIA nothing yet" in flat) == (lang != "es")
    assert ("en hardware AMD no se ejecutó nada de pytest-greta hasta ahora" in flat) == (lang != "en")
    assert "benchmarks/gpu.py" in flat
    assert "ok HIP_VISIBLE_DEVICES 2,3" in flat
    assert "ROCR_VISIBLE_DEVICES=''" in flat


def test_colour_only_on_a_terminal_and_only_beside_words():
    def on_a_terminal(**env: str) -> str:
        ours, theirs = pty.openpty()
        own = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM", *MASKS)}
        with subprocess.Popen(
            [*GRETA, "--lang", "en", "--timeout", "300"], stdout=theirs, env={**own, "TERM": "xterm", **env}
        ):
            os.close(theirs)
            read = b""
            while True:
                try:
                    block = os.read(ours, 4096)
                except OSError:  # the other side is gone
                    break
                read += block
        os.close(ours)
        return read.decode().replace("\r\n", "\n")

    coloured, bare = on_a_terminal(), on_a_terminal(NO_COLOR="1")
    assert "\x1b[32mok\x1b[0m cpu" in coloured
    assert "  ok cpu" in bare
    for code in ("\x1b[32m", "\x1b[31;1m", "\x1b[2m", "\x1b[1m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == bare


def test_json_has_the_built_in_libraries_and_both_languages():
    plain = found()
    libraries = {library["name"]: library for library in plain["libraries"]}
    assert libraries["cpu"]["answer"]["opens"] is True
    assert libraries["cpu"]["answer"]["isa"] in ("avx512", "avx2", "portable")
    names = {compiler["name"] for compiler in plain["compilers"]}
    assert names == {"g++", "amdclang++", "clang++-19", "nvcc", "clang-offload-bundler", "ld.lld"}
    assert plain["masks"] == dict.fromkeys(MASKS)
    for lack in plain["missing"]:
        assert lack["what"]["en"] != lack["what"]["es"]
    assert plain["not_run"]["en"].startswith("on AMD hardware nothing")


def test_an_instruction_set_that_is_none_is_serious():
    plain = found(code=1, GRETA_CPU_ISA="sse")
    said = [lack["what"]["en"] for lack in plain["missing"] if lack["serious"]]
    assert said == [
        "library cpu fails: GRETA_INVALID_ARGUMENT: GRETA_CPU_ISA is 'sse', expected portable, avx2 or avx512"
    ]


@pytest.mark.parametrize("words", [["--timeout", "0"], ["--timeout", "soon"], ["--lang", "fr"], ["--all"]])
def test_usage(words):
    done = doctor(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_no_library_is_loaded_in_its_own_process(fake):
    """Counting devices initialises a GPU: the process that prints must hold no attention library at all."""
    code = (
        "import sys; from pytest_greta import cli; code = cli.main(sys.argv[1:]); "
        "print([line for line in open('/proc/self/maps') if 'libgreta' in line or 'libfake' in line], file=sys.stderr)"
    )
    env = {**os.environ, "FAKE_REAL": str(fake_device.CPU)}
    words = ["doctor", "--json", "--timeout", "300", "--library", str(fake)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, env=env)
    assert done.stderr == "[]\n"
    assert json.loads(done.stdout)["libraries"][-1]["answer"]["opens"] is True


# -- libraries that do not answer --------------------------------------------------------------------------------------


def test_devices_are_counted_under_the_callers_masks(fake):
    answer = asked(fake, FAKE_DEVICES="8")
    assert (answer["devices"], answer["kind"], answer["opens"]) == (8, "hip fake", True)
    assert asked(fake, FAKE_DEVICES="8", HIP_VISIBLE_DEVICES="2,3")["devices"] == 2
    assert asked(fake, "print", FAKE_DEVICES="8")["devices"] == 8, "what a library prints is no answer"


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("crash", "ended by signal SIGABRT"),
        ("exit", "ended its process with exit code 7: the driver said farewell"),
        ("hang", "no answer within 3 s: the process that asked was ended"),
    ],
)
def test_a_library_that_does_not_answer_is_reported(fake, does, said):
    answer = asked(fake, does, "--timeout", "3", code=1)
    assert answer["reason"]["en"] == said
    assert answer["broken"] is True
    assert answer["devices"] is None


def test_no_device_is_a_reason_and_no_failure(fake):
    answer = asked(fake, FAKE_DEVICES="0")
    assert (answer["devices"], answer["opens"], answer["broken"]) == (0, False, False)
    assert answer["reason"]["en"] == "GRETA_NO_DEVICE: config.device is 0, and there are 0"


def test_a_path_that_is_no_library(tmp_path):
    (tmp_path / "x.so").write_text("no library")
    plain = found("--library", str(tmp_path / "x.so"), "--library", str(tmp_path / "absent.so"), code=1)
    said = [lack["what"]["en"] for lack in plain["missing"] if lack["serious"]]
    assert said[0].startswith("library x.so fails: ")
    assert said[1] == f"library absent.so fails: attention library {tmp_path}/absent.so does not exist"


# -- machines that are not this one ------------------------------------------------------------------------------------


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def program(path: Path, says: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
    path.chmod(0o755)


NODES = "sys/class/kfd/kfd/topology/nodes"
AMD = {
    "dev/kfd": "",
    "sys/module/amdgpu/version": "6.10.5\n",
    f"{NODES}/0/properties": "cpu_cores_count 96\nsimd_count 0\ngfx_target_version 0\n",
    f"{NODES}/2/properties": "cpu_cores_count 0\nsimd_count 1216\ngfx_target_version 90402\n",
    f"{NODES}/10/properties": "simd_count 1216\ngfx_target_version 90402\n",
    f"{NODES}/11/properties": "simd_count 440\ngfx_target_version 90010\n",
    "opt/rocm/.info/version": "6.4.1-83\n",
}
NVIDIA = {
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Tue\nGCC version:  12\n",
    "proc/driver/nvidia/gpus/0000:1b:00.0/information": "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   0\n",
    "dev/nvidiactl": "",
}
READY = Answer("1", "x", devices=1, opens=True)


def look(root: Path, **environ: str) -> Facts:
    return gather(lambda path: READY, root=root, environ={"PATH": "", **environ})


def test_an_amd_machine(tmp_path):
    program(
        tmp_path / "opt/rocm/llvm/bin/amdclang++", "AMD clang version 19.0.0git (https://x roc-6.4.1 25184)\nTarget"
    )
    facts = look(machine(tmp_path, AMD), HIP_VISIBLE_DEVICES="2,3")
    assert facts.drivers[0] == Driver("AMD", True, True, "6.10.5", ("gfx942", "gfx942", "gfx90a"))
    assert facts.rocm == "6.4.1-83"
    assert facts.compilers[0].version == "19.0.0"
    shown = "\n".join(lines(facts, lacks(facts), "en", plain))
    assert "ok AMD                    6.10.5, 2 x gfx942, 1 x gfx90a" in shown
    assert "no GPU driver" not in shown


def test_an_nvidia_machine(tmp_path):
    says = "nvcc: NVIDIA (R) Cuda compiler driver\nBuilt on Wed_2025\nCuda compilation tools, release 13.0, V13.0.48"
    program(tmp_path / "usr/local/cuda/bin/nvcc", says)
    facts = look(machine(tmp_path, NVIDIA))
    assert facts.drivers[1] == Driver("NVIDIA", True, True, "570.86.15", ("NVIDIA H100 80GB HBM3",))
    assert facts.compilers[2].version == "13.0"


def test_a_machine_with_neither(tmp_path):
    facts = look(tmp_path)
    assert not any(driver.loaded for driver in facts.drivers)
    assert not any(compiler.path for compiler in facts.compilers)
    assert any(lack.what.en.startswith("no GPU driver") for lack in lacks(facts))


def test_a_compiler_that_does_not_tell(tmp_path):
    program(tmp_path / "bin/g++", "no numbers here")
    facts = look(tmp_path, PATH=str(tmp_path / "bin"))
    assert [compiler.version for compiler in facts.compilers if compiler.path] == ["?"]


@pytest.mark.parametrize(("version", "name"), [(90402, "gfx942"), (90010, "gfx90a"), (110001, "gfx1101")])
def test_gfx_names(version, name):
    assert gfx_name(version) == name


# -- what is missing ---------------------------------------------------------------------------------------------------


def facts(**what: Any) -> Facts:
    """A machine that lacks nothing but what is said."""
    given: dict[str, Any] = {
        "compilers": (),
        "libraries": (Library("cpu", "cpu.so", True, READY),),
        "drivers": (Driver("AMD", True, True, "6", ("gfx942",)), Driver("NVIDIA", False)),
        "rocm": "6.4.1",
        "masks": dict.fromkeys(MASKS),
        "packages": {},
        "cache": "/cache",
        "models": (),
    }
    return Facts(greta="1", python="3", system="Linux", processor="x", cores=2, **{**given, **what})


def test_nothing_missing():
    assert lacks(facts()) == []
    assert "  nothing" in list(lines(facts(), [], "en", plain))


def test_a_library_that_every_case_needs_is_marked_as_broken_where_it_is_not_built():
    given = facts(libraries=(Library("cpu", "x"), Library("hip-emulated", "y")))
    shown = [line.split() for line in lines(given, lacks(given), "en", plain)]
    assert ["!!", "cpu", "not", "built"] in shown
    assert ["--", "hip-emulated", "not", "built"] in shown


@pytest.mark.parametrize(
    ("what", "said", "mend", "serious"),
    [
        ({"libraries": (Library("cpu", "x"),)}, "library cpu is not built", "install it with", True),
        (
            {"libraries": (Library("cpu", "x"), Library("hip-emulated", "y"))},
            "library hip-emulated is not built, and no compiler for it is here",
            "install g++; then pip install . -C cmake.define.GRETA_HIP_EMULATED=ON",
            False,
        ),
        (
            {"libraries": (Library("hip", "y"),)},
            "library hip is not built, and no compiler for it is here",
            "install ROCm (amdclang++)",
            False,
        ),
        (
            {"libraries": (Library("hip", "y", answer=Answer("1", "hip", reason=Text("no ROCm", "sin ROCm"))),)},
            "library hip is built and finds no device: no ROCm",
            "look at drivers and masks",
            False,
        ),
        (
            {"drivers": (Driver("AMD", True),)},
            "the AMD driver is loaded, but",
            "sudo usermod -a -G render,video",
            False,
        ),
        ({"drivers": (Driver("NVIDIA", True),)}, "the NVIDIA driver is loaded, but", "in a container", False),
        (
            {"masks": {**dict.fromkeys(MASKS), "HIP_VISIBLE_DEVICES": "-1"}},
            "HIP_VISIBLE_DEVICES='-1' hides every device",
            "unset HIP_VISIBLE_DEVICES",
            False,
        ),
        ({"masks": dict.fromkeys(MASKS, "1")}, "HIP reads CUDA_VISIBLE_DEVICES too", "unset CUDA", False),
        (
            {"packages": {"gguf": {"gguf": "1", "tokenizers": None}}},
            "of extra gguf there is no tokenizers; without it no GGUF model is read",
            "pip install 'pytest-greta[gguf]'",
            False,
        ),
        ({"models": (Model("tiny", "absent"),)}, "model tiny is not in the cache", "greta model pull tiny", False),
        ({"models": (Model("tiny", "wrong"),)}, "model tiny in the cache has", "greta model pull tiny --force", True),
    ],
)
def test_what_is_missing_and_what_to_do(what, said, mend, serious):
    found = lacks(facts(**what))
    (lack,) = [lack for lack in found if lack.what.en.startswith(said)]
    assert lack.mend.en.startswith(mend)
    assert lack.serious is serious
    assert lack.what.en != lack.what.es


def test_a_library_is_not_built_where_its_compiler_is(tmp_path):
    """And what the compiler needs, beside it or on PATH; without that a build would stop in its middle."""
    folder = tmp_path / "llvm/bin"
    program(folder / "clang++", "clang version 19.1.7")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/clang++-19").symlink_to(folder / "clang++")

    def lack() -> Lack:
        found = look(tmp_path, PATH=str(tmp_path / "bin")).compilers
        (only,) = lacks(facts(libraries=(Library("hip", "y"),), compilers=found))
        return only

    assert lack().what.en.endswith("needs is not here: clang-offload-bundler, ld.lld")
    assert "clang-tools-19" in lack().mend.en
    program(folder / "clang-offload-bundler", "clang version 19.1.7")
    assert lack().what.es.endswith("su compilador necesita: ld.lld")
    program(tmp_path / "bin/ld.lld-19", "LLD 19.1.7")
    assert lack() == Lack(
        Text("library hip is not built", "la biblioteca hip no está compilada"),
        Text(*["pip install . -C cmake.define.GRETA_HIP=ON"] * 2),
    )


def test_a_command_is_printed_once_and_below_both_languages():
    given = facts(models=(Model("tiny", "absent"),))
    shown = list(lines(given, lacks(given), "both", plain))
    assert sum("greta model pull tiny" in line for line in shown) == 1
    at = next(i for i, line in enumerate(shown) if "greta model pull tiny" in line)
    assert shown[at - 1].startswith("  -- model tiny is not in the cache")
    assert shown[at - 2].startswith("  -- el modelo tiny no está en la caché")


def test_extras_are_those_of_the_project():
    """Read as text: Python 3.10 has no reader of TOML."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    for extra, packages in EXTRAS.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"{extra} = ")]
        assert all(re.search(f'"{package}[>=]=', line) for package in packages)
        assert len(re.findall("[>=]=", line)) == len(packages)


def test_asking_never_raises(tmp_path):
    answer = ask(tmp_path)
    assert answer.broken
    assert answer.reason is not None
    assert answer.reason.es == f"la biblioteca de atención {tmp_path} es una carpeta"


def test_codes():
    assert (cli_doctor.WELL, cli_doctor.ILL) == (0, 1)
