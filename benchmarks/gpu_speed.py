"""Prefill and decode of a device library, in turns with PyTorch's attention and a plain read of the device's memory."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Figure, Heads, Shape, described, of_bandwidth, rates, speedup
from gpu_calls import Arrays, Call, Place, Session

from pytest_greta.backends.base import LayerConfig, Schedule, SessionConfig

HEADS = Heads(32, 8, 128)
DTYPE = "bf16"
DECODE_BATCH, PAGE = 8, 16
STREAM_MIB = 4096
"""Read for the bandwidth: many times any last-level cache."""
GOALS = {"prefill": ("x flash", 0.5, range(2048, 16384 + 1)), "decode": ("x bandwidth", 0.8, range(32768, 32768 + 1))}
"""The column, its least median, and the lengths that are held to it: the bar for an H100."""
SAME = 10 * 2.0**-9
"""The most that our output may be off PyTorch's, in the norm, before a time means anything: some roundings of bf16."""


class Torch:
    """PyTorch's attention in every way that this device and build have, over [batch, heads, length, dim]."""

    def __init__(self, place: Place, shape: Shape, q: Any, kv: Sequence[Any]) -> None:
        """q [tokens, heads, dim], kv as [batch, length, kv heads, dim] each."""
        heads = shape.heads
        self._place, self._causal, self._group = place, shape.phase == "prefill", heads.query // heads.kv
        self._q = q.view(shape.batch, -1, heads.query, heads.dim).transpose(1, 2).contiguous()
        self._k, self._v = (x.transpose(1, 2).contiguous() for x in kv)
        self.refused: dict[str, str] = {}
        times = {}
        for way in self._ways():
            try:
                with warnings.catch_warnings():  # its reasons against a way that it does not have
                    warnings.simplefilter("ignore")
                    self.call(way)()
                times[way] = min(place.seconds(self.call(way)) for _ in range(2))
            except RuntimeError as error:
                self.refused[way] = (str(error).splitlines() or ["refused"])[0]
        self.best = min(times, key=times.__getitem__, default="")
        self.flash = min((w for w in times if w.startswith("FLASH")), key=times.__getitem__, default="")

    def _ways(self) -> list[str]:
        """math is left out: it holds all scores, 32 GiB at 16k."""
        names = ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION")
        kinds = self._place.torch.nn.attention.SDPBackend
        layouts = ("gqa", "expanded") if self._group > 1 else ("gqa",)
        return [f"{name} {layout}" for name in names if hasattr(kinds, name) for layout in layouts]

    def call(self, way: str) -> Call:
        """``expanded`` counts what it takes: keys and values repeated for each head of a group."""
        name, layout = way.split()
        nn, causal, group = self._place.torch.nn, self._causal, self._group
        kind = getattr(nn.attention.SDPBackend, name)
        attention = nn.functional.scaled_dot_product_attention

        def call() -> Any:
            with nn.attention.sdpa_kernel(kind):
                if layout == "gqa":
                    return attention(self._q, self._k, self._v, is_causal=causal, enable_gqa=group > 1)
                k, v = (x.repeat_interleave(group, dim=1) for x in (self._k, self._v))
                return attention(self._q, k, v, is_causal=causal)

        return call

    def rows(self, way: str) -> Any:
        """The output as ours is: [tokens, heads, dim]."""
        return self.call(way)().transpose(1, 2).reshape(-1, *self._q.shape[1::2])


class Stream:
    """A plain read of ``mib`` of the device's memory, by PyTorch's sum."""

    def __init__(self, place: Place, mib: int) -> None:
        self._data = place.torch.ones((mib << 20) // 4, device=place.device)

    def __call__(self) -> None:
        self._data.sum()

    def gigabytes(self, lasted: float) -> float:
        return float(self._data.numel() * 4 / lasted / 1e9)


@dataclass(frozen=True)
class Row:
    shape: Shape
    seconds: Figure
    rate: Figure
    """prefill: GFLOP/s; decode: GB/s of keys and values"""
    flash_rate: Figure | None
    best_rate: Figure | None
    best_way: str
    to_flash: Figure | None
    """Our speed over that of PyTorch's flash backend."""
    to_best: Figure | None
    to_bandwidth: Figure | None
    """decode: our speed over that of the plain read"""
    refused: dict[str, str]
    """PyTorch's ways that this device or build does not have, with its words."""


def measure(path: Path, place: Place, shape: Shape, stream: Stream, rounds: int, splits: int = 0) -> Row:
    """Raises ``ValueError`` where our output is not PyTorch's: the time of a wrong answer is not one."""
    heads, length = shape.heads, shape.length
    decode = shape.phase == "decode"
    queries = 1 if decode else length
    page, pages = (PAGE, shape.batch * -(-length // PAGE)) if decode else (0, 0)
    config = SessionConfig(
        n_layers=1, n_heads=heads.query, n_kv_heads=heads.kv, head_dim_qk=heads.dim, head_dim_v=heads.dim,
        max_seqs=shape.batch, max_len=length, act_dtype=shape.dtype, kv_dtype=shape.dtype, softmax_scale=0.0,
        layers=(LayerConfig(rope_style="none"),), page_size=page, n_pages=pages,
        schedule={"decode": Schedule(splits=splits)},
    )  # fmt: skip
    q = place.randn(shape.batch * queries, heads.query, heads.dim, dtype=shape.dtype)
    k, v = (place.randn(shape.batch, length, heads.kv, heads.dim, dtype=shape.dtype) for _ in "kv")
    out = place.zeros(*q.shape, dtype=shape.dtype)
    arrays = Arrays(place, config, [length] * shape.batch, queries)
    session = Session(path, place, config)
    try:
        for seq in range(shape.batch):
            session.load(0, seq, k[seq], v[seq])
        ours = session.attention(0, "decode" if decode else "prefill", arrays, q, out)
        ours()
        session.sync()
        torch = Torch(place, shape, q, (k, v))
        if torch.best:
            _same(out, torch.rows(torch.best))
        ours_s, flash_s, best_s, bandwidth = [], [], [], []
        for _ in range(rounds):
            ours_s.append(place.seconds(ours))
            if torch.flash:
                flash_s.append(place.seconds(torch.call(torch.flash)))
            if torch.best:
                again = torch.best != torch.flash
                best_s.append(place.seconds(torch.call(torch.best)) if again else flash_s[-1])
            if decode:
                bandwidth.append(stream.gigabytes(place.seconds(stream)))
        session.sync()
    finally:
        session.close()
    rate = rates(shape, ours_s)
    assert rate is not None
    return Row(
        shape, Figure.of(ours_s), rate, rates(shape, flash_s), rates(shape, best_s), torch.best,
        speedup(ours_s, flash_s), speedup(ours_s, best_s), of_bandwidth(shape, ours_s, bandwidth), torch.refused,
    )  # fmt: skip


def _same(ours: Any, theirs: Any) -> None:
    off = float((ours.float() - theirs.float()).norm() / theirs.float().norm())
    if not off <= SAME:
        raise ValueError(
            f"our output is {off:.2g} off PyTorch's, expected {SAME:.2g} at most; the part kernels says where"
        )


def goal(row: Row) -> tuple[str, bool] | None:
    """What a shape is held to and whether its median is there; None where nothing was set or to be had."""
    column, least, lengths = GOALS[row.shape.phase]
    found = row.to_flash if column == "x flash" else row.to_bandwidth
    wanted = (HEADS.dim, DTYPE, DECODE_BATCH if row.shape.phase == "decode" else 1)
    if found is None or row.shape.length not in lengths:
        return None
    if (row.shape.heads.dim, row.shape.dtype, row.shape.batch) != wanted:
        return None
    return f"{column} >= {least:g}", found.median >= least


def columns(row: Row, emulated: bool = False) -> dict[str, Any]:
    held = None if emulated else goal(row)
    return {
        **described(row.shape),
        "batch": row.shape.batch,
        "ms": f"{row.seconds.median * 1e3:.3g}",
        "rate": f"{row.rate.median:.3g} {row.shape.unit}",
        "flash": row.flash_rate and f"{row.flash_rate.median:.3g}",
        "best": row.best_rate and f"{row.best_rate.median:.3g}",
        "which": row.best_way,
        "x flash": row.to_flash,
        "x best": row.to_best,
        "x bandwidth": row.to_bandwidth,
        "held to": held and f"{held[0]}: {'met' if held[1] else 'MISSED'}",
    }
