"""fp8 caches: every byte's value, and every kind of rounding, against ml_dtypes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from attention_cases import Array, backend, batch, config, int32

from pytest_greta.backends.base import Batch, LayerConfig
from pytest_greta.dtypes import DTYPES

FP8 = ("fp8_e4m3fn", "fp8_e4m3fnuz")
NO_ROPE = LayerConfig(rope_style="none")


def dense_floats(kv: str) -> Array:
    """Every value of the type, every midpoint of two, both with their neighbours in f32; beyond the largest; random."""
    t = DTYPES[kv]
    values = np.arange(256, dtype=np.uint8).view(t.numpy).astype(np.float32)
    values = np.sort(values[np.isfinite(values)])
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2, [t.max * 1.03, t.max * 1.05, t.max * 2]])
    points = np.concatenate([points, -points]).astype(np.float32)
    around = [points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(-np.inf))]
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 40_000, dtype=np.uint64).astype(np.uint32)
    near = (bits[:20_000] & 0x8FFFFFFF) + 0x38000000  # around the type's range
    special = np.array([np.inf, -np.inf, np.nan, -np.nan, 0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38], np.float32)
    return np.concatenate([*around, near.view(np.float32), bits.view(np.float32), special])


def expected(x: Array, kv: str) -> Array:
    """ml_dtypes rounds to nearest even; saturation is the clip before it."""
    t = DTYPES[kv]
    return np.clip(x, -t.max, t.max).astype(t.numpy)


@pytest.mark.parametrize("kv", FP8)
def test_rows_are_rounded_like_ml_dtypes_and_saturate(kv: str) -> None:
    x = dense_floats(kv)
    rows = np.resize(x, (-(-len(x) // 512), 2, 256))
    n = len(rows)
    scales = (0.3, 7.0)
    layer = replace(NO_ROPE, v_scale=scales)
    c = config(kv_dtype=kv, head_dim_qk=256, head_dim_v=256, max_len=n, max_seqs=1, layers=(layer,))
    with backend().open(c) as session, np.errstate(all="ignore"):
        session.kv_write(0, batch([n], [n]), rows, rows)
        k, v = session.kv_read(0, 0, 0, n)
        pairs = (k, expected(rows, kv)), (v, expected(rows / np.array(scales, np.float32)[:, None], kv))
    for stored, wanted in pairs:
        nan = np.isnan(wanted.astype(np.float32))
        assert (np.isnan(stored.astype(np.float32)) == nan).all()
        assert (stored.view(np.uint8)[~nan] == wanted.view(np.uint8)[~nan]).all()
    assert np.isnan(rows).any()
    assert (np.abs(k.astype(np.float32)) == DTYPES[kv].max).sum() > 1000, "saturation was not seen"


@pytest.mark.parametrize("kv", FP8)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_every_byte_is_read_as_its_value(phase: str, kv: str, isa: str) -> None:
    """One key a sequence. Its value comes back whole, as out; its score, with q = 1, as lse."""
    codes = np.arange(256, dtype=np.uint8).view(DTYPES[kv].numpy)
    values = codes.astype(np.float32)
    c = config(
        n_heads=1, n_kv_heads=1, head_dim_qk=1, head_dim_v=256, max_seqs=256, max_len=1, kv_dtype=kv, softmax_scale=1.0
    )
    with backend().open(c) as session:
        for seq in range(256):
            session.kv_load(0, seq, 0, codes[seq].reshape(1, 1, 1), codes.reshape(1, 1, 256))
        zeros = int32(np.zeros(256))
        b = Batch(int32(range(257)), int32(np.ones(256)), zeros, zeros, int32(range(256)))
        out, lse = session.attend(0, phase, b, np.ones((256, 1, 1), np.float32))  # type: ignore[arg-type]
    assert lse is not None
    np.testing.assert_array_equal(lse[:, 0], values)
    finite = np.isfinite(values)
    np.testing.assert_array_equal(out[finite, 0], np.tile(values, (int(finite.sum()), 1)))
    assert np.isnan(out[~finite]).all()
    assert (~finite).sum() == (2 if kv == "fp8_e4m3fn" else 1)


def test_the_two_types_differ_by_two() -> None:
    """The same byte is half as much in e4m3fnuz."""
    byte = np.full((1, 2, 16), 0x4A, np.uint8)
    out = {}
    for kv in FP8:
        with backend().open(config(kv_dtype=kv)) as session:
            rows = byte.view(DTYPES[kv].numpy)
            session.kv_load(0, 0, 0, rows, rows)
            out[kv] = session.attend(0, "decode", batch([1], [1]), np.zeros((1, 4, 16), np.float32))[0]
    assert (out["fp8_e4m3fn"] == 2 * out["fp8_e4m3fnuz"]).all()
