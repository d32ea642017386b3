"""The header as C11 and as C++17 against cffi's reading of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pytest_greta.dtypes import DTYPES

NATIVE = Path(__file__).parents[2] / "native"


def table(folder: Path, *command: str) -> dict[str, int]:
    program = folder / "table"
    flags = ["-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{NATIVE / 'include'}", "-o", str(program)]
    subprocess.run(["g++", *command, *flags], check=True)
    text = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return {name: int(number) for name, number in (line.split() for line in text.splitlines())}


AS_C = ("-x", "c", "-std=c11", str(NATIVE / "tests/header_c.c"))
AS_CPP = ("-std=c++17", str(NATIVE / "tests/header_cpp.cpp"))


@pytest.mark.parametrize("command", [AS_C, AS_CPP], ids=["c11", "c++17"])
def test_sizes_and_offsets_agree_with_cffi(command: tuple[str, ...], tmp_path: Path) -> None:
    from _greta_native._abi import ffi

    sizes = table(tmp_path, *command)
    assert len(sizes) > 60
    for name, number in sizes.items():
        struct, _, field = name.partition(".")
        assert number == (ffi.offsetof(struct, field) if field else ffi.sizeof(struct)), name
    for struct in (name for name in sizes if "." not in name):
        in_c = {name.partition(".")[2] for name in sizes if name.startswith(f"{struct}.")}
        assert in_c == {name for name, _ in ffi.typeof(struct).fields}, struct


def test_the_dtype_numbers_are_the_headers() -> None:
    header = (NATIVE / "include/greta_attn.h").read_text(encoding="utf-8")
    numbers = {name.lower(): int(value) for name, value in re.findall(r"GRETA_((?:F|BF|FP)\d\w*) = (\d+)", header)}
    assert numbers == {name: dtype.abi for name, dtype in DTYPES.items()}
