"""A call of ``greta_attend``: its arguments, and what a good one must have written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_greta.backends.base import Array
from pytest_greta.conformance.finding import Finding
from pytest_greta.conformance.guarded import Buffer

ONE_KEY_REL = 2.0**-6
"""Of a value: where one key is visible its weight is exactly 1, so that only the output's own rounding is left (2^-9 in
bf16, the coarsest activation type); rows and heads differ by the size of a value, not by this."""


@dataclass(frozen=True)
class Tensor:
    """``struct`` is the guarded ``greta_tensor *``, ``rows`` its data [tokens, heads, dim] as NumPy sees it; ``fill``
    is what an output holds, as an unsigned integer, until it is written."""

    struct: Any
    rows: Array
    data: Buffer
    fill: int

    def bits(self) -> Array:
        """[tokens, heads, dim] of unsigned integers."""
        return self.rows.view(f"u{self.rows.itemsize}")


@dataclass
class Attend:
    """The arguments of one ``greta_attend``. A case changes one to make it bad."""

    session: Any
    layer: int
    phase: int
    batch: Any
    q: Tensor
    k_new: Tensor | None
    v_new: Tensor | None
    out: Tensor
    lse: Tensor | None
    sequences: Sequence[tuple[int, int, int]]
    values: Sequence[Array]
    """Of each sequence: the V rows that it holds [kv_len, kv_heads, dim]."""


def look_at(call: Attend) -> None:
    """Raises ``Finding`` for an output that is not what any attention gives."""
    for name, tensor in (("out", call.out), ("lse", call.lse)):
        if tensor is not None:
            _written(name, tensor)
    token = 0
    for (q_len, kv_len, start), values in zip(call.sequences, call.values, strict=True):
        for i in range(q_len):
            last = kv_len - q_len + i
            if last < start:
                _sees_nothing(call, token)
            elif last == start:
                _sees_one(call, token, start, values)
            token += 1


def _sees_nothing(call: Attend, token: int) -> None:
    out = call.out.rows[token].astype(np.float32)
    wrong = {"out": out[out != 0]}
    if call.lse is not None:
        wrong["lse"] = call.lse.rows[token][~np.isneginf(call.lse.rows[token])]
    for array, values in wrong.items():
        if values.size:
            raise Finding("unseen", function="greta_attend", array=array, token=token, value=float(values[0]))


def _sees_one(call: Attend, token: int, row: int, values: Array) -> None:
    v = np.repeat(values[row].astype(np.float32), len(call.out.rows[token]) // values.shape[1], axis=0)
    off = np.abs(call.out.rows[token].astype(np.float32) - v) > ONE_KEY_REL * np.abs(v)
    if off.any():
        head = int(np.argmax(off.any(axis=1)))
        raise Finding("one_key", function="greta_attend", token=token, head=head, row=row)


def _written(name: str, tensor: Tensor) -> None:
    bits = tensor.bits()
    for kind, wrong in (("unwritten", bits == tensor.fill), ("nan", np.isnan(tensor.rows.astype(np.float32)))):
        if wrong.any():
            token, head, _ = (int(x) for x in np.argwhere(wrong)[0])
            count = int(np.count_nonzero(wrong))
            raise Finding(kind, function="greta_attend", array=name, count=count, token=token, head=head)
    flat = np.frombuffer(tensor.data.view, np.uint8).view(bits.dtype)
    if np.count_nonzero(flat != tensor.fill) > bits.size:
        raise Finding("gap", function="greta_attend", array=name)
