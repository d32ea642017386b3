"""How fast the CPU attention library is, beside what the same machine does elsewhere in the same minute.

    python benchmarks/attention.py [--quick] [--threads 2] [--json FILE]

Prefill and decode are timed in turns with PyTorch's ``scaled_dot_product_attention`` and with a plain read of more
than 1 GiB by all threads, so that a machine that slows down slows all of them. A figure is the median of the rounds,
with the lowest and the highest; a ratio is taken within a round. Decode goes round enough layers that no cache holds
them.

The library is called as the harness calls it, through ``pytest_greta.backends``. PyTorch is no dependency of
pytest-greta; without it its columns say "-". A CPU build is enough (see ``INSTALL_TORCH``).
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from figures import (
    Figure,
    Heads,
    Shape,
    described,
    numbers,
    of_bandwidth,
    positive,
    rates,
    speedup,
    table,
    write_json,
)
from threadpoolctl import threadpool_limits

from pytest_greta.backends import native
from pytest_greta.backends.base import Batch, LayerConfig, SessionConfig
from pytest_greta.dtypes import DTYPES

MIB = 1 << 20
STREAM_MIB = 1280
"""Read for the bandwidth: well over 1 GiB, because a server's last-level cache may be hundreds of MiB."""
COLD_MIB = 512
"""Keys and values that a decode measurement goes round, so that each call finds its own cold."""
SHORTEST_S = 0.02
"""A sample repeats its call until it lasts this long: the clock and the wake-up of threads are then small beside it."""
PAUSE_S = 0.01
"""Between samples: the threads of the runtime that ran before spin for a while."""
INSTALL_TORCH = (
    "PyTorch is not installed: its columns stay empty. To have them: pip install torch (a CPU build is enough)"
)

Call = Callable[[], Any]


HEADS = (Heads(9, 3, 64), Heads(32, 8, 128))
DTYPE_NAMES = ("f32", "bf16")


class Library:
    """The built-in CPU library, one sequence in each layer's contiguous cache."""

    def __init__(self, shape: Shape, threads: int, layers: int) -> None:
        heads, length, numpy_type = shape.heads, shape.length, DTYPES[shape.dtype].numpy
        config = SessionConfig(
            n_layers=layers,
            n_heads=heads.query,
            n_kv_heads=heads.kv,
            head_dim_qk=heads.dim,
            head_dim_v=heads.dim,
            max_seqs=1,
            max_len=length,
            act_dtype=shape.dtype,
            kv_dtype=shape.dtype,
            softmax_scale=0.0,
            layers=(LayerConfig(rope_style="none"),) * layers,
            threads=threads,
        )
        self._session, self._phase, self._layers, self._next = native.load().open(config), shape.phase, layers, 0
        rng = np.random.default_rng(0)
        k, v = (rng.standard_normal((length, heads.kv, heads.dim), np.float32).astype(numpy_type) for _ in "kv")
        for layer in range(layers):
            self._session.kv_load(layer, 0, 0, k, v)
        queries = length if shape.phase == "prefill" else 1
        self._q = rng.standard_normal((queries, heads.query, heads.dim), np.float32).astype(numpy_type)
        rows = np.arange(length - queries, length, dtype=np.int32)
        one = np.zeros(1, np.int32)
        self._batch = Batch(np.array([0, queries], np.int32), np.array([length], np.int32), rows, rows, one)

    def __call__(self) -> None:
        self._session.attend(self._next, self._phase, self._batch, self._q)
        self._next = (self._next + 1) % self._layers

    def close(self) -> None:
        self._session.close()


class Torch:
    """PyTorch's attention over tensors of its favourite layout, [1, heads, length, dim]."""

    WAYS = ("enable_gqa", "expanded")

    def __init__(self, torch: Any, shape: Shape, layers: int) -> None:
        self._torch, self._causal, self._next = torch, shape.phase == "prefill", 0
        dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[shape.dtype]
        heads = shape.heads
        self._q = torch.randn(1, heads.query, shape.length if self._causal else 1, heads.dim).to(dtype)
        k, v = (torch.randn(1, heads.kv, shape.length, heads.dim).to(dtype) for _ in "kv")
        self._kv = [(k.clone(), v.clone()) for _ in range(layers)]
        self._group = heads.query // heads.kv
        self.way = min(self.WAYS, key=self._time)

    def _time(self, way: str) -> float:
        self.way = way
        self()
        return min(seconds(self) for _ in range(2))

    def __call__(self) -> None:
        """``expanded`` counts what it takes: the keys and values of a group, repeated for each of its heads."""
        k, v = self._kv[self._next]
        self._next = (self._next + 1) % len(self._kv)
        attention = self._torch.nn.functional.scaled_dot_product_attention
        if self.way == "enable_gqa":
            attention(self._q, k, v, is_causal=self._causal, enable_gqa=True)
        else:
            k, v = (x.repeat_interleave(self._group, dim=1) for x in (k, v))
            attention(self._q, k, v, is_causal=self._causal)


class Stream:
    """A read of ``mib`` by all threads: each one's share in a dot product with itself, which loads every line once."""

    def __init__(self, mib: int, threads: int) -> None:
        self._data = np.ones(mib * MIB // 4, np.float32)
        self._parts = np.array_split(self._data, threads)
        self._pool = ThreadPoolExecutor(threads)

    def __call__(self) -> None:
        list(self._pool.map(lambda part: np.dot(part, part), self._parts))

    def gigabytes(self, lasted: float) -> float:
        return self._data.nbytes / lasted / 1e9


def seconds(call: Call) -> float:
    """Of one call, over as many as last ``SHORTEST_S``."""
    time.sleep(PAUSE_S)
    count, start = 0, time.perf_counter()
    while True:
        call()
        count += 1
        lasted = time.perf_counter() - start
        if lasted >= SHORTEST_S:
            return lasted / count


@dataclass(frozen=True)
class Row:
    shape: Shape
    seconds: Figure
    rate: Figure
    """prefill: GFLOP/s; decode: GB/s of keys and values"""
    torch_rate: Figure | None
    torch_way: str | None
    to_torch: Figure | None
    """Our speed over PyTorch's."""
    to_bandwidth: Figure | None
    """decode: our speed over that of the plain read"""


def layers_of(shape: Shape, cold_mib: int) -> int:
    return 1 if shape.phase == "prefill" else max(1, math.ceil(cold_mib * MIB / shape.kv_bytes))


def measure(shape: Shape, stream: Stream, torch: Any, args: argparse.Namespace) -> Row:
    layers = layers_of(shape, args.cold_mib)
    library = Library(shape, args.threads, layers)
    theirs = Torch(torch, shape, layers) if torch is not None else None
    library()
    ours_s, theirs_s, bandwidth = [], [], []
    for _ in range(args.rounds):
        ours_s.append(seconds(library))
        if theirs is not None:
            theirs_s.append(seconds(theirs))
        if shape.phase == "decode":
            bandwidth.append(stream.gigabytes(seconds(stream)))
    library.close()
    rate = rates(shape, ours_s)
    assert rate is not None
    return Row(
        shape,
        Figure.of(ours_s),
        rate,
        rates(shape, theirs_s),
        theirs.way if theirs is not None else None,
        speedup(ours_s, theirs_s),
        of_bandwidth(shape, ours_s, bandwidth),
    )


def columns(row: Row) -> dict[str, Any]:
    return {
        **described(row.shape),
        "ms": f"{row.seconds.median * 1e3:.3g}",
        "rate": f"{row.rate.median:.3g} {row.shape.unit}",
        "PyTorch's": row.torch_rate and f"{row.torch_rate.median:.3g}",
        "called": row.torch_way,
        "x PyTorch": row.to_torch,
        "x bandwidth": row.to_bandwidth,
    }


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    result.add_argument("--quick", action="store_true", help="the short lengths and few rounds")
    result.add_argument("--threads", type=positive, default=2, help="of the library, PyTorch and the read (default 2)")
    result.add_argument("--rounds", type=positive, help="measurements of each shape (default 7; 3 with --quick)")
    result.add_argument("--prefill", type=numbers, metavar="S,...", help="lengths (default 512,2048,8192; quick: 512)")
    result.add_argument("--decode", type=numbers, metavar="N,...", help="keys (default 2048,32768; quick: 2048)")
    result.add_argument("--dtypes", default=",".join(DTYPE_NAMES), help="of f32 and bf16 (default both)")
    result.add_argument("--stream-mib", type=positive, default=STREAM_MIB, help="read for the bandwidth")
    result.add_argument("--cold-mib", type=positive, default=COLD_MIB, help="cache that decode goes round")
    result.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    result.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    return result


def load_torch(args: argparse.Namespace) -> Any:
    if args.no_torch:
        return None
    try:
        import torch
    except ImportError:
        print(INSTALL_TORCH, file=sys.stderr)
        return None
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    return torch


def shapes(args: argparse.Namespace) -> list[Shape]:
    lengths = {"prefill": args.prefill, "decode": args.decode}
    defaults = {
        "prefill": (512,) if args.quick else (512, 2048, 8192),
        "decode": (2048,) if args.quick else (2048, 32768),
    }
    dtypes = args.dtypes.split(",")
    return [
        Shape(phase, heads, length, dtype)
        for phase, given in lengths.items()
        for dtype in dtypes
        for heads in HEADS
        for length in (defaults[phase] if given is None else given)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if unknown := set(args.dtypes.split(",")) - set(DTYPE_NAMES):
        parser().error(f"--dtypes: {', '.join(sorted(unknown))}: expected f32, bf16 or both")
    args.rounds = args.rounds or (3 if args.quick else 7)
    torch = load_torch(args)
    stream = Stream(args.stream_mib, args.threads)
    with threadpool_limits(1, user_api="blas"):  # the read has threads of its own
        stream()
        rows = []
        for shape in shapes(args):
            rows.append(measure(shape, stream, torch, args))
            if sys.stderr.isatty():
                print(f"{len(rows)} of {len(shapes(args))}", end="\r", file=sys.stderr, flush=True)
        bandwidth = Figure.of([stream.gigabytes(seconds(stream)) for _ in range(args.rounds)])
    described = native.load().describe()
    machine = {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "isa": described.raw["isa"],
        "threads": args.threads,
        "rounds": args.rounds,
        "library": f"{described.name} {described.version}",
        "numpy": np.__version__,
        "torch": None if torch is None else torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    print(table([columns(row) for row in rows]))
    print(
        f"\nread bandwidth {bandwidth} GB/s over {args.stream_mib} MiB; "
        + ", ".join(f"{k} {v}" for k, v in machine.items())
    )
    if args.json is not None:
        rows_plain = [asdict(row) for row in rows]
        write_json(args.json, {"machine": machine, "bandwidth_gb_s": asdict(bandwidth), "rows": rows_plain})
    return 0


if __name__ == "__main__":
    sys.exit(main())
