"""Everything about the device library that needs a device: is it right, does it find faults, how fast is it.

    python benchmarks/gpu.py --all [--backend hip] [--json FILE]

The device is the first that HIP_VISIBLE_DEVICES or CUDA_VISIBLE_DEVICES leaves. ``--only`` takes some of the parts:

- kernels: the emulated kernels' tests, run by the device instead, against float64
- faults: the case files of every kind of fault, through the device library
- selftest: the detection matrix and the false-alarm study, through the device library
- sanitizer: a few of ``kernels`` under NVIDIA's compute-sanitizer: memcheck, racecheck, synccheck
- graph: a captured graph replayed with other lengths, against calls that were not captured
- speed: prefill and decode beside PyTorch's attention (flash, and whichever is fastest) and a plain read

``--backend hip-emulated --quick`` runs the same code over the emulation: it tries this program, and its times mean
nothing. Exit codes: 0 all that was asked for ran and is right; 1 something is wrong, or slower than it is held to; 2
usage; 3 there is no device, or a part could not be run (compute-sanitizer may be missing).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gpu_replay
import gpu_speed
import gpu_suites
from figures import Figure, Shape, numbers, positive, table, write_json
from gpu_calls import Place

from pytest_greta.backends import native
from pytest_greta.backends.base import BackendError, BackendMissing, LayerConfig, SessionConfig
from pytest_greta.backends.registry import NATIVE

RIGHT, WRONG, USAGE, NOT_RUN = 0, 1, 2, 3
DEVICES, EMULATED = ("hip", "cuda"), "hip-emulated"
DEVICE = 0
"""The first that this process sees; HIP_VISIBLE_DEVICES or CUDA_VISIBLE_DEVICES chooses another for every part."""
PARTS = ("kernels", "faults", "selftest", "sanitizer", "graph", "speed")
MEANS_NOTHING = "emulated: times mean nothing, and no device was used"


@dataclass(frozen=True)
class Part:
    name: str
    status: str
    """passed, failed, not run; tried: this program ran, over the emulation, which cannot show what the part is for"""
    said: str = ""
    detail: str = ""
    missed: bool = False
    """It could not be run, and was expected to be."""
    rows: list[Any] = field(default_factory=list)


def usable(backend: str) -> native.NativeBackend:
    """The library, after it opened a session there. Raises ``BackendMissing``, or ``BackendError``."""
    library = native.load(ending=NATIVE[backend])
    config = SessionConfig(
        n_layers=1, n_heads=1, n_kv_heads=1, head_dim_qk=64, head_dim_v=64, max_seqs=1, max_len=1, act_dtype="f32",
        kv_dtype="f32", softmax_scale=0.0, layers=(LayerConfig(),),
    )  # fmt: skip
    library.open(config).close()
    return library


def found(args: argparse.Namespace) -> tuple[str, native.NativeBackend] | None:
    """The backend that was asked for, or the first that there is; None after saying why there is none."""
    why = []
    for name in (args.backend,) if args.backend else DEVICES:
        try:
            return name, usable(name)
        except (BackendMissing, BackendError) as error:
            why.append(f"  {name}: {error}")
    print("gpu.py: nothing was run: there is no device with a library for it here.", file=sys.stderr)
    print("\n".join(why), file=sys.stderr)
    print(
        f"  On a machine with a GPU: build the library, see what `greta doctor` says, and run this again. To try the\n"
        f"  program without one: --backend {EMULATED} --quick --all, whose times mean nothing.",
        file=sys.stderr,
    )
    return None


def load_torch(emulated: bool) -> tuple[Any, str]:
    """PyTorch, or why the parts that need it cannot be run."""
    try:
        import torch
    except ImportError:
        return None, "PyTorch is not installed; pip install torch, in a build for this device"
    torch.manual_seed(0)
    if not emulated and not torch.cuda.is_available():
        return None, "this build of PyTorch sees no GPU; install one for this device (CUDA or ROCm)"
    return torch, ""


def suite(name: str, counts: gpu_suites.Counts) -> Part:
    said = str(counts) + ("" if counts.code == 0 else f", exit code {counts.code}")
    return Part(name, "passed" if counts.right else "failed", said, counts.last)


def sanitizer(backend: str) -> list[Part]:
    if why := gpu_suites.no_sanitizer(backend):
        return [Part("sanitizer", "not run", why)]
    return [suite(f"sanitizer {tool}", gpu_suites.sanitized(backend, tool)) for tool in gpu_suites.TOOLS]


def graph(path: Path, place: Place) -> list[Part]:
    parts = []
    right, how = "passed", "captured, replayed with other lengths: the bytes of a call"
    if place.emulated:
        right, how = "tried", "called again with other lengths; the emulation has no graphs to capture"
    for phase in gpu_replay.Q_LEN:
        wrong = gpu_replay.same_as_eager(path, place, phase)
        parts.append(Part(f"graph {phase}", "failed" if wrong else right, wrong or how))
    return parts


def shapes(args: argparse.Namespace) -> list[Shape]:
    """Prefill of one sequence, decode of ``--batch``; the defaults are the lengths that have a bar."""
    prefill = args.prefill or ((48,) if args.quick else (2048, 4096, 8192, 16384))
    decode = args.decode or ((96,) if args.quick else (32768,))
    batch = args.batch or (2 if args.quick else gpu_speed.DECODE_BATCH)
    return [
        *(Shape("prefill", gpu_speed.HEADS, length, gpu_speed.DTYPE) for length in prefill),
        *(Shape("decode", gpu_speed.HEADS, length, gpu_speed.DTYPE, batch) for length in decode),
    ]


def speed(path: Path, place: Place, args: argparse.Namespace) -> Part:
    rounds = args.rounds or (2 if args.quick else 15)
    stream = gpu_speed.Stream(place, args.stream_mib or (16 if args.quick else gpu_speed.STREAM_MIB))
    bandwidth = Figure.of([stream.gigabytes(place.seconds(stream)) for _ in range(rounds)])
    rows, wrong = [], []
    for shape in shapes(args):
        try:
            rows.append(gpu_speed.measure(path, place, shape, stream, rounds, args.splits))
        except (BackendError, RuntimeError, ValueError) as error:  # the other shapes are worth their minutes
            wrong.append(f"  {shape.phase} of {shape.length}: {' '.join(str(error).split())}")
    return speed_part(rows, wrong, bandwidth, rounds, place.emulated)


def speed_part(
    rows: Sequence[gpu_speed.Row], wrong: Sequence[str], bandwidth: Figure, rounds: int, emulated: bool
) -> Part:
    """``wrong``: a line for each shape that could not be measured."""
    refused = sorted({f"  not had: {way}: {why}" for row in rows for way, why in row.refused.items()})
    under = f"read bandwidth {bandwidth} GB/s; {rounds} rounds: median (lowest .. highest)"
    shown = "\n".join([table([gpu_speed.columns(row, emulated) for row in rows]), under, *refused, *wrong])
    held = [] if emulated else [goal for row in rows if (goal := gpu_speed.goal(row)) is not None]
    slow = sum(not met for _, met in held)
    said = f"{len(rows)} shapes measured, {len(wrong)} not; {len(held)} held to a bar, {slow} below it"
    status = "failed" if slow or wrong else "tried" if emulated else "passed"
    return Part("speed", status, MEANS_NOTHING if emulated else said, shown, rows=[asdict(row) for row in rows])


def run(name: str, backend: str, path: Path, place: Place | None, why: str, args: argparse.Namespace) -> list[Part]:
    if name in ("kernels", "faults"):
        cases = gpu_suites.kernels if name == "kernels" else gpu_suites.faults
        return [suite(name, cases(backend, args.quick))]
    if name == "selftest":
        study = gpu_suites.selftest(backend, args.quick)
        return [Part(name, "passed" if study.right else "failed", study.said, study.last)]
    if name == "sanitizer":
        return sanitizer(backend)
    if place is None:
        return [Part(name, "not run", why, missed=True)]
    try:
        return graph(path, place) if name == "graph" else [speed(path, place, args)]
    except (BackendError, BackendMissing, RuntimeError, ValueError) as error:
        return [Part(name, "failed", " ".join(str(error).split()))]


def chosen(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)!r}: expected some of {','.join(PARTS)}")
    return names


def whole(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 0, 1, ..")
    return value


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog="exit codes: 0 right, 1 wrong or too slow, 2 usage, 3 no device, or a part could not be run",
    )
    what = result.add_mutually_exclusive_group(required=True)
    what.add_argument("--all", action="store_const", const=PARTS, dest="parts", help="every part")
    what.add_argument("--only", type=chosen, dest="parts", metavar="PART,...", help=f"some of {', '.join(PARTS)}")
    result.add_argument("--backend", choices=(*DEVICES, EMULATED), help="default: the first of hip, cuda that is here")
    result.add_argument("--quick", action="store_true", help="a few tests, tiny shapes: shows that it runs")
    result.add_argument("--rounds", type=positive, help="measurements of each shape (default 15; 2 with --quick)")
    result.add_argument("--prefill", type=numbers, metavar="S,...", help="lengths (default 2048,4096,8192,16384)")
    result.add_argument("--decode", type=numbers, metavar="N,...", help="keys a sequence (default 32768)")
    result.add_argument("--batch", type=positive, help="sequences in decode (default 8)")
    result.add_argument("--splits", type=whole, default=0, metavar="N", help="of decode; 0: the library's default")
    result.add_argument("--stream-mib", type=positive, help=f"read for the bandwidth ({gpu_speed.STREAM_MIB})")
    result.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    return result


def machine_of(backend: str, library: native.NativeBackend, torch: Any) -> dict[str, Any]:
    said = library.describe()
    device = None
    if torch is not None and backend != EMULATED:
        device = torch.cuda.get_device_name(DEVICE)
    return {
        "backend": backend,
        "library": f"{said.name} {said.version}",
        "kind": said.device_kind,
        "device": device,
        "torch": None if torch is None else torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.backend == EMULATED and not args.quick:
        parser().error(f"--backend {EMULATED}: expected --quick with it: the emulation takes a day for the full shapes")
    here = found(args)
    if here is None:
        return NOT_RUN
    backend, library = here
    emulated = backend == EMULATED
    torch, why = load_torch(emulated)
    place = None if torch is None else Place(torch, None if emulated else DEVICE)
    machine = machine_of(backend, library, torch)
    if emulated:
        print(MEANS_NOTHING)
    print(", ".join(f"{name} {value}" for name, value in machine.items() if value))
    parts = []
    for name in args.parts:
        for part in run(name, backend, library.path, place, why, args):
            parts.append(part)
            print(
                f"\n{part.name}: {part.status}: {part.said}" + (f"\n{part.detail}" if part.detail else ""), flush=True
            )
    if args.json is not None:
        plain = {"machine": machine, "emulated": emulated, "parts": [asdict(part) for part in parts]}
        write_json(args.json, plain)
    if any(part.status == "failed" for part in parts):
        return WRONG
    return NOT_RUN if any(part.missed for part in parts) else RIGHT


if __name__ == "__main__":
    sys.exit(main())
