"""A NumPy decoder around an attention library.

Everything but attention, RoPE and the cache is computed here in float32 and rounded to the case's activation type at
each stage, so that a trace holds exactly what the next stage read. Weights stay float32 in every dtype.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import AttentionSession
from pytest_greta.dtypes import DType
from pytest_greta.engine.spec import ModelConfig, Weights, decoder_stages
from pytest_greta.engine.tracer import Tracer
from pytest_greta.engine.ways import Call, alone
from pytest_greta.trace.stages import MODEL

Array = NDArray[Any]
F32Array = NDArray[np.float32]
Gemm = Literal["blas", "rowwise"]

TINY_RMS = 2e-3
"""Of the row on which the norms' epsilon shows: its square, 4e-6, is about as large as an epsilon."""


class Decoder:
    """One model, one session, one phase of a run.

    ``weights`` and ``session`` may carry a planted fault: the taps stand outside of both and see only what went in and
    what came out.
    """

    def __init__(
        self, config: ModelConfig, weights: Weights, session: AttentionSession, act: DType, gemm: Gemm, tracer: Tracer
    ) -> None:
        self.config = config
        self.weights = weights
        self.session = session
        self.act = act
        self.gemm = gemm
        self.tracer = tracer

    def forward(self, call: Call, logit_rows: set[int]) -> F32Array:
        """Run all tokens of ``call`` through all layers; the taps keep those of the probed sequence.

        Returns float32 logits [len(logit_rows in this call), vocab], rows ascending. ``call.batch`` is the planned one.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # overflow is a finding of the checks, not a warning
            x = self._round(self._embed(call.tokens))
            self.tracer.tap(MODEL, "embed_out", call.rows, x[call.probed])
            for layer in range(self.config.n_layers):
                x = self._layer(layer, call, x)
            wanted = np.array([int(row) in logit_rows for row in call.rows], dtype=bool)
            rows, x = call.rows[wanted], x[call.probed][wanted]
            final = self._norm(x, "final_norm")
            self.tracer.tap(MODEL, "final_norm", rows, final)
            logits = self._capped(self._matmul(final, "lm_head"))
            self.tracer.tap(MODEL, "logits", rows, logits)
        return logits

    def tiny_norms(self) -> None:
        """Tap every norm of the model on one more row, whose rms is ``TINY_RMS``: as large as the prompt's rows are,
        any epsilon looks alike. Parts ``tiny_in`` and ``tiny``."""
        for spec in decoder_stages(self.config):
            if spec.op == "norm" and self.tracer.wants(spec.layer):
                width = len(self.weights[spec.weights[0]])
                x = self._round(TINY_RMS * np.random.default_rng([width, 3]).standard_normal((1, width)))
                self.tracer.aside(spec.layer, spec.stage, "tiny_in", x)
                self.tracer.aside(spec.layer, spec.stage, "tiny", self._rms_norm(x, spec.weights[0]))

    def _layer(self, i: int, call: Call, x: Array) -> Array:
        cfg = self.config

        def tap(stage: str, values: Array) -> Array:
            self.tracer.tap(i, stage, call.rows, values[call.probed])
            return values

        tap("x_in", x)
        normed = tap("attn_norm", self._norm(x, f"layers.{i}.attn_norm"))
        q = tap("q_proj", self._linear(normed, f"layers.{i}.q").reshape(-1, cfg.n_heads, cfg.head_dim_qk))
        k = tap("k_proj", self._linear(normed, f"layers.{i}.k").reshape(-1, cfg.n_kv_heads, cfg.head_dim_qk))
        v = tap("v_proj", self._linear(normed, f"layers.{i}.v").reshape(-1, cfg.n_kv_heads, cfg.head_dim_v))
        if cfg.qk_norm:
            q = tap("q_norm", self._norm(q, f"layers.{i}.q_norm"))
            k = tap("k_norm", self._norm(k, f"layers.{i}.k_norm"))
        given = q, k
        q, k = q.copy(), k.copy()
        self.session.rope(i, call.phase, call.batch, q, k)
        tap("q_rope", q)
        tap("k_rope", k)
        self._tap_beside(i, call, given, (q, k, v))
        out = self._attend(i, call, q, k, v)
        o = tap("o_proj", self._linear(out.reshape(len(out), -1), f"layers.{i}.o"))
        if cfg.post_norms:
            o = tap("post_attn_norm", self._norm(o, f"layers.{i}.post_attn_norm"))
        x = tap("residual_attn", self._add(x, o))
        normed = tap("ffn_norm", self._norm(x, f"layers.{i}.ffn_norm"))
        gate = tap("gate_proj", self._linear(normed, f"layers.{i}.gate"))
        up = tap("up_proj", self._linear(normed, f"layers.{i}.up"))
        act = tap("ffn_act", self._geglu(gate, up) if cfg.ffn_act == "geglu" else self._swiglu(gate, up))
        down = tap("down_proj", self._linear(act, f"layers.{i}.down"))
        if cfg.post_norms:
            down = tap("post_ffn_norm", self._norm(down, f"layers.{i}.post_ffn_norm"))
        return tap("x_out", self._add(x, down))

    def _tap_beside(self, i: int, call: Call, given: tuple[Array, Array], turned: tuple[Array, Array, Array]) -> None:
        """What attention and the cache are given of the tokens beside the probed rows: q of those that are looked at;
        of companions k and v of all, and q and k before RoPE. ``given``: q, k; ``turned``: q, k, v."""
        before = "norm" if self.config.qk_norm else "proj"
        for other in call.others:
            looked_at = other.queries(i)
            self.tracer.tap_beside(i, "q_rope", other, turned[0], looked_at)
            if other.is_companion:
                self.tracer.tap_beside(i, f"q_{before}", other, given[0], looked_at)
                for stage, values in ((f"k_{before}", given[1]), ("k_rope", turned[1]), ("v_proj", turned[2])):
                    self.tracer.tap_beside(i, stage, other, values)

    def _attend(self, i: int, call: Call, q: Array, k: Array, v: Array) -> Array:
        """Write the new rows, read them back, attend; then the further calls from the same inputs."""
        session, tracer, rows = self.session, self.tracer, call.rows
        session.kv_write(i, call.batch, k, v)
        if tracer.wants(i):
            new_k, new_v = session.kv_read(i, call.seq, call.pad + int(rows[0]), len(rows))
            tracer.tap(i, "kv_write", rows, new_k, "k")
            tracer.tap(i, "kv_write", rows, new_v, "v")
            self.read_cache(i, call)
        out, lse = session.attend(i, call.phase, call.batch, q)
        for other in call.others:
            for stage, values in (("attn_out", out), ("lse", lse)):
                if values is not None:
                    tracer.tap_beside(i, stage, other, values, other.queries(i))
        own = {"": (out[call.probed], None if lse is None else lse[call.probed])}
        if tracer.wants(i) and tracer.further:
            with tracer.beside(session):
                own |= {part: self._further(part, i, call, q) for part in tracer.further}
        differs = np.zeros(len(rows), dtype=bool)
        for part in ("repeat", "alone"):
            for first, again in zip(own[""], own.get(part, ()), strict=False):
                if first is not None and again is not None:
                    differs |= _differ(first, again)
        for part, (own_out, own_lse) in own.items():
            tracer.tap(i, "attn_out", rows, own_out, part, differs)
            if own_lse is not None:
                tracer.tap(i, "lse", rows, own_lse, part, differs)
        return out

    def _further(self, part: str, i: int, call: Call, q: Array) -> tuple[Array, F32Array | None]:
        """out and lse of the probed rows, of one further call: with q = 0, again, or without the rest of the batch."""
        batch, own = call.batch, call.probed
        if part == "alone":
            first = int(batch.cu_q[-2])
            batch, q, own = alone(batch), q[first:], slice(own.start - first, None)
        out, lse = self.session.attend(i, call.phase, batch, np.zeros_like(q) if part == "q0" else q)
        return out[own], None if lse is None else lse[own]

    def read_cache(self, layer: int, call: Call, suffix: str = "") -> None:
        """Tap all rows up to the call's last as the library's own read function returns them; the last snapshot
        counts."""
        if not self.tracer.wants(layer):
            return
        length = int(call.rows[-1]) + 1
        k, v = self.session.kv_read(layer, call.seq, call.pad, length)
        rows = np.arange(length, dtype=np.int64)
        self.tracer.replace(layer, "kv_read", rows, k, "k" + suffix)
        self.tracer.replace(layer, "kv_read", rows, v, "v" + suffix)

    def _round(self, x: Array) -> Array:
        return x.astype(self.act.numpy)

    def _embed(self, tokens: NDArray[np.int64]) -> F32Array:
        rows = self.weights["embed"][tokens]
        scale = self.config.embed_scale
        return rows if scale == 1.0 else rows * np.float32(scale)

    def _capped(self, logits: F32Array) -> F32Array:
        cap = np.float32(self.config.logits_softcap)
        return cap * np.tanh(logits / cap) if cap else logits

    def _matmul(self, x: Array, name: str) -> F32Array:
        return self._product(np.ascontiguousarray(x, dtype=np.float32), self.weights[name])

    def _product(self, x32: F32Array, w: F32Array) -> F32Array:
        if self.gemm == "blas":
            y: F32Array = x32 @ w.T
            return y
        # every row by the same GEMV, whatever the number of rows: prefill and decode then agree to the bit
        return np.stack([w @ row for row in x32]) if len(x32) else np.empty((0, len(w)), np.float32)

    def _linear(self, x: Array, name: str) -> Array:
        y = self._matmul(x, name)
        bias = f"{name}_bias"
        return self._round(y + self.weights[bias] if bias in self.weights else y)

    def _norm(self, x: Array, name: str) -> Array:
        """Of the rows of a call; what it computes is ``_rms_norm``."""
        return self._rms_norm(x, name)

    def _rms_norm(self, x: Array, name: str) -> Array:
        x32 = x.astype(np.float32)
        mean = np.mean(x32 * x32, axis=-1, keepdims=True, dtype=np.float32)
        scale = np.float32(1) / np.sqrt(mean + np.float32(self.config.rms_eps))
        return self._round(x32 * scale * self.weights[name])

    def _add(self, x: Array, y: Array) -> Array:
        return self._round(x.astype(np.float32) + y.astype(np.float32))

    def _swiglu(self, gate: Array, up: Array) -> Array:
        g = gate.astype(np.float32)
        return self._round(g / (np.float32(1) + np.exp(-g)) * up.astype(np.float32))

    def _geglu(self, gate: Array, up: Array) -> Array:
        """gelu(gate) * up, GELU by tanh."""
        g = gate.astype(np.float32)
        bent = np.tanh(np.float32((2 / np.pi) ** 0.5) * (g + np.float32(0.044715) * g * g * g))
        return self._round(np.float32(0.5) * g * (np.float32(1) + bent) * up.astype(np.float32))


def _differ(a: Array, b: Array) -> NDArray[np.bool_]:
    """[rows]: whose bytes are not the same."""
    left, right = (np.ascontiguousarray(x).view(np.uint8).reshape(len(x), -1) for x in (a, b))
    differs: NDArray[np.bool_] = (left != right).any(axis=1)
    return differs
