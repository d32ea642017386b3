"""Sees llama.cpp compute: its ``cb_eval`` is asked of each node of the graph, and shown those that are wanted before
anything goes on. Only a planted fault changes a value.

A node is known by its name without the layer's number, and its operation: ``src/llama-graph.cpp`` and
``src/models/*.cpp`` of b11549 give the names.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pytest_greta.engine.spec import ModelConfig
from pytest_greta.engine.tracer import Tracer
from pytest_greta.llamacpp.library import F16, F32, Library, string
from pytest_greta.llamacpp.plants import Plants
from pytest_greta.trace.stages import MODEL

OUTSIDE = {("embd", "GET_ROWS"): "embed_out", ("result_norm", "MUL"): "final_norm"}
STAGES = {
    ("attn_norm", "MUL"): "attn_norm",
    # as heads: behind the bias, where there is one
    ("Qcur", "RESHAPE"): "q_proj",
    ("Kcur", "RESHAPE"): "k_proj",
    ("Vcur", "RESHAPE"): "v_proj",
    ("Qcur", "ROPE"): "q_rope",
    ("Kcur", "ROPE"): "k_rope",
    ("kqv_out", "CONT"): "attn_out",
    ("kqv_out", "RESHAPE"): "attn_out",
    ("ffn_inp", "ADD"): "residual_attn",
    ("ffn_norm", "MUL"): "ffn_norm",
    ("ffn_gate", "MUL_MAT"): "gate_proj",
    ("ffn_up", "MUL_MAT"): "up_proj",
    ("ffn_swiglu", "SWIGLU"): "ffn_act",
    ("ffn_out", "MUL_MAT"): "down_proj",
    ("l_out", "ADD"): "x_out",
}
"""Stages that are a node's own values."""
ATTENDED, PRODUCT = "kqv_out", "MUL_MAT"
"""The product over that node is ``o_proj``, which only some architectures name."""
WRITTEN = "SET_ROWS"
"""Of ``cache_k_l3 (view)`` and ``cache_v_l3 ..``: new rows go into the cache."""
READ = {("kq", "MUL_MAT"): "k", ("kqv", "MUL_MAT"): "v"}
"""Products whose first operand is cache rows."""
SOFTMAX, FLASH = "SOFT_MAX", "FLASH_ATTN_EXT"
"""The nodes that have the mask: as their operand 1, or 3; flash has K and V as 1 and 2."""
HEADED = ("q_proj", "k_proj", "v_proj", "q_rope", "k_rope")
_TYPES: dict[int, np.dtype[Any]] = {
    F32: np.dtype(np.float32),
    F16: np.dtype(np.float16),
    30: np.dtype(ml_dtypes.bfloat16),
}


class Watch:
    """One call of the model. ``rows``: the sequence rows of its tokens; ``wanted`` [T]: those whose logits it asks for,
    of which alone the last layer goes on after attention."""

    def __init__(
        self,
        llama: Library,
        config: ModelConfig,
        tracer: Tracer,
        rows: NDArray[np.int64],
        wanted: NDArray[np.bool_],
        plants: Plants,
    ) -> None:
        self.ffi, self.lib = llama.ffi, llama.lib
        self.config, self.tracer, self.rows, self.wanted, self.plants = config, tracer, rows, wanted, plants
        self.calls: Counter[int] = Counter()
        self._done, self._now = 0, rows[:0]
        self._layer = 0
        """Of the latest node that has one: flash attention's own has no name."""

    def __call__(self, tensor: Any, ask: bool) -> bool:
        name, layer = self._named(tensor)
        op = string(self.ffi, self.lib.ggml_op_desc(tensor))
        if layer is not None:
            self._layer = layer
        if ask:
            if op in (SOFTMAX, FLASH):
                mask = self._array(tensor.src[1 if op == SOFTMAX else 3])[0, 0]
                self.plants.masked(self._layer, mask, int(self._now[-1]))
            return bool(
                (name, op) in (OUTSIDE | READ)
                or self._stage(tensor, name, op)
                or op == FLASH
                or (op == WRITTEN and name.startswith("cache_"))
            )
        self._see(tensor, name, op)
        return True

    def _see(self, tensor: Any, name: str, op: str) -> None:
        layer, place = self._layer, (name, op)
        if place in OUTSIDE:
            values = self._array(tensor)[0, 0]
            if OUTSIDE[place] == "embed_out":  # a further piece of the call begins
                self._now = self.rows[self._done : self._done + len(values)]
                self._done += len(values)
            self._tap(MODEL, OUTSIDE[place], values)
        elif op == WRITTEN:
            self._written(tensor, name[len("cache_")])
        elif op == FLASH:
            self.calls[layer] += 1
            self._read("k", self._array(tensor.src[1])[0].transpose(1, 0, 2))
            self._read("v", self._array(tensor.src[2])[0].transpose(1, 0, 2))
        elif place in READ:
            part, operand = READ[place], self._array(tensor.src[0])[0]
            self.calls[layer] += part == "v"
            self._read(part, operand.transpose(1, 0, 2) if part == "k" else operand.transpose(2, 0, 1))
        else:
            stage = self._stage(tensor, name, op)
            if stage == "attn_norm":
                self._tap(layer, "x_in", self._array(tensor.src[0].src[0])[0, 0])
            values = self._array(tensor)[0] if stage in HEADED else self._array(tensor)[0, 0]
            if stage == "attn_out":
                values = values.reshape(len(values), self.config.n_heads, -1)
            self.plants.computed(layer, stage, values)
            self._tap(layer, stage, values)
            self.plants.tapped(layer, stage, values)

    def _stage(self, tensor: Any, name: str, op: str) -> str:
        if op == PRODUCT and self._named(tensor.src[1])[0] == ATTENDED:
            return "o_proj"
        return STAGES.get((name, op), "")

    def _written(self, tensor: Any, part: str) -> None:
        """The new rows as they lie in the cache. V is stored by element where attention is not flash."""
        heads = self.config.n_kv_heads
        width = heads * (self.config.head_dim_qk if part == "k" else self.config.head_dim_v)
        whole = self._array(tensor)[0, 0]
        stored = whole.reshape(width, -1).T if whole.shape[-1] == 1 else whole
        self.plants.written(self._layer, part, stored, self._now)
        self.tracer.tap(self._layer, "kv_write", self._now, stored[self._now].reshape(len(self._now), heads, -1), part)

    def _read(self, part: str, rows: NDArray[Any]) -> None:
        """The rows that attention was given, up to the newest."""
        total = int(self._now[-1]) + 1
        self.tracer.replace(self._layer, "kv_read", np.arange(total), rows[:total], part)

    def _tap(self, layer: int, stage: str, values: NDArray[Any]) -> None:
        rows = self._now
        if len(values) != len(rows):  # the last layer goes on with the rows whose logits are wanted
            rows = rows[self.wanted[np.isin(self.rows, rows)]]
        self.tracer.tap(layer, stage, rows, values)

    def _array(self, tensor: Any) -> NDArray[Any]:
        """A view of a tensor in host memory, of four dimensions, the slowest first."""
        dtype = _TYPES[tensor.type]
        shape, strides = (tuple(int(n) for n in numbers)[::-1] for numbers in (tensor.ne, tensor.nb))
        size = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + dtype.itemsize
        memory = np.frombuffer(self.ffi.buffer(tensor.data, size), dtype=np.uint8)
        values: NDArray[Any] = np.ndarray(shape, dtype, memory, strides=strides)
        return values

    def _named(self, tensor: Any) -> tuple[str, int | None]:
        """``Kcur-3`` is (Kcur, 3), and ``cache_k_l3 (view)`` is of layer 3."""
        name = string(self.ffi, tensor.name)
        if name.startswith("cache_"):
            return name, int(name.split("_l", 1)[1].split(" ", 1)[0])
        stem, _, number = name.rpartition("-")
        return (stem, int(number)) if number.isdigit() else (name, None)
