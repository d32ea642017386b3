"""Ways to a token: which calls a path makes, and the batch of each. Pure; ``run.py`` makes the calls.

A path is a list of segments of the probed sequence. What changes from way to way is only how the rows are cut into
calls and what else is in the batch:

- ``chunk``: the prefill in pieces; ``q_len``: the decoded tokens in blocks, as in speculative decoding;
- ``reuse``: the first n rows come from an earlier request, after which m other tokens were decoded and trimmed;
- ``left_pad``: pad tokens before the prompt. They are real queries that see no key: slot = row + pad, kv_start = pad,
  RoPE position = slot - pad;
- ``batch``: companions before the probed sequence, which is the last. They are prefilled in the first call of a path
  and decode along with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import Batch, Phase


@dataclass(frozen=True)
class Segment:
    """Rows start .. start + count - 1 of the probed sequence in one call."""

    phase: Phase
    start: int
    count: int


@dataclass(frozen=True)
class Reuse:
    """``prefix`` rows of an earlier request; ``rollback`` other tokens decoded after them, then trimmed."""

    prefix: int
    rollback: int = 0


@dataclass(frozen=True)
class Ways:
    """All that a case says of how its token is reached. The defaults: one prefill, one token a decode call."""

    chunk: int = 0
    q_len: int = 1
    left_pad: int = 0
    reuse: Reuse | None = None
    companions: tuple[int, ...] = ()

    def prefill(self, n: int) -> list[Segment]:
        """The calls that fill rows 0 .. n - 1."""
        cuts = [0, *([self.reuse.prefix] if self.reuse else []), n]
        pieces = [(a, b) for a, b in pairwise(cuts) if b > a]
        step = self.chunk or n
        return [Segment("prefill", i, min(step, b - i)) for a, b in pieces for i in range(a, b, step)]

    def decode(self, n: int, steps: int) -> list[Segment]:
        """The calls that decode rows n .. n + steps - 1."""
        return [Segment("decode", i, min(self.q_len, n + steps - i)) for i in range(n, n + steps, self.q_len)]

    def longest(self, tokens: int, steps: int) -> int:
        """Slots that the longest sequence of the batch needs."""
        detour = self.reuse.prefix + self.reuse.rollback if self.reuse else 0
        return max(self.left_pad + max(tokens, detour), *(length + steps for length in self.companions), 0)


@dataclass(frozen=True)
class Others:
    """Tokens of a call beside the probed rows. ``name``: ``seq0`` of companion 0, or ``pad``. ``at`` int64 [R]: which
    tokens of the call; ``rows`` int64 [R]: their slots, of pad rows -pad .. -1. ``dealt``: of a companion, indices of
    these in an order drawn from the seed."""

    name: str
    at: NDArray[np.int64]
    rows: NDArray[np.int64]
    dealt: NDArray[np.int64] | None = None

    @property
    def is_companion(self) -> bool:
        return self.dealt is not None

    def queries(self, layer: int) -> NDArray[np.int64]:
        """Indices of the queries that a layer is looked at in: all pad rows; of a companion the last and one that is
        dealt to the layer, so that none comes twice before each came once."""
        if self.dealt is None:
            return np.arange(len(self.at))
        return np.unique([self.dealt[layer % len(self.dealt)], len(self.at) - 1])


@dataclass(frozen=True)
class Call:
    """One call of the model. ``tokens`` int64 [T] of all sequences; ``probed``: the slice of them that is ``rows``
    int64 [R] of the probed sequence; ``pad``: its slots before row 0."""

    phase: Phase
    tokens: NDArray[np.int64]
    rows: NDArray[np.int64]
    probed: slice
    batch: Batch
    pad: int = 0
    others: tuple[Others, ...] = ()

    @property
    def seq(self) -> int:
        """The probed sequence."""
        return int(self.batch.seq_ids[-1])


def alone(batch: Batch) -> Batch:
    """The last sequence of a batch, as a batch of its own."""
    tokens = slice(int(batch.cu_q[-2]), None)
    return Batch(
        cu_q=(batch.cu_q[-2:] - batch.cu_q[-2]).astype(np.int32),
        kv_len=batch.kv_len[-1:],
        positions=batch.positions[tokens],
        slots=batch.slots[tokens],
        seq_ids=batch.seq_ids[-1:],
        kv_start=None if batch.kv_start is None else batch.kv_start[-1:],
        block_table=None if batch.block_table is None else batch.block_table[-1:],
    )


class Layout:
    """Where the rows of one session's sequences lie. Companions grow as they are called; a path has a layout of its
    own."""

    def __init__(
        self, ways: Ways, ids: NDArray[np.int64], vocab: int, seed: int, block_table: NDArray[np.int32] | None
    ) -> None:
        self.ways, self.ids, self.block_table = ways, ids, block_table
        self._vocab, self._rng = vocab, np.random.default_rng([seed, 1])
        self._dealt = np.random.default_rng([seed, 6])
        self._companions = [0] * len(ways.companions)

    def calls(self, segments: list[Segment]) -> Iterator[Call]:
        for segment in segments:
            yield self.call(segment)

    def call(self, segment: Segment, alone: bool = False, tokens: NDArray[np.int64] | None = None) -> Call:
        """The call of one segment. ``alone``: without companions. ``tokens``: others than the prompt's own."""
        pad = self.ways.left_pad
        new = [] if alone else self._grow(segment)
        before = pad if segment.start == 0 else 0  # the pad rows are queries of the first call
        rows = np.arange(segment.start, segment.start + segment.count, dtype=np.int64)
        own = self.ids[rows] if tokens is None else tokens
        lengths = [(seq, end - count, count) for seq, end, count in new]
        lengths.append((len(self.ways.companions), pad + segment.start - before, before + segment.count))
        counts = np.array([count for _, _, count in lengths])
        slots = np.concatenate([np.arange(first, first + count) for _, first, count in lengths]).astype(np.int32)
        shift = np.repeat([0] * len(new) + [pad], counts)
        seqs = np.array([seq for seq, _, _ in lengths], np.int32)
        batch = Batch(
            cu_q=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
            kv_len=np.array([first + count for _, first, count in lengths], np.int32),
            positions=np.maximum(slots - shift, 0).astype(np.int32),
            slots=slots,
            seq_ids=seqs,
            kv_start=np.array([0] * len(new) + [pad], np.int32) if pad else None,
            block_table=None if self.block_table is None else self.block_table[seqs],
        )
        others = sum(count for _, _, count in lengths[:-1])
        filler = self._rng.integers(self._vocab, size=others + before)
        everything = np.concatenate([filler, own]).astype(np.int64)
        beside = [self._of_companion(*place, int(at)) for place, at in zip(lengths[:-1], batch.cu_q, strict=False)]
        if before:
            beside.append(Others("pad", others + np.arange(pad), np.arange(-pad, 0)))
        return Call(segment.phase, everything, rows, slice(others + before, None), batch, pad, tuple(beside))

    def _of_companion(self, seq: int, first: int, count: int, at: int) -> Others:
        """Its ``count`` tokens in the call, which are ``at`` and those that follow."""
        tokens = np.arange(count, dtype=np.int64)
        return Others(f"seq{seq}", at + tokens, first + tokens, self._dealt.permutation(max(1, count - 1)))

    def lengths(self, rows: int) -> list[int]:
        """Slots in use, by sequence, with ``rows`` rows of the probed one."""
        return [*self._companions, self.ways.left_pad + rows]

    def behind(self, first: int, count: int) -> Batch:
        """Slots first .. first + count - 1 of the probed sequence in a contiguous cache, beyond those of its calls."""
        slots = np.arange(first, first + count, dtype=np.int32)
        return Batch(
            cu_q=np.array([0, count], np.int32),
            kv_len=np.array([first + count], np.int32),
            positions=np.maximum(slots - self.ways.left_pad, 0),
            slots=slots,
            seq_ids=np.array([len(self.ways.companions)], np.int32),
        )

    def _grow(self, segment: Segment) -> list[tuple[int, int, int]]:
        """(sequence, its length after the call, new rows) of each companion that takes part."""
        grown = []
        for i, length in enumerate(self.ways.companions):
            if segment.phase == "decode":
                count = segment.count
            elif self._companions[i] == 0:
                count = length
            else:
                continue  # a later chunk of the probed prompt: they have all their rows
            self._companions[i] += count
            grown.append((i, self._companions[i], count))
        return grown
