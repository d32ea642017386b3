"""Rotary embedding against float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from attention_cases import U, backend, config, int32, randn

from pytest_greta.backends.base import Batch, LayerConfig
from pytest_greta.dtypes import DTYPES

POSITIONS = [0, 1, 2, 63, 4095, 131071, -5]


def rotated(x: np.ndarray, layer: LayerConfig) -> tuple[np.ndarray, np.ndarray]:
    """x [tokens, heads, dim] -> float64 rotation, and 3u (|x0 cos| + |x1 sin|): sum, product, and the f32 tables."""
    x = x.astype(np.float64)
    r = layer.rotary_dim or x.shape[-1]
    factors = np.array(layer.rope_factors or [1.0] * (r // 2))
    angle = np.outer(POSITIONS, layer.rope_base ** (-2 * np.arange(r // 2) / r) / factors)[:, None, :]
    first, second = (
        (slice(0, r // 2), slice(r // 2, r)) if layer.rope_style == "half" else (slice(0, r, 2), slice(1, r, 2))
    )
    a, b, cos, sin = x[..., first], x[..., second], np.cos(angle), np.sin(angle)
    y, bound = x.copy(), np.zeros_like(x)
    y[..., first], y[..., second] = a * cos - b * sin, b * cos + a * sin
    bound[..., first] = 3 * U * (np.abs(a * cos) + np.abs(b * sin))
    bound[..., second] = 3 * U * (np.abs(b * cos) + np.abs(a * sin))
    return y, bound


@pytest.mark.parametrize("act", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("style", ["half", "interleaved"])
@pytest.mark.parametrize(("rotary", "factors"), [(0, None), (6, None), (8, (1.0, 2.0, 4.0, 32.0))])
def test_both_styles(
    style: Literal["half", "interleaved"], rotary: int, factors: tuple[float, ...] | None, act: str
) -> None:
    layer = LayerConfig(rope_base=100000.0, rope_style=style, rotary_dim=rotary, rope_factors=factors)
    rng, n = np.random.default_rng(0), len(POSITIONS)
    q, k = randn(rng, (n, 4, 16), act), randn(rng, (n, 2, 16), act)
    before = [q.copy(), k.copy()]
    b = Batch(int32([0, n]), int32([n]), int32(POSITIONS), int32(range(n)), int32([0]))
    with backend().open(config(act_dtype=act, layers=(layer,))) as session:
        session.rope(0, "prefill", b, q, k)
    for x, original in zip((q, k), before, strict=True):
        y, bound = rotated(original, layer)
        error = np.abs(x.astype(np.float64) - y)
        assert (error <= bound + DTYPES[act].u * np.abs(y) * (0 if act == "f32" else 1.01)).all()
        assert (x[0] == original[0]).all(), "position 0 turns nothing"
        if rotary:
            assert (x[..., rotary:] == original[..., rotary:]).all()


def test_each_layer_turns_by_its_own_table() -> None:
    """Bases, factors and rotary dimensions by layer, as models with local and global attention have them."""
    layers = (
        LayerConfig(rope_base=10_000.0),
        LayerConfig(rope_base=1_000_000.0, rope_factors=tuple(1.0 + i for i in range(8))),
        LayerConfig(rope_base=500.0, rotary_dim=6, rope_style="interleaved"),
        LayerConfig(rope_style="none"),
    )
    rng, n = np.random.default_rng(1), len(POSITIONS)
    q, k = randn(rng, (n, 4, 16), "f32"), randn(rng, (n, 2, 16), "f32")
    b = Batch(int32([0, n]), int32([n]), int32(POSITIONS), int32(range(n)), int32([0]))
    with backend().open(config(n_layers=4, layers=layers)) as session:
        for index, layer in enumerate(layers):
            mine = q.copy(), k.copy()
            session.rope(index, "decode", b, *mine)
            for x, original in zip(mine, (q, k), strict=True):
                y, bound = (original, 0.0) if layer.rope_style == "none" else rotated(original, layer)
                assert (np.abs(x.astype(np.float64) - y) <= bound).all()


def test_the_two_styles_and_neighbouring_positions_differ() -> None:
    results = set()
    for style, position in (("half", 3), ("interleaved", 3), ("half", 4)):
        q, k = np.ones((1, 4, 16), np.float32), np.ones((1, 2, 16), np.float32)
        b = Batch(int32([0, 1]), int32([1]), int32([position]), int32([0]), int32([0]))
        with backend().open(config(layers=(LayerConfig(rope_style=style),))) as session:  # type: ignore[arg-type]
            session.rope(0, "decode", b, q, k)
        results.add(q.tobytes())
    assert len(results) == 3


def test_threads_change_no_byte() -> None:
    """Large enough for a second thread."""
    n, rng, results = 3000, np.random.default_rng(0), set()
    q, k = randn(rng, (n, 12, 128), "bf16"), randn(rng, (n, 6, 128), "bf16")
    b = Batch(int32([0, n]), int32([n]), int32(range(n)), int32(range(n)), int32([0]))
    for threads in (1, 2):
        mine = q.copy(), k.copy()
        c = config(n_heads=12, n_kv_heads=6, head_dim_qk=128, max_len=n, act_dtype="bf16", threads=threads)
        with backend().open(replace(c, layers=(LayerConfig(),))) as session:
            session.rope(0, "prefill", b, *mine)
        results.add(mine[0].tobytes() + mine[1].tobytes())
    assert len(results) == 1


def test_no_rope_leaves_the_arrays() -> None:
    q, k = np.ones((1, 4, 16), np.float32), np.ones((1, 2, 16), np.float32)
    b = Batch(int32([0, 1]), int32([1]), int32([9]), int32([0]), int32([0]))
    with backend().open(config()) as session:
        session.rope(0, "decode", b, q, k)
    assert (q == 1).all()
    assert (k == 1).all()
