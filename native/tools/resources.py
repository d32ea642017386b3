"""What each kernel of a HIP library takes of a compute unit, and whether that is allowed.

``resources.py FILE...``: a library, an offload bundle or a code object. Prints a table a kernel and architecture; exit
code 1 where a rule is broken, 2 where a file holds no code object. Needs Python alone.

Registers, spills, scratch and static LDS are the compiler's, from the code object's note (LLVM's AMDGPUUsage, "Code
Object Metadata"). Occupancy is computed, for gfx90a and gfx942 (AMD's CDNA ISA guides; LLVM's AMDGPUBaseInfo):
512 registers a lane and SIMD, VGPR and AGPR together, given out by 8; above 100 SGPRs 7 waves; 64 KiB of LDS a compute
unit of 4 SIMDs, given out by 512 bytes; 8 waves a SIMD at most.

LDS whose size the launch gives: the code object of a kernel that takes some has a hidden argument, and is refused; but
an optimiser drops that argument (clang 19 from -O1 on), so that its absence shows nothing. This library launches no
kernel with dynamic LDS (runtime_driver.cpp) and declares none; tests hold it to both.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUNDLE = b"__CLANG_OFFLOAD_BUNDLE__"
ELF = b"\x7fELF"
NOTE_SECTION = 7
AMDGPU_METADATA = 32

SIMDS, MOST_WAVES, WAVE = 4, 8, 64
VGPRS, VGPR_STEP = 512, 8
MANY_SGPRS, WAVES_OF_MANY_SGPRS = 100, 7
LDS, LDS_STEP = 65536, 512

LEAST_WAVES = (
    (re.compile(r"greta_prefill_\w+_(?:64|80|96|128)"), 2),
    (re.compile(r"greta_prefill_\w+_(?:192|256)"), 1),
    (re.compile(r"greta_decode_\w+"), 4),
)
"""Waves a SIMD that kernels by these names must reach on gfx942."""
HELD_TO_ALL = "gfx942"
"""Other architectures are held to the spills alone."""


@dataclass(frozen=True)
class Kernel:
    """Counts of one kernel; sizes in bytes."""

    name: str
    architecture: str
    vgprs: int
    """AGPRs included: one file holds both."""
    agprs: int
    sgprs: int
    vgpr_spills: int
    sgpr_spills: int
    scratch: int
    lds: int
    dynamic_lds: bool
    threads: int

    @property
    def occupancy(self) -> int:
        """Waves a SIMD. 0: a block does not fit a compute unit."""
        waves = min(MOST_WAVES, VGPRS // max(VGPR_STEP, _stepped(self.vgprs, VGPR_STEP)))
        if self.sgprs > MANY_SGPRS:
            waves = min(waves, WAVES_OF_MANY_SGPRS)
        of_block = -(-self.threads // WAVE)
        blocks = LDS // _stepped(self.lds, LDS_STEP) if self.lds else SIMDS * MOST_WAVES
        return min(waves, blocks * of_block // SIMDS if blocks * of_block >= SIMDS else min(1, blocks))

    def broken(self) -> list[str]:
        """The rules that it breaks, in words."""
        found = []
        if self.vgpr_spills or self.sgpr_spills:
            found.append(f"spills {self.vgpr_spills} VGPRs and {self.sgpr_spills} SGPRs")
        if self.architecture != HELD_TO_ALL:
            return found
        if self.scratch:
            found.append(f"takes {self.scratch} bytes of scratch a lane")
        if self.lds > LDS:
            found.append(f"takes {self.lds} bytes of LDS of {LDS}")
        if self.dynamic_lds:
            found.append("has LDS whose size the launch gives")
        least = next((waves for name, waves in LEAST_WAVES if name.fullmatch(self.name)), 0)
        if self.occupancy < least:
            found.append(f"reaches {self.occupancy} waves a SIMD of {least}")
        return found


def _stepped(count: int, step: int) -> int:
    return -(-count // step) * step


def kernels(data: bytes) -> list[Kernel]:
    """Of every code object in ``data``; ``ValueError`` where there is none."""
    found = [kernel for code in code_objects(data) for kernel in _kernels(code)]
    if not found:
        raise ValueError("no code object of an AMD device in it")
    return found


def code_objects(data: bytes) -> Iterator[bytes]:
    """``data`` itself, or the entries of all bundles in it.

    A bundle: the magic, a count, and for each entry offset, size and a name by its length.
    """
    starts = [match.start() for match in re.finditer(re.escape(BUNDLE), data)]
    if not starts and data.startswith(ELF):
        yield data
    for start in starts:
        (count,) = struct.unpack_from("<Q", data, start + len(BUNDLE))
        at = start + len(BUNDLE) + 8
        for _ in range(count if count < 100 else 0):  # the magic may stand in a program that looks for it
            offset, size, length = struct.unpack_from("<QQQ", data, at)
            if (code := data[start + offset : start + offset + size]).startswith(ELF):
                yield code
            at += 24 + length


def _kernels(elf: bytes) -> Iterator[Kernel]:
    for note in _notes(elf):
        target = note["amdhsa.target"].partition("--")[2].partition(":")[0]
        for k in note["amdhsa.kernels"]:
            arguments = [a.get(".value_kind") for a in k.get(".args", [])]
            yield Kernel(
                name=k[".name"],
                architecture=target,
                vgprs=k[".vgpr_count"],
                agprs=k.get(".agpr_count", 0),
                sgprs=k[".sgpr_count"],
                vgpr_spills=k.get(".vgpr_spill_count", 0),
                sgpr_spills=k.get(".sgpr_spill_count", 0),
                scratch=k[".private_segment_fixed_size"],
                lds=k[".group_segment_fixed_size"],
                dynamic_lds="hidden_dynamic_lds_size" in arguments,
                threads=k[".max_flat_workgroup_size"],
            )


def _notes(elf: bytes) -> Iterator[dict[str, Any]]:
    """The metadata notes of an ELF file of 64 bits."""
    (sections,) = struct.unpack_from("<Q", elf, 40)
    size, count = struct.unpack_from("<HH", elf, 58)
    for i in range(count):
        _, kind, _, _, offset, length = struct.unpack_from("<IIQQQQ", elf, sections + i * size)
        at, end = offset, offset + length
        while kind == NOTE_SECTION and at + 12 <= end:
            name_size, data_size, note = struct.unpack_from("<III", elf, at)
            at += 12 + _stepped(name_size, 4)
            if note == AMDGPU_METADATA:
                yield _Packed(elf[at : at + data_size]).value()
            at += _stepped(data_size, 4)


class _Packed:
    """A reader of MessagePack, as far as the notes use it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def value(self) -> Any:
        tag = self._number(1)
        if tag < 0x80 or tag >= 0xE0:
            return tag if tag < 0x80 else tag - 0x100
        if tag < 0x90 or tag in (0xDE, 0xDF):
            count = tag & 0xF if tag < 0x90 else self._number(2 if tag == 0xDE else 4)
            return {self.value(): self.value() for _ in range(count)}
        if tag < 0xA0 or tag in (0xDC, 0xDD):
            return [self.value() for _ in range(tag & 0xF if tag < 0xA0 else self._number(2 if tag == 0xDC else 4))]
        if tag < 0xC0 or 0xD9 <= tag <= 0xDB:
            return self._bytes(tag & 0x1F if tag < 0xC0 else self._number(1 << (tag - 0xD9))).decode()
        if tag in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[tag]
        if 0xCC <= tag <= 0xCF:
            return self._number(1 << (tag - 0xCC))
        raise ValueError(f"byte {tag:#x} of the note is not known")

    def _bytes(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def _number(self, count: int) -> int:
        return int.from_bytes(self._bytes(count), "big")


def table(found: list[Kernel]) -> str:
    """A line a kernel; what is wrong stands in the last column."""
    head = ["kernel", "device", "VGPR", "AGPR", "SGPR", "spills", "scratch", "LDS", "dynamic", "waves/SIMD", ""]
    rows = [
        [
            *(k.name, k.architecture, k.vgprs, k.agprs, k.sgprs, k.vgpr_spills + k.sgpr_spills, k.scratch, k.lds),
            *("?" if k.dynamic_lds else 0, k.occupancy, "; ".join(k.broken())),
        ]
        for k in sorted(found, key=lambda k: (k.architecture != HELD_TO_ALL, k.architecture))
    ]
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def main(paths: list[str]) -> int:
    if not paths:
        print("usage: resources.py FILE...", file=sys.stderr)
        return 2
    code = 0
    for path in paths:
        try:
            found = kernels(Path(path).read_bytes())
        except (OSError, ValueError, KeyError, struct.error) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        print(table(found))
        red = [f"{k.name} on {k.architecture} {'; '.join(k.broken())}" for k in found if k.broken()]
        print(f"{path}: {len(found)} kernels, {len(red)} that break a rule", *red, sep="\n  ")
        code = max(code, 1 if red else 0)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
