"""The HIP kernels where offsets need 64 bits, over memory that is hardly touched; page ids, too, beyond 2^16."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import pytest
from attention_cases import batch, config, randn
from hip_cases import emulated
from test_hip_device import Device
from test_native_large import resident_mib

PAGE, HEADS = 16, 8
MAP_NORESERVE = 0x4000
STRIDE = 2**31 + 64
"""Elements from one token to the next."""


@pytest.fixture(params=["fast", "naive"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GRETA_HIP_KERNELS", request.param)
    return str(request.param)


@pytest.mark.parametrize(("dim", "of_elements"), [(128, True), (8, False)], ids=["elements", "rows"])
def test_high_page_ids_and_caches_beyond_2_to_the_31(dim: int, of_elements: bool, kernels: str) -> None:
    """Elements, which are bytes here, or rows of a head: what is cut meets another page of these, or an empty one.

    Up to 16 GiB each for k and v."""
    beyond = 2**31 // (PAGE * HEADS * (dim if of_elements else 1))  # the first page there
    most = 2 * beyond + 9 if of_elements else beyond + 9
    ids = [65_535, 65_536, 65_537, 0, 1, beyond - 1, beyond, most - 5, most - 1]
    n, rng = PAGE * len(ids), np.random.default_rng(0)
    k, v, q = (randn(rng, (n, heads, dim), "f32") for heads in (HEADS, HEADS, 2 * HEADS))
    before, results = resident_mib(), []
    for pages, table in ((most, np.array([ids])), (len(ids), np.arange(len(ids))[None])):
        c = config(
            n_heads=2 * HEADS, n_kv_heads=HEADS, head_dim_qk=dim, head_dim_v=dim, max_seqs=1, max_len=n,
            kv_dtype="fp8_e4m3fn", page_size=PAGE, n_pages=pages,
        )  # fmt: skip
        with emulated().open(c) as session:
            session.kv_write(0, batch([n], [n], table=table), k, v)
            stored = session.kv_read(0, 0, 0, n)
            found = [*stored]
            for phase in ("prefill", "decode"):
                out, lse = session.attend(0, phase, batch([2], [n], table=table), q[:2])  # type: ignore[arg-type]
                assert lse is not None
                found += [out, lse]
            results.append([x.tobytes() for x in found])
            session.kv_trim(0, n - 1)
            assert not session.kv_read(0, 0, n - 1, 1)[0].astype(np.float32).any()
            session.kv_load(0, 0, n - 1, *(x[-1:] for x in stored))
            assert session.kv_read(0, 0, n - 1, 1)[1].tobytes() == stored[1][-1:].tobytes()
            if pages == most:
                assert resident_mib() - before < 200, "the cache was touched as a whole"
    assert results[0] == results[1]
    assert np.frombuffer(results[0][1], np.uint8).any()


def far(tokens: int, heads: int, dim: int) -> tuple[mmap.mmap, np.ndarray]:
    """Float32 rows [tokens][heads][dim], a token ``STRIDE`` elements behind the one before."""
    size = 4 * ((tokens - 1) * STRIDE + heads * dim)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    flat = np.frombuffer(memory, np.float32)
    strides = (4 * STRIDE, 4 * dim, 4)
    return memory, np.lib.stride_tricks.as_strided(flat, (tokens, heads, dim), strides)


def test_rows_of_tensors_beyond_2_to_the_31(kernels: str) -> None:
    """Of q, out and lse, of the k and v that are written, of what is turned: the same as where they lie close by."""
    device = Device()
    ffi, lib, null = device.ffi, device.lib, device.ffi.NULL

    def run(apart: bool) -> list[bytes]:
        made: dict[str, np.ndarray] = {}

        def tensor(name: str, heads: int, dim: int = 16) -> Any:
            x = far(3, heads, dim)[1] if apart else np.zeros((3, heads, dim), np.float32)
            made[name] = x
            t = ffi.new("greta_tensor *")
            t.data, t.dtype = ffi.cast("void *", x.ctypes.data), 0
            t.token_stride, t.head_stride = (s // 4 for s in x.strides[:2])
            return t

        q, k, v, out = (tensor(name, heads) for name, heads in (("q", 4), ("k", 2), ("v", 2), ("out", 4)))
        lse = tensor("lse", 4, 1)
        draws = np.random.default_rng(1)
        for name in ("q", "k", "v"):
            made[name][:] = draws.standard_normal(made[name].shape)
        b, found = device.batch(), []
        assert lib.greta_rope(device.session, 0, 0, b, q, k) == 0
        assert lib.greta_kv_write(device.session, 0, b, k, v) == 0
        for phase in range(2):
            assert lib.greta_attend(device.session, 0, phase, b, q, null, null, out, lse) == 0
            found += [np.ascontiguousarray(made[name]).tobytes() for name in ("q", "out", "lse")]
        assert device.sync() == ""
        return found

    close = run(apart=False)
    assert run(apart=True) == close
    device.close()
